//! The commitlog: RocketMQ's message log and the Raft log in one. [`CommitLog`] is a cheap handle; one storage
//! thread writes, any thread reads.
//!
//! Invariants, asserted where they are kept:
//! - indexes are consecutive, terms never go backwards, every entry repeats the CRC of the one before it;
//! - `durable ≤ written ≤ end`; maps are read below `written` and only for committed entries;
//! - the next offset of every queue is a function of the log: `append` and `truncate_after` alone change it.

mod append;
mod checkpoint;
pub mod draft;
pub mod entry_index;
pub mod format;
pub mod marks;
pub mod queue_offsets;
mod read;
mod reader;
mod recovery;
pub mod segments;
pub mod tail;
mod thread;
pub mod vote;
pub mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

pub use self::append::AppendBatch;
use self::entry_index::EntryIndex;
use self::marks::Mark;
use self::queue_offsets::QueueOffsets;
use self::segments::Segments;
use self::tail::{RawEntry, Tail};
use self::writer::{Done, FlushPolicy, Op, Progress};
use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;

/// Memory for the end of the log, bytes: what followers and consumers that keep up read.
const TAIL_BYTES: usize = 64 * 1024 * 1024;

/// How a commitlog is opened.
pub struct LogOptions {
    /// `mappedFileSizeCommitLog`, bytes.
    pub segment_size: u64,
    /// When an append counts as persisted.
    pub flush: FlushPolicy,
    /// `flushIntervalCommitLog`: time between two fsyncs of the flusher.
    pub flush_interval: Duration,
}

/// Index and term of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId {
    /// Term first: Raft orders log ids by it.
    pub term: u64,
    /// Position in the log, entries.
    pub index: u64,
}

struct LogState {
    /// Everything up to here is purged.
    purged: Option<Mark>,
    /// The last entry, or what was before the log's start.
    last: Option<Mark>,
    /// Start of the last entry, for the next one's header.
    last_start: u64,
    index: EntryIndex,
    tail: Tail,
    offsets: QueueOffsets,
}

impl LogState {
    fn end(&self) -> u64 {
        self.last.map_or(0, |l| l.position)
    }

    /// The newest known place of an entry that ends at or before `end`: where a start may begin to check.
    fn checkpoint_at(&self, end: u64) -> Option<Mark> {
        let last = self.last?;
        let below = end.min(last.position).checked_sub(1)?.min(self.last_start);
        let point = self.index.at_or_before_position(below)?;
        Some(Mark {
            index: point.index,
            term: last.term,
            position: point.position,
            crc: 0,
            store_timestamp: last.store_timestamp,
        })
    }

    fn note(&mut self, entry: &RawEntry, store_timestamp: i64, segment_size: u64, written: u64) {
        let h = &entry.header;
        self.index.add(h.index, h.position, segment_size);
        self.last = Some(Mark {
            index: h.index,
            term: h.term,
            position: entry.end(),
            crc: h.crc,
            store_timestamp,
        });
        self.last_start = h.position;
        self.tail.push(entry.clone(), written);
    }
}

struct Shared {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    segments: Arc<Segments>,
    state: Mutex<LogState>,
    progress: Arc<Progress>,
    /// Everything before this position is committed: it may be read through maps.
    committed: AtomicU64,
    /// Held while the checkpoint file changes; the base of the segment it lay in the last time.
    checkpoint_lock: Mutex<u64>,
}

struct Threads {
    ops: Sender<Op>,
    stop_flusher: Sender<()>,
    storage: JoinHandle<()>,
    flusher: JoinHandle<()>,
}

/// Handle to the log of one replica.
#[derive(Clone)]
pub struct CommitLog {
    shared: Arc<Shared>,
    threads: Arc<Mutex<Option<Threads>>>,
    ops: Sender<Op>,
    vote: Arc<Mutex<Option<Vec<u8>>>>,
}

impl CommitLog {
    /// The log's purged and last entry.
    pub fn bounds(&self) -> (Option<EntryId>, Option<EntryId>) {
        let state = self.shared.state.lock();
        let id = |m: &Mark| EntryId {
            term: m.term,
            index: m.index,
        };
        (state.purged.as_ref().map(id), state.last.as_ref().map(id))
    }

