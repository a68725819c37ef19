//! The segment writer: a state machine that takes write operations in call order and performs them. An OS thread
//! drives it in a broker ([`super::thread`]); a test calls [`SegmentWriter::run`] itself.
//!
//! Group commit, in five sentences. Callers queue operations and go on. The thread takes all that waits. Appends
//! that follow each other become one `pwritev` a segment. With `SYNC_FLUSH` one `fdatasync` then covers them all,
//! and meanwhile the next group gathers in the queue. Only then is each operation told that it is done.
//!
//! Votes, appends and truncations never overtake each other: openraft requires it. A failed write or fsync
//! poisons the writer for good: what the file holds afterwards is unknown, so it is never retried.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::marks::{Mark, Marker};
use super::segments::{Segment, Segments};
use super::vote::VoteFile;
use crate::error::{Result, StoreError};
use crate::io_error::is_no_space;
use crate::vfs::{File, FileSystem};

/// Told once, when the operation is as durable as the flush mode asks, or has failed.
pub type Done = Box<dyn FnOnce(std::result::Result<(), String>) + Send>;

/// When an append counts as persisted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushPolicy {
    /// `SYNC_FLUSH`: after `fdatasync`.
    Sync,
    /// `ASYNC_FLUSH`: after the write to the page cache; the flusher follows.
    Async,
}

/// Bytes for one place of the log.
#[derive(Debug)]
pub struct Write {
    /// Position of the first byte.
    pub position: u64,
    /// What to write.
    pub bytes: Bytes,
}

/// One thing to do to the files.
pub enum Op {
    /// Write these, in order.
    Append {
        /// Entries and pads.
        writes: Vec<Write>,
        /// Position after the last.
        end: u64,
        /// Fsynced whatever the policy: who belongs to the set must not be forgotten.
        durable: bool,
        /// Told when persisted.
        done: Done,
    },
    /// Forget what lies at and after `end`: later segments are deleted.
    Truncate {
        /// Position after the new last entry.
        end: u64,
        /// The newest checkpoint from now on: the present one may lie in what is forgotten.
        checkpoint: Option<Mark>,
        /// Told when done.
        done: Done,
    },
    /// Delete every segment: the log begins anew.
    Restart {
        /// Position of the next entry.
        start: u64,
        /// The new log-start file's content, made durable first.
        log_start: Vec<u8>,
        /// Told when done.
        done: Done,
    },
    /// Persist the vote; always fsynced.
    SaveVote {
        /// The Raft layer's encoding.
        bytes: Vec<u8>,
        /// Told when durable.
        done: Done,
    },
}

/// What the keeper is asked for.
pub enum Keep {
    /// See whether a segment has to be made or unlinked.
    Look,
    /// Give up segments that end at or before `start`. Not in the order of the writes: it touches none of what they
    /// touch, and it must work while a write waits for space.
    Purge {
        /// First position to keep.
        start: u64,
        /// The new log-start file's content, made durable first.
        log_start: Vec<u8>,
        /// Told when done.
        done: Done,
    },
}

/// Replaces the log-start file. On a full disk it is overwritten in place: giving up segments is what makes room.
pub(super) fn replace_log_start(fs: &dyn FileSystem, dir: &Path, content: &[u8]) -> Result<()> {
    let path = dir.join("log_start");
    let failed = |e| StoreError::io("replace the log-start file", e);
    match fs.replace(&path, content).map_err(failed) {
        Err(error) if is_no_space(&error) && fs.exists(&path) => {
            let file = fs.open(&path, false).map_err(failed)?;
            file.write_all_vectored_at(&[Bytes::copy_from_slice(content)], 0)
                .map_err(failed)?;
            file.sync_data().map_err(failed)
        }
        other => other,
    }
}

/// Called with a reason.
pub(super) type ToldReason = Box<dyn Fn(&str) + Send + Sync>;
/// Called.
pub(super) type Told = Box<dyn Fn() + Send + Sync>;

