//! What a log implies, computed without any crash: the whole log applied to an empty store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use raftmq_remoting::message::{StoredRecord, properties};

use crate::Store;
use crate::command::{Command, Reading};
use crate::commitlog::format::{EntryKind, Header, Record, records};
use crate::consume_queue::QueueEntry;
use crate::kv::{Batch, MemoryKv};
use crate::machine::{is_queued, queue_entry};
use crate::state::{State, Touched};

/// Derived state, recomputed.
pub struct Reference {
    queues: BTreeMap<(String, i32), Vec<QueueEntry>>,
    keys: BTreeMap<(String, String), Vec<u64>>,
    state: State,
}

impl Reference {
    /// Of these entries, from the log's first on.
    pub fn of(entries: &[Bytes]) -> Self {
        let mut queues: BTreeMap<(String, i32), Vec<QueueEntry>> = BTreeMap::new();
        let mut keys: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
        let state = State::load(Arc::new(MemoryKv::default())).expect("empty");
        for bytes in entries {
            let header = Header::decode(bytes).expect("an entry");
            if header.kind != EntryKind::Normal {
                continue;
            }
            for record in records(bytes) {
                match record.expect("a record") {
                    Record::Message { at, bytes } => {
                        let view = StoredRecord::parse(bytes).expect("a message");
                        let position = (header.position + at as u64) as i64;
                        let topic = view.topic().to_owned();
                        let unique = view.property(properties::UNIQ_KEY).into_iter();
                        let more = view.property(properties::KEYS).unwrap_or_default();
                        for key in unique.chain(properties::split_keys(more)) {
                            let key = (topic.clone(), key.to_owned());
                            keys.entry(key).or_default().push(position as u64);
                        }
                        if is_queued(view.sys_flag()) {
                            let entry = queue_entry(&view, position, bytes.len());
                            queues
                                .entry((topic, view.queue_id()))
                                .or_default()
                                .push(entry);
                        }
                    }
                    Record::Command(bytes) => {
                        let Reading::Known(command) = Command::read(bytes) else {
                            panic!("no command: {bytes:?}")
                        };
                        if let Command::DeleteTopic { topic, .. } = &command {
                            queues.retain(|(name, _), _| name != topic);
                        }
                        state
                            .apply(command, &mut Batch::default(), &mut Touched::default())
                            .expect("applies");
                    }
                }
            }
        }
        Self {
            queues,
            keys,
            state,
        }
    }

    /// Compares a store that has applied exactly those entries; an error says what differs.
    pub fn check(&self, store: &Store) -> Result<(), String> {
        let start = store.log.start();
        let names: Vec<(String, i32)> = store
            .queues
            .queues()
            .iter()
            .map(|(topic, id, _)| (topic.to_string(), *id))
            .collect();
        for (topic, id) in names {
            if !self.queues.contains_key(&(topic.clone(), id)) {
                let max = store.queues.get(&topic, id).map_or(0, |q| q.max());
                if max > 0 {
                    return Err(format!("queue {topic}-{id} should not be there"));
                }
            }
        }
        for ((topic, id), expected) in &self.queues {
            let Some(queue) = store.queues.get(topic, *id) else {
                return Err(format!("no queue {topic}-{id}"));
            };
            if queue.max() != expected.len() as i64 {
                return Err(format!(
                    "queue {topic}-{id} ends at {}, not {}",
                    queue.max(),
                    expected.len()
                ));
            }
            let kept = expected
                .iter()
                .filter(|e| e.physical_offset as u64 >= start);
            let first = kept.clone().map(|e| e.queue_offset).next();
            // The minimum follows the log's start with the housekeeping.
            if queue.min() > first.unwrap_or(expected.len() as i64) {
                return Err(format!(
                    "queue {topic}-{id} begins too late: {}",
                    queue.min()
                ));
            }
            let from = first.unwrap_or(queue.max());
            let found = queue
                .read(from, expected.len())
                .map_err(|e| format!("queue {topic}-{id}: {e}"))?;
            if !found.iter().eq(kept.clone()) {
                let other = found.iter().zip(kept).find(|(a, b)| a != b);
                return Err(format!(
                    "queue {topic}-{id} differs from the log: {other:?}"
                ));
            }
        }
        for ((topic, key), expected) in &self.keys {
            let expected: Vec<u64> = expected
                .iter()
                .rev()
                .copied()
                .filter(|p| *p >= start)
                .collect();
            let found = crate::key_query::query(
                &store.keys,
                &store.log,
                topic,
                key,
                (i64::MIN, i64::MAX),
                usize::MAX,
            )
            .map_err(|e| e.to_string())?;
            let found: Vec<u64> = found
                .iter()
                .map(|r| StoredRecord::parse(r).expect("a record").physical_offset() as u64)
                .collect();
            if found != expected {
                let mut candidates = Vec::new();
                let _ = store
                    .keys
                    .query(topic, key, i64::MIN, i64::MAX, &mut |position| {
                        let read = store.log.read_record_at(position).map(|r| r.len());
                        candidates.push((position, read.map_err(|e| e.to_string())));
                        Ok(std::ops::ControlFlow::Continue(()))
                    });
                let found = (found, candidates);
                return Err(format!("key {key} of {topic}: {found:?}, not {expected:?}"));
            }
        }
        let topics = |state: &State| {
            let mut names: Vec<_> = state
                .topics()
                .iter()
                .map(|t| t.topic_name.clone())
                .collect();
            names.sort();
            names
        };
        if topics(&store.state) != topics(&self.state) {
            return Err("topics differ".to_owned());
        }
        if store.state.topic_version() != self.state.topic_version() {
            return Err("topic versions differ".to_owned());
        }
        let offsets = |state: &State| {
            let mut all: Vec<_> = state
                .offsets_of("g")
                .into_iter()
                .map(|o| (o.topic, o.queue_id, o.offset))
                .collect();
            all.sort();
            all
        };
        let resets = |state: &State| {
            let mut resets = state.resets();
            assert_eq!(resets.len(), state.reset_count());
            resets.sort_by(|a, b| (&a.topic, a.queue_id).cmp(&(&b.topic, b.queue_id)));
            resets
        };
        if resets(&store.state) != resets(&self.state) {
            return Err(format!(
                "resets differ: {:?}, not {:?}",
                resets(&store.state),
                resets(&self.state)
            ));
        }
        if offsets(&store.state) != offsets(&self.state) {
            return Err(format!(
                "consumer offsets differ: {:?}, not {:?}",
                offsets(&store.state),
                offsets(&self.state)
            ));
        }
        Ok(())
    }
}

/// Where the store of a simulated disk lies.
pub fn dir() -> &'static Path {
    Path::new("/data/store")
}
