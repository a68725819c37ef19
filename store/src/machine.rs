//! The state machine: what a committed entry does. Runs on the apply task of the Raft runtime, one entry after the
//! other, on every replica alike; it reads no clock, no random number and no configuration.
//!
//! Messages go to their consume queues, commands to [`State`]. `applied` is written to the metadata store in the
//! same batch as the change it covers; for entries of messages alone it may lag behind, and they are applied again
//! after a restart, to the same effect.
//!
//! Architecture invariant: apply is total. What depends only on an entry's bytes has one outcome on every replica and is
//! never an error: a record that means nothing, or a message for which no queue can be, is left out, counted and said.
//! Only I/O stops a replica. What a later version wrote is not left out: [`StoreError::Newer`], before anything of the
//! entry has an effect.

use std::ops::ControlFlow;
use std::sync::Arc;

use raftmq_remoting::ByteStr;
use raftmq_remoting::message::{StoredRecord, properties, sysflag, tags_code};
use raftmq_remoting::validate::{HALF_TOPIC, SCHEDULE_TOPIC, TIMER_TOPIC};

use crate::command::{Command, PendingTransaction, Reading, TimerKey};
use crate::commitlog::format::{self, EntryKind, Record};
use crate::commitlog::marks::Mark;
use crate::commitlog::queue_offsets::QueueOffsets;
use crate::commitlog::tail::RawEntry;
use crate::commitlog::{CommitLog, EntryId};
use crate::consume_queue::{ConsumeQueue, MAX_QUEUE_OFFSET, QueueEntry, QueueTable, TableCut};
use crate::error::{Result, StoreError};
use crate::io_error::is_no_space;
use crate::key_index::KeyIndex;
use crate::kv::{Batch, Family, Kv, carried};
use crate::sabotage::{self, Sabotage};
use crate::snapshots::{Header as SnapshotHeader, Item, Pending, Reader, Snapshots};
use crate::state::{State, Touched};
use crate::storable::MAX_FIRST_TOPIC_LEN;
use crate::{storable, timers};

const APPLIED: &[u8] = b"applied";
const MEMBERSHIP: &[u8] = b"membership";
const LEFT_OUT: &[u8] = b"left_out";
/// Entries of messages alone after which `applied` is written anyway: bounds what a restart applies again.
const SAVE_EVERY: u32 = 512;

/// How far the state machine is: after which entry, and where that one ends.
pub type Applied = Mark;

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

/// What the state machine writes to.
pub struct Parts {
    /// Metadata store.
    pub kv: Arc<dyn Kv>,
    /// Its content, for readers.
    pub state: Arc<State>,
    /// Consume queues.
    pub queues: Arc<QueueTable>,
    /// Key index.
    pub keys: Arc<KeyIndex>,
    /// Where the state between two segments goes.
    pub snapshots: Arc<Snapshots>,
    /// `mappedFileSizeCommitLog`, bytes.
    pub segment_size: u64,
}

/// Applies entries.
pub struct Machine {
    parts: Parts,
    applied: Option<Applied>,
    membership: Option<Vec<u8>>,
    batch: Batch,
    staged: Vec<Arc<ConsumeQueue>>,
    unsaved: u32,
    /// The queues hold the entries up to this one already, durably: applying them again must not touch what a checkpoint
    /// counts on.
    queued: Option<u64>,
    /// The key index takes what is applied.
    indexing: bool,
    /// State at the last segment boundary, until the housekeeper takes it.
    pending: Option<Pending>,
    /// Records that had no effect: state of the log, alike on every replica.
    left_out: u64,
}

impl Machine {
    /// Continues where the metadata store says.
    ///
    /// # Errors
    /// [`StoreError::Metadata`] or damage in its values.
    pub fn load(parts: Parts) -> Result<Self> {
        let applied = parts.kv.get(Family::Meta, APPLIED)?.and_then(|bytes| {
            // Without it the metadata goes back to a snapshot, or to the log's first entry.
            let read = serde_json::from_slice(&bytes);
            read.inspect_err(|error| tracing::error!(%error, "`applied` cannot be read"))
                .ok()
        });
        let membership = parts.kv.get(Family::Meta, MEMBERSHIP)?;
        let left_out = read_left_out(parts.kv.as_ref())?;
        Ok(Self {
            parts,
            applied,
            membership,
            left_out,
            batch: Batch::default(),
            staged: Vec::new(),
            unsaved: 0,
            queued: None,
            indexing: true,
            pending: None,
        })
    }

