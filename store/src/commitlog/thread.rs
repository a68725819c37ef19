//! The three threads behind a commitlog: `storage` performs writes in call order; `flusher` fsyncs what `ASYNC_FLUSH`
//! left in the page cache and writes the checkpoint, apart from the path that acknowledges; `keeper` makes the next
//! segment before it is needed and unlinks those that retention gave up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::short_cut::ShortCut;
use super::writer::{Keep, LOOK_FOR_SPACE, Op, SegmentWriter, replace_log_start};
use super::{FlushEvery, Shared};
use crate::error::{Result, StoreError};
use crate::io_error::is_no_space;

/// Operations taken at once; bounds the time until the first of a group is told.
const MAX_GROUP: usize = 1024;

/// Runs until the sender is gone.
pub(super) fn storage_loop(shared: &ShortCut, queue: &Receiver<Op>, checkpoint: &Mutex<u64>) {
    while let Ok(first) = queue.recv() {
        let performed = shared.busy(|writer| run_group(writer, first, queue, checkpoint));
        shared.performed(performed);
    }
}

/// Performs `first` and what waits behind it; says how many these were.
pub(super) fn run_group(
    writer: &mut SegmentWriter,
    first: Op,
    queue: &Receiver<Op>,
    checkpoint: &Mutex<u64>,
) -> usize {
    let mut group = vec![first];
    while group.len() < MAX_GROUP {
        match queue.try_recv() {
            Ok(op) => group.push(op),
            Err(_) => break,
        }
    }
    // Truncations and restarts replace the checkpoint; the flusher must not write an older one after that.
    let moves_back = group
        .iter()
        .any(|op| matches!(op, Op::Truncate { .. } | Op::Restart { .. }));
    let mut guard = moves_back.then(|| checkpoint.lock());
    if let Some(since) = &mut guard {
        // Sparse indexes on disk may hold what is removed now: all are written again.
        **since = 0;
    }
    let performed = group.len();
    writer.run(group);
    performed
}

/// Runs every interval until told to stop, and once more then.
pub(super) fn flusher_loop(shared: &Arc<Shared>, stop: &Receiver<()>, every: FlushEvery) {
    let mut checkpointed = Instant::now();
    let mut flushed = Instant::now();
    loop {
        let stopping = !matches!(
            stop.recv_timeout(every.interval),
            Err(RecvTimeoutError::Timeout)
        );
        let waiting = shared.unflushed();
        if stopping || waiting >= every.least_bytes || flushed.elapsed() >= every.thorough {
            if let Err(error) = shared.flush_written() {
                shared.progress.poison(&error.to_string());
                return;
            }
            flushed = Instant::now();
        }
        if stopping || checkpointed.elapsed() >= CHECKPOINT_EVERY {
            checkpointed = Instant::now();
            if let Err(error) = shared.save_checkpoint() {
                // Only the next start gets slower.
                tracing::warn!(%error, "checkpoint not written");
            }
        }
        if stopping {
            return;
        }
    }
}

/// How much log, in time, the next start has to check: read again with their checksums.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

/// Runs until the sender is gone. Woken when the present segment is half full, or segments are given up.
pub(super) fn keeper_loop(shared: &Arc<Shared>, wake: &Receiver<Keep>) {
    loop {
        let woken = if shared.progress.no_space() {
            wake.recv_timeout(LOOK_FOR_SPACE)
        } else {
            wake.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        if shared.progress.closing.load(Ordering::Acquire) {
            return;
        }
        match woken {
            Ok(Keep::Purge {
                start,
                log_start,
                done,
            }) => done(shared.purge_files(start, &log_start).map_err(|e| {
                shared.progress.poison(&e.to_string());
                e.to_string()
            })),
            Ok(Keep::Look) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if let Err(error) = shared.segments.unlink_doomed() {
            tracing::warn!(%error, "an expired segment could not be deleted yet");
        }
        match shared.make_ahead() {
            Ok(()) => shared.progress.set_no_space(false),
            Err(error) if is_no_space(&error) => shared.progress.set_no_space(true),
            // Whoever needs the segment meets the same error and stops the replica.
            Err(error) => tracing::error!(%error, "the next segment could not be made"),
        }
    }
}

impl Shared {
    /// Notes where the log starts and takes the segments before out of the list; unlinking follows.
    pub(super) fn purge_files(&self, start: u64, log_start: &[u8]) -> Result<()> {
        // What is applied may not be written here yet: segments are made one after the other.
        while self.keeper_waits
            && self.progress.written.load(Ordering::Acquire) < start
            && !self.progress.closing.load(Ordering::Acquire)
        {
            std::thread::sleep(LOOK_FOR_SPACE);
        }
        replace_log_start(self.fs.as_ref(), &self.dir, log_start)?;
        let size = self.segments.size();
        self.segments.forget(|base| base + size <= start);
        let mut damage = self.damage.lock();
        if damage.iter().any(|d| d.from < start) {
            damage.retain(|d| d.from >= start);
            if let Err(error) = self.save_damage(&damage) {
                tracing::warn!(%error, "what is purged is still noted as damaged");
            }
        }
        Ok(())
    }

    fn make_ahead(&self) -> Result<()> {
        let size = self.segments.size();
        let written = self.progress.written.load(Ordering::Acquire);
        let base = written / size * size;
        if self.segments.containing(base).is_none() {
            // Made when it is needed; somebody who needs it may be waiting for space.
            return match self.progress.no_space() {
                true => self.segments.ensure(base).map(|_| ()),
                false => Ok(()),
            };
        }
        // One segment ahead at most.
        if written - base < size / 2 {
            return Ok(());
        }
        self.segments.ensure(base + size).map(|_| ())
    }

    /// Bytes written and not fsynced.
    fn unflushed(&self) -> u64 {
        let written = self.progress.written.load(Ordering::Acquire);
        written.saturating_sub(self.progress.durable.load(Ordering::Acquire))
    }

    /// Fsyncs every segment between the durable and the written position.
    pub(super) fn flush_written(&self) -> Result<()> {
        // What a failed write or fsync left behind is never said to be durable.
        if let Some(reason) = self.progress.poisoned() {
            return Err(StoreError::Poisoned(reason));
        }
        let epoch = self.progress.epoch.load(Ordering::Acquire);
        let written = self.progress.written.load(Ordering::Acquire);
        let durable = self.progress.durable.load(Ordering::Acquire);
        let position = self.segments.sync(durable, written)?;
        // After a truncation in between the same positions hold other bytes: the next round syncs those.
        let _moving = self.progress.moving.lock();
        if self.progress.epoch.load(Ordering::Acquire) == epoch {
            self.progress.durable.fetch_max(position, Ordering::AcqRel);
        }
        Ok(())
    }
}
