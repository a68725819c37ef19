//! The short cut past the storage thread: the caller of an append performs it itself when that is no more than a copy of some
//! kilobytes into the page cache, and nothing waits before it. Waking a thread, and being woken by it, costs more than such a
//! copy, on every replica and for every entry.
//!
//! Order is kept because one caller alone appends, truncates and votes (openraft's core): when it finds that everything it
//! queued before has been performed, nothing can come in between. A disk that makes the caller wait once gets its writes from
//! the thread for a while: the caller is the task that sends heartbeats.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::writer::{Op, SegmentWriter};

/// More is written by the thread, beside the caller's other work.
const MOST_BYTES: usize = 128 * 1024;
/// A copy that took so long was none.
const SLOW: Duration = Duration::from_millis(5);
/// So long after a slow one the thread writes.
const SHUNNED: Duration = Duration::from_secs(1);

/// The segment writer, shared by the storage thread and the caller.
pub(super) struct ShortCut {
    writer: Mutex<SegmentWriter>,
    /// Operations that are queued for the thread and not performed.
    queued: AtomicUsize,
    /// The thread writes until then.
    shunned_until: Mutex<Option<Instant>>,
}

impl ShortCut {
    pub fn new(writer: SegmentWriter) -> Self {
        Self {
            writer: Mutex::new(writer),
            queued: AtomicUsize::new(0),
            shunned_until: Mutex::new(None),
        }
    }

    /// To be called before an operation goes to the thread.
    pub fn queued(&self) {
        self.queued.fetch_add(1, Ordering::AcqRel);
    }

    /// The thread has performed so many.
    pub fn performed(&self, operations: usize) {
        self.queued.fetch_sub(operations, Ordering::AcqRel);
    }

    /// Writes, with a note of since when for those who look whether the disk hangs.
    pub fn busy<R>(&self, run: impl FnOnce(&mut SegmentWriter) -> R) -> R {
        let mut writer = self.writer.lock();
        let progress = writer.progress().clone();
        *progress.busy_since.lock() = Some(Instant::now());
        let result = run(&mut writer);
        *progress.busy_since.lock() = None;
        result
    }

    /// Performs an operation here and now if it is a small copy; gives it back if it is not.
    pub fn run(&self, op: Op) -> Option<Op> {
        if self.queued.load(Ordering::Acquire) > 0 {
            return Some(op);
        }
        let now = Instant::now();
        let mut shunned_until = self.shunned_until.lock();
        if shunned_until.is_some_and(|until| now < until)
            || !self.writer.lock().is_a_copy(&op, MOST_BYTES)
        {
            return Some(op);
        }
        self.busy(|writer| writer.run(vec![op]));
        let over = Instant::now();
        *shunned_until = (over - now > SLOW).then(|| over + SHUNNED);
        None
    }
}
