//! The segment writer: a state machine that takes write operations in call order and performs them. An OS thread
//! drives it in a broker ([`super::thread`]); a test calls [`SegmentWriter::run`] itself.
//!
//! Group commit, in five sentences. Callers queue operations and go on. The thread takes all that waits. Appends
//! that follow each other become one `pwritev` a segment. With `SYNC_FLUSH` one `fdatasync` then covers them all,
//! and meanwhile the next group gathers in the queue. Only then is each operation told that it is done.
//!
//! Votes, appends, truncations and purges never overtake each other: openraft requires it. A failed write or fsync
//! poisons the writer for good: what the file holds afterwards is unknown, so it is never retried.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::segments::{Segment, Segments};
use super::vote::VoteFile;
use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;

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
        /// Told when persisted.
        done: Done,
    },
    /// Forget what lies at and after `end`: later segments are deleted.
    Truncate {
        /// Position after the new last entry.
        end: u64,
        /// The checkpoint from now on: the present one may lie in what is forgotten.
        checkpoint: Option<Vec<u8>>,
        /// Told when done.
        done: Done,
    },
    /// Delete segments that end at or before `start`; with `restart`, all of them.
    Purge {
        /// First position to keep.
        start: u64,
        /// The new log-start file's content, made durable first.
        log_start: Vec<u8>,
        /// The log begins anew at `start`.
        restart: bool,
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

/// How far the files are, for readers on other threads.
#[derive(Debug, Default)]
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
}

impl SegmentWriter {
    /// Over opened files.
    pub fn new(
        fs: Arc<dyn FileSystem>,
        segments: Arc<Segments>,
        vote: VoteFile,
        dir: &Path,
        policy: FlushPolicy,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            fs,
            segments,
            vote,
            dir: dir.to_path_buf(),
            policy,
            progress,
            dirty: Vec::new(),
        }
    }

    /// Performs a group and tells every operation how it went.
    pub fn run(&mut self, ops: Vec<Op>) {
        let mut appends: Vec<(u64, Done)> = Vec::new();
        let mut writes: Vec<Write> = Vec::new();
        for op in ops {
            match op {
                Op::Append {
                    writes: more,
                    end,
                    done,
                } => {
                    writes.extend(more);
                    appends.push((end, done));
                }
                other => {
                    self.finish_appends(&mut writes, &mut appends);
                    self.run_one(other);
                }
            }
        }
        self.finish_appends(&mut writes, &mut appends);
    }

    fn finish_appends(&mut self, writes: &mut Vec<Write>, appends: &mut Vec<(u64, Done)>) {
        let Some(end) = appends.last().map(|(end, _)| *end) else {
            return;
        };
        let result = self.write_group(std::mem::take(writes), end);
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
            Op::Purge {
                start,
                log_start,
                restart,
                done,
            } => (self.purge(start, &log_start, restart), done),
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

    fn write_group(&mut self, writes: Vec<Write>, end: u64) -> Result<()> {
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
                let synced = segment.file.sync_data();
                synced.map_err(|e| {
                    StoreError::io(format!("fdatasync segment {}", segment.base), e)
                })?;
            }
            self.progress.durable.store(end, Ordering::Release);
        }
        self.progress.written.store(end, Ordering::Release);
        Ok(())
    }

    fn write_run(&mut self, run: &[Bytes], position: u64) -> Result<()> {
        let segment = self.segments.ensure(position)?;
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

    fn truncate(&mut self, end: u64, checkpoint: Option<Vec<u8>>) -> Result<()> {
        self.check()?;
        self.replace_checkpoint(checkpoint)?;
        {
            let _moving = self.progress.moving.lock();
            self.progress.epoch.fetch_add(1, Ordering::AcqRel);
            self.progress.written.fetch_min(end, Ordering::AcqRel);
            self.progress.durable.fetch_min(end, Ordering::AcqRel);
        }
        // The segment in which the last entry ends stays, also when it ends at the very end.
        let size = self.segments.size();
        let last_base = end.saturating_sub(1) / size * size;
        self.segments.remove(|base| base > last_base)
    }

    fn purge(&mut self, start: u64, log_start: &[u8], restart: bool) -> Result<()> {
        self.check()?;
        if restart {
            self.replace_checkpoint(None)?;
        }
        let replaced = self.fs.replace(&self.dir.join("log_start"), log_start);
        replaced.map_err(|e| StoreError::io("replace the log-start file", e))?;
        let size = self.segments.size();
        self.segments
            .remove(|base| restart || base + size <= start)?;
        if restart {
            let _moving = self.progress.moving.lock();
            self.progress.epoch.fetch_add(1, Ordering::AcqRel);
            self.progress.written.store(start, Ordering::Release);
            self.progress.durable.store(start, Ordering::Release);
        }
        Ok(())
    }

    fn replace_checkpoint(&self, content: Option<Vec<u8>>) -> Result<()> {
        let path = self.dir.join("checkpoint");
        let replaced = match content {
            Some(content) => self.fs.replace(&path, &content),
            None if self.fs.exists(&path) => self
                .fs
                .remove_file(&path)
                .and_then(|()| self.fs.sync_dir(&self.dir)),
            None => Ok(()),
        };
        replaced.map_err(|e| StoreError::io("replace the checkpoint", e))
    }
}
