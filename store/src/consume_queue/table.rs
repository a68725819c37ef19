//! All queues of a replica, by topic.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::behind::Limits;
use super::queue::ConsumeQueue;
use super::shared::Shared;
use super::table_file::{Image, Row};
use crate::commitlog::queue_offsets::{MAX_QUEUE_ID, QueueOffsets};
use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;

type TopicQueues = Vec<Option<Arc<ConsumeQueue>>>;
type Topics = HashMap<Arc<str>, TopicQueues, ahash::RandomState>;

/// Queues by topic and id.
pub struct QueueTable {
    pub(super) shared: Arc<Shared>,
    pub(super) topics: RwLock<Topics>,
    /// Queues with entries that no file has, the one that has waited longest first; some may have been written since.
    pub(super) waiting: Mutex<VecDeque<Arc<ConsumeQueue>>>,
    pub(super) limits: Mutex<Limits>,
    /// Goes up with every [`QueueTable::clear`].
    pub(super) epoch: AtomicU64,
    /// Log start the queues were trimmed to.
    pub(super) log_start: AtomicU64,
    /// Held for a whole checkpoint; says which sync failed.
    pub(super) poisoned: Mutex<Option<String>>,
    /// Held by who reads or writes the table file.
    pub(super) table_file: Mutex<()>,
}

/// A table as it was found.
pub struct Opened {
    /// The queues.
    pub table: QueueTable,
    /// Raft index of the last entry that is in the queues, and byte position of the log after it. `None` without a
    /// usable table file: there are no queues then, and all have to be rebuilt.
    pub as_of: Option<(u64, u64)>,
    /// Queues whose last file is missing or too short.
    pub damaged: Vec<(String, i32)>,
}

