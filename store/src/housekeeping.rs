//! What a store does beside its requests, on one thread: writing out and checkpoints of the consume queues, snapshots,
//! merging the key index, giving up what retention decided to give up, and looking for damage.
//!
//! Nothing here is needed for a message to be stored or read. What fails is said and tried again at its next turn; a
//! boundary whose snapshot could not be written goes without.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::commitlog::CommitLog;
use crate::consume_queue::QueueTable;
use crate::error::Result;
use crate::key_index::KeyIndex;
use crate::machine::Machine;
use crate::scrub::{self, Scrubber};
use crate::snapshots::Snapshots;
use crate::state::State;
use crate::store::Store;

/// Time between two ticks.
pub const TICK: Duration = Duration::from_secs(1);
/// Time after which the queues' checkpoint is renewed, if anything was applied.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);
/// Bytes of log after which it is renewed in any case: what a start has to read again.
const CHECKPOINT_BYTES: u64 = 256 * 1024 * 1024;
/// `scrubBytesPerSecond` by default.
pub const SCRUB_RATE: u64 = 8 * 1024 * 1024;

/// Counters, for metrics.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of log whose checksums were looked at since the start.
    pub scrubbed_bytes: AtomicU64,
    /// Where the scrubber is, byte position.
    pub scrub_position: AtomicU64,
    /// Times the scrubber came to the log's end.
    pub scrub_passes: AtomicU64,
    /// Consume queues that were repaired.
    pub repaired_queues: AtomicU64,
    /// Segments whose keys were indexed again.
    pub repaired_indexes: AtomicU64,
}

/// The work and its state.
pub struct Housekeeper {
    log: CommitLog,
    machine: Arc<Mutex<Machine>>,
    queues: Arc<QueueTable>,
    keys: Arc<KeyIndex>,
    snapshots: Arc<Snapshots>,
    state: Arc<State>,
    scrubber: Scrubber,
    progress: Arc<Progress>,
    /// What this replica gives up by itself, whatever the set decided.
    own_trim: Arc<AtomicU64>,
    checkpoint: (Instant, u64),
    /// Queues may hold entries up to this one though less is applied again yet.
    queued: Option<u64>,
    /// Queues and indexes are trimmed to here.
    trimmed: u64,
    ticked: Instant,
}

impl Housekeeper {
    /// For an opened store, at this moment of the clock that [`Housekeeper::tick`] is told; `scrub_rate` is in bytes a second, 0 for
    /// no scrubbing.
    pub fn new(store: &Store, scrub_rate: u64, now: Instant) -> Self {
        Self {
            log: store.log.clone(),
            machine: store.machine.clone(),
            queues: store.queues.clone(),
            keys: store.keys.clone(),
            snapshots: store.snapshots.clone(),
            state: store.state.clone(),
            scrubber: Scrubber::new(scrub_rate),
            progress: Arc::default(),
            own_trim: Arc::default(),
            checkpoint: (now, 0),
            queued: store.queued,
            trimmed: 0,
            ticked: now,
        }
    }

    /// Counters.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Set it to a position to give up the log before it, on this replica alone.
    pub fn own_trim(&self) -> Arc<AtomicU64> {
        self.own_trim.clone()
    }

