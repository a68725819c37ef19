//! The index as its callers see it.

mod model;
mod world;

use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::vfs::{Fault, FaultyFs, RealFs};
use world::{LIMITS, SEGMENT, World, open};

fn all(index: &KeyIndex, key: &str) -> Vec<u64> {
    let mut found = Vec::new();
    let mut visit = |position| {
        found.push(position);
        Ok(ControlFlow::Continue(()))
    };
    index
        .query("t", key, i64::MIN, i64::MAX, &mut visit)
        .expect("query");
    found
}

/// Messages of 1 000 bytes with the key "k".
fn filled(segments: u64) -> World {
    let mut world = World::new();
    while world.end < segments * SEGMENT {
        let nth = world.log.len() as i64;
        world.add("t", Some(&format!("id-{nth}")), "k", 1000, nth);
    }
    world.index.advance(world.end).expect("advanced");
    world
}

#[test]
fn runs_that_are_written_beside_are_found_at_any_time() {
    let mut world = World::new();
    world.index.write_beside().expect("a thread");
    while world.end < 6 * SEGMENT {
        let nth = world.log.len() as i64;
        world.add("t", Some(&format!("id-{nth}")), "k", 1000, nth);
        if nth % 97 == 0 {
            world.check("t", "k", nth / 2, nth);
        }
        if nth % 1013 == 0 {
            world.index.maintain().expect("maintained");
        }
    }
    world.index.reset(world.end).expect("reset");
    assert_eq!(world.index.covered(), world.end);
    assert!(all(&world.index, "k").is_empty());
}