impl QueueTable {
    /// Opens the queues the table file in `dir` tells of. Without a usable one, everything in `dir` is deleted.
    ///
    /// # Errors
    /// I/O.
    pub fn open(fs: Arc<dyn FileSystem>, dir: PathBuf) -> Result<Opened> {
        let table = Self {
            shared: Arc::new(Shared::new(fs, dir)),
            topics: RwLock::default(),
            waiting: Mutex::default(),
            limits: Mutex::default(),
            epoch: AtomicU64::new(0),
            log_start: AtomicU64::new(0),
            poisoned: Mutex::default(),
            table_file: Mutex::default(),
        };
        let shared = &table.shared;
        let image = match Image::read(&*shared.fs, &shared.table_path()) {
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::warn!(%error, "consume queues are deleted and have to be rebuilt");
                None
            }
            image => image?,
        };
        let Some(image) = image else {
            shared.remove_all()?;
            return Ok(Opened {
                table,
                as_of: None,
                damaged: Vec::new(),
            });
        };
        // What an earlier process wrote after its last checkpoint may never have been synced.
        shared.dirty.lock().everything();
        table.log_start.store(image.log_start, Ordering::Release);
        for row in image.rows {
            let queue = table.insert(row);
            if !queue.reaches_its_end()? {
                queue.note_damaged();
            }
        }
        let damaged = table.damaged();
        Ok(Opened {
            table,
            as_of: Some((image.index, image.position)),
            damaged,
        })
    }

    /// The queue of a row; the one that is there, if there is one.
    fn insert(&self, row: Row) -> Arc<ConsumeQueue> {
        let mut topics = self.topics.write();
        let topic = match topics.get_key_value(&row.topic) {
            Some((topic, _)) => topic.clone(),
            None => row.topic,
        };
        let queues = topics.entry(topic.clone()).or_default();
        let nth = row.id as usize;
        if queues.len() <= nth {
            queues.resize(nth + 1, None);
        }
        let shared = self.shared.clone();
        let made = || Arc::new(ConsumeQueue::new(shared, topic, row.id, row.min, row.max));
        queues[nth].get_or_insert_with(made).clone()
    }

    /// The queue, when it has ever had a message.
    pub fn get(&self, topic: &str, queue_id: i32) -> Option<Arc<ConsumeQueue>> {
        let id = usize::try_from(queue_id).ok()?;
        self.topics.read().get(topic)?.get(id)?.clone()
    }

    /// The queue, made when missing.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a queue id outside of `0..=MAX_QUEUE_ID`.
    pub fn get_or_create(&self, topic: &str, queue_id: i32) -> Result<Arc<ConsumeQueue>> {
        if let Some(queue) = self.get(topic, queue_id) {
            return Ok(queue);
        }
        if !(0..=MAX_QUEUE_ID).contains(&queue_id) {
            return Err(StoreError::corrupt(
                format!("message of {topic}"),
                format!("queue id {queue_id}"),
            ));
        }
        Ok(self.insert(Row {
            topic: topic.into(),
            id: queue_id,
            min: 0,
            max: 0,
        }))
    }

    /// Deletes a topic's queues, and what an earlier process may have left of them. Waits for a trim that is at work on one of them.
    ///
    /// # Errors
    /// I/O.
    pub fn remove_topic(&self, topic: &str) -> Result<()> {
        let removed = self.topics.write().remove(topic).unwrap_or_default();
        self.retire(&removed);
        let mut damaged = self.shared.damaged.lock();
        damaged.retain(|(name, _)| **name != *topic);
        drop(damaged);
        self.shared.remove_dir(&self.shared.topic_dir(topic))
    }

    /// Takes queues out of use, so that their files can be deleted.
    fn retire(&self, queues: &TopicQueues) {
        let mut uids = Vec::with_capacity(queues.len());
        for queue in queues.iter().flatten() {
            queue.retire();
            uids.push(queue.uid());
        }
        uids.sort_unstable();
        let doomed = |(uid, _)| uids.binary_search(&uid).is_ok();
        let closed = self.shared.descriptors.lock().remove(doomed);
        drop(closed);
    }

    /// Deletes all queues and the table file, to rebuild them from the log. Cuts made before are void.
    ///
    /// # Errors
    /// I/O.
    pub fn clear(&self) -> Result<()> {
        let _table = self.table_file.lock();
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let removed = std::mem::take(&mut *self.topics.write());
        removed.values().for_each(|queues| self.retire(queues));
        self.shared.damaged.lock().clear();
        self.shared.remove_all()
    }

    /// What the queues say of the next offsets.
    pub fn offsets(&self) -> QueueOffsets {
        let mut offsets = QueueOffsets::default();
        for queue in self.topics.read().values().flatten().flatten() {
            offsets.set(&queue.topic, queue.id, queue.max());
        }
        offsets
    }

    /// All queues, those of a topic one after the other.
    pub fn queues(&self) -> Vec<(Arc<str>, i32, Arc<ConsumeQueue>)> {
        let topics = self.topics.read();
        let all = topics.values().flatten().flatten();
        all.map(|queue| (queue.topic.clone(), queue.id, queue.clone()))
            .collect()
    }

    /// How many queues there are.
    pub fn len(&self) -> usize {
        self.topics.read().values().flatten().flatten().count()
    }

    /// Whether there is no queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Log start the queues were last trimmed to, as far as the table knows; 0 before the first time.
    pub fn trimmed_to(&self) -> u64 {
        self.log_start.load(Ordering::Acquire)
    }

    /// Queues with entries that cannot be read.
    pub fn damaged(&self) -> Vec<(String, i32)> {
        let damaged = self.shared.damaged.lock();
        let named = damaged.iter().map(|(topic, id)| (topic.to_string(), *id));
        named.collect()
    }

    /// Notes that a queue has entries that cannot be read, or wrong ones; nothing for one that is not there.
    pub fn mark_damaged(&self, topic: &str, queue_id: i32) {
        if let Some(queue) = self.get(topic, queue_id) {
            queue.note_damaged();
        }
    }

    pub(super) fn unmark(&self, topic: &str, queue_id: i32) {
        let key = (Arc::from(topic), queue_id);
        self.shared.damaged.lock().remove(&key);
    }
}
