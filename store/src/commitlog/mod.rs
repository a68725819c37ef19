//! The commitlog: RocketMQ's message log and the Raft log in one. [`CommitLog`] is a cheap handle; one storage
//! thread writes (small appends the caller, see `short_cut`), any thread reads.
//!
//! Invariants, asserted where they are kept:
//! - indexes are consecutive, terms never go backwards, every entry repeats the CRC of the one before it;
//! - `durable ≤ written ≤ end`; maps are read below `written` and only for committed entries;
//! - the next offset of every queue is a function of the log: `append` and `truncate_after` alone change it.

mod append;
mod checkpoint;
pub mod damage;
pub mod draft;
pub mod entry_index;
pub mod format;
pub mod marks;
pub mod queue_offsets;
mod read;
mod reader;
mod recovery;
pub mod segments;
mod short_cut;
pub mod tail;
mod thread;
pub mod vote;
pub mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

pub use self::append::AppendBatch;
use self::damage::Damage;
use self::entry_index::EntryIndex;
use self::marks::Mark;
use self::queue_offsets::QueueOffsets;
use self::segments::Segments;
use self::short_cut::ShortCut;
use self::tail::{RawEntry, Tail};
use self::writer::{Done, FlushPolicy, Keep, Op, Progress, SegmentWriter};
use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;

/// Default of [`LogOptions::tail_bytes`].
const TAIL_BYTES: usize = 64 * 1024 * 1024;

/// How a commitlog is opened.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// `mappedFileSizeCommitLog`, bytes.
    pub segment_size: u64,
    /// When an append counts as persisted.
    pub flush: FlushPolicy,
    /// When the flusher fsyncs what `ASYNC_FLUSH` left in the page cache.
    pub every: FlushEvery,
    /// `warmMapedFileEnable`: new segments are filled with zeros ahead of their use.
    pub warm: bool,
    /// Who performs the writes.
    pub drive: Drive,
    /// Memory for the end of the log, bytes: what followers and consumers that keep up read.
    pub tail_bytes: usize,
    /// Which boot of the machine this is: in another one, what was written and not synced may be gone.
    pub boot: String,
}

impl LogOptions {
    /// RocketMQ's defaults, with these choices.
    pub fn new(segment_size: u64, flush: FlushPolicy) -> Self {
        Self {
            segment_size,
            flush,
            every: FlushEvery::default(),
            warm: false,
            drive: Drive::Threads,
            tail_bytes: TAIL_BYTES,
            boot: marks::boot_id(),
        }
    }
}

/// When the flusher fsyncs: at an interval if enough waits, and whatever waits after a longer time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushEvery {
    /// `flushIntervalCommitLog`.
    pub interval: Duration,
    /// `flushCommitLogLeastPages`, in bytes: less is left for the next time.
    pub least_bytes: u64,
    /// `flushCommitLogThoroughInterval`.
    pub thorough: Duration,
}

impl Default for FlushEvery {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            least_bytes: 4 * 4096,
            thorough: Duration::from_secs(10),
        }
    }
}

/// Who performs the writes of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    /// Threads of its own: a broker.
    Threads,
    /// The caller, with [`CommitLog::step`]: a test or a simulation that decides when the disk is at work.
    Caller,
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
    index: EntryIndex,
    tail: Tail,
    offsets: QueueOffsets,
    /// Truncations that the files have not seen yet: until then `durable` speaks of what is forgotten here.
    truncating: u32,
}

impl LogState {
    fn end(&self) -> u64 {
        self.last.map_or(0, |l| l.position)
    }

    /// The newest known place of an entry that ends at or before `end`: where a start may begin to check.
    fn checkpoint_at(&self, end: u64) -> Option<Mark> {
        let last = self.last?;
        let below = end.min(last.position).checked_sub(1)?.min(last.start);
        let point = self.index.at_or_before_position(below)?;
        Some(Mark {
            index: point.index,
            term: last.term,
            start: point.position,
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
            start: h.position,
            position: entry.end(),
            crc: h.crc,
            store_timestamp,
        });
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
    /// What cannot be read, oldest first.
    damage: Mutex<Vec<Damage>>,
    /// The last start cut off more than a torn tail.
    cut_short: bool,
    /// Purges are performed by a thread, which may wait for the writes before.
    keeper_waits: bool,
}

/// What performs the writes.
enum Driver {
    Threads {
        stop_flusher: Sender<()>,
        flusher: JoinHandle<()>,
    },
    Caller {
        writer: Box<SegmentWriter>,
        queue: Receiver<Op>,
    },
}

/// Handle to the log of one replica.
#[derive(Clone)]
pub struct CommitLog {
    shared: Arc<Shared>,
    driver: Arc<Mutex<Option<Driver>>>,
    ops: Sender<Op>,
    /// Small writes need not wait for the storage thread to wake up.
    short_cut: Option<Arc<ShortCut>>,
    keeper: Option<Sender<Keep>>,
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

