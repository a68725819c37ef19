//! The state machine: what a committed entry does. Runs on the apply task of the Raft runtime, one entry after the
//! other, on every replica alike; it reads no clock, no random number and no configuration.
//!
//! Messages go to their consume queues, commands to [`State`]. `applied` is written to the metadata store in the
//! same batch as the change it covers; for entries of messages alone it may lag behind, and they are applied again
//! after a restart, to the same effect.

use std::sync::Arc;

use raftmq_remoting::ByteStr;
use raftmq_remoting::message::{StoredRecord, properties, sysflag, tags_code};
use raftmq_remoting::validate::SCHEDULE_TOPIC;
use serde::{Deserialize, Serialize};

use crate::command::{Command, TimerKey};
use crate::commitlog::format::{self, EntryKind, Record};
use crate::commitlog::tail::RawEntry;
use crate::commitlog::{CommitLog, EntryId};
use crate::consume_queue::{ConsumeQueue, QueueEntry, QueueTable};
use crate::error::{Result, StoreError};
use crate::kv::{Batch, Family, Kv};
use crate::state::{State, Touched};

const APPLIED: &[u8] = b"applied";
const MEMBERSHIP: &[u8] = b"membership";
/// Entries of messages alone after which `applied` is written anyway: bounds what a restart applies again.
const SAVE_EVERY: u32 = 512;

/// How far the state machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Raft index of the last applied entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Byte position after it.
    pub position: u64,
}

/// A message that became visible to consumers.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// Topic.
    pub topic: ByteStr,
    /// Queue.
    pub queue_id: i32,
    /// Its offset in the queue.
    pub queue_offset: i64,
    /// Java hash of its tags.
    pub tags_code: i64,
    /// When the leader stored it, milliseconds since the epoch.
    pub store_timestamp: i64,
}

/// What a batch of entries did, for those who are told after it.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages, in log order.
    pub arrived: Vec<Arrived>,
    /// Kinds of state that changed.
    pub touched: Touched,
}

/// Applies entries.
pub struct Machine {
    kv: Arc<dyn Kv>,
    state: Arc<State>,
    queues: Arc<QueueTable>,
    applied: Option<Applied>,
    membership: Option<Vec<u8>>,
    batch: Batch,
    staged: Vec<Arc<ConsumeQueue>>,
    unsaved: u32,
}

impl Machine {
    /// Continues where the metadata store says.
    ///
    /// # Errors
    /// [`StoreError::Metadata`] or damage in its values.
    pub fn load(kv: Arc<dyn Kv>, state: Arc<State>, queues: Arc<QueueTable>) -> Result<Self> {
        let applied = match kv.get(Family::Meta, APPLIED)? {
            Some(bytes) => Some(
                serde_json::from_slice(&bytes)
                    .map_err(|e| StoreError::corrupt("metadata: applied", e.to_string()))?,
            ),
            None => None,
        };
        let membership = kv.get(Family::Meta, MEMBERSHIP)?;
        Ok(Self {
            kv,
            state,
            queues,
            applied,
            membership,
            batch: Batch::default(),
            staged: Vec::new(),
            unsaved: 0,
        })
    }

    /// The last applied entry.
    pub fn applied(&self) -> Option<Applied> {
        self.applied
    }

    /// The last applied membership, as the Raft layer encoded it.
    pub fn membership(&self) -> Option<&[u8]> {
        self.membership.as_deref()
    }

    /// State for readers.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Moves on over an entry that is not at hand as bytes and has no records: a blank one or a membership.
    pub fn apply_without_records(&mut self, id: EntryId, membership: Option<&[u8]>) {
        let position = self.applied.map_or(0, |a| a.position);
        self.moved(id, position, membership);
    }

