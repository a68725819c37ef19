//! What the store and the applied state of a replica can be asked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use raftmq_remoting::message::StoredRecord;
use raftmq_store::commitlog::marks::Mark;
use raftmq_store::consume_queue::QueueEntry;
use raftmq_store::housekeeping;
use raftmq_store::state::State;
use raftmq_store::time_index::{self, Boundary};
use raftmq_store::vfs::Space;
use raftmq_store::{StoreError, key_query};

use super::{Replica, TrimPoint};
use crate::clock;

/// Pause between two looks at what is applied.
const LOOK_FOR_APPLIED: Duration = Duration::from_millis(1);

impl Replica {
    /// Applied state.
    pub fn state(&self) -> &Arc<State> {
        &self.inner.store.state
    }

    /// First and next offset of a queue; `None` before its first message.
    pub fn queue_range(&self, topic: &str, queue_id: i32) -> Option<(i64, i64)> {
        self.inner
            .store
            .queues
            .get(topic, queue_id)
            .map(|queue| (queue.min(), queue.max()))
    }

    /// Index of the last entry that this replica knows to be committed, if it is not applied here yet. A follower that was told
    /// of it may have applied it already.
    pub fn committed_ahead(&self) -> Option<u64> {
        let (raft, _) = self.inner.peers.core.get()?;
        let committed = raft.metrics().borrow_watched().local_committed?.index;
        (self.applied_index() < Some(committed)).then_some(committed)
    }

    fn applied_index(&self) -> Option<u64> {
        self.inner.applied.applied().map(|mark| mark.index)
    }

    /// Waits until an entry is applied here; false when it takes longer than `longest`.
    pub async fn applied_up_to(&self, index: u64, longest: Duration) -> bool {
        let began = clock::now();
        while self.applied_index() < Some(index) {
            if clock::since(began) >= longest {
                return false;
            }
            tokio::time::sleep(LOOK_FOR_APPLIED).await;
        }
        true
    }

    /// Entries of a queue.
    ///
    /// # Errors
    /// I/O.
    pub fn read_queue(
        &self,
        topic: &str,
        queue_id: i32,
        from: i64,
        max: usize,
    ) -> Result<Vec<QueueEntry>, StoreError> {
        match self.inner.store.queues.get(topic, queue_id) {
            Some(queue) => queue.read(from, max),
            None => Ok(Vec::new()),
        }
    }

    /// A stored message, without a copy.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] for what is not committed or no longer kept.
    pub fn read_record(&self, physical_offset: i64, size: u32) -> Result<Bytes, StoreError> {
        self.inner
            .store
            .log
            .read_record(physical_offset as u64, size)
    }

    /// The message of a queue entry, without a copy. What the entry says of it must be true: a consume queue has no
    /// checksums of its own.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] for what is no longer kept; [`StoreError::Corrupt`] when the entry or the log is damaged:
    /// both are made good in the background.
    pub fn read_queued(
        &self,
        topic: &str,
        queue_id: i32,
        entry: &QueueEntry,
    ) -> Result<Bytes, StoreError> {
        let read = self
            .inner
            .store
            .log
            .read_record(entry.physical_offset as u64, entry.size);
        match &read {
            Ok(bytes) if is_of(bytes, topic, queue_id, entry) => return read,
            Err(StoreError::OutOfRange { min, .. }) if entry.physical_offset < *min => return read,
            _ => {}
        }
        if self.inner.store.log.damage().is_empty() {
            self.inner.store.queues.mark_damaged(topic, queue_id);
        }
        match read {
            Ok(_) => Err(StoreError::corrupt(
                format!("consume queue {topic}-{queue_id}"),
                format!("entry {} is not what the log says", entry.queue_offset),
            )),
            Err(error) => Err(error),
        }
    }

    /// The stored message that starts at a position.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`], or [`StoreError::Corrupt`] when none starts there.
    pub fn read_record_at(&self, physical_offset: i64) -> Result<Bytes, StoreError> {
        self.inner.store.log.read_record_at(physical_offset as u64)
    }

    /// Whether a record is surely in memory.
    pub fn is_hot(&self, physical_offset: i64) -> bool {
        self.inner.store.log.is_hot(physical_offset as u64)
    }