    /// Has `told` called once when nothing is written any more, with the reason.
    pub fn on_poison(&self, told: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.shared.progress.on_poison.set(Box::new(told));
    }

    /// Has `told` called whenever damage is found.
    pub fn on_damage(&self, told: impl Fn() + Send + Sync + 'static) {
        let _ = self.shared.progress.damaged.set(Box::new(told));
    }

    /// Has every stretch checked again when it is read the next time, with its checksums.
    pub fn forget_verified(&self) {
        self.shared.segments.forget_verified();
    }

    /// Index of an entry at or before a byte position; 0 when none is known.
    pub fn index_at(&self, position: u64) -> u64 {
        let state = self.shared.state.lock();
        let point = state.index.at_or_before_position(position);
        point.map_or(0, |p| p.index)
    }

    /// How far the files are.
    pub fn progress(&self) -> &Progress {
        &self.shared.progress
    }

    /// Bytes of log that are written and not committed.
    pub fn uncommitted(&self) -> u64 {
        let written = self.shared.progress.written.load(Ordering::Acquire);
        written.saturating_sub(self.shared.committed.load(Ordering::Acquire))
    }

    /// Entries before `position` are committed from now on; `index` is the last of them.
    pub fn set_committed(&self, position: u64, index: u64) {
        let mut state = self.shared.state.lock();
        state.offsets.forget_undo(index);
        // What a snapshot ends with may be the beginning of a segment that is not there yet.
        let position = position.min(state.end());
        self.shared.committed.fetch_max(position, Ordering::AcqRel);
    }