    /// Applies one entry of the log; visible and saved after [`Machine::finish`].
    ///
    /// # Errors
    /// Damage or I/O: the replica must stop, the entry is neither applied nor skipped.
    pub fn apply(
        &mut self,
        entry: &RawEntry,
        membership: Option<&[u8]>,
        effects: &mut Effects,
    ) -> Result<()> {
        let id = EntryId {
            term: entry.header.term,
            index: entry.header.index,
        };
        if self.applied.is_some_and(|a| a.index + 1 != id.index) {
            return Err(StoreError::corrupt(
                format!("apply of entry {}", id.index),
                format!(
                    "{:?} is the last one applied",
                    self.applied.map(|a| a.index)
                ),
            ));
        }
        if entry.header.kind == EntryKind::Normal {
            for record in format::records(&entry.bytes) {
                match record? {
                    Record::Message { at, bytes } => {
                        self.apply_message(entry, at, bytes, effects)?
                    }
                    Record::Command(bytes) => {
                        self.apply_command(Command::decode(bytes)?, effects)?
                    }
                }
            }
        }
        self.moved(id, entry.end(), membership);
        Ok(())
    }

    fn moved(&mut self, id: EntryId, position: u64, membership: Option<&[u8]>) {
        if let Some(encoded) = membership {
            self.membership = Some(encoded.to_vec());
            self.batch.put(Family::Meta, MEMBERSHIP, encoded);
        }
        self.applied = Some(Applied {
            index: id.index,
            term: id.term,
            position,
        });
        self.unsaved += 1;
    }

    fn apply_message(
        &mut self,
        entry: &RawEntry,
        at: usize,
        bytes: &[u8],
        effects: &mut Effects,
    ) -> Result<()> {
        let view = StoredRecord::parse(bytes).map_err(|e| {
            StoreError::corrupt(
                format!("message in entry {}", entry.header.index),
                e.to_string(),
            )
        })?;
        // Half messages of transactions and rollbacks are in the log but in no queue.
        let transaction = view.sys_flag() & sysflag::TRANSACTION_MASK;
        if transaction == sysflag::TRANSACTION_PREPARED
            || transaction == sysflag::TRANSACTION_ROLLBACK
        {
            return Ok(());
        }
        let physical_offset = (entry.header.position + at as u64) as i64;
        let mut code = tags_code(view.property(properties::TAGS));
        if view.topic() == SCHEDULE_TOPIC
            && let Some(due) = view
                .property(properties::TIMER_OUT_MS)
                .and_then(|due| due.parse().ok())
        {
            let key = TimerKey {
                deliver_at_ms: due,
                physical_offset,
            };
            self.batch.put(Family::Timers, key.encode(), []);
            effects.touched.timers = true;
            code = due;
        }
        let queue = self.queues.get_or_create(view.topic(), view.queue_id())?;
        let first = queue.stage(QueueEntry {
            queue_offset: view.queue_offset(),
            physical_offset,
            size: bytes.len() as u32,
            tags_code: code,
        });
        if first {
            self.staged.push(queue);
        }
        let topic_at = view.topic().as_ptr() as usize - entry.bytes.as_ptr() as usize;
        let topic = entry.bytes.slice(topic_at..topic_at + view.topic().len());
        effects.arrived.push(Arrived {
            topic: ByteStr::from_utf8(topic)
                .map_err(|e| StoreError::corrupt("topic", e.to_string()))?,
            queue_id: view.queue_id(),
            queue_offset: view.queue_offset(),
            tags_code: code,
            store_timestamp: view.store_timestamp(),
        });
        Ok(())
    }

    fn apply_command(&mut self, command: Command, effects: &mut Effects) -> Result<()> {
        if let Command::DeleteTopic { topic, .. } = &command {
            // What was staged belongs to the queues that go.
            self.flush_queues()?;
            self.queues.remove_topic(topic)?;
        }
        self.state
            .apply(command, &mut self.batch, &mut effects.touched)
    }

    fn flush_queues(&mut self) -> Result<()> {
        self.staged
            .drain(..)
            .try_for_each(|queue| queue.flush_staged())
    }

    /// Ends a batch of entries: queues are written, then the metadata with `applied`.
    ///
    /// # Errors
    /// I/O: the replica must stop.
    pub fn finish(&mut self) -> Result<()> {
        self.flush_queues()?;
        if !self.batch.is_empty() || self.unsaved >= SAVE_EVERY {
            self.save()?;
        }
        Ok(())
    }

