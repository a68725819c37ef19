//! Disks that fail in the ways disks do: an fsync that fails and the next one says nothing, a sector that cannot be read
//! until it is written, an open that the system refuses.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::crash::seeds;
use super::reference::dir;
use super::world::World;
use crate::commitlog::format::Header;
use crate::commitlog::writer::FlushPolicy;
use crate::snapshots::Snapshots;
use crate::vfs::{Crash, FaultOp};

/// An fsync fails and the process ends. It is started again in the same boot, where all of the log is read as it was
/// written, and goes on. Then the power fails.
fn failed_syncs(seeds: std::ops::Range<u64>) -> (u32, Vec<String>) {
    let (mut tried, mut wrong) = (0, Vec::new());
    for seed in seeds {
        let mut world = World::new(seed, FlushPolicy::Sync);
        world.open().expect("opens");
        for _ in 0..20 + seed % 60 {
            world.operate().expect("operates");
        }
        world.fs.fail(FaultOp::Sync, seed % 3, ErrorKind::Other);
        if (0..80).all(|_| world.operate().is_ok()) {
            continue;
        }
        // What the kernel dropped from memory too, the marker knows of: that is said, and another test's matter.
        if world.crash(Crash::Kill).is_err() {
            continue;
        }
        tried += 1;
        if let Err(why) = world.crash(Crash::Power) {
            wrong.push(format!("seed {seed}: {why}"));
        }
    }
    (tried, wrong)
}

#[test]
fn what_a_failed_fsync_left_in_the_page_cache_is_written_again() {
    let (tried, wrong) = failed_syncs(seeds(300));
    assert!(tried > 100, "only {tried} failed");
    assert_eq!(wrong, Vec::<String>::new());
}

/// The control: without the rewrite the same histories lose what was acknowledged.
#[cfg(feature = "sabotage")]
#[test]
#[ignore = "breaks a promise of the whole process: run it alone"]
fn a_start_that_trusts_the_page_cache_is_caught() {
    crate::sabotage::choose(Some(crate::sabotage::Sabotage::TrustPageCache));
    let (tried, wrong) = failed_syncs(0..300);
    crate::sabotage::choose(None);
    assert!(wrong.len() > 10, "{} of {tried}", wrong.len());
}

#[test]
fn a_sector_that_cannot_be_read_is_damage_and_is_whole_after_a_repair() {
    let mut repaired = 0;
    for seed in 0..30 {
        let mut world = World::new(seed, FlushPolicy::Sync);
        world.open().expect("opens");
        for _ in 0..150 {
            world.operate().expect("operates");
        }
        world.step();
        world.apply_all();
        let start = world.store().log.start();
        let end = world.store().log.end();
        // Within an entry: the rest of a segment behind its pad is nothing.
        let places: Vec<u64> = world
            .entries
            .iter()
            .filter_map(|bytes| Header::decode(bytes))
            .map(|header| header.position)
            .filter(|at| (start..end.saturating_sub(30_000)).contains(at))
            .collect();
        let Some(place) = places
            .get(world.rng.below(places.len() as u64) as usize)
            .copied()
        else {
            continue;
        };
        let segment = super::world::SEGMENT;
        let name = crate::commitlog::format::segment_name(place / segment * segment);
        let path = dir().join("commitlog/segments").join(name);
        world.fs.spoil(&path, place % segment, 1).expect("spoiled");
        // The scrubber finds it, and goes on behind it.
        let passes = |world: &World| {
            let progress = world.scrubbed().expect("runs");
            progress
                .scrub_passes
                .load(std::sync::atomic::Ordering::Relaxed)
        };
        let before = passes(&world);
        for _ in 0..12 {
            world.tick().expect("ticks");
        }
        assert!(
            passes(&world) > before,
            "seed {seed}: it never came past it"
        );
        if place < world.store().log.start() {
            continue;
        }
        assert!(
            !world.store().log.damage().is_empty(),
            "seed {seed}: not noted"
        );
        let mut rounds = 0;
        while let Some(range) = world.store().log.damage().first().copied() {
            let inside = world.entries.iter().filter(|bytes| {
                let header = Header::decode(bytes).expect("an entry");
                (range.from..range.to).contains(&header.position)
            });
            let inside: Vec<_> = inside.cloned().collect();
            let done = world.store().log.repair(range, &inside);
            done.unwrap_or_else(|e| panic!("seed {seed}: {range:?}: {e}"));
            rounds += 1;
            assert!(rounds < 20, "seed {seed}: {range:?} is never whole");
        }
        repaired += 1;
        world.check().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        world
            .crash(Crash::Power)
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
    assert!(repaired > 10, "{repaired}");
}

#[test]
fn a_refused_open_or_a_bad_sector_deletes_no_snapshot() {
    let mut world = World::new(4, FlushPolicy::Sync);
    world.open().expect("opens");
    let snaps = |world: &World| -> Vec<PathBuf> {
        let mut files = world.fs.files();
        files.retain(|path| path.extension().is_some_and(|e| e == "snap"));
        files
    };
    for _ in 0..400 {
        world.operate().expect("operates");
    }
    let before = snaps(&world);
    assert!(!before.is_empty());
    let open = || Snapshots::open(Arc::new(world.fs.clone()), dir().join("snapshots"));
    world.fs.fail(FaultOp::Open, 0, ErrorKind::PermissionDenied);
    assert!(open().is_err());
    assert_eq!(snaps(&world), before);
    world.fs.spoil(&before[0], 0, 1).expect("spoiled");
    let opened = open().expect("goes without it");
    assert_eq!(opened.marks().len(), before.len() - 1);
    assert_eq!(snaps(&world), before);
}

#[test]
fn a_power_cut_is_judged_by_the_flush_mode_of_the_process_that_ran() {
    for (ran, starts) in [
        (FlushPolicy::Async, FlushPolicy::Sync),
        (FlushPolicy::Sync, FlushPolicy::Async),
    ] {
        let mut world = World::new(6, ran);
        world.open().expect("opens");
        assert!(!world.store().unsynced);
        for _ in 0..20 {
            world.append().expect("appends");
        }
        world.step();
        world.policy = starts;
        world.store = None;
        world.fs = world.fs.crash(Crash::Power, 1);
        world.boot += 1;
        world.kv.lose_power(|_| 0);
        world.open().expect("opens");
        assert_eq!(world.store().unsynced, ran == FlushPolicy::Async);
    }
}
