//! What earlier versions let into the metadata and could not read again: alike on every replica, whichever binary applied it.

use std::sync::Arc;

use crate::command::{Command, OffsetCommit};
use crate::kv::{Batch, Family, Kv, MemoryKv, for_each};
use crate::state::{State, TopicConfig, Touched};

fn commit(group: &str, topic: &str, offset: i64) -> OffsetCommit {
    OffsetCommit {
        group: group.to_owned(),
        topic: topic.to_owned(),
        queue_id: 5,
        offset,
    }
}

fn put_topic(name: &str) -> Command {
    Command::PutTopic {
        config: TopicConfig {
            topic_name: name.to_owned(),
            ..Default::default()
        },
        now_ms: 1,
    }
}

fn apply(state: &State, kv: &dyn Kv, command: Command) {
    let mut batch = Batch::default();
    let applied = state.apply(command, &mut batch, &mut Touched::default());
    applied.expect("total");
    kv.write(&batch).expect("in memory");
}

type Rows = Vec<(Family, Vec<u8>, Vec<u8>)>;

fn rows(kv: &dyn Kv) -> Rows {
    let mut all = Vec::new();
    for family in Family::ALL {
        let read = for_each(kv, family, |key, value| {
            all.push((family, key.to_vec(), value.to_vec()));
            Ok(())
        });
        read.expect("in memory");
    }
    all
}

/// A state as this version makes it, and one loaded from the rows that version 0 wrote for the same commands.
fn both(
    commands: &[Command],
    written_before: &[(Family, &[u8], i64)],
) -> [(Arc<MemoryKv>, State); 2] {
    let (new, old) = (Arc::new(MemoryKv::default()), Arc::new(MemoryKv::default()));
    let state = State::load(new.clone()).expect("empty");
    commands
        .iter()
        .for_each(|command| apply(&state, new.as_ref(), command.clone()));
    let mut batch = Batch::default();
    for (family, key, offset) in written_before {
        batch.put(*family, *key, offset.to_be_bytes());
    }
    old.write(&batch).expect("in memory");
    let loaded = State::load(old.clone()).expect("rows that cannot be read refuse nothing");
    [(new, state), (old, loaded)]
}

#[test]
fn a_separator_in_a_name_makes_one_state_whoever_applied_it() {
    let reset = Command::AssignOffsets {
        offsets: vec![commit("a\0b", "t", 7)],
        reset: true,
    };
    // Older than the reset: not stored, in either version.
    let late = Command::CommitOffsets {
        offsets: vec![commit("a\0b", "t", 3), commit("c\0", "t", 2)],
    };
    let made = both(
        &[reset, late],
        &[
            (Family::Offsets, b"a\0b\0t\x005", 7),
            (Family::Resets, b"a\0b\0t\x005", 7),
            (Family::Offsets, b"c\0\0t\x005", 2),
        ],
    );
    let [(new, state), (old, loaded)] = &made;
    assert_eq!(rows(new.as_ref()), rows(old.as_ref()));
    assert_eq!((state.set_aside(), loaded.set_aside()), (3, 3));
    assert!(state.all_offsets().is_empty() && loaded.all_offsets().is_empty());
    for (kv, state) in &made {
        apply(
            state,
            kv.as_ref(),
            Command::DeleteTopic {
                topic: "t".into(),
                now_ms: 1,
            },
        );
        assert_eq!(state.set_aside(), 0, "its topic takes the row along");
    }
    assert_eq!(rows(new.as_ref()), rows(old.as_ref()));
}

#[test]
fn a_row_that_cannot_be_read_stays_until_it_is_written_again() {
    let kv = Arc::new(MemoryKv::default());
    let mut batch = Batch::default();
    batch.put(Family::Topics, *b"bad", *b"{\"topicName\":");
    batch.put(Family::Groups, *b"\xff\xfe", *b"{}");
    batch.put(Family::KvConfig, *b"no separator", *b"v");
    batch.put(Family::Offsets, *b"g\0t\0x", 1i64.to_be_bytes());
    batch.put(Family::Offsets, *b"g\0t\x000", *b"short");
    batch.put(Family::Meta, *b"topic_version", *b"?");
    kv.write(&batch).expect("in memory");
    let state = State::load(kv.clone()).expect("it refuses nothing");
    assert_eq!(state.set_aside(), 6);
    assert_eq!(rows(kv.as_ref()).len(), 6, "they are kept, for snapshots");
    // The topic's row and, with it, the version of the table.
    apply(&state, kv.as_ref(), put_topic("bad"));
    assert!(state.topic("bad").is_some());
    assert_eq!(state.set_aside(), 4);
    let again = State::load(kv.clone()).expect("loads");
    assert_eq!(again.set_aside(), 4);
    assert!(again.topic("bad").is_some());
}

#[test]
fn commits_to_a_topic_that_is_gone_count_until_the_set_is_upgraded() {
    let kv = Arc::new(MemoryKv::default());
    let state = State::load(kv.clone()).expect("empty");
    let commits = |offset| Command::CommitOffsets {
        offsets: vec![commit("g", "gone", offset), commit("g", "there", offset)],
    };
    apply(&state, kv.as_ref(), put_topic("there"));
    apply(&state, kv.as_ref(), commits(1));
    assert_eq!(
        state.offset("g", "gone", 5),
        Some(1),
        "as the binaries before apply it"
    );
    apply(&state, kv.as_ref(), Command::SetVersion { version: 1 });
    apply(&state, kv.as_ref(), Command::SetVersion { version: 0 });
    assert_eq!(state.set_version(), 1, "never lowered");
    apply(&state, kv.as_ref(), commits(2));
    assert_eq!(state.offset("g", "gone", 5), Some(1));
    assert_eq!(state.offset("g", "there", 5), Some(2));
    assert_eq!(State::load(kv).expect("loads").set_version(), 1);
}
