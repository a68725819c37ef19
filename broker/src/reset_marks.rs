//! Queues whose offset was reset and whose consumer has not come for the new one yet.
//!
//! Until it has, by its next pull, whatever it commits is older than the reset and is not taken. Soft state of the master: a
//! new one knows the offset, not the mark.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::RandomState;
use parking_lot::Mutex;
use raftmq_remoting::ByteStr;
use raftmq_store::OffsetCommit;

use crate::broker::Broker;

/// Marks kept at once.
const MAX: usize = 100_000;

/// Group, topic, queue.
pub type Key = (ByteStr, ByteStr, i32);

/// See the module's text.
#[derive(Default)]
pub struct ResetMarks {
    offsets: Mutex<HashMap<Key, i64, RandomState>>,
    /// Their number, for pulls and commits, which hardly ever meet one.
    count: AtomicUsize,
}

fn key_of(commit: &OffsetCommit) -> Key {
    let (group, topic) = (commit.group.as_str(), commit.topic.as_str());
    (ByteStr::from(group), ByteStr::from(topic), commit.queue_id)
}

impl ResetMarks {
    /// False: there are too many.
    pub fn set(&self, broker: &Broker, resets: &[OffsetCommit]) -> bool {
        let mut offsets = self.offsets.lock();
        if offsets.len() + resets.len() > MAX {
            // A consumer that starts asks for its offset and needs no mark.
            offsets.retain(|(group, ..), _| !broker.clients.client_ids(group).is_empty());
        }
        let room = offsets.len() + resets.len() <= MAX;
        if room {
            offsets.extend(resets.iter().map(|one| (key_of(one), one.offset)));
        }
        self.count.store(offsets.len(), Ordering::Release);
        room
    }

    /// These resets were not stored.
    pub fn remove(&self, resets: &[OffsetCommit]) {
        let mut offsets = self.offsets.lock();
        for one in resets {
            offsets.remove(&key_of(one));
        }
        self.count.store(offsets.len(), Ordering::Release);
    }

    pub fn clear(&self) {
        self.offsets.lock().clear();
        self.count.store(0, Ordering::Release);
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub fn contains(&self, key: &Key) -> bool {
        !self.is_empty() && self.offsets.lock().contains_key(key)
    }

    pub fn contains_commit(&self, commit: &OffsetCommit) -> bool {
        !self.is_empty() && self.contains(&key_of(commit))
    }

    /// The new offset of a queue whose consumer has come: told once.
    pub fn take(&self, group: &ByteStr, topic: &ByteStr, queue_id: i32) -> Option<i64> {
        if self.is_empty() {
            return None;
        }
        let mut offsets = self.offsets.lock();
        let found = offsets.remove(&(group.clone(), topic.clone(), queue_id));
        self.count.store(offsets.len(), Ordering::Release);
        found
    }
}