    /// Does what is due. True when the base snapshot has moved: the log may be purged up to it.
    pub fn tick(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.ticked);
        self.ticked = now;
        warn("writing of consume queues", self.queues.relieve());
        warn("snapshot", self.write_snapshot());
        warn("checkpoint of the consume queues", self.save_queues(now));
        warn("merge of the key index", self.keys.maintain().map(|_| ()));
        let moved = self.move_base().unwrap_or_else(|error| {
            warn("move of the log's start", Err(error));
            false
        });
        warn("trim", self.trim());
        warn("repair of derived files", self.repair());
        let passes = self.progress.scrub_passes.load(Ordering::Relaxed);
        let scrubbed = self.scrubber.run(
            elapsed,
            &self.log,
            &self.queues,
            &self.keys,
            self.applied_position(),
            &self.progress,
        );
        warn("scrub", scrubbed);
        if self.progress.scrub_passes.load(Ordering::Relaxed) > passes {
            // What was good before this pass may have rotted since.
            self.log.forget_verified();
            warn("scrub of the snapshots", self.verify_snapshots());
        }
        moved
    }

    fn verify_snapshots(&self) -> Result<()> {
        if self.snapshots.verify()? {
            tracing::error!(
                log_start = self.log.start(),
                "the snapshot at the log's start is lost: the log is kept, a new replica gets the next snapshot"
            );
        }
        Ok(())
    }

    fn applied_position(&self) -> u64 {
        let applied = self.machine.lock().applied();
        let written = self.log.progress().written.load(Ordering::Acquire);
        applied.map_or(0, |a| a.position.min(written))
    }

    fn write_snapshot(&self) -> Result<()> {
        let pending = self.machine.lock().take_pending();
        match pending {
            Some(pending) => self.snapshots.write(pending),
            None => Ok(()),
        }
    }

    fn save_queues(&mut self, now: Instant) -> Result<()> {
        let (at, position) = self.checkpoint;
        let applied = self.applied_position();
        let due = now.saturating_duration_since(at) >= CHECKPOINT_EVERY;
        if applied == position || !(due || applied.saturating_sub(position) >= CHECKPOINT_BYTES) {
            return Ok(());
        }
        self.checkpoint = (now, applied);
        let cut = self.machine.lock().cut()?;
        // Never ahead of the log: what is applied may not be written here yet.
        let written = self.log.progress().written.load(Ordering::Acquire);
        match cut {
            Some(cut) if cut.position() <= written => {
                self.log.flush()?;
                self.queues.checkpoint(cut)
            }
            _ => Ok(()),
        }
    }

    fn move_base(&self) -> Result<bool> {
        let position = self
            .state
            .trim_to()
            .max(self.own_trim.load(Ordering::Acquire));
        if position <= self.log.start() {
            return Ok(false);
        }
        // What the log will no longer say must survive a power cut elsewhere.
        // Not under the machine's lock: apply would wait for the disk.
        let kv = self.machine.lock().kv();
        kv.flush()?;
        // A decision this replica has only just applied may be ahead of its snapshots.
        let moved = self.snapshots.move_base(position);
        if let Some(base) = &moved {
            let mark = base.header.mark;
            tracing::info!(
                position = mark.position,
                index = mark.index,
                "the log before this position expires"
            );
        }
        Ok(moved.is_some())
    }

    /// Follows a purge of the log.
    fn trim(&mut self) -> Result<()> {
        let start = self.log.start();
        if start <= self.trimmed {
            return Ok(());
        }
        self.queues.trim(start)?;
        self.keys.trim(start)?;
        if let Some(base) = self.snapshots.base() {
            self.snapshots
                .remove_before(base.header.mark.position.min(start))?;
        }
        self.trimmed = start;
        Ok(())
    }

    fn repair(&self) -> Result<()> {
        let applied = {
            let machine = self.machine.lock();
            machine.applied().map(|a| a.index)
        };
        let Some(applied) = applied.filter(|applied| Some(*applied) >= self.queued) else {
            return Ok(());
        };
        let damaged = self.queues.damaged();
        if !damaged.is_empty() {
            scrub::repair_queues(&self.log, &self.queues, &damaged, applied)?;
            let count = damaged.len() as u64;
            self.progress
                .repaired_queues
                .fetch_add(count, Ordering::Relaxed);
        }
        for (from, to) in self.keys.gaps() {
            scrub::repair_keys(&self.log, &self.keys, from, to, applied)?;
            self.progress
                .repaired_indexes
                .fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn warn(what: &str, result: Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what}: not done, tried again later");
    }
}