    /// The last applied entry.
    pub fn applied(&self) -> Option<Applied> {
        self.applied
    }

    /// Records of the log that had no effect because no version could read or queue them.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The last applied membership, as the Raft layer encoded it.
    pub fn membership(&self) -> Option<&[u8]> {
        self.membership.as_deref()
    }

    /// State for readers.
    pub fn state(&self) -> &Arc<State> {
        &self.parts.state
    }

    /// Moves on over an entry that is not at hand as bytes and has no records: a blank one or a membership.
    pub fn apply_without_records(&mut self, id: EntryId, membership: Option<&[u8]>) {
        let before = self.applied.unwrap_or_default();
        let mark = Mark {
            index: id.index,
            term: id.term,
            crc: 0,
            ..before
        };
        self.moved(mark, membership);
    }

    /// Applies one entry of the log; visible and saved after [`Machine::finish`].
    ///
    /// # Errors
    /// [`StoreError::Newer`]: the replica can apply no more, now or after a restart, and nothing of the entry has had an
    /// effect. I/O: the replica must stop, the entry is neither applied nor skipped.
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
        let commands = commands_of(entry)?;
        self.freeze_at_boundary(entry.header.position)?;
        let mut newest = self.applied.map_or(0, |a| a.store_timestamp);
        if entry.header.kind == EntryKind::Normal {
            let mut commands = commands.into_iter();
            for record in format::records(&entry.bytes) {
                match record {
                    Ok(Record::Message { at, bytes }) => {
                        newest = newest.max(self.apply_message(entry, at, bytes, effects)?);
                    }
                    Ok(Record::Command(_)) => match commands.next() {
                        Some(Ok(command)) => self.apply_command(id.index, command, effects)?,
                        Some(Err(why)) => self.leave_out(entry, &why),
                        None => {}
                    },
                    Err(error) => self.leave_out(entry, &error.to_string()),
                }
            }
        }
        if self.indexing {
            let advanced = self.parts.keys.advance(entry.end());
            self.keep_indexing(advanced);
        }
        let mark = Mark {
            index: id.index,
            term: id.term,
            start: entry.header.position,
            position: entry.end(),
            crc: entry.header.crc,
            store_timestamp: newest,
        };
        self.moved(mark, membership);
        Ok(())
    }

    /// Counts a record without an effect. Which ones those are depends on their bytes alone.
    fn leave_out(&mut self, entry: &RawEntry, why: &str) {
        let (index, position) = (entry.header.index, entry.header.position);
        tracing::error!(index, position, why, "a record of the log has no effect");
        self.left_out = self.left_out.saturating_add(1);
        let count = self.left_out.to_be_bytes();
        self.batch.put(Family::Meta, LEFT_OUT, count);
    }

    fn moved(&mut self, mark: Mark, membership: Option<&[u8]>) {
        if let Some(encoded) = membership {
            self.membership = Some(encoded.to_vec());
            self.batch.put(Family::Meta, MEMBERSHIP, encoded);
        }
        self.applied = Some(mark);
        self.unsaved += 1;
    }

    /// Between the last entry of a segment and the first of the next, keeps the state as it is for a snapshot. When the
    /// last one has not been written yet, or the disk is full, this boundary goes without.
    fn freeze_at_boundary(&mut self, next: u64) -> Result<()> {
        let size = self.parts.segment_size;
        let base = next / size * size;
        let Some(applied) = self.applied else {
            return Ok(());
        };
        let crosses = applied.position > 0 && (applied.position - 1) / size < base / size;
        if !crosses || self.pending.is_some() {
            return Ok(());
        }
        let mark = Mark {
            position: next,
            ..applied
        };
        match self.freeze(mark) {
            Ok(pending) => self.pending = Some(pending),
            // All replicas come here within milliseconds, with equally full disks: none may stop for it.
            Err(error) if is_no_space(&error) => {
                tracing::error!(%error, position = next, "no snapshot is made here: the disk is full");
                self.parts.snapshots.remove_frozen(mark.position);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether applying up to the position `end`, with so many records, may wait for the disk: the metadata is frozen at a
    /// segment's boundary, a full run of the key index is written and synced.
    pub fn may_wait_for_disk(&self, end: u64, records: usize) -> bool {
        let size = self.parts.segment_size;
        let from = self.applied.map_or(0, |applied| applied.position);
        from / size != end / size || self.parts.keys.may_write(end, records * KEYS_OF_A_MESSAGE)
    }

    /// The metadata store, to make it durable without holding up what is applied.
    pub(crate) fn kv(&self) -> Arc<dyn Kv> {
        self.parts.kv.clone()
    }

    /// The present state, to be written as a snapshot elsewhere.
    ///
    /// # Errors
    /// I/O: the replica must stop.
    pub fn freeze(&mut self, mark: Mark) -> Result<Pending> {
        self.publish()?;
        self.save()?;
        let dir = self.parts.snapshots.frozen_dir(mark.position);
        let offsets = self.parts.queues.offsets();
        Ok(Pending {
            header: SnapshotHeader {
                mark,
                membership: self.membership.clone(),
            },
            queues: offsets
                .iter()
                .map(|(topic, id, next)| (topic.to_owned(), id, next))
                .collect(),
            kv: self.parts.kv.freeze(&dir)?,
            dir,
        })
    }

    /// The queues hold the entries up to this one.
    pub(crate) fn set_queued(&mut self, queued: Option<u64>) {
        self.queued = queued;
    }

    /// Next offset of every queue, as of what is applied.
    pub fn queue_offsets(&self) -> QueueOffsets {
        self.parts.queues.offsets()
    }

    /// State at a segment boundary that waits to be written.
    pub fn take_pending(&mut self) -> Option<Pending> {
        self.pending.take()
    }

    /// How long every queue is now, for the queues' checkpoint; `None` before the first entry.
    ///
    /// # Errors
    /// I/O: the replica must stop.
    pub fn cut(&mut self) -> Result<Option<TableCut>> {
        self.publish()?;
        let cut = |a: Applied| self.parts.queues.cut(a.index, a.position);
        Ok(self.applied.map(cut))
    }

    /// Returns the message's store time; 0 for one that cannot be read.
    fn apply_message(
        &mut self,
        entry: &RawEntry,
        at: usize,
        bytes: &[u8],
        effects: &mut Effects,
    ) -> Result<i64> {
        let view = match StoredRecord::parse(bytes) {
            Ok(view) => view,
            Err(error) => {
                self.leave_out(entry, &error.to_string());
                return Ok(0);
            }
        };
        let timestamp = view.store_timestamp();
        let physical_offset = (entry.header.position + at as u64) as i64;
        let names = [properties::TAGS, properties::UNIQ_KEY, properties::KEYS];
        let [tags, unique, keys] = properties::get_all(view.properties(), names);
        if self.indexing {
            let indexed = self.index_keys(&view, unique, keys, physical_offset);
            self.keep_indexing(indexed);
        }
        if !is_queued(view.sys_flag()) {
            return Ok(timestamp);
        }
        if !has_queue(&view) {
            let (id, offset) = (view.queue_id(), view.queue_offset());
            self.leave_out(
                entry,
                &format!("no queue has the id {id} or offset {offset}"),
            );
            return Ok(timestamp);
        }
        let due = timer_due(&view);
        if let Some(deliver_at_ms) = due {
            let key = TimerKey {
                deliver_at_ms,
                physical_offset,
            };
            let value = timers::value_of(&view);
            self.batch.put(Family::Timers, key.encode(), value);
            effects.touched.timers = true;
        }
        if view.topic() == HALF_TOPIC {
            let checks = view.property(properties::TRANSACTION_CHECK_TIMES);
            let pending = PendingTransaction {
                position: physical_offset,
                checks: checks.and_then(|n| n.parse().ok()).unwrap_or(0),
                since_ms: timestamp,
            };
            let key = PendingTransaction::key(physical_offset);
            self.batch.put(Family::Transactions, key, pending.value());
        }
        let queue_entry = entry_with(&view, due, tags, physical_offset, bytes.len());
        if Some(entry.header.index) > self.queued {
            self.queue_message(&view, queue_entry)?;
        }
        let topic_at = view.topic().as_ptr() as usize - entry.bytes.as_ptr() as usize;
        let topic = entry.bytes.slice(topic_at..topic_at + view.topic().len());
        effects.arrived.push(Arrived {
            topic: ByteStr::from_utf8(topic).unwrap_or_default(),
            queue_id: view.queue_id(),
            queue_offset: view.queue_offset(),
            tags_code: queue_entry.tags_code,
            store_timestamp: timestamp,
        });
        Ok(timestamp)
    }

    /// The key index stops nothing: what it misses is indexed at the next start.
    fn keep_indexing(&mut self, result: Result<()>) {
        if let Err(error) = result {
            tracing::error!(%error, "messages are not indexed by key any more; the next start makes up for it");
            self.indexing = false;
        }
    }

    fn index_keys(
        &self,
        view: &StoredRecord<'_>,
        unique: Option<&str>,
        keys: Option<&str>,
        physical_offset: i64,
    ) -> Result<()> {
        if view.sys_flag() & sysflag::TRANSACTION_MASK == sysflag::TRANSACTION_ROLLBACK {
            return Ok(());
        }
        self.parts.keys.add(
            view.topic(),
            unique,
            keys,
            physical_offset as u64,
            view.store_timestamp(),
        )
    }

    /// Stages a message's queue entry.
    fn queue_message(&mut self, view: &StoredRecord<'_>, entry: QueueEntry) -> Result<()> {
        if sabotage::on(Sabotage::FragileApply) && view.topic().len() > MAX_FIRST_TOPIC_LEN {
            return Err(StoreError::corrupt("message", "its topic is too long"));
        }
        let queue = self
            .parts
            .queues
            .get_or_create(view.topic(), view.queue_id())?;
        if queue.stage(entry) {
            self.staged.push(queue);
        }
        Ok(())
    }

    fn apply_command(&mut self, index: u64, command: Command, effects: &mut Effects) -> Result<()> {
        if let Command::DeleteTopic { topic, .. } = &command
            && Some(index) > self.queued
        {
            // What is staged for its queues goes with them: nothing need be written for that, not on a full disk either.
            self.staged.retain(|queue| *queue.topic != **topic);
            self.parts.queues.remove_topic(topic)?;
        }
        self.parts
            .state
            .apply(command, &mut self.batch, &mut effects.touched)
    }

    /// Makes what is staged visible.
    fn publish(&mut self) -> Result<()> {
        self.parts.queues.publish(&mut self.staged)
    }

    /// Ends a batch of entries: queues show them, then the metadata with `applied`.
    ///
    /// # Errors
    /// I/O: the replica must stop, unless the disk is full; then the same call can be made again.
    pub fn finish(&mut self) -> Result<()> {
        self.publish()?;
        self.parts.queues.keep_bound()?;
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
        let value =
            serde_json::to_vec(&applied).map_err(|e| StoreError::Metadata(e.to_string()))?;
        self.batch.put(Family::Meta, APPLIED, value);
        self.parts.kv.write(&self.batch)?;
        self.parts.state.timers().written(&self.batch);
        self.batch = Batch::default();
        self.unsaved = 0;
        Ok(())
    }

    /// Brings what is derived from the log up to `applied`: queue entries of the entries after `queued`, keys of the
    /// messages from the position `indexed` on. At a start.
    ///
    /// # Errors
    /// I/O or damage.
    pub(crate) fn replay(
        &mut self,
        log: &CommitLog,
        queued: Option<u64>,
        indexed: u64,
    ) -> Result<()> {
        let Some(applied) = self.applied else {
            return Ok(());
        };
        let from = match queued {
            Some(queued) => log.index_at(indexed).min(queued + 1),
            None => 0,
        };
        let mut staged = 0;
        walk(log, from, applied.index, |entry, record| {
            let queues = queued.is_none_or(|queued| entry.header.index > queued);
            match record {
                Record::Message { at, bytes } => {
                    let Ok(view) = StoredRecord::parse(bytes) else {
                        return Ok(ControlFlow::Continue(()));
                    };
                    let physical_offset = (entry.header.position + at as u64) as i64;
                    if physical_offset as u64 >= indexed {
                        let names = [properties::UNIQ_KEY, properties::KEYS];
                        let [unique, keys] = properties::get_all(view.properties(), names);
                        self.index_keys(&view, unique, keys, physical_offset)?;
                    }
                    if queues && has_queue(&view) {
                        let entry = queue_entry(&view, physical_offset, bytes.len());
                        self.queue_message(&view, entry)?;
                        staged += 1;
                    }
                }
                Record::Command(bytes) if queues => {
                    if let Some(topic) = Command::deleted_topic(bytes) {
                        self.publish()?;
                        self.parts.queues.remove_topic(&topic)?;
                    }
                }
                Record::Command(_) => {}
            }
            if staged >= REPLAY_BATCH {
                staged = 0;
                self.publish()?;
                self.parts.queues.keep_bound()?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        // A snapshot may end where a segment begins that is not there yet.
        let end = applied.position.min(log.end());
        self.parts.keys.advance(end.max(indexed))?;
        self.publish()
    }

    /// Forgets everything: all of it is applied again from the log's first entry.
    pub(crate) fn wipe(&mut self) -> Result<()> {
        self.clear_kv()?;
        self.batch = Batch::default();
        self.applied = None;
        self.membership = None;
        self.left_out = 0;
        self.parts.state.reload()
    }

    fn clear_kv(&self) -> Result<()> {
        let kv = &self.parts.kv;
        let mut batch = Batch::default();
        batch.delete(Family::Meta, APPLIED);
        kv.write(&batch)?;
        for family in Family::ALL {
            loop {
                let pairs = kv.scan(family, &[], RESTORE_CHUNK)?;
                if pairs.is_empty() {
                    break;
                }
                let mut batch = Batch::default();
                pairs
                    .into_iter()
                    .for_each(|(key, _)| batch.delete(family, key));
                kv.write(&batch)?;
            }
        }
        Ok(())
    }

    /// Replaces the metadata with a snapshot's; queues and key index stay as they are. Killed half-way, `applied` is
    /// missing and the restore is done again.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], I/O.
    pub fn restore(&mut self, mut snapshot: Reader) -> Result<()> {
        self.clear_kv()?;
        let kv = &self.parts.kv;
        while let Some(items) = snapshot.next()? {
            let mut batch = Batch::default();
            for item in items {
                match item {
                    Item::Pair(Family::Meta, key, _) if key == APPLIED => {}
                    Item::Pair(family, key, value) => batch.put(family, key, value),
                    Item::Carried(place, key, value) => {
                        batch.put(Family::Meta, carried::key_of(place, &key), value);
                    }
                    Item::Queue(..) => {}
                }
            }
            kv.write(&batch)?;
        }
        let header = snapshot.header().clone();
        self.batch = Batch::default();
        if let Some(membership) = &header.membership {
            self.batch.put(Family::Meta, MEMBERSHIP, membership.clone());
        }
        self.pending = None;
        self.left_out = read_left_out(kv.as_ref())?;
        self.applied = Some(header.mark);
        self.membership = header.membership;
        self.save()?;
        self.parts.kv.flush()?;
        self.parts.state.reload()
    }

    /// Replaces everything with an installed snapshot: the queues are empty and go on where it says.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], I/O.
    pub fn install(&mut self, mut queues: Reader, pairs: Reader) -> Result<()> {
        self.staged.clear();
        self.queued = None;
        self.parts.queues.clear()?;
        self.start_queues(&mut queues)?;
        self.parts.keys.reset(pairs.header().mark.position)?;
        self.restore(pairs)?;
        if let Some(cut) = self.cut()? {
            self.parts.queues.checkpoint(cut)?;
        }
        Ok(())
    }

    /// Lets the queues begin where a snapshot says.
    pub(crate) fn start_queues(&mut self, snapshot: &mut Reader) -> Result<()> {
        while let Some(items) = snapshot.next()? {
            for item in items {
                if let Item::Queue(topic, id, next) = item {
                    self.parts
                        .queues
                        .get_or_create(&topic, id)?
                        .start_at(next)?;
                }
            }
        }
        Ok(())
    }
}

/// More keys than messages usually have.
const KEYS_OF_A_MESSAGE: usize = 4;
/// Pairs deleted at once.
const RESTORE_CHUNK: usize = 4096;
/// Queue entries staged at once while the log is read again.
const REPLAY_BATCH: usize = 1024;
/// Bytes of log read at once by [`walk`].
const WALK_CHUNK: usize = 4 * 1024 * 1024;

/// The commands of an entry in their order, or why one means nothing.
///
/// # Errors
/// [`StoreError::Newer`].
fn commands_of(entry: &RawEntry) -> Result<Vec<std::result::Result<Command, String>>> {
    if entry.header.kind != EntryKind::Normal {
        return Ok(Vec::new());
    }
    let commands = format::records(&entry.bytes).filter_map(|record| match record {
        Ok(Record::Command(bytes)) => Some(Command::read(bytes)),
        _ => None,
    });
    let commands = commands.map(|reading| match reading {
        Reading::Known(command) => Ok(Ok(command)),
        Reading::Unreadable(why) => Ok(Err(why)),
        Reading::Newer(what) => Err(StoreError::Newer(format!(
            "{what} in entry {}",
            entry.header.index
        ))),
    });
    commands.collect()
}

fn read_left_out(kv: &dyn Kv) -> Result<u64> {
    let count = kv.get(Family::Meta, LEFT_OUT)?;
    let count = count.and_then(|bytes| bytes.try_into().ok());
    Ok(count.map_or(0, u64::from_be_bytes))
}

/// Whether a message has a place in a queue.
pub(crate) fn has_queue(view: &StoredRecord<'_>) -> bool {
    is_queued(view.sys_flag())
        && storable::queue_id(view.queue_id()).is_ok()
        && (0..=MAX_QUEUE_OFFSET).contains(&view.queue_offset())
}

/// A message record, when it has a place in a queue.
pub(crate) fn queued_view(bytes: &[u8]) -> Option<StoredRecord<'_>> {
    StoredRecord::parse(bytes).ok().filter(has_queue)
}

/// Half messages of transactions and rollbacks are in the log but in no queue.
pub(crate) fn is_queued(sys_flag: i32) -> bool {
    let transaction = sys_flag & sysflag::TRANSACTION_MASK;
    transaction != sysflag::TRANSACTION_PREPARED && transaction != sysflag::TRANSACTION_ROLLBACK
}

/// When a delayed message is due, milliseconds since the epoch.
fn timer_due(view: &StoredRecord<'_>) -> Option<i64> {
    if !matches!(view.topic(), SCHEDULE_TOPIC | TIMER_TOPIC) {
        return None;
    }
    view.property(properties::TIMER_OUT_MS)?.parse().ok()
}

/// The queue entry a stored message implies.
pub(crate) fn queue_entry(
    view: &StoredRecord<'_>,
    physical_offset: i64,
    size: usize,
) -> QueueEntry {
    let tags = view.property(properties::TAGS);
    entry_with(view, timer_due(view), tags, physical_offset, size)
}

fn entry_with(
    view: &StoredRecord<'_>,
    due: Option<i64>,
    tags: Option<&str>,
    physical_offset: i64,
    size: usize,
) -> QueueEntry {
    QueueEntry {
        queue_offset: view.queue_offset(),
        physical_offset,
        size: size as u32,
        tags_code: due.unwrap_or_else(|| tags_code(tags)),
    }
}

/// Visits the records of the entries `[from, to]` as far as they are kept, in log order.
pub(crate) fn walk(
    log: &CommitLog,
    from: u64,
    to: u64,
    mut visit: impl FnMut(&RawEntry, Record<'_>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut next = from.max(log.bounds().0.map_or(0, |purged| purged.index + 1));
    while next <= to {
        let entries = log.read_entries(next, to + 1, WALK_CHUNK)?;
        let Some(last) = entries.last() else {
            return Err(StoreError::corrupt(
                "log",
                format!("entry {next} is applied and not in the log"),
            ));
        };
        next = last.header.index + 1;
        for entry in entries
            .iter()
            .filter(|e| e.header.kind == EntryKind::Normal)
        {
            for record in format::records(&entry.bytes).filter_map(Result::ok) {
                if visit(entry, record)?.is_break() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