    /// Starts an append; call [`AppendBatch::submit`] at its end.
    pub fn append(&self) -> AppendBatch<'_> {
        AppendBatch {
            log: self,
            writes: Vec::new(),
            durable: false,
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
            state.offsets.undo(&entry.header, &entry.bytes);
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
                state.last = Some(Mark {
                    index: before.header.index,
                    term: before.header.term,
                    start: before.header.position,
                    position: before.end(),
                    crc: before.header.crc,
                    // Never goes back: a later message may not be stamped earlier than a removed one was.
                    store_timestamp: present.store_timestamp,
                });
            }
            _ => {
                state.last = purged;
                state.tail.clear();
                state.index.truncate_after(floor);
            }
        }
        let end = state.end();
        let durable = self.shared.progress.durable.load(Ordering::Acquire);
        let checkpoint = state.checkpoint_at(end.min(durable));
        state.truncating += 1;
        let shared = self.shared.clone();
        let done: Done = Box::new(move |result| {
            shared.state.lock().truncating -= 1;
            done(result);
        });
        self.send(Op::Truncate {
            end,
            checkpoint,
            done,
        });
        Ok(())
    }

    /// Drops everything up to and including the entry `upto`. `known` is what a snapshot says of that entry: it need not
    /// be read then, and may be damaged.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a purge beyond the last entry, unless the anchor of an installed snapshot for
    /// exactly that entry is on disk: anything else would throw away acknowledged messages.
    pub fn purge(&self, upto: EntryId, known: Option<Mark>, done: Done) -> Result<()> {
        let mut state = self.shared.state.lock();
        if state.purged.is_some_and(|p| p.index >= upto.index) {
            done(Ok(()));
            return Ok(());
        }
        // Beyond the last entry, or in place of another history: only what an installed snapshot ends with.
        let anchor = self
            .anchor()?
            .filter(|mark| mark.index == upto.index && mark.term == upto.term);
        let beyond = state.last.is_none_or(|last| last.index < upto.index);
        // Not after an installation: another history may lie there.
        let known = known.filter(|mark| {
            anchor.is_none() && !beyond && (mark.index, mark.term) == (upto.index, upto.term)
        });
        let entries = match beyond || known.is_some() {
            true => Vec::new(),
            false => self
                .shared
                .collect_entries(&state, upto.index, upto.index + 2)?,
        };
        let found = entries
            .first()
            .filter(|e| e.header.index == upto.index && e.header.term == upto.term);
        let mark = match (found, known.or(anchor)) {
            (Some(entry), _) => Mark {
                index: upto.index,
                term: upto.term,
                start: entry.header.position,
                // Past the pad, when the entry is its segment's last.
                position: entries
                    .get(1)
                    .map_or(entry.end(), |next| next.header.position),
                crc: entry.header.crc,
                store_timestamp: last_timestamp(&entry.bytes).unwrap_or(0),
            },
            (None, Some(mark)) => mark,
            (None, None) => {
                return Err(StoreError::Refused(format!(
                    "purge up to entry {} of term {} while the log ends with {:?}: it is not in the log, and no installed snapshot ends there",
                    upto.index,
                    upto.term,
                    state.last.map(|l| (l.index, l.term)),
                )));
            }
        };
        let restart = found.is_none() && known.is_none();
        state.purged = Some(mark);
        if restart {
            state.last = Some(mark);
            state.tail.clear();
            state.index.truncate_after(None);
        }
        let base = mark.position / self.shared.segments.size() * self.shared.segments.size();
        state.index.purge_before(base);
        let (start, log_start) = (mark.position, mark.encode());
        drop(state);
        match &self.keeper {
            _ if restart => self.send(Op::Restart {
                start,
                log_start,
                done,
            }),
            Some(keeper) => {
                let purge = Keep::Purge {
                    start,
                    log_start,
                    done,
                };
                if let Err(failed) = keeper.send(purge)
                    && let Keep::Purge { done, .. } = failed.0
                {
                    done(Err("the keeper thread has ended".to_owned()));
                }
            }
            None => {
                let purged = self.shared.purge_files(start, &log_start);
                let purged = purged.and_then(|()| self.shared.segments.unlink_doomed());
                done(purged.map_err(|e| e.to_string()));
            }
        }
        Ok(())
    }

    /// Makes the anchor of an installed snapshot durable: the log may begin anew after it.
    ///
    /// # Errors
    /// I/O.
    pub fn save_anchor(&self, mark: Mark) -> Result<()> {
        mark.save(self.shared.fs.as_ref(), &self.shared.anchor_path())
    }

    /// The anchor of the last installed snapshot.
    ///
    /// # Errors
    /// I/O.
    pub fn anchor(&self) -> Result<Option<Mark>> {
        match Mark::load(self.shared.fs.as_ref(), &self.shared.anchor_path()) {
            // Needed between an installation and its purge alone; the metadata says if one was under way.
            Err(StoreError::Corrupt { what, detail }) => {
                tracing::warn!(%what, %detail, "done without");
                Ok(None)
            }
            anchor => anchor,
        }
    }

    /// Begins the log anew after an installed snapshot and waits for it: at a start, when the last process was killed
    /// in between.
    ///
    /// # Errors
    /// I/O.
    pub fn restart_at(&self, mark: Mark) -> Result<()> {
        let id = EntryId {
            term: mark.term,
            index: mark.index,
        };
        self.wait(|done| self.purge(id, None, done))
    }

    /// Runs an operation and waits until it is done.
    fn wait(&self, run: impl FnOnce(Done) -> Result<()>) -> Result<()> {
        let (tx, rx) = std::sync::mpsc::channel();
        run(Box::new(move |result| {
            let _ = tx.send(result);
        }))?;
        self.step();
        match rx.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(StoreError::Poisoned(reason)),
            Err(_) => Err(StoreError::Poisoned("the log has ended".to_owned())),
        }
    }

    /// Performs the operations that wait, when nobody else does ([`Drive::Caller`]); returns how many there were groups of.
    pub fn step(&self) -> usize {
        let mut driver = self.driver.lock();
        let Some(Driver::Caller { writer, queue }) = driver.as_mut() else {
            return 0;
        };
        let mut groups = 0;
        while let Ok(first) = queue.try_recv() {
            thread::run_group(writer, first, queue, &self.shared.checkpoint_lock);
            groups += 1;
        }
        groups
    }

    /// Fsyncs everything written so far.
    ///
    /// # Errors
    /// I/O: the log is poisoned then.
    pub fn flush(&self) -> Result<()> {
        let flushed = self.shared.flush_written();
        flushed.inspect_err(|error| self.shared.progress.poison(&error.to_string()))
    }

    /// Writes the checkpoint and the sparse indexes now.
    ///
    /// # Errors
    /// I/O; only the next start gets slower.
    pub fn checkpoint(&self) -> Result<()> {
        self.shared.save_checkpoint()
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
        if let Some(short_cut) = &self.short_cut {
            short_cut.queued();
        }
        if let Err(failed) = self.ops.send(op) {
            let done = match failed.0 {
                Op::Append { done, .. }
                | Op::Truncate { done, .. }
                | Op::Restart { done, .. }
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
        self.step();
        let Some(driver) = self.driver.lock().take() else {
            return;
        };
        self.shared.progress.closing.store(true, Ordering::Release);
        let Driver::Threads {
            stop_flusher,
            flusher,
        } = driver
        else {
            if let Err(error) = self.flush().and_then(|()| self.checkpoint()) {
                tracing::warn!(%error, "the log was not closed cleanly");
            }
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
            durable: false,
            done,
        };
        if self.ops.send(barrier).is_ok() {
            let _ = rx.recv_timeout(CLOSE_WAIT);
        }
        let _ = stop_flusher.send(());
        if flusher.join().is_err() {
            tracing::error!("the flusher thread panicked");
        }
        if let Some(keeper) = &self.keeper {
            let _ = keeper.send(Keep::Look);
        }
        // The storage thread ends when the last handle is gone; nothing waits for it.
    }

    /// `mappedFileSizeCommitLog`, bytes.
    pub fn segment_size(&self) -> u64 {
        self.shared.segments.size()
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
