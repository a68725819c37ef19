//! What goes at the front: entries whose messages the log no longer has, and the files that held nothing else.
//!
//! A file goes only after the table on disk no longer speaks of its entries. Otherwise a process killed in between
//! would find a queue that lacks its first files, and could not tell a trimmed queue from a damaged one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::entry::QueueEntry;
use super::queue::ConsumeQueue;
use super::table::QueueTable;
use super::{ENTRY_LEN, file_end, file_of, position_of};
use crate::error::{Result, StoreError};

/// Slots looked at in one read.
const CHUNK: i64 = 4096;

impl QueueTable {
    /// Moves the first entry of every queue to the first one at or after `log_start` (to the end when there is none)
    /// and deletes files that are wholly before it. Any thread, beside readers and apply. A queue whose search meets
    /// an unreadable slot stays as it is and counts as damaged.
    ///
    /// # Errors
    /// I/O; the queues that could be trimmed are.
    pub fn trim(&self, log_start: u64) -> Result<()> {
        let mut shortened: Vec<Arc<ConsumeQueue>> = Vec::new();
        let mut outcome = Ok(());
        for (_, _, queue) in self.queues() {
            match queue.trim(log_start) {
                Ok(true) => shortened.push(queue),
                Ok(false) => {}
                Err(StoreError::Corrupt { .. }) => queue.note_damaged(),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        if outcome.is_ok() {
            self.log_start.fetch_max(log_start, Ordering::AcqRel);
        }
        if !shortened.is_empty() {
            self.save_mins()?;
            for queue in shortened {
                queue.delete_trimmed()?;
            }
        }
        outcome
    }

    /// A queue is whole again: everything the log still has of it, from `log_start` on, was given to
    /// [`ConsumeQueue::repair`]. What lies before that in the queue is of messages that are gone from the log, and `min`
    /// moves over it: a power cut can leave some of those slots and take others.
    pub fn mark_repaired(&self, topic: &str, queue_id: i32, log_start: u64) {
        let mut moved = Ok(());
        if let Some(queue) = self.get(topic, queue_id) {
            moved = queue.skip_lost_front(log_start);
        }
        match moved {
            Ok(()) => self.unmark(topic, queue_id),
            Err(error) => tracing::warn!(%error, "the queue stays marked as damaged"),
        }
    }
}

impl ConsumeQueue {
    /// Moves `min`; true when a file may have become superfluous.
    fn trim(&self, log_start: u64) -> Result<bool> {
        let Some(_files) = self.own_files() else {
            return Ok(false);
        };
        let (min, max) = (self.min(), self.max());
        let goes = |offset: i64| -> Result<bool> {
            let read = self.read_range(self.uid(), offset, offset + 1)?;
            Ok(read
                .first()
                .is_some_and(|e| (e.physical_offset as u64) < log_start))
        };
        if min >= max || !goes(min)? {
            return Ok(false);
        }
        let (mut low, mut high) = (min + 1, max);
        while low < high {
            let middle = low + (high - low) / 2;
            if goes(middle)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.raise_min(low);
        Ok(file_of(low) > file_of(min))
    }

    /// Deletes the files before the one `min` lies in, also those an interrupted trim left.
    fn delete_trimmed(&self) -> Result<()> {
        let Some(_files) = self.own_files() else {
            return Ok(());
        };
        let dir = self.shared.queue_dir(&self.topic, self.id);
        let failed = |e| StoreError::io(format!("trim {}", dir.display()), e);
        let kept = self.min();
        let first_byte = (kept * ENTRY_LEN as i64) as u64 - position_of(kept);
        let names = match self.shared.fs.list(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names.map_err(failed)?,
        };
        for name in names {
            if name.parse::<u64>().is_ok_and(|base| base < first_byte) {
                let removed = self.shared.fs.remove_file(&dir.join(&name));
                removed.map_err(failed)?;
            }
        }
        self.shared.dirty.lock().dir(dir);
        let own = self.uid();
        let doomed = |(uid, number)| uid == own && number < file_of(kept);
        let closed = self.shared.descriptors.lock().remove(doomed);
        drop(closed);
        Ok(())
    }

    /// Moves `min` to the first slot that was written, or to what is in memory.
    fn skip_lost_front(&self, log_start: u64) -> Result<()> {
        let Some(_files) = self.own_files() else {
            return Ok(());
        };
        let (min, max) = (self.min(), self.written());
        let failed = |e| StoreError::io(format!("read {}", self.name()), e);
        let mut at = min;
        while at < max {
            let place = self.place(self.uid(), file_of(at));
            let file = self.shared.existing(place)?;
            let len = match &file {
                Some(file) => file.len().map_err(failed)?,
                None => 0,
            };
            let slots = len.saturating_sub(position_of(at)) / ENTRY_LEN as u64;
            let count = (slots as i64).min(CHUNK).min(max.min(file_end(at)) - at);
            let (Some(file), true) = (file, count > 0) else {
                at = file_end(at).min(max);
                continue;
            };
            let mut bytes = vec![0; count as usize * ENTRY_LEN];
            let read = file.read_exact_at(&mut bytes, position_of(at));
            read.map_err(failed)?;
            let mut offsets = (at..).zip(bytes.chunks_exact(ENTRY_LEN));
            let kept = offsets.find(|(offset, slot)| {
                let entry = QueueEntry::decode(*offset, slot);
                entry.is_some_and(|e| e.physical_offset as u64 >= log_start)
            });
            if let Some((offset, _)) = kept {
                at = offset;
                break;
            }
            at += count;
        }
        if at > min {
            tracing::warn!(queue = %self.name(), min, first = at, "the log no longer has the first entries");
            self.raise_min(at);
        }
        Ok(())
    }
}
