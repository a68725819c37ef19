//! All queues of a replica, by topic.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;

use super::queue::ConsumeQueue;
use crate::commitlog::queue_offsets::{MAX_QUEUE_ID, QueueOffsets};
use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;

type TopicQueues = Vec<Option<Arc<ConsumeQueue>>>;

/// Queues by topic and id.
pub struct QueueTable {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    topics: RwLock<HashMap<String, TopicQueues, ahash::RandomState>>,
}

impl QueueTable {
    /// Opens every queue below `dir`.
    ///
    /// # Errors
    /// I/O.
    pub fn open(fs: Arc<dyn FileSystem>, dir: PathBuf) -> Result<Self> {
        let failed = |e| StoreError::io(format!("open {}", dir.display()), e);
        fs.create_dir_all(&dir).map_err(failed)?;
        let mut topics: HashMap<String, TopicQueues, ahash::RandomState> = HashMap::default();
        for topic in fs.list(&dir).map_err(failed)? {
            let queues = topics.entry(topic.clone()).or_default();
            for id in fs.list(&dir.join(&topic)).map_err(failed)? {
                let Ok(number) = id.parse::<usize>() else {
                    continue;
                };
                let queue = ConsumeQueue::open(fs.clone(), dir.join(&topic).join(&id))?;
                if queues.len() <= number {
                    queues.resize(number + 1, None);
                }
                queues[number] = Some(Arc::new(queue));
            }
        }
        let topics = RwLock::new(topics);
        Ok(Self { fs, dir, topics })
    }

    /// The queue, when it has ever had a message.
    pub fn get(&self, topic: &str, queue_id: i32) -> Option<Arc<ConsumeQueue>> {
        let id = usize::try_from(queue_id).ok()?;
        self.topics.read().get(topic)?.get(id)?.clone()
    }

    /// The queue, made when missing.
    ///
    /// # Errors
    /// I/O, or a queue id outside of `0..=MAX_QUEUE_ID`.
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
        let dir = self.dir.join(topic).join(queue_id.to_string());
        let queue = Arc::new(ConsumeQueue::open(self.fs.clone(), dir)?);
        let mut topics = self.topics.write();
        let queues = topics.entry(topic.to_owned()).or_default();
        let id = queue_id as usize;
        if queues.len() <= id {
            queues.resize(id + 1, None);
        }
        queues[id] = Some(queue.clone());
        Ok(queue)
    }

    /// Deletes a topic's queues.
    ///
    /// # Errors
    /// I/O.
    pub fn remove_topic(&self, topic: &str) -> Result<()> {
        self.topics.write().remove(topic);
        let dir = self.dir.join(topic);
        if self.fs.exists(&dir) {
            let removed = self.fs.remove_dir_all(&dir);
            removed.map_err(|e| StoreError::io(format!("delete {}", dir.display()), e))?;
        }
        Ok(())
    }

    /// Deletes all queues, to rebuild them from the log.
    ///
    /// # Errors
    /// I/O.
    pub fn clear(&self) -> Result<()> {
        let names: Vec<String> = self.topics.read().keys().cloned().collect();
        names.iter().try_for_each(|topic| self.remove_topic(topic))
    }

    /// What the queues say of the next offsets.
    pub fn offsets(&self) -> QueueOffsets {
        let mut offsets = QueueOffsets::default();
        for (topic, queues) in self.topics.read().iter() {
            for (id, queue) in queues.iter().enumerate() {
                if let Some(queue) = queue {
                    offsets.set(topic, id as i32, queue.max());
                }
            }
        }
        offsets
    }
}
