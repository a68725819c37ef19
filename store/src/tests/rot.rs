//! Bit rot: one flipped byte, a shortened or a vanished file, of every kind of file there is. Nothing wrong is ever
//! served; what is derived is made anew; a hole in the log is known as one, and whole again after a repair.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::reference::dir;
use super::world::World;
use crate::StoreError;
use crate::commitlog::CommitLog;
use crate::commitlog::damage::Damage;
use crate::commitlog::format::{Header, Record, records};
use crate::commitlog::writer::FlushPolicy;
use crate::vfs::{Crash, FileSystem};

/// What a file is for.
fn kind(path: &Path) -> &'static str {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    let text = path.strip_prefix(dir()).unwrap_or(path).to_string_lossy();
    match name {
        "vote" => "vote",
        "format" => "format",
        "marker" => "marker",
        "checkpoint" => "checkpoint",
        "log_start" => "log_start",
        "anchor" => "anchor",
        "table" => "queue table",
        "damage" | "abort" => "small",
        _ if name.ends_with(".idx") => "sparse index",
        _ if name.ends_with(".snap") => "snapshot",
        _ if text.starts_with("commitlog/segments") => "segment",
        _ if text.starts_with("consumequeue") => "consume queue",
        _ if text.starts_with("index") => "key index",
        _ => "other",
    }
}

/// A store with some history, closed cleanly or killed.
fn history(seed: u64) -> World {
    let mut world = World::new(seed, FlushPolicy::Sync);
    world.open().expect("opens");
    for _ in 0..160 {
        world.operate().expect("operates");
    }
    world.step();
    world.apply_all();
    if world.rng.below(2) == 0 {
        let env = world.env();
        world.store().close(&env, dir()).expect("closes");
    }
    world.store = None;
    world.fs = world.fs.crash(Crash::Kill, seed);
    world
}

/// Every message is the right one or an error.
fn nothing_wrong_is_served(world: &World) -> usize {
    let store = world.store();
    let mut unreadable = 0;
    let committed = store.machine.lock().applied().map_or(0, |a| a.position);
    for bytes in &world.entries {
        let header = Header::decode(bytes).expect("an entry");
        if header.position < store.log.start()
            || header.position + u64::from(header.size) > committed
        {
            continue;
        }
        for record in records(bytes) {
            let Record::Message { at, bytes } = record.expect("a record") else {
                continue;
            };
            let position = header.position + at as u64;
            match store.log.read_record_at(position) {
                Ok(found) => assert_eq!(found, bytes, "another message at {position}"),
                Err(StoreError::Corrupt { .. } | StoreError::OutOfRange { .. }) => unreadable += 1,
                Err(error) => panic!("{position}: {error}"),
            }
        }
    }
    unreadable
}

/// Repairs the log as another replica would: from the same entries.
fn repair(world: &World) {
    repair_log(world, &world.store().log);
}

fn repair_log(world: &World, log: &CommitLog) {
    for _ in 0..200 {
        let Some(range) = log.damage().first().copied() else {
            return;
        };
        let inside: Vec<_> = world
            .entries
            .iter()
            .filter(|bytes| {
                let header = Header::decode(bytes).expect("an entry");
                (range.from..range.to).contains(&header.position)
            })
            .cloned()
            .collect();
        log.repair(Damage::new(range.from, range.to), &inside)
            .unwrap_or_else(|e| panic!("{range:?}: {e}"));
    }
    panic!("never whole: {:?}", log.damage());
}

#[test]
fn rot_in_any_file_is_found_and_made_good() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut repaired = 0;
    for seed in super::crash::seeds(240) {
        let mut world = history(seed);
        let mut files: Vec<PathBuf> = world
            .fs
            .files()
            .into_iter()
            .filter(|path| path.starts_with(dir()) && kind(path) != "other")
            .collect();
        files.push(dir().join("metadata"));
        // One kind first, then a file of it: segments are few among many.
        let mut kinds: Vec<&str> = files.iter().map(|p| kind(p)).collect();
        kinds.sort();
        kinds.dedup();
        let chosen = kinds[world.rng.below(kinds.len() as u64) as usize];
        files.retain(|path| kind(path) == chosen);
        let victim = files[world.rng.below(files.len() as u64) as usize].clone();
        let what = world.rng.below(3);
        let told = format!("seed {seed}: {} ({what})", victim.display());
        if victim.ends_with("metadata") {
            world.kv.forget();
        } else {
            let len = world.fs.read(&victim).map_or(0, |bytes| bytes.len()) as u64;
            let at = world.rng.below(len.max(1));
            match what {
                0 if len > 0 => world.fs.corrupt(&victim, at, 0x10).expect("flipped"),
                1 => world.fs.truncate_file(&victim, at).expect("cut"),
                _ => world.fs.delete_file(&victim).expect("deleted"),
            }
        }
        *seen.entry(chosen).or_default() += 1;
        let vote = world.last_vote();
        let mut opened = world.open();
        if opened.is_err() && chosen == "segment" {
            // Damaged where a start has to read: repaired before.
            world.reopen_disk();
            let log = world.open_log().unwrap_or_else(|e| panic!("{told}: {e}"));
            assert!(!log.damage().is_empty(), "{told}: {opened:?}");
            repaired += 1;
            repair_log(&world, &log);
            log.close();
            drop(log);
            opened = world.open();
        }
        if let Err(error) = opened {
            assert!(
                matches!(chosen, "vote" | "format"),
                "{told}: cannot be opened: {error}"
            );
            continue;
        }
        if chosen == "vote" && world.store().log.vote().is_none() {
            // No vote at all: the Raft layer knows by the log that there must have been one.
            continue;
        }
        assert_eq!(world.store().log.vote().unwrap_or_default(), vote, "{told}");
        let cut = world.store().log.cut_short();
        assert!(!cut || chosen == "segment", "{told}: cut");
        let count = world.store().log.bounds().1.map_or(0, |l| l.index + 1);
        if !cut {
            assert_eq!(
                count,
                world.entries.len() as u64,
                "{told}: entries are missing"
            );
        }
        world.forget_after(count);
        if cut {
            // The marker says it again at every start until something is written.
            world.append().unwrap_or_else(|e| panic!("{told}: {e}"));
            world.step();
        }
        nothing_wrong_is_served(&world);
        if !world.store().log.damage().is_empty() {
            repaired += 1;
            repair(&world);
        }
        world.catch_up().unwrap_or_else(|e| panic!("{told}: {e}"));
        // A pass of the scrubber and the repairs it asks for.
        for _ in 0..8 {
            world.tick().unwrap_or_else(|e| panic!("{told}: {e}"));
            if !world.store().log.damage().is_empty() {
                repaired += 1;
                repair(&world);
            }
        }
        assert_eq!(
            nothing_wrong_is_served(&world),
            0,
            "{told}: unreadable after repair"
        );
        world
            .check()
            .unwrap_or_else(|e| panic!("{told}: {e}; {:?}", world.scrubbed()));
        for _ in 0..20 {
            world.operate().unwrap_or_else(|e| panic!("{told}: {e}"));
        }
        world
            .crash(Crash::Kill)
            .unwrap_or_else(|e| panic!("{told}: afterwards: {e}"));
    }
    assert!(seen.len() >= 10, "{seen:?}");
    assert!(repaired > 0, "no log was ever repaired");
}