/// How far the files are, for readers on other threads.
#[derive(Default)]
pub struct Progress {
    /// Everything before this position is in the files (perhaps only in the page cache).
    pub written: AtomicU64,
    /// Everything before this position survives a power cut.
    pub durable: AtomicU64,
    /// Counts truncations: what was read about positions before one does not hold after it.
    pub(super) epoch: AtomicU64,
    /// Held while `durable` is raised by the flusher or lowered by a truncation.
    pub(super) moving: Mutex<()>,
    poisoned: Mutex<Option<String>>,
    /// When whoever writes began with what it is doing.
    pub(super) busy_since: Mutex<Option<Instant>>,
    /// No space was found for a segment: new messages are refused until there is.
    pub(super) no_space: AtomicBool,
    /// The log is being closed: nobody waits for space any more.
    pub(super) closing: AtomicBool,
    /// Told when the store is poisoned.
    pub(super) on_poison: OnceLock<ToldReason>,
    /// Told when damage was found.
    pub(super) damaged: OnceLock<Told>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress")
            .field("written", &self.written)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

impl Progress {
    /// Why nothing is written any more.
    pub fn poisoned(&self) -> Option<String> {
        self.poisoned.lock().clone()
    }

    /// Stops all further writing; the first reason stays.
    pub fn poison(&self, reason: &str) {
        let mut guard = self.poisoned.lock();
        if guard.is_none() {
            tracing::error!(
                reason,
                "the store is poisoned: nothing is written or acknowledged any more"
            );
            *guard = Some(reason.to_owned());
            drop(guard);
            if let Some(told) = self.on_poison.get() {
                told(reason);
            }
        }
    }