    /// Writes `applied` whatever has changed: at a clean stop.
    ///
    /// # Errors
    /// [`StoreError::Metadata`].
    pub fn save(&mut self) -> Result<()> {
        let Some(applied) = self.applied else {
            return Ok(());
        };
        let mut batch = std::mem::take(&mut self.batch);
        let value =
            serde_json::to_vec(&applied).map_err(|e| StoreError::Metadata(e.to_string()))?;
        batch.put(Family::Meta, APPLIED, value);
        self.kv.write(batch)?;
        self.unsaved = 0;
        Ok(())
    }

    /// Puts the messages of entries up to `applied` into their queues again; the queues were emptied before.
    ///
    /// # Errors
    /// I/O or damage.
    pub(crate) fn rebuild_queues(&mut self, log: &CommitLog) -> Result<()> {
        let Some(applied) = self.applied else {
            return Ok(());
        };
        let mut next = log.bounds().0.map_or(0, |purged| purged.index + 1);
        while next <= applied.index {
            let entries = log.read_entries(next, applied.index + 1, REBUILD_CHUNK)?;
            let Some(last) = entries.last() else {
                return Err(StoreError::corrupt(
                    "log",
                    format!("entry {next} is applied and not in the log"),
                ));
            };
            next = last.header.index + 1;
            let mut effects = Effects::default();
            for entry in entries
                .iter()
                .filter(|e| e.header.kind == EntryKind::Normal)
            {
                for record in format::records(&entry.bytes) {
                    match record? {
                        Record::Message { at, bytes } => {
                            self.apply_message(entry, at, bytes, &mut effects)?
                        }
                        Record::Command(bytes) => {
                            if let Command::DeleteTopic { topic, .. } = Command::decode(bytes)? {
                                self.flush_queues()?;
                                self.queues.remove_topic(&topic)?;
                            }
                        }
                    }
                }
            }
            self.flush_queues()?;
        }
        // Timers were staged again too; those that are done stay done.
        self.batch = Batch::default();
        Ok(())
    }

    /// Makes the metadata durable against power loss.
    ///
    /// # Errors
    /// [`StoreError::Metadata`].
    pub fn flush(&self) -> Result<()> {
        self.kv.flush()
    }

    /// Everything but messages, for a snapshot: applied, membership, next queue offsets, all families.
    ///
    /// # Errors
    /// [`StoreError::Metadata`].
    pub fn dump(&self) -> Result<Vec<u8>> {
        let queues: Vec<(String, i32, i64)> = self
            .queues
            .offsets()
            .iter()
            .map(|(topic, id, next)| (topic.to_owned(), id, next))
            .collect();
        let mut pairs = Vec::new();
        for family in Family::ALL {
            let all = self.kv.scan(family, &[], usize::MAX)?;
            pairs.extend(
                all.into_iter()
                    .map(|(key, value)| (family.name().to_owned(), key, value)),
            );
        }
        let dump = Dump {
            applied: self.applied,
            membership: self.membership.clone(),
            queues,
            pairs,
        };
        serde_json::to_vec(&dump).map_err(|e| StoreError::Metadata(e.to_string()))
    }

    /// Replaces everything with a dump.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for bytes that are no dump; nothing has changed then.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let dump: Dump = serde_json::from_slice(bytes)
            .map_err(|e| StoreError::corrupt("snapshot", e.to_string()))?;
        let mut batch = Batch::default();
        for family in Family::ALL {
            for (key, _) in self.kv.scan(family, &[], usize::MAX)? {
                batch.delete(family, key);
            }
            for (_, key, value) in dump.pairs.iter().filter(|(name, ..)| name == family.name()) {
                batch.put(family, key.clone(), value.clone());
            }
        }
        if let Some(membership) = &dump.membership {
            batch.put(Family::Meta, MEMBERSHIP, membership.clone());
        }
        self.queues.clear()?;
        for (topic, id, next) in &dump.queues {
            self.queues.get_or_create(topic, *id)?.start_at(*next)?;
        }
        self.batch = batch;
        self.applied = dump.applied;
        self.membership = dump.membership;
        self.save()?;
        self.state.reload()
    }
}

/// Bytes of log read at once while queues are rebuilt.
const REBUILD_CHUNK: usize = 8 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Dump {
    applied: Option<Applied>,
    membership: Option<Vec<u8>>,
    queues: Vec<(String, i32, i64)>,
    pairs: Vec<(String, Vec<u8>, Vec<u8>)>,
}
