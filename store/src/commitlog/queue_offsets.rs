//! The next offset of every queue, as the log implies it: `append` moves it on, `truncate_after` puts it back.
//! RocketMQ's `topicQueueTable`, but a function of the log alone, on leader and followers alike.

use std::collections::{HashMap, VecDeque};

use super::format::{EntryKind, Header, Record, records};
use crate::command::Command;
use crate::error::{Result, StoreError};
use crate::machine::queued_view;

/// Highest queue id of a topic; RocketMQ topics have at most a few thousand queues.
pub const MAX_QUEUE_ID: i32 = 65_535;

/// What undoing a truncated entry has to restore besides its messages' own offsets.
#[derive(Debug)]
struct Dropped {
    index: u64,
    topic: String,
    queues: Vec<i64>,
}

/// Next offsets by topic and queue id.
#[derive(Debug, Default)]
pub struct QueueOffsets {
    next: HashMap<String, Vec<i64>, ahash::RandomState>,
    /// Topics dropped by entries that may still be truncated, in log order.
    dropped: VecDeque<Dropped>,
}

impl QueueOffsets {
    /// The offset the next message of this queue gets; moves on by one.
    pub fn take_next(&mut self, topic: &str, queue_id: i32) -> i64 {
        let slot = self.slot(topic, queue_id);
        let offset = *slot;
        *slot = slot.saturating_add(1);
        offset
    }

    /// Sets what follows the last message of a queue.
    pub fn set(&mut self, topic: &str, queue_id: i32, next: i64) {
        *self.slot(topic, queue_id) = next;
    }

    /// Present value; 0 for a queue without messages.
    pub fn get(&self, topic: &str, queue_id: i32) -> i64 {
        self.next
            .get(topic)
            .and_then(|queues| queues.get(queue_id.max(0) as usize))
            .copied()
            .unwrap_or(0)
    }

    /// All queues that have had messages.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32, i64)> {
        self.next.iter().flat_map(|(topic, next)| {
            next.iter()
                .enumerate()
                .filter(|(_, n)| **n > 0)
                .map(move |(id, n)| (topic.as_str(), id as i32, *n))
        })
    }

    fn slot(&mut self, topic: &str, queue_id: i32) -> &mut i64 {
        let id = queue_id.clamp(0, MAX_QUEUE_ID) as usize;
        // Looked up twice for a new topic only: the entry API would need an owned key every time.
        if !self.next.contains_key(topic) {
            self.next.insert(topic.to_owned(), Vec::new());
        }
        let Some(queues) = self.next.get_mut(topic) else {
            unreachable!("inserted above")
        };
        if queues.len() <= id {
            queues.resize(id + 1, 0);
        }
        &mut queues[id]
    }

    /// Notes that the topic is deleted by the entry at `index`: its queues start at 0 again.
    pub fn drop_topic(&mut self, index: u64, topic: &str) {
        if let Some(queues) = self.next.remove(topic) {
            let topic = topic.to_owned();
            self.dropped.push_back(Dropped {
                index,
                topic,
                queues,
            });
        }
    }

    /// Takes in an entry that came complete (from the leader, or read back at start). The offsets it carries must
    /// be the ones this table would have given.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a message's queue offset is not the next one. Records that mean nothing are left out
    /// here as they are by apply.
    pub fn follow(&mut self, header: &Header, entry: &[u8]) -> Result<()> {
        if header.kind != EntryKind::Normal {
            return Ok(());
        }
        for record in records(entry) {
            match record {
                Ok(Record::Message { bytes, .. }) => {
                    let Some(view) = queued_view(bytes) else {
                        continue;
                    };
                    let expected = self.take_next(view.topic(), view.queue_id());
                    if view.queue_offset() != expected {
                        return Err(StoreError::corrupt(
                            format!("entry {}", header.index),
                            format!(
                                "queue offset {} of {}-{}, expected {expected}",
                                view.queue_offset(),
                                view.topic(),
                                view.queue_id()
                            ),
                        ));
                    }
                }
                Ok(Record::Command(bytes)) => self.follow_command(header.index, bytes),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Takes in an entry while the table is rebuilt: consume queues may already hold it.
    pub fn adopt(&mut self, header: &Header, entry: &[u8]) {
        if header.kind != EntryKind::Normal {
            return;
        }
        for record in records(entry) {
            match record {
                Ok(Record::Message { bytes, .. }) => {
                    if let Some(view) = queued_view(bytes) {
                        let next = view.queue_offset().saturating_add(1);
                        self.set(view.topic(), view.queue_id(), next);
                    }
                }
                Ok(Record::Command(bytes)) => self.follow_command(header.index, bytes),
                Err(_) => {}
            }
        }
    }

    /// A command's effect on the table.
    fn follow_command(&mut self, index: u64, bytes: &[u8]) {
        if let Some(topic) = Command::deleted_topic(bytes) {
            self.drop_topic(index, &topic);
        }
    }

    /// Takes back one entry, the last one of the log.
    pub fn undo(&mut self, header: &Header, entry: &[u8]) {
        if header.kind != EntryKind::Normal {
            return;
        }
        let all: Vec<_> = records(entry).filter_map(Result::ok).collect();
        for record in all.into_iter().rev() {
            match record {
                Record::Message { bytes, .. } => {
                    if let Some(view) = queued_view(bytes) {
                        self.set(view.topic(), view.queue_id(), view.queue_offset());
                    }
                }
                Record::Command(bytes) => {
                    if let Some(topic) = Command::deleted_topic(bytes)
                        && self
                            .dropped
                            .back()
                            .is_some_and(|d| d.index == header.index && d.topic == topic)
                        && let Some(dropped) = self.dropped.pop_back()
                    {
                        self.next.insert(dropped.topic, dropped.queues);
                    }
                }
            }
        }
    }

    /// Entries up to `index` are committed: they will not be undone.
    pub fn forget_undo(&mut self, index: u64) {
        while self.dropped.front().is_some_and(|d| d.index <= index) {
            self.dropped.pop_front();
        }
    }
}
