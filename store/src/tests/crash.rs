//! Crashes: at random places of random histories, and at every single operation on the disk.

use super::world::{Checked, World};
use crate::commitlog::writer::FlushPolicy;
use crate::vfs::Crash;

/// A history of several lives.
fn lives(
    seed: u64,
    policy: FlushPolicy,
    kind: Option<Crash>,
    ignore_syncs: bool,
) -> (World, Checked) {
    let mut world = World::new(seed, policy);
    world.fs.ignore_syncs(ignore_syncs);
    let mut result = world.open().map_err(|e| e.to_string());
    for _ in 0..4 {
        let operations = 20 + world.rng.below(120);
        for _ in 0..operations {
            result = result.and_then(|()| world.operate());
        }
        let kind = kind.unwrap_or_else(|| match world.rng.below(2) {
            0 => Crash::Kill,
            _ => Crash::Power,
        });
        result = result.and_then(|()| world.crash(kind));
        if result.is_err() {
            break;
        }
    }
    (world, result)
}

/// How many histories, from 0 on; `STORE_SEEDS` and `STORE_FIRST` say otherwise.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("STORE_SEEDS").ok();
    let first = std::env::var("STORE_FIRST").ok();
    let first = first.and_then(|n| n.parse().ok()).unwrap_or(0);
    first..first + asked.and_then(|n| n.parse().ok()).unwrap_or(default)
}

#[test]
fn kills_and_power_loss_lose_nothing_that_was_synced() {
    for seed in seeds(400) {
        let (_, result) = lives(seed, FlushPolicy::Sync, None, false);
        result.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn kills_lose_nothing_that_was_written() {
    for seed in seeds(200) {
        let (world, result) = lives(seed, FlushPolicy::Async, Some(Crash::Kill), false);
        result.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(world.lost, 0, "seed {seed}");
    }
}

#[test]
fn power_loss_leaves_the_synced_part_and_a_consistent_store() {
    let mut lost = 0;
    for seed in seeds(300) {
        let (world, result) = lives(seed, FlushPolicy::Async, Some(Crash::Power), false);
        result.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        lost += world.lost;
    }
    assert!(lost > 0, "the power never failed at a bad moment: no test");
}

/// The control: a disk that ignores fsync must be caught.
#[test]
fn a_disk_that_lies_about_fsync_is_caught() {
    let caught = seeds(60)
        .filter(|seed| {
            let (world, result) = lives(*seed, FlushPolicy::Sync, Some(Crash::Power), true);
            result.is_err() || world.lost > 0
        })
        .count();
    assert!(caught > 30, "only {caught} of 60");
}

/// The same short history, killed at each operation on the disk, then once more with the power gone.
#[test]
fn a_kill_at_every_operation_of_the_disk_is_survived() {
    for seed in [3, 11] {
        let run = |kill_at: Option<u64>| {
            let mut world = World::new(seed, FlushPolicy::Sync);
            if let Some(at) = kill_at {
                world.fs.kill_after(at);
            }
            let mut alive = world.open().is_ok();
            for _ in 0..260 {
                alive = alive && !world.fs.killed() && world.operate().is_ok();
            }
            world
        };
        let whole = run(None);
        let operations = whole.fs.ops();
        assert!(operations > 300, "{operations} operations are no test");
        drop(whole);
        for at in 0..operations {
            for kind in [Crash::Kill, Crash::Power] {
                let mut world = run(Some(at));
                assert!(world.fs.killed(), "operation {at} was not reached");
                world
                    .crash(kind)
                    .unwrap_or_else(|e| panic!("seed {seed}, killed at {at}, {kind:?}: {e}"));
                for _ in 0..10 {
                    world
                        .operate()
                        .unwrap_or_else(|e| panic!("seed {seed}, after {at}: {e}"));
                }
            }
        }
    }
}

/// Queue entries that no file has ever had.
#[test]
fn a_kill_before_any_queue_is_written_out_is_survived() {
    for kind in [Crash::Kill, Crash::Power] {
        let mut world = World::new(8, FlushPolicy::Sync);
        world.open().expect("opens");
        for _ in 0..40 {
            world.append().expect("appends");
            world.step();
            world.apply_all();
        }
        let queues = super::reference::dir().join("consumequeue");
        let mut files = world.fs.files();
        files.retain(|path| path.starts_with(&queues) && !path.ends_with("table"));
        assert_eq!((files.len(), world.committed), (0, 40));
        world.check().expect("is visible");
        assert!(world.store().queues.in_memory() > 40);
        world.crash(kind).expect("is visible again");
    }
}

/// Killed while it recovers from a kill.
#[test]
fn a_kill_during_recovery_is_survived() {
    for seed in 0..6 {
        let build = || {
            let mut world = World::new(seed, FlushPolicy::Sync);
            world.open().expect("opens");
            for _ in 0..200 {
                world.operate().expect("operates");
            }
            world.store = None;
            world.fs = world.fs.crash(Crash::Power, seed);
            world.boot += 1;
            world.kv.lose_power(|n| n / 2);
            world
        };
        let mut whole = build();
        let before = whole.fs.ops();
        whole.open().expect("opens");
        let operations = whole.fs.ops() - before;
        for at in before..before + operations {
            let mut world = build();
            world.fs.kill_after(at);
            assert!(world.open().is_err() || world.fs.killed(), "operation {at}");
            world
                .crash(Crash::Power)
                .unwrap_or_else(|e| panic!("seed {seed}, killed at {at} while opening: {e}"));
        }
    }
}

#[test]
fn a_clean_close_leaves_nothing_to_do() {
    let mut world = World::new(5, FlushPolicy::Async);
    world.open().expect("opens");
    for _ in 0..150 {
        world.operate().expect("operates");
    }
    world.step();
    let (env, dir) = (world.env(), super::reference::dir());
    world.store().close(&env, dir).expect("closes");
    assert!(!env.fs.exists(&dir.join("abort")));
    let count = world.entries.len() as u64;
    world.store = None;
    world.fs = world.fs.crash(Crash::Power, 1);
    world.kv.lose_power(|_| 0);
    world.reopen(count).expect("all of it is there");
    assert_eq!(world.store().stop, crate::Stop::Clean);
}
