//! Stores as earlier versions left them (`data/make` makes them): each opens, serves the messages and has the state that
//! the earlier version's clients were told of, and does so again after a restart and from its snapshots alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use raftmq_remoting::message::{StoredRecord, properties};
use raftmq_store::commitlog::LogOptions;
use raftmq_store::commitlog::writer::FlushPolicy;
use raftmq_store::directory::DirectoryLock;
use raftmq_store::{Effects, Env, Store};
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;

/// `mappedFileSizeCommitLog` of the stores.
const SEGMENT: u64 = 1 << 20;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v0")
}

/// A copy of a store, and what its clients were told.
fn old(name: &str) -> (TempDir, PathBuf, Value) {
    let temp = tempfile::tempdir().expect("a directory");
    let packed = data().join(format!("{name}.tar.gz"));
    let done = Command::new("tar")
        .arg("-xzf")
        .arg(&packed)
        .arg("-C")
        .arg(temp.path())
        .status()
        .expect("tar is there");
    assert!(done.success(), "{} is unpacked", packed.display());
    let told = std::fs::read(data().join(format!("{name}.json"))).expect("a listing");
    let told = serde_json::from_slice(&told).expect("JSON");
    let dir = temp.path().join("store");
    (temp, dir, told)
}

/// Opens a store and applies all of its log: everything in it was acknowledged.
fn open(dir: &Path) -> (Store, DirectoryLock) {
    let options = LogOptions::new(SEGMENT, FlushPolicy::Sync);
    let (store, lock) = Store::open(dir, &options).unwrap_or_else(|e| panic!("{e}"));
    let last = store.log.bounds().1.expect("entries").index;
    let mut machine = store.machine.lock();
    let mut next = machine.applied().map_or(0, |a| a.index + 1);
    while next <= last {
        let entries = store.log.read_entries(next, last + 1, 1 << 20);
        for entry in entries.expect("reads") {
            machine
                .apply(&entry, None, &mut Effects::default())
                .expect("applies");
            next = entry.header.index + 1;
        }
        if let Some(applied) = machine.applied() {
            store.log.set_committed(applied.position, applied.index);
        }
        machine.finish().expect("finishes");
    }
    drop(machine);
    (store, lock)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn ids(value: &Value) -> BTreeSet<String> {
    list(value).iter().map(|v| text(v).to_owned()).collect()
}

fn check_queues(store: &Store, told: &Value) {
    for queue in list(&told["queues"]) {
        let (topic, id) = (text(&queue["topic"]), queue["queue"].as_i64().expect("id"));
        let (first, next) = (queue["first"].as_i64(), queue["next"].as_i64());
        let place = format!("{topic}-{id}");
        let found = store.queues.get(topic, id as i32);
        let found = found.unwrap_or_else(|| panic!("no queue {place}"));
        assert_eq!(Some(found.max()), next, "{place}");
        assert!(Some(found.min()) <= first, "{place}: {}", found.min());
        for message in list(&queue["messages"]) {
            let offset = message["offset"].as_i64().expect("an offset");
            let entries = found.read(offset, 1).expect("reads");
            let entry = entries.first().expect("an entry");
            assert_eq!(
                (Some(entry.physical_offset), Some(u64::from(entry.size))),
                (message["position"].as_i64(), message["size"].as_u64()),
                "{place} at {offset}"
            );
            let record = store
                .log
                .read_record(entry.physical_offset as u64, entry.size);
            let record = record.unwrap_or_else(|e| panic!("{place} at {offset}: {e}"));
            let record = StoredRecord::parse(&record).expect("a message");
            assert_eq!(record.topic(), topic);
            assert_eq!(i64::from(record.queue_id()), id);
            assert_eq!(record.queue_offset(), offset);
            assert!(record.body_crc_ok());
            assert_eq!(Some(u64::from(record.body_crc())), message["crc"].as_u64());
            let pairs: BTreeMap<&str, &str> = properties::iter(record.properties()).collect();
            let pairs = serde_json::to_value(pairs).expect("JSON");
            assert_eq!(pairs, message["properties"], "{place} at {offset}");
        }
    }
}

/// Whether every one of ours was told, as it is; and those names among them.
fn check_table<T: Serialize>(
    ours: impl Iterator<Item = (String, T)>,
    told: &Value,
    wanted: &[&str],
) {
    let mut there = BTreeSet::new();
    for (name, config) in ours {
        let config = serde_json::to_value(config).expect("JSON");
        assert_eq!(config, told[&name], "{name}");
        there.insert(name);
    }
    for name in wanted {
        assert!(there.contains(*name), "{name} in {there:?}");
    }
}

fn check_state(store: &Store, told: &Value) {
    let state = &store.state;
    let topics = state.topics();
    let topics = topics.iter().map(|t| (t.topic_name.clone(), t.as_ref()));
    check_table(
        topics,
        &told["topics"],
        &["orders", "ordered", "again", "ready"],
    );
    let groups = state.groups();
    let groups = groups.iter().map(|g| (g.group_name.clone(), g.as_ref()));
    check_table(
        groups,
        &told["groups"],
        &["payers", "clones", "policy", "reset"],
    );
    for gone in ids(&told["gone"]["topics"]) {
        assert!(state.topic(&gone).is_none() && store.queues.get(&gone, 1).is_none());
    }
    for gone in ids(&told["gone"]["groups"]) {
        assert!(state.group(&gone).is_none() && state.offsets_of(&gone).is_empty());
    }
    let mut offsets: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for one in state.all_offsets() {
        let of = offsets.entry(format!("{}@{}", one.topic, one.group));
        of.or_default().insert(one.queue_id.to_string(), one.offset);
    }
    assert_eq!(
        serde_json::to_value(offsets).expect("JSON"),
        told["offsets"]
    );
    for (key, value) in told["settings"].as_object().expect("settings") {
        assert_eq!(
            state.kv("settings", key).as_deref(),
            value.as_str(),
            "{key}"
        );
    }
    let (group, topic) = (
        text(&told["resets"]["group"]),
        text(&told["resets"]["topic"]),
    );
    assert_eq!(state.reset_count(), 4);
    for queue in 0..4 {
        let end = store.queues.get(topic, queue).expect("a queue").max();
        assert_eq!(state.reset(group, topic, queue), Some(end), "queue {queue}");
    }
}

/// The unique ids of what pends at these positions.
fn unique_ids(store: &Store, positions: impl Iterator<Item = i64>) -> BTreeSet<String> {
    positions
        .map(|position| {
            let record = store.log.read_record_at(position as u64).expect("reads");
            let record = StoredRecord::parse(&record).expect("a message");
            record
                .property(properties::UNIQ_KEY)
                .expect("an id")
                .to_owned()
        })
        .collect()
}

fn check_pending(store: &Store, told: &Value) {
    let timers = store.state.timers();
    let due = timers.due(i64::MAX, 100).expect("timers");
    assert_eq!(timers.count().expect("timers"), due.len() as u64);
    let timers = unique_ids(store, due.iter().map(|key| key.physical_offset));
    assert_eq!((timers, due.len()), (ids(&told["timers"]), 10));
    let pending = store.state.transactions(0, 100).expect("transactions");
    let half = unique_ids(store, pending.iter().map(|one| one.position));
    assert_eq!(
        (half, pending.len()),
        (ids(&told["pending_transactions"]), 2)
    );
}

fn check(store: &Store, told: &Value) {
    assert!(!store.lost_end, "nothing is lost");
    assert!(store.log.damage().is_empty());
    check_queues(store, told);
    check_state(store, told);
    check_pending(store, told);
}

/// Opened as it was left, then as this version left it, then without what can be made again.
fn serves(name: &str) -> (Store, DirectoryLock, TempDir) {
    let (temp, dir, told) = old(name);
    let (store, lock) = open(&dir);
    check(&store, &told);
    store.close(&Env::real(), &dir).expect("closes");
    drop((store, lock));
    let (store, lock) = open(&dir);
    check(&store, &told);
    store.close(&Env::real(), &dir).expect("closes");
    drop((store, lock));
    for derived in ["metadata", "consumequeue", "index"] {
        std::fs::remove_dir_all(dir.join(derived)).expect("removed");
    }
    let (store, lock) = open(&dir);
    check(&store, &told);
    (store, lock, temp)
}

#[test]
fn a_set_of_one_that_was_trimmed_and_stopped_in_order() {
    let (store, ..) = serves("one-clean");
    assert!(store.log.start() > 0 && store.snapshots.base().is_some());
    assert!(store.log.end() - store.log.start() > SEGMENT);
}

#[test]
fn a_set_of_one_that_was_killed() {
    let (store, ..) = serves("one-killed");
    assert_eq!(store.log.start(), 0);
    assert!(store.log.end() > 2 * SEGMENT && !store.snapshots.marks().is_empty());
}

#[test]
fn a_leader_of_three_that_was_killed() {
    serves("three-leader");
}

#[test]
fn a_follower_of_three_that_was_killed() {
    serves("three-follower");
}
