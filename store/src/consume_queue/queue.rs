//! One queue of one topic: two numbers and the newest entries. Its files are found through what the table shares, so
//! that a hundred thousand queues fit into memory and into the limit of descriptors.
//!
//! Architecture invariant: apply alone moves `max`, after the entries are in memory or in place; trimming alone moves
//! `min`, before files go. Slots of the files outside of `[min, written)` are garbage and never read; `[written, max)`
//! is in memory, see `behind`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use bytes::BytesMut;
use parking_lot::{Mutex, MutexGuard};

use super::entry::QueueEntry;
use super::shared::{Place, Shared};
use super::tail::Tail;
use super::{ENTRY_LEN, MAX_QUEUE_OFFSET, file_end, file_of, position_of};
use crate::error::{Result, StoreError};

/// Files of one queue.
pub struct ConsumeQueue {
    pub(super) shared: Arc<Shared>,
    pub(crate) topic: Arc<str>,
    pub(super) id: i32,
    /// Its topic was deleted: the directory may belong to another queue by now.
    gone: AtomicBool,
    uid: AtomicU64,
    min: AtomicI64,
    pub(super) max: AtomicI64,
    /// Entries that no file has.
    pub(super) tail: Mutex<Tail>,
    /// Held by whoever writes or deletes files.
    files: Mutex<()>,
}

impl ConsumeQueue {
    /// A queue with entries `[min, max)`; touches no file.
    pub(super) fn new(shared: Arc<Shared>, topic: Arc<str>, id: i32, min: i64, max: i64) -> Self {
        let uid = shared.new_uid();
        Self {
            shared,
            topic,
            id,
            gone: AtomicBool::new(false),
            uid: AtomicU64::new(uid),
            min: AtomicI64::new(min),
            max: AtomicI64::new(max),
            tail: Mutex::default(),
            files: Mutex::default(),
        }
    }

    /// First offset still kept.
    pub fn min(&self) -> i64 {
        self.min.load(Ordering::Acquire)
    }

    /// Offset of the next message.
    pub fn max(&self) -> i64 {
        self.max.load(Ordering::Acquire)
    }

    pub(super) fn uid(&self) -> u64 {
        self.uid.load(Ordering::Acquire)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Moves `min` on, never back.
    pub(super) fn raise_min(&self, min: i64) {
        self.min.fetch_max(min, Ordering::AcqRel);
    }

    /// Nothing of this queue is read, written or deleted any more.
    pub(super) fn retire(&self) {
        let _files = self.files.lock();
        self.gone.store(true, Ordering::Release);
        self.drop_tail();
    }

    /// Keeps others from writing or deleting files; `None` when the files are no longer this queue's.
    pub(super) fn own_files(&self) -> Option<MutexGuard<'_, ()>> {
        let guard = self.files.lock();
        (!self.is_gone()).then_some(guard)
    }