    /// Queue offset by store time. Reads messages: not for async threads.
    ///
    /// # Errors
    /// I/O or damage.
    pub fn offset_at(
        &self,
        topic: &str,
        queue_id: i32,
        timestamp_ms: i64,
        boundary: Boundary,
    ) -> Result<i64, StoreError> {
        match self.inner.store.queues.get(topic, queue_id) {
            Some(queue) => {
                time_index::offset_at(&self.inner.store.log, &queue, timestamp_ms, boundary)
            }
            None => Ok(0),
        }
    }

    /// Whether new messages are refused because the disk is full.
    pub fn is_full(&self) -> bool {
        self.inner.full.load(Ordering::Relaxed) || self.inner.store.log.progress().no_space()
    }

    /// Refuses new messages, or takes them again; reads go on.
    pub fn set_full(&self, full: bool) {
        if self.inner.full.swap(full, Ordering::Relaxed) != full {
            match full {
                true => tracing::error!("the disk is too full: new messages are refused"),
                false => tracing::info!("the disk has room again: new messages are taken"),
            }
        }
    }

    /// How full the disk of the store is.
    ///
    /// # Errors
    /// I/O.
    pub fn space(&self) -> Result<Space, StoreError> {
        let dir = &self.inner.options.store_dir;
        let space = self.inner.peers.ground.env.fs.space(dir);
        space.map_err(|e| StoreError::io(format!("look at {}", dir.display()), e))
    }

    /// Places at which the log could begin, oldest first: each with the time of the last message before it.
    pub fn boundaries(&self) -> Vec<TrimPoint> {
        let marks = self.inner.store.snapshots.marks();
        let point = |m: Mark| TrimPoint {
            position: m.position,
            index: m.index,
            store_timestamp: m.store_timestamp,
        };
        marks.into_iter().map(point).collect()
    }

    /// On the leader: the last entry that every member has.
    pub fn replicated_everywhere(&self) -> Option<u64> {
        let (raft, _) = self.inner.peers.core.get()?;
        let metrics = raft.metrics();
        let seen = metrics.borrow_watched();
        let replication = seen.replication.as_ref()?;
        replication
            .values()
            .map(|matched| matched.as_ref().map_or(0, |id| id.index))
            .min()
    }

    /// Gives up the log before `position` on this replica alone.
    pub fn trim_alone(&self, position: u64) {
        if let Some(own) = self.inner.housekeeping.own_trim.get() {
            own.fetch_max(position, Ordering::AcqRel);
        }
    }

    /// Stored messages with a key or unique id, newest first, `max` at most. Reads files: not for async threads.
    ///
    /// # Errors
    /// I/O or damage.
    pub fn query_keys(
        &self,
        topic: &str,
        key: &str,
        (begin_ms, end_ms): (i64, i64),
        max: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let store = &self.inner.store;
        key_query::query(&store.keys, &store.log, topic, key, (begin_ms, end_ms), max)
    }

    /// Time and place of the last message in the key index.
    pub fn last_indexed(&self) -> (i64, u64) {
        self.inner.store.keys.last()
    }

    /// Counters of the housekeeping.
    pub fn housekeeping(&self) -> Option<Arc<housekeeping::Progress>> {
        self.inner.housekeeping.progress.get().cloned()
    }

    /// Ranges of the log that cannot be read now.
    pub fn damaged_ranges(&self) -> usize {
        self.inner.store.log.damage().len()
    }

    /// First physical offset kept, and the one after the last applied entry.
    pub fn log_range(&self) -> (i64, i64) {
        let applied = self
            .inner
            .store
            .machine
            .try_lock()
            .and_then(|m| m.applied())
            .map(|a| a.position);
        let end = applied.unwrap_or_else(|| self.inner.store.log.end());
        (self.inner.store.log.start() as i64, end as i64)
    }
}

/// Whether a stored message is the one that a queue entry speaks of.
fn is_of(bytes: &[u8], topic: &str, queue_id: i32, entry: &QueueEntry) -> bool {
    let own_size = bytes.get(..4).map(|size| size == entry.size.to_be_bytes());
    own_size == Some(true)
        && StoredRecord::parse(bytes).is_ok_and(|view| {
            view.queue_offset() == entry.queue_offset
                && view.physical_offset() == entry.physical_offset
                && view.queue_id() == queue_id
                && view.topic() == topic
        })
}
