//! Random lives of an index against the log it is derived from.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::world::{KEYS, SEGMENT, TOPICS, World};

#[derive(Debug, Clone)]
enum Harm {
    Flip(usize),
    Cut(usize),
    Grow,
    Delete,
}

/// Topic, unique id, keys, size, how much later than the one before.
type Drawn = (usize, Option<usize>, Vec<usize>, u64, i64);

#[derive(Debug, Clone)]
enum Op {
    Add(Vec<Drawn>),
    Advance,
    Flush,
    Reopen,
    Maintain,
    Trim(u64),
    Reset,
    Query(usize, usize, i64, i64),
    Harm(usize, Harm, bool),
}

fn op() -> impl Strategy<Value = Op> {
    let message = (
        0..TOPICS.len(),
        proptest::option::of(4..KEYS.len()),
        proptest::collection::vec(0..4usize, 0..4),
        prop_oneof![Just(40u64), 100u64..9_000],
        prop_oneof![9 => -50i64..500, 1 => Just(60 * 86_400_000i64)],
    );
    let harm = prop_oneof![
        4 => any::<usize>().prop_map(Harm::Flip),
        2 => any::<usize>().prop_map(Harm::Cut),
        1 => Just(Harm::Grow),
        1 => Just(Harm::Delete),
    ];
    prop_oneof![
        8 => proptest::collection::vec(message, 1..30).prop_map(Op::Add),
        2 => Just(Op::Advance),
        2 => Just(Op::Flush),
        2 => Just(Op::Reopen),
        3 => Just(Op::Maintain),
        1 => (0..4u64).prop_map(Op::Trim),
        1 => Just(Op::Reset),
        6 => (0..TOPICS.len(), 0..KEYS.len(), -1000..90_000i64, 0..9000i64)
            .prop_map(|(t, k, begin, len)| Op::Query(t, k, begin, begin + len)),
        4 => (any::<usize>(), harm, any::<bool>()).prop_map(|(f, h, r)| Op::Harm(f, h, r)),
    ]
}

/// Says whether the file differs now.
fn harm(path: &Path, how: &Harm) -> bool {
    let mut bytes = fs::read(path).expect("read");
    match how {
        Harm::Flip(_) | Harm::Cut(_) if bytes.is_empty() => return false,
        Harm::Flip(at) => {
            let len = bytes.len();
            bytes[at % len] ^= 1 << (at % 7);
        }
        Harm::Cut(at) => bytes.truncate(at % bytes.len()),
        Harm::Grow => bytes.push(0),
        Harm::Delete => {
            fs::remove_file(path).expect("remove");
            return true;
        }
    }
    fs::write(path, bytes).expect("write");
    true
}

fn live(ops: Vec<Op>) {
    let mut world = World::new();
    let mut time = 0;
    for op in ops {
        match op {
            Op::Add(messages) => {
                for (topic, unique, keys, size, later) in messages {
                    time += later;
                    let keys: Vec<&str> = keys.into_iter().map(|k| KEYS[k]).collect();
                    let unique = unique.map(|u| KEYS[u]);
                    world.add(TOPICS[topic], unique, &keys.join(" "), size, time);
                }
            }
            Op::Advance => world.index.advance(world.end).expect("advanced"),
            Op::Flush => {
                world.index.advance(world.end).expect("advanced");
                world.index.flush().expect("flushed");
                assert_eq!(world.index.covered(), world.end);
            }
            Op::Reopen => {
                let covered = world.index.covered();
                world.reopen();
                assert_eq!(world.index.covered(), covered);
                assert_eq!(world.index.gaps(), vec![]);
                world.catch_up();
            }
            Op::Maintain => {
                world.index.maintain().expect("maintained");
                assert_eq!(world.index.maintain().expect("maintained"), 0);
            }
            Op::Trim(segments) => world.trim((world.start + segments * SEGMENT).min(world.end)),
            Op::Reset => {
                world.end += 777;
                world.log.clear();
                world.start = world.end - world.end % SEGMENT;
                world.index.reset(world.end).expect("reset");
                assert_eq!(world.index.covered(), world.end);
            }
            Op::Query(topic, key, begin, end) => {
                world.check(TOPICS[topic], KEYS[key], begin, end);
            }
            Op::Harm(nth, how, running) => {
                let files = world.files();
                let path = &files[nth % files.len()];
                harm(path, &how);
                let is_start = path.ends_with("start");
                if running {
                    world.check_subset(TOPICS[nth % 2], KEYS[nth % KEYS.len()]);
                    assert!(!world.verify_all() || is_start);
                    assert!(is_start || !path.exists());
                }
                let before = world.index.covered();
                world.reopen();
                let noticed = world.index.covered() < before || !world.index.gaps().is_empty();
                assert!(noticed || !world.verify_all() || is_start);
                // A sealed file at the end of the index may have been found damaged just now.
                world.reopen();
                world.catch_up();
                assert!(world.verify_all());
            }
        }
        let last = world
            .log
            .iter()
            .rfind(|m| m.unique.is_some() || m.keys.is_some());
        if let Some(last) = last {
            assert_eq!(world.index.last(), (last.timestamp, last.position));
        }
    }
    world.check_all();
    world.reopen();
    world.catch_up();
    world.check_all();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn an_index_agrees_with_its_log(ops in proptest::collection::vec(op(), 1..60)) {
        live(ops);
    }
}

#[test]
fn every_kind_of_harm_to_every_file_is_noticed_and_repaired() {
    let mut world = World::new();
    for nth in 0..300 {
        let key = KEYS[nth % 4];
        world.add(
            TOPICS[nth % 2],
            Some(KEYS[4 + nth % 2]),
            key,
            1000,
            nth as i64,
        );
        if nth == 150 {
            world.index.maintain().expect("maintained");
        }
    }
    let count = world.files().len();
    assert!(count > 5);
    for nth in 0..count {
        for how in [
            Harm::Flip(5),
            Harm::Flip(4000),
            Harm::Flip(4100),
            Harm::Cut(4096),
            Harm::Grow,
        ]
        .into_iter()
        .chain([Harm::Cut(0), Harm::Delete])
        {
            world.reopen();
            world.catch_up();
            let files = world.files();
            let path = &files[nth % files.len()];
            harm(path, &how);
            world.reopen();
            let sound = world.verify_all();
            let told = world.index.covered() < world.end || !world.index.gaps().is_empty();
            assert!(
                !sound || told || path.ends_with("start"),
                "{path:?} {how:?}"
            );
            world.reopen();
            world.catch_up();
            world.check_all();
        }
    }
}