#[test]
fn a_complete_segment_becomes_one_file() {
    let mut world = filled(3);
    let names = |world: &World, base: u64| {
        let dir = world.dir.join(format!("{base:020}"));
        let names = fs::read_dir(dir).expect("list");
        let mut names: Vec<String> = names
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert!(names(&world, SEGMENT).len() > 2);
    let complete = world.index.covered() / SEGMENT;
    assert_eq!(world.index.maintain().expect("maintained") as u64, complete);
    for base in (0..complete).map(|n| n * SEGMENT) {
        assert_eq!(names(&world, base), vec![format!("{base:020}.sealed")]);
    }
    world.check("t", "k", 10, 100);
    assert_eq!(world.found("t", "id-7", 0, 1000), vec![7000]);
    world.reopen();
    world.catch_up();
    world.check("t", "k", i64::MIN, i64::MAX);
}

#[test]
fn runs_left_beside_a_sealed_file_and_files_never_finished_are_deleted() {
    let mut world = filled(2);
    let before: Vec<_> = world.files();
    let saved: Vec<_> = before
        .iter()
        .map(|p| (p.clone(), fs::read(p).expect("read")))
        .collect();
    world.index.maintain().expect("maintained");
    let after = world.files();
    for (path, bytes) in &saved {
        fs::write(path, bytes).expect("write");
    }
    let dir = world.dir.join(format!("{:020}", 0));
    fs::write(dir.join(format!("{:020}.run.tmp", 0)), b"half").expect("write");
    fs::write(dir.join("3-0.spill"), b"half").expect("write");
    world.reopen();
    assert_eq!(world.files(), after);
    assert_eq!(world.index.gaps(), vec![]);
    world.catch_up();
    world.check("t", "k", i64::MIN, i64::MAX);
}

#[test]
fn queries_keep_few_descriptors() {
    let world = filled(MAX_DESCRIPTORS as u64 + 20);
    world.index.maintain().expect("maintained");
    assert!(world.index.stats().files > MAX_DESCRIPTORS as u64);
    for _ in 0..2 {
        world.check("t", "k", i64::MIN, i64::MAX);
        assert_eq!(world.index.shared.descriptors.count(), MAX_DESCRIPTORS);
    }
    world.index.clear().expect("cleared");
    assert_eq!(world.index.shared.descriptors.count(), 0);
    assert_eq!(world.index.stats(), KeyIndexStats::default());
    assert_eq!(world.index.covered(), 0);
}

#[test]
fn a_query_reads_only_files_of_its_time() {
    let world = filled(30);
    world.index.maintain().expect("maintained");
    let middle = world.log[world.log.len() / 2].timestamp;
    world.check("t", "k", middle, middle + 3);
    assert!(world.index.shared.descriptors.count() <= 2);
}

#[test]
fn a_visitor_stops_a_query_and_its_error_is_the_query_s() {
    let world = filled(2);
    let mut seen = 0;
    let mut visit = |_| {
        seen += 1;
        Ok(match seen {
            5 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    };
    let told = world.index.query("t", "k", 0, i64::MAX, &mut visit);
    told.expect("query");
    assert_eq!(seen, 5);
    let mut fail = |_| Err(StoreError::Refused("enough".to_owned()));
    assert!(world.index.query("t", "k", 0, 9, &mut fail).is_err());
}

#[test]
fn a_query_that_meets_damage_makes_a_gap() {
    let mut world = filled(4);
    world.index.maintain().expect("maintained");
    let path = world
        .dir
        .join(format!("{SEGMENT:020}/{SEGMENT:020}.sealed"));
    let mut bytes = fs::read(&path).expect("read");
    let len = bytes.len();
    bytes[4096..len].fill(0xFF);
    fs::write(&path, bytes).expect("write");
    world.check_subset("t", "k");
    assert!(!path.exists());
    assert_eq!(world.index.gaps(), vec![(SEGMENT, 2 * SEGMENT)]);
    let wrong = world.index.rebuild(SEGMENT + 5, 2 * SEGMENT).finish();
    assert!(matches!(wrong, Err(StoreError::Refused(_))));
    world.reopen();
    assert_eq!(world.index.gaps(), vec![(SEGMENT, 2 * SEGMENT)]);
    world.catch_up();
    world.check("t", "k", i64::MIN, i64::MAX);
    assert!(path.exists());
}

#[test]
fn damage_in_the_newest_segment_is_a_gap_once_that_is_complete() {
    let mut world = filled(1);
    let base = world.index.covered();
    while world.end < base + 50_000 {
        world.add("t", None, "k", 1000, 5);
    }
    let dir = world.dir.join(format!("{base:020}"));
    fs::write(dir.join(format!("{base:020}.run")), b"short").expect("write");
    assert!(!world.index.verify(base).expect("verified"));
    assert_eq!(world.index.gaps(), vec![]);
    while world.end < base + 2 * SEGMENT {
        world.add("t", None, "k", 1000, 5);
    }
    assert_eq!(world.index.gaps(), vec![(base, base + SEGMENT)]);
    // The segments before and after it.
    assert_eq!(world.index.maintain().expect("maintained"), 2);
    // Beside its hole the segment still answers.
    assert!(world.found("t", "k", 5, 5).contains(&(base + 45_000)));
    world.catch_up();
    world.check("t", "k", i64::MIN, i64::MAX);
    world.reopen();
    world.catch_up();
    world.check("t", "k", i64::MIN, i64::MAX);
}

#[test]
fn a_gap_that_is_trimmed_or_reset_while_it_is_rebuilt_is_no_matter() {
    for reset in [false, true] {
        let mut world = filled(4);
        world.index.maintain().expect("maintained");
        fs::remove_file(world.dir.join(format!("{0:020}/{0:020}.sealed", 0))).expect("remove");
        world.reopen();
        let mut builder = world.index.rebuild(0, SEGMENT);
        for nth in 0..60 {
            if nth == 40 {
                match reset {
                    true => world.index.reset(9 * SEGMENT).expect("reset"),
                    false => world.index.trim(SEGMENT).expect("trimmed"),
                }
            }
            let added = builder.add("t", None, Some("k"), nth * 1000, 0);
            added.expect("added");
        }
        builder.finish().expect("nothing to do");
        assert!(!world.dir.join(format!("{:020}", 0)).exists());
        let kept = all(&world.index, "k");
        assert!(kept.iter().all(|p| *p >= SEGMENT) && kept.is_empty() == reset);
    }
}

#[test]
fn a_failed_write_stops_the_index_and_loses_nothing_that_was_covered() {
    for fault in [Fault::Write { after: 1 }, Fault::Sync { after: 0 }] {
        let temp = tempfile::tempdir().expect("temp dir");
        let disk = Arc::new(FaultyFs::new(Arc::new(RealFs)));
        let index = KeyIndex::open_with(disk.clone(), temp.path().into(), SEGMENT, LIMITS);
        let index = index.expect("opens");
        let add = |index: &KeyIndex, nth: u64| index.add("t", None, Some("k"), nth * 100, 0);
        for nth in 0..30 {
            add(&index, nth).expect("added");
        }
        disk.arm(fault);
        index.advance(3000).expect("no run is due");
        assert!(index.flush().is_err());
        assert!(matches!(add(&index, 30), Err(StoreError::Poisoned(_))));
        assert_eq!(all(&index, "k").len(), 30);
        let index = open(temp.path());
        let covered = index.covered();
        assert_eq!(covered, 2400);
        for nth in covered / 100..30 {
            add(&index, nth).expect("added");
        }
        assert_eq!(all(&index, "k").len(), 30);
    }
}

#[test]
fn a_reset_that_was_interrupted_is_finished_at_open() {
    let mut world = filled(2);
    let (position, dropping) = (5 * SEGMENT + 10, true);
    start::Start { position, dropping }
        .store(&RealFs, &world.dir)
        .expect("stored");
    world.reopen();
    assert_eq!((world.index.covered(), world.files().len()), (position, 1));
    world.reopen();
    assert_eq!(world.index.covered(), position);
}

#[test]
fn a_trim_beyond_what_was_added_moves_the_index() {
    let mut world = filled(1);
    world.index.trim(7 * SEGMENT + 5).expect("trimmed");
    assert_eq!(world.index.covered(), 7 * SEGMENT);
    world.reopen();
    assert_eq!(world.index.covered(), 7 * SEGMENT);
    assert_eq!(
        (all(&world.index, "k").len(), world.index.gaps().len()),
        (0, 0)
    );
}

#[test]
fn full_runs_and_their_merge_hold_every_key() {
    let temp = tempfile::tempdir().expect("temp dir");
    let size = 256 * 1024 * 1024;
    let index = KeyIndex::open(Arc::new(RealFs), temp.path().into(), size).expect("opens");
    let count = 300_000u64;
    for nth in 0..count {
        let unique = format!("{nth:032X}");
        let added = index.add("t", Some(&unique), Some("hot"), nth * 900, nth as i64);
        added.expect("added");
    }
    index.advance(size).expect("advanced");
    assert!(index.stats().files >= count * 2 / RUN_ENTRIES as u64);
    for merged in [0, 1] {
        for nth in (0..count).step_by(997) {
            assert_eq!(all(&index, &format!("{nth:032X}")), vec![nth * 900]);
        }
        let hot = all(&index, "hot");
        assert!(
            hot.iter()
                .eq((0..count).rev().map(|n| n * 900).collect::<Vec<_>>().iter())
        );
        assert_eq!(index.maintain().expect("maintained"), 1 - merged);
        assert_eq!(index.stats().entries, 2 * count);
    }
    assert_eq!(index.stats().files, 1);
}

#[test]
fn queries_see_everything_while_files_come_and_go() {
    let temp = tempfile::tempdir().expect("temp dir");
    let index = open(temp.path());
    let (added, kept, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for nth in 0..12_000u64 {
                index
                    .add("t", None, Some("k"), nth * 200, 0)
                    .expect("added");
                added.store(nth + 1, Ordering::SeqCst);
            }
            done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                index.maintain().expect("maintained");
                let start = (added.load(Ordering::SeqCst) * 200).saturating_sub(8 * SEGMENT);
                kept.store(start, Ordering::SeqCst);
                index.trim(start).expect("trimmed");
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let before = added.load(Ordering::SeqCst);
                    let found = all(&index, "k");
                    let start = kept.load(Ordering::SeqCst);
                    assert!(found.windows(2).all(|w| w[0] == w[1] + 200), "a hole");
                    let newest = found.first().map_or(0, |p| p / 200 + 1);
                    let oldest = found.last().copied().unwrap_or(0);
                    assert!(newest >= before && oldest <= start + 200);
                }
            });
        }
    });
    assert_eq!(index.gaps(), vec![]);
}

#[test]
fn a_rebuilt_gap_may_hold_the_last_message() {
    let mut world = World::new();
    world.add("t", None, "k", 1000, 42);
    while world.end < 2 * SEGMENT {
        world.add("t", None, "", 1000, 50);
    }
    world.index.advance(world.end).expect("advanced");
    world.index.flush().expect("flushed");
    world.index.maintain().expect("maintained");
    fs::remove_file(world.dir.join(format!("{0:020}/{0:020}.sealed", 0))).expect("remove");
    world.reopen();
    assert_eq!(world.index.gaps(), vec![(0, SEGMENT)]);
    world.catch_up();
    assert_eq!(world.index.last(), (42, 0));
}