    /// Position after the last entry.
    pub fn end(&self) -> u64 {
        self.shared.state.lock().end()
    }

    /// First position still kept.
    pub fn start(&self) -> u64 {
        let purged = self.shared.state.lock().purged.map_or(0, |m| m.position);
        purged.max(self.shared.segments.first_base().unwrap_or(0))
    }

    /// How far the files are.
    pub fn progress(&self) -> &Progress {
        &self.shared.progress
    }

    /// Entries before `position` are committed from now on; `index` is the last of them.
    pub fn set_committed(&self, position: u64, index: u64) {
        self.shared.committed.fetch_max(position, Ordering::AcqRel);
        self.shared.state.lock().offsets.forget_undo(index);
    }

    /// Starts an append; call [`AppendBatch::submit`] at its end.
    pub fn append(&self) -> AppendBatch<'_> {
        AppendBatch {
            log: self,
            writes: Vec::new(),
        }
    }

    /// Forgets the entries after `last` (all, when `None`), takes their queue offsets back, and queues the change of
    /// the files.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a removed entry cannot be read back.
    pub fn truncate_after(&self, last: Option<u64>, done: Done) -> Result<()> {
        let mut state = self.shared.state.lock();
        let Some(present) = state.last else {
            done(Ok(()));
            return Ok(());
        };
        let floor = state.purged.map(|p| p.index);
        let last = last.max(floor);
        if last.is_some_and(|last| last >= present.index) {
            done(Ok(()));
            return Ok(());
        }
        // Everything to be removed, oldest first; what fell out of the tail comes from the files.
        let first = last.map_or(0, |l| l + 1);
        let removed = self
            .shared
            .collect_entries(&state, first, present.index + 1)?;
        let purged = state.purged;
        for entry in removed.iter().rev() {
            state.offsets.undo(&entry.header, &entry.bytes)?;
        }
        while state.tail.pop_after(last).is_some() {}
        state.index.truncate_after(last);
        match removed.first() {
            Some(first) if last.is_some() && last != floor => {
                // The entry before the first removed one tells the new end.
                let before = self.shared.collect_entries(
                    &state,
                    first.header.index - 1,
                    first.header.index,
                )?;
                let Some(before) = before.first() else {
                    return Err(StoreError::corrupt(
                        "log",
                        format!("no entry {}", first.header.index - 1),
                    ));
                };
                state.last_start = before.header.position;
                state.last = Some(Mark {
                    index: before.header.index,
                    term: before.header.term,
                    position: before.end(),
                    crc: before.header.crc,
                    // Never goes back: a later message may not be stamped earlier than a removed one was.
                    store_timestamp: present.store_timestamp,
                });
            }
            _ => {
                state.last = purged;
                state.last_start = purged.map_or(0, |p| p.position);
                state.tail.clear();
                state.index.truncate_after(floor);
            }
        }
        let end = state.end();
        let durable = self.shared.progress.durable.load(Ordering::Acquire);
        let checkpoint = state
            .checkpoint_at(end.min(durable))
            .map(|mark| mark.encode());
        self.send(Op::Truncate {
            end,
            checkpoint,
            done,
        });
        Ok(())
    }

    /// Drops everything up to and including the entry `upto`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a purge beyond the last entry, unless the anchor of an installed snapshot for
    /// exactly that entry is on disk: anything else would throw away acknowledged messages.
    pub fn purge(&self, upto: EntryId, done: Done) -> Result<()> {
        let mut state = self.shared.state.lock();
        if state.purged.is_some_and(|p| p.index >= upto.index) {
            done(Ok(()));
            return Ok(());
        }
        let beyond = state.last.is_none_or(|last| last.index < upto.index);
        let mark = if beyond {
            let anchor = Mark::load(self.shared.fs.as_ref(), &self.shared.anchor_path())?;
            match anchor {
                Some(mark) if mark.index == upto.index && mark.term == upto.term => mark,
                _ => {
                    return Err(StoreError::Refused(format!(
                        "purge up to entry {} of term {} is beyond the last entry {:?} and no installed snapshot ends there",
                        upto.index,
                        upto.term,
                        state.last.map(|l| (l.index, l.term)),
                    )));
                }
            }
        } else {
            let entries = self
                .shared
                .collect_entries(&state, upto.index, upto.index + 2)?;
            let (position, crc) = match entries.first() {
                Some(entry) if entry.header.index == upto.index => (entry.end(), entry.header.crc),
                // A log whose first entries were never here begins right after what is purged.
                Some(next) => (next.header.position, next.header.previous_crc),
                None => {
                    return Err(StoreError::corrupt(
                        "log",
                        format!("no entry {} to purge up to", upto.index),
                    ));
                }
            };
            Mark {
                index: upto.index,
                term: upto.term,
                position,
                crc,
                store_timestamp: state.last.map_or(0, |l| l.store_timestamp),
            }
        };
        state.purged = Some(mark);
        if beyond {
            state.last = Some(mark);
            state.last_start = mark.position;
            state.tail.clear();
            state.index.truncate_after(None);
        }
        let base = mark.position / self.shared.segments.size() * self.shared.segments.size();
        state.index.purge_before(base);
        self.send(Op::Purge {
            start: mark.position,
            log_start: mark.encode(),
            restart: beyond,
            done,
        });
        Ok(())
    }

    /// Makes the anchor of an installed snapshot durable: the log may begin anew after it.
    pub fn save_anchor(&self, mark: Mark) -> Result<()> {
        mark.save(self.shared.fs.as_ref(), &self.shared.anchor_path())
    }

    /// Persists the vote, behind everything queued before it.
    pub fn save_vote(&self, bytes: Vec<u8>, done: Done) {
        *self.vote.lock() = Some(bytes.clone());
        self.send(Op::SaveVote { bytes, done });
    }

    /// The last vote given to [`CommitLog::save_vote`], or found at start.
    pub fn vote(&self) -> Option<Vec<u8>> {
        self.vote.lock().clone()
    }

    fn send(&self, op: Op) {
        if let Err(failed) = self.ops.send(op) {
            let done = match failed.0 {
                Op::Append { done, .. }
                | Op::Truncate { done, .. }
                | Op::Purge { done, .. }
                | Op::SaveVote { done, .. } => done,
            };
            done(Err("the storage thread has ended".to_owned()));
        }
    }

    /// What the log says is the next offset of a queue.
    pub fn next_queue_offset(&self, topic: &str, queue_id: i32) -> i64 {
        self.shared.state.lock().offsets.get(topic, queue_id)
    }

    /// Writes everything out, fsyncs, saves the checkpoint and ends the threads. Later operations fail.
    pub fn close(&self) {
        let Some(threads) = self.threads.lock().take() else {
            return;
        };
        // A barrier: all that was queued before is written when it is answered.
        let (tx, rx) = std::sync::mpsc::channel();
        let done: Done = Box::new(move |_| {
            let _ = tx.send(());
        });
        let barrier = Op::Append {
            writes: Vec::new(),
            end: self.end(),
            done,
        };
        if threads.ops.send(barrier).is_ok() {
            let _ = rx.recv_timeout(CLOSE_WAIT);
        }
        let _ = threads.stop_flusher.send(());
        if threads.flusher.join().is_err() {
            tracing::error!("the flusher thread panicked");
        }
        drop(threads.ops);
        // The storage thread ends when the last handle is gone; nothing waits for it.
        drop(threads.storage);
    }

    /// Directory of the segments.
    pub fn dir(&self) -> &Path {
        self.shared.segments.dir()
    }
}

/// Longest wait for queued writes at close.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// Store time of the last message of an entry.
fn last_timestamp(entry: &[u8]) -> Option<i64> {
    let messages = format::records(entry).filter_map(|r| match r {
        Ok(format::Record::Message { bytes, .. }) => Some(bytes),
        _ => None,
    });
    let view = raftmq_remoting::message::StoredRecord::parse(messages.last()?).ok()?;
    Some(view.store_timestamp())
}

impl Shared {
    fn anchor_path(&self) -> PathBuf {
        self.dir.join("anchor")
    }

    fn checkpoint_path(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }
}
