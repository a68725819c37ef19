//! Commands as they lie on disk, byte for byte. `data/v0/commands.golden` was written by the first program that kept a
//! store (commit e9cce2f): a line is a name, a tab and the JSON. Whoever changes a command's form makes a new kind of
//! command instead; the lines there never change.

use std::collections::BTreeSet;

use raftmq_store::command::Reading;
use raftmq_store::{Command, OffsetCommit, PendingTransaction, TimerKey};

const GOLDEN: &str = include_str!("data/v0/commands.golden");

/// The kinds of command of that version, as they are named on disk.
const KINDS: [&str; 13] = [
    "AssignOffsets",
    "CommitOffsets",
    "DeleteGroup",
    "DeleteKv",
    "DeleteTopic",
    "PutGroup",
    "PutKv",
    "PutTopic",
    "ResetsTaken",
    "TimerDone",
    "TransactionChecked",
    "TransactionDone",
    "TrimTo",
];

fn lines() -> impl Iterator<Item = (&'static str, &'static str)> {
    GOLDEN.lines().map(|line| {
        line.split_once('\t')
            .unwrap_or_else(|| panic!("no tab in {line:?}"))
    })
}

fn golden(name: &str) -> Command {
    let (_, json) = lines()
        .find(|(n, _)| *n == name)
        .unwrap_or_else(|| panic!("no line is called {name}"));
    read(name, json)
}

fn read(name: &str, json: &str) -> Command {
    match Command::read(json.as_bytes()) {
        Reading::Known(command) => command,
        other => panic!("{name}: {other:?}: {json}"),
    }
}

#[test]
fn every_command_of_the_first_version_is_read_and_written_as_it_was() {
    for (name, json) in lines() {
        let command = read(name, json);
        let written = String::from_utf8(command.encode()).expect("JSON is text");
        assert_eq!(written, json, "{name}");
    }
}

#[test]
fn no_kind_of_the_first_version_is_left_out() {
    let there: BTreeSet<&str> = lines()
        .map(|(name, _)| name.split(':').next().unwrap_or(name))
        .collect();
    assert!(there.iter().eq(&KINDS), "{there:?}");
    for (name, json) in lines() {
        let kind = name.split(':').next().unwrap_or(name);
        assert!(json.starts_with(&format!("{{\"{kind}\":{{")), "{json}");
    }
}

/// A pair of fields that change places in reading and in writing would still be written as they were.
#[test]
fn the_fields_mean_what_they_meant() {
    let commit = |group: &str, topic: &str, queue_id, offset| OffsetCommit {
        group: group.to_owned(),
        topic: topic.to_owned(),
        queue_id,
        offset,
    };
    let offsets = vec![
        commit("g", "t", 0, 10),
        commit("a\0b", "t\t\n", i32::MIN, i64::MIN),
    ];
    assert_eq!(golden("CommitOffsets"), Command::CommitOffsets { offsets });
    let keys = [(1_700_000_000_000, 4096), (-1, i64::MIN)].map(|(at, position)| TimerKey {
        deliver_at_ms: at,
        physical_offset: position,
    });
    assert_eq!(
        golden("TimerDone"),
        Command::TimerDone { keys: keys.into() }
    );
    let pending = [(4096, 1, 1_700_000_000_000), (i64::MIN, u32::MAX, i64::MAX)].map(
        |(position, checks, since_ms)| PendingTransaction {
            position,
            checks,
            since_ms,
        },
    );
    assert_eq!(
        golden("TransactionChecked"),
        Command::TransactionChecked {
            pending: pending.into()
        }
    );
    let put = Command::PutKv {
        namespace: "ns".to_owned(),
        key: "key".to_owned(),
        value: "value = \u{1F600}\u{2028}".to_owned(),
    };
    assert_eq!(golden("PutKv"), put);
    assert_eq!(
        golden("DeleteGroup"),
        Command::DeleteGroup {
            group: "payers".to_owned(),
            clean_offset: true,
            now_ms: 8
        }
    );
    assert_eq!(
        golden("TrimTo: the end of all"),
        Command::TrimTo { position: u64::MAX }
    );
}