    pub(super) fn place(&self, uid: u64, number: u64) -> Place<'_> {
        Place {
            uid,
            topic: &self.topic,
            id: self.id,
            number,
        }
    }

    /// "consume queue orders-3", for errors.
    pub(super) fn name(&self) -> String {
        format!("consume queue {}-{}", self.topic, self.id)
    }

    /// Adds an entry to the batch that [`super::QueueTable::publish`] ends; true for the batch's first.
    pub fn stage(&self, entry: QueueEntry) -> bool {
        self.tail.lock().stage(entry)
    }

    /// An empty queue whose next message gets offset `next`: after a snapshot. What it had is deleted.
    ///
    /// # Errors
    /// I/O, or an offset no queue has.
    pub fn start_at(&self, next: i64) -> Result<()> {
        self.check_offset(next)?;
        let Some(_files) = self.own_files() else {
            return Ok(());
        };
        // Readers in flight may put a descriptor of an old file back; under a new uid nothing finds it.
        let old = self.uid.swap(self.shared.new_uid(), Ordering::AcqRel);
        self.drop_tail();
        self.min.store(next, Ordering::Release);
        self.max.store(next, Ordering::Release);
        let dir = self.shared.queue_dir(&self.topic, self.id);
        self.shared.remove_dir(&dir)?;
        let closed = self.shared.descriptors.lock().remove(|(uid, _)| uid == old);
        drop(closed);
        Ok(())
    }

    fn check_offset(&self, offset: i64) -> Result<()> {
        if (0..=MAX_QUEUE_OFFSET).contains(&offset) {
            return Ok(());
        }
        Err(StoreError::corrupt(
            self.name(),
            format!("no queue has the offset {offset}"),
        ))
    }

    /// Writes entries at their offsets, after what is only in memory; entries that are already there are written
    /// again alike, trimmed ones are left out. On the apply thread.
    ///
    /// # Errors
    /// I/O; readers see none of the entries that were not written.
    pub fn write(&self, entries: &[QueueEntry]) -> Result<()> {
        self.write_out()?;
        let Some(_files) = self.own_files() else {
            return Ok(());
        };
        let mut rest = entries;
        while let Some(first) = rest.first().map(|e| e.queue_offset) {
            self.check_offset(first)?;
            if first < self.min() {
                rest = &rest[1..];
                continue;
            }
            if first > self.max() {
                self.cut_gap(first)?;
            }
            let (run, after) = rest.split_at(run_len(rest));
            self.write_run(run)?;
            self.max
                .fetch_max(first + run.len() as i64, Ordering::AcqRel);
            rest = after;
        }
        Ok(())
    }

    /// Empties the slots from `max` to the entry that leaves a gap: garbage there must not pass for entries.
    fn cut_gap(&self, next: i64) -> Result<()> {
        let max = self.max();
        let mut cuts = vec![(file_of(max), position_of(max))];
        if file_of(next) != file_of(max) {
            cuts.push((file_of(next), 0));
        }
        for (number, len) in cuts {
            let place = self.place(self.uid(), number);
            if let Some(file) = self.shared.existing(place)? {
                let failed = |e| StoreError::io(format!("cut {}", self.name()), e);
                if file.len().map_err(failed)? > len {
                    file.set_len(len).map_err(failed)?;
                    self.note_written(number);
                }
            }
        }
        Ok(())
    }

    /// Writes entries in any order, without a look at `min` and `max`.
    pub(super) fn write_runs(&self, entries: &[QueueEntry]) -> Result<()> {
        let mut rest = entries;
        while !rest.is_empty() {
            let (run, after) = rest.split_at(run_len(rest));
            self.write_run(run)?;
            rest = after;
        }
        Ok(())
    }

    /// Writes entries that are consecutive and of one file.
    fn write_run(&self, run: &[QueueEntry]) -> Result<()> {
        let Some(first) = run.first() else {
            return Ok(());
        };
        let mut bytes = BytesMut::with_capacity(run.len() * ENTRY_LEN);
        run.iter().for_each(|entry| entry.encode(&mut bytes));
        let number = file_of(first.queue_offset);
        let file = self.shared.made(self.place(self.uid(), number))?;
        let written =
            file.write_all_vectored_at(&[bytes.freeze()], position_of(first.queue_offset));
        written.map_err(|e| StoreError::io(format!("write {}", self.name()), e))?;
        self.note_written(number);
        Ok(())
    }

    fn note_written(&self, number: u64) {
        let mut dirty = self.shared.dirty.lock();
        dirty.file((self.uid(), number), &self.topic, self.id);
    }

    /// Writes entries again that files should have, in any order; others are left out, and `max` stays. Any thread.
    ///
    /// # Errors
    /// I/O.
    pub fn repair(&self, entries: &[QueueEntry]) -> Result<()> {
        let Some(_files) = self.own_files() else {
            return Ok(());
        };
        let kept = self.min()..self.written();
        let wanted = entries.iter().filter(|e| kept.contains(&e.queue_offset));
        let wanted: Vec<QueueEntry> = wanted.copied().collect();
        self.write_runs(&wanted)
    }

    /// Up to `max` entries from `from` on (from [`ConsumeQueue::min`] on when that is greater).
    ///
    /// # Errors
    /// I/O; [`StoreError::Corrupt`] when an entry of the queue is not in its file, which the table notes.
    pub fn read(&self, from: i64, max: usize) -> Result<Vec<QueueEntry>> {
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        loop {
            let uid = self.uid();
            let start = from.max(self.min());
            let end = self.max().min(start.saturating_add(limit));
            let read = self.read_range(uid, start, end);
            if self.is_gone() {
                return Ok(Vec::new());
            }
            // Trimmed or started anew meanwhile: what was there at the beginning may be deleted by now.
            if self.uid() != uid || (read.is_err() && self.min() > start) {
                continue;
            }
            if matches!(read, Err(StoreError::Corrupt { .. })) {
                self.note_damaged();
            }
            return read;
        }
    }

    /// Entries `[from, end)`, every one of them.
    pub(super) fn read_range(&self, uid: u64, from: i64, end: i64) -> Result<Vec<QueueEntry>> {
        // Before the files: what is in memory no more has been written.
        let newest = self.tail.lock().range(from, end).to_vec();
        let filed = newest.first().map_or(end, |e| e.queue_offset);
        let mut out = Vec::new();
        let mut at = from;
        while at < filed {
            let stop = filed.min(file_end(at));
            let missing = |detail: &str| {
                StoreError::corrupt(self.name(), format!("entries {at} to {stop}: {detail}"))
            };
            let file = self.shared.existing(self.place(uid, file_of(at)))?;
            let file = file.ok_or_else(|| missing("no file"))?;
            let mut bytes = vec![0; (stop - at) as usize * ENTRY_LEN];
            if let Err(error) = file.read_exact_at(&mut bytes, position_of(at)) {
                let needed = position_of(at) + bytes.len() as u64;
                if file.len().is_ok_and(|len| len < needed) {
                    return Err(missing("the file is too short"));
                }
                return Err(StoreError::io(format!("read {}", self.name()), error));
            }
            for (offset, slot) in (at..stop).zip(bytes.chunks_exact(ENTRY_LEN)) {
                let entry = QueueEntry::decode(offset, slot);
                out.push(entry.ok_or_else(|| missing("a slot was never written"))?);
            }
            at = stop;
        }
        if out.is_empty() {
            return Ok(newest);
        }
        out.extend(newest);
        Ok(out)
    }

    /// Whether the last entry's slot is within its file, for a queue just opened; without a look at the slot.
    pub(super) fn reaches_its_end(&self) -> Result<bool> {
        let last = self.max() - 1;
        if last < self.min() {
            return Ok(true);
        }
        let path = self.shared.path(&self.topic, self.id, file_of(last));
        let needed = position_of(last) + ENTRY_LEN as u64;
        match self.shared.fs.open(&path, false).and_then(|f| f.len()) {
            Ok(len) => Ok(len >= needed),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StoreError::io(format!("stat {}", path.display()), e)),
        }
    }

    /// Adds the queue to the table's damaged ones, unless its topic is deleted.
    pub(super) fn note_damaged(&self) {
        let mut damaged = self.shared.damaged.lock();
        if !self.is_gone() {
            damaged.insert((self.topic.clone(), self.id));
        }
    }
}

/// How many of `entries` are consecutive and in the file of the first.
fn run_len(entries: &[QueueEntry]) -> usize {
    let Some(first) = entries.first().map(|e| e.queue_offset) else {
        return 0;
    };
    let end = file_end(first);
    let expected = first..end;
    let followed = entries.iter().zip(expected);
    followed.take_while(|(e, o)| e.queue_offset == *o).count()
}