    /// How long the write or fsync under way has taken so far: long means a disk that hangs. Waiting for space is none.
    pub fn stuck_for(&self) -> Duration {
        match *self.busy_since.lock() {
            Some(since) if !self.no_space() => since.elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// Whether the disk has no room for the next segment.
    pub fn no_space(&self) -> bool {
        self.no_space.load(Ordering::Acquire)
    }

    pub(super) fn set_no_space(&self, full: bool) {
        if self.no_space.swap(full, Ordering::AcqRel) != full {
            if full {
                tracing::error!(
                    "no space for another log segment: messages are refused until there is"
                );
            } else {
                tracing::info!("there is space for the log again");
            }
        }
    }
}

/// Performs operations in order.
pub struct SegmentWriter {
    fs: Arc<dyn FileSystem>,
    segments: Arc<Segments>,
    vote: VoteFile,
    dir: PathBuf,
    policy: FlushPolicy,
    progress: Arc<Progress>,
    /// Segments written since the last fsync in this group.
    dirty: Vec<Arc<Segment>>,
    marker: Arc<dyn File>,
    boot: u32,
    /// Wakes the keeper, which makes the next segment; without one, segments are made when they are needed.
    keeper: Option<Sender<Keep>>,
    /// A segment for whose successor the keeper was woken.
    asked_after: u64,
}

/// How often a full disk is looked at again.
pub(super) const LOOK_FOR_SPACE: Duration = Duration::from_millis(200);

impl SegmentWriter {
    /// How far the files are.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Over opened files.
    pub fn new(
        fs: Arc<dyn FileSystem>,
        segments: Arc<Segments>,
        vote: VoteFile,
        dir: &Path,
        policy: FlushPolicy,
        progress: Arc<Progress>,
        boot: u32,
    ) -> Result<Self> {
        let path = dir.join("marker");
        let marker = fs
            .open(&path, true)
            .map_err(|e| StoreError::io(format!("open {}", path.display()), e))?;
        Ok(Self {
            fs,
            segments,
            vote,
            dir: dir.to_path_buf(),
            policy,
            progress,
            dirty: Vec::new(),
            marker,
            boot,
            keeper: None,
            asked_after: u64::MAX,
        })
    }

    /// When the log gets shorter, a marker of before must not come back with the power.
    fn sync_marker(&self) -> Result<()> {
        let synced = self.marker.sync_data();
        synced.map_err(|e| StoreError::io("sync the marker", e))
    }

    /// Whether an operation is no more than a copy into the page cache: nothing is to be made, fsynced or waited for, and
    /// it has at most `most` bytes.
    pub(super) fn is_a_copy(&self, op: &Op, most: usize) -> bool {
        let Op::Append {
            writes,
            durable: false,
            ..
        } = op
        else {
            return false;
        };
        let bytes: usize = writes.iter().map(|w| w.bytes.len()).sum();
        let has_segment = |w: &Write| self.segments.containing(w.position).is_some();
        self.policy == FlushPolicy::Async && bytes <= most && writes.iter().all(has_segment)
    }

    /// Has the next segment made ahead of its need by whoever listens.
    pub fn with_keeper(mut self, keeper: Sender<Keep>) -> Self {
        self.keeper = Some(keeper);
        self
    }

    /// Says in the marker how far the log is; not synced.
    fn mark(&self, written: u64) -> Result<()> {
        let marker = Marker {
            written,
            durable: self.progress.durable.load(Ordering::Acquire).min(written),
            boot: self.boot,
        };
        let bytes = Bytes::copy_from_slice(&marker.encode());
        self.marker
            .write_all_vectored_at(&[bytes], 0)
            .map_err(|e| StoreError::io("write the marker", e))
    }

    /// Performs a group and tells every operation how it went.
    pub fn run(&mut self, ops: Vec<Op>) {
        let mut appends: Vec<(u64, Done)> = Vec::new();
        let mut writes: Vec<Write> = Vec::new();
        let mut sync = false;
        for op in ops {
            match op {
                Op::Append {
                    writes: more,
                    end,
                    durable,
                    done,
                } => {
                    sync |= durable;
                    writes.extend(more);
                    appends.push((end, done));
                }
                other => {
                    self.finish_appends(&mut writes, &mut appends, std::mem::take(&mut sync));
                    self.run_one(other);
                }
            }
        }
        self.finish_appends(&mut writes, &mut appends, sync);
    }

    fn finish_appends(
        &mut self,
        writes: &mut Vec<Write>,
        appends: &mut Vec<(u64, Done)>,
        sync: bool,
    ) {
        let Some(end) = appends.last().map(|(end, _)| *end) else {
            return;
        };
        let result = self.write_group(std::mem::take(writes), end, sync);
        let result = self.settle(result);
        for (_, done) in appends.drain(..) {
            done(result.clone());
        }
    }

    fn run_one(&mut self, op: Op) {
        let (result, done) = match op {
            Op::Truncate {
                end,
                checkpoint,
                done,
            } => (self.truncate(end, checkpoint), done),
            Op::Restart {
                start,
                log_start,
                done,
            } => (self.restart(start, &log_start), done),
            Op::SaveVote { bytes, done } => {
                (self.check().and_then(|()| self.vote.save(&bytes)), done)
            }
            Op::Append { done, .. } => (Ok(()), done),
        };
        done(self.settle(result));
    }

    fn check(&self) -> Result<()> {
        self.progress
            .poisoned()
            .map_or(Ok(()), |reason| Err(StoreError::Poisoned(reason)))
    }

    fn settle(&self, result: Result<()>) -> std::result::Result<(), String> {
        result.map_err(|error| {
            let text = error.to_string();
            self.progress.poison(&text);
            text
        })
    }

    fn write_group(&mut self, writes: Vec<Write>, end: u64, sync: bool) -> Result<()> {
        self.check()?;
        let mut run: Vec<Bytes> = Vec::new();
        let mut run_at = 0;
        let mut run_end = 0;
        for write in writes {
            let same_segment =
                run_at / self.segments.size() == write.position / self.segments.size();
            if !run.is_empty() && (run_end != write.position || !same_segment) {
                self.write_run(&run, run_at)?;
                run.clear();
            }
            if run.is_empty() {
                run_at = write.position;
            }
            run_end = write.position + write.bytes.len() as u64;
            run.push(write.bytes);
        }
        if !run.is_empty() {
            self.write_run(&run, run_at)?;
        }
        if self.policy == FlushPolicy::Sync {
            for segment in self.dirty.drain(..) {
                segment.sync()?;
            }
            self.progress.durable.store(end, Ordering::Release);
        }
        self.progress.written.store(end, Ordering::Release);
        if sync && self.policy == FlushPolicy::Async {
            let durable = self.progress.durable.load(Ordering::Acquire);
            let position = self.segments.sync(durable, end)?;
            self.progress.durable.fetch_max(position, Ordering::AcqRel);
        }
        self.mark(end)?;
        self.look_ahead(end);
        Ok(())
    }

    /// Asks for the next segment when the present one is half full.
    fn look_ahead(&mut self, end: u64) {
        let size = self.segments.size();
        let base = end / size * size;
        if let Some(keeper) = &self.keeper
            && end - base >= size / 2
            && self.asked_after != base
        {
            self.asked_after = base;
            let _ = keeper.send(Keep::Look);
        }
    }

    /// The segment for a write. A full disk is waited out: what was appended must be stored, and the leader refuses
    /// new messages long before its present segment is full.
    fn segment(&self, position: u64) -> Result<Arc<Segment>> {
        let mut waited = false;
        loop {
            match self.segments.ensure(position) {
                Ok(segment) => {
                    if waited {
                        self.progress.set_no_space(false);
                    }
                    return Ok(segment);
                }
                Err(error) if is_no_space(&error) && self.keeper.is_some() => {
                    self.progress.set_no_space(true);
                    if self.progress.closing.load(Ordering::Acquire) {
                        return Err(error);
                    }
                    waited = true;
                    std::thread::sleep(LOOK_FOR_SPACE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn write_run(&mut self, run: &[Bytes], position: u64) -> Result<()> {
        let segment = self.segment(position)?;
        let written = segment
            .file
            .write_all_vectored_at(run, position - segment.base);
        written.map_err(|e| StoreError::io(format!("write at {position}"), e))?;
        if self.policy == FlushPolicy::Sync
            && self.dirty.last().is_none_or(|d| d.base != segment.base)
        {
            self.dirty.push(segment);
        }
        Ok(())
    }

    fn truncate(&mut self, end: u64, checkpoint: Option<Mark>) -> Result<()> {
        self.check()?;
        self.lower_checkpoint(checkpoint)?;
        let written = {
            let _moving = self.progress.moving.lock();
            self.progress.epoch.fetch_add(1, Ordering::AcqRel);
            let written = self.progress.written.fetch_min(end, Ordering::AcqRel);
            self.progress.durable.fetch_min(end, Ordering::AcqRel);
            written
        };
        // First, so that what is cleared now is not missed at the next start.
        self.mark(end)?;
        self.sync_marker()?;
        // The segment in which the last entry ends stays, also when it ends at the very end.
        let size = self.segments.size();
        let last_base = end.saturating_sub(1) / size * size;
        self.asked_after = u64::MAX;
        self.segments.forget(|base| base > last_base);
        self.segments.unlink_doomed()?;
        // Two replicas with the same log have the same bytes, also in the rest of a segment that is padded later.
        match self.segments.containing(end) {
            Some(segment) => {
                segment.forget_verified();
                segment.clear(end, written.min(segment.base + segment.size))
            }
            None => Ok(()),
        }
    }

    /// Begins the log anew at `start`.
    fn restart(&mut self, start: u64, log_start: &[u8]) -> Result<()> {
        self.check()?;
        self.remove_checkpoint()?;
        self.asked_after = u64::MAX;
        self.mark(0)?;
        self.sync_marker()?;
        replace_log_start(self.fs.as_ref(), &self.dir, log_start)?;
        self.segments.forget(|_| true);
        self.segments.unlink_doomed()?;
        let _moving = self.progress.moving.lock();
        self.progress.epoch.fetch_add(1, Ordering::AcqRel);
        self.progress.written.store(start, Ordering::Release);
        self.progress.durable.store(start, Ordering::Release);
        Ok(())
    }

    /// Sets the checkpoint back. Never on: the sparse indexes beside it are only as new as the present one.
    fn lower_checkpoint(&self, most: Option<Mark>) -> Result<()> {
        let path = self.dir.join("checkpoint");
        let present = Mark::load(self.fs.as_ref(), &path).unwrap_or_default();
        match (present, most) {
            (Some(present), Some(most)) if present.index <= most.index => Ok(()),
            (Some(_), Some(most)) => most.save(self.fs.as_ref(), &path),
            _ => self.remove_checkpoint(),
        }
    }

    fn remove_checkpoint(&self) -> Result<()> {
        let path = self.dir.join("checkpoint");
        if !self.fs.exists(&path) {
            return Ok(());
        }
        let removed = self.fs.remove_file(&path);
        removed
            .and_then(|()| self.fs.sync_dir(&self.dir))
            .map_err(|e| StoreError::io("remove the checkpoint", e))
    }
}
