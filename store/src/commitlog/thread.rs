//! The two threads behind a commitlog: `storage` performs writes in call order; `flusher` fsyncs what
//! `ASYNC_FLUSH` left in the page cache and writes the checkpoint, apart from the path that acknowledges.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use parking_lot::Mutex;

use super::Shared;
use super::writer::{Op, SegmentWriter};

/// Operations taken at once; bounds the time until the first of a group is told.
const MAX_GROUP: usize = 1024;

/// Runs until the sender is gone.
pub(super) fn storage_loop(
    mut writer: SegmentWriter,
    queue: &Receiver<Op>,
    checkpoint: &Mutex<u64>,
) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        while group.len() < MAX_GROUP {
            match queue.try_recv() {
                Ok(op) => group.push(op),
                Err(_) => break,
            }
        }
        // Truncations and purges replace the checkpoint; the flusher must not write an older one after that.
        let moves_back = group
            .iter()
            .any(|op| matches!(op, Op::Truncate { .. } | Op::Purge { .. }));
        let mut guard = moves_back.then(|| checkpoint.lock());
        if let Some(since) = &mut guard {
            // Sparse indexes on disk may hold what is removed now: all are written again.
            **since = 0;
        }
        writer.run(group);
        drop(guard);
    }
}

/// Runs every `interval` until told to stop, and once more then.
pub(super) fn flusher_loop(shared: &Arc<Shared>, stop: &Receiver<()>, interval: Duration) {
    let mut unsaved = Duration::ZERO;
    loop {
        let stopping = !matches!(stop.recv_timeout(interval), Err(RecvTimeoutError::Timeout));
        if let Err(error) = shared.flush_written() {
            shared.progress.poison(&error.to_string());
            return;
        }
        unsaved += interval;
        if stopping || unsaved >= CHECKPOINT_EVERY {
            unsaved = Duration::ZERO;
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

impl Shared {
    /// Fsyncs every segment between the durable and the written position.
    pub(super) fn flush_written(&self) -> crate::error::Result<()> {
        let epoch = self.progress.epoch.load(Ordering::Acquire);
        let written = self.progress.written.load(Ordering::Acquire);
        let mut position = self.progress.durable.load(Ordering::Acquire);
        while position < written {
            let Some(segment) = self.segments.containing(position) else {
                break;
            };
            let synced = segment.file.sync_data();
            synced.map_err(|e| {
                crate::StoreError::io(format!("fdatasync segment {}", segment.base), e)
            })?;
            position = written.min(segment.base + segment.size);
        }
        // After a truncation in between the same positions hold other bytes: the next round syncs those.
        let _moving = self.progress.moving.lock();
        if self.progress.epoch.load(Ordering::Acquire) == epoch {
            self.progress.durable.fetch_max(position, Ordering::AcqRel);
        }
        Ok(())
    }
}
