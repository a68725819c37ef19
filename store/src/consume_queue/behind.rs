//! Files are written behind the queues: apply only publishes, which touches no file. A queue's newest entries are
//! written when they are many ([`MAX_TAIL`]), when all queues together hold too many ([`MAX_IN_MEMORY`]), and by every
//! checkpoint before it speaks of them.
//!
//! Architecture invariant: an entry below `max` is in memory or in its file at any moment. It leaves memory after
//! the write, and who reads looks into memory first. One thread at a time writes a queue's files: it holds the
//! queue's `files`, and never the lock of the tail.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::MAX_QUEUE_OFFSET;
use super::queue::ConsumeQueue;
use super::table::QueueTable;
use crate::error::Result;
use crate::io_error::is_no_space;

/// Entries of one queue that apply writes out with one write.
pub const MAX_TAIL: usize = 512;
/// Entries of all queues, 32 bytes each, beyond which [`QueueTable::relieve`] writes the oldest out; twice as many are
/// never left by [`QueueTable::keep_bound`].
pub const MAX_IN_MEMORY: usize = 256 * 1024;
/// Entries copied and written in one go.
const CHUNK: usize = 4096;

/// When files are written: [`MAX_TAIL`] and [`MAX_IN_MEMORY`] outside of tests.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    tail: usize,
    in_memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tail: MAX_TAIL,
            in_memory: MAX_IN_MEMORY,
        }
    }
}

impl QueueTable {
    /// Makes visible what was staged in these queues. A queue leaves `staged` when that is done. On the apply thread.
    ///
    /// # Errors
    /// I/O, but a full disk only for entries that leave a gap. Nothing is lost: the same call can be made again.
    pub fn publish(&self, staged: &mut Vec<Arc<ConsumeQueue>>) -> Result<()> {
        let limits = *self.limits.lock();
        while let Some(queue) = staged.last() {
            let added = queue.publish()?;
            let (len, list) = {
                let mut tail = queue.tail.lock();
                let len = tail.published().len();
                (len, len > 0 && !std::mem::replace(&mut tail.listed, true))
            };
            if list {
                self.waiting.lock().push_back(queue.clone());
            }
            // Once each so many: on a full disk every batch would try in vain.
            if len / limits.tail > len.saturating_sub(added) / limits.tail {
                match queue.write_out() {
                    Err(error) if is_no_space(&error) => {
                        tracing::warn!(%error, "the disk is full: newest entries stay in memory");
                    }
                    written => written?,
                }
            }
            staged.pop();
        }
        Ok(())
    }

    /// Writes out the oldest of what is far too much in memory: at most as many writes as entries were published since
    /// the last time. On the apply thread.
    ///
    /// # Errors
    /// I/O, a full disk among it; the same call can be made again.
    pub fn keep_bound(&self) -> Result<()> {
        let bound = 2 * self.limits.lock().in_memory;
        while self.in_memory() > bound && self.write_oldest()? {}
        Ok(())
    }

    /// Writes out what has been in memory longest when there is too much of it. Any thread.
    ///
    /// # Errors
    /// I/O; what was not written stays in memory.
    pub fn relieve(&self) -> Result<()> {
        let limit = self.limits.lock().in_memory;
        if self.in_memory() <= limit {
            return Ok(());
        }
        // Each queue once: apply may add as fast as this writes.
        let waiting = self.waiting.lock().len();
        for _ in 0..waiting {
            if self.in_memory() <= limit / 2 {
                break;
            }
            self.write_oldest()?;
        }
        Ok(())
    }

    /// Writes out what the queues of the list hold. Deleted ones leave the list here at the latest.
    pub(super) fn write_all(&self) -> Result<()> {
        let waiting = self.waiting.lock().len();
        for _ in 0..waiting {
            self.write_oldest()?;
        }
        Ok(())
    }

    /// False when no queue is waiting.
    fn write_oldest(&self) -> Result<bool> {
        let Some(queue) = self.waiting.lock().pop_front() else {
            return Ok(false);
        };
        queue.tail.lock().listed = false;
        let written = queue.write_out();
        if written.is_err() && !std::mem::replace(&mut queue.tail.lock().listed, true) {
            self.waiting.lock().push_front(queue);
        }
        written.map(|()| true)
    }

    /// Entries that no file has.
    pub fn in_memory(&self) -> usize {
        self.shared.in_memory.load(Ordering::Acquire)
    }

    /// Lower limits, so that short histories reach them.
    #[cfg(test)]
    pub(crate) fn set_limits(&self, tail: usize, in_memory: usize) {
        *self.limits.lock() = Limits { tail, in_memory };
    }
}

impl ConsumeQueue {
    /// Moves `max` over what was staged; how many entries that are in no file. Entries that do not follow the others
    /// are written at once.
    fn publish(&self) -> Result<usize> {
        let mut tail = self.tail.lock();
        if self.is_gone() {
            tail.drop_staged();
            return Ok(0);
        }
        let staged = tail.staged();
        let (max, added) = (self.max(), staged.len());
        let expected = staged.iter().zip(max..=MAX_QUEUE_OFFSET);
        if expected.filter(|(e, o)| e.queue_offset == *o).count() == added {
            tail.publish();
            self.shared.in_memory.fetch_add(added, Ordering::AcqRel);
            self.max.store(max + added as i64, Ordering::Release);
            return Ok(added);
        }
        let staged = staged.to_vec();
        drop(tail);
        self.write(&staged)?;
        self.tail.lock().drop_staged();
        Ok(0)
    }

    /// Writes what no file has; entries that are trimmed by now are left out.
    ///
    /// # Errors
    /// I/O; what was not written stays in memory.
    pub(super) fn write_out(&self) -> Result<()> {
        let Some(_files) = self.own_files() else {
            return Ok(());
        };
        loop {
            let chunk = {
                let tail = self.tail.lock();
                let published = tail.published();
                published[..published.len().min(CHUNK)].to_vec()
            };
            if chunk.is_empty() {
                return Ok(());
            }
            let trimmed = chunk.partition_point(|e| e.queue_offset < self.min());
            self.write_runs(&chunk[trimmed..])?;
            self.tail.lock().forget(chunk.len());
            self.shared
                .in_memory
                .fetch_sub(chunk.len(), Ordering::AcqRel);
        }
    }

    /// Forgets what no file has: the queue ends, or begins anew.
    pub(super) fn drop_tail(&self) {
        let mut tail = self.tail.lock();
        let count = tail.published().len();
        tail.forget(count);
        tail.drop_staged();
        self.shared.in_memory.fetch_sub(count, Ordering::AcqRel);
    }

    /// First offset that no file has. It stays as long as the caller holds `files`.
    pub(super) fn written(&self) -> i64 {
        let tail = self.tail.lock();
        let first = tail.published().first().map(|e| e.queue_offset);
        first.unwrap_or_else(|| self.max())
    }
}
