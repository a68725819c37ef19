//! The commitlog: RocketMQ's message log and the Raft log in one. [`CommitLog`] is a cheap handle; one storage
//! thread writes, any thread reads.
//!
//! Invariants, asserted where they are kept:
//! - indexes are consecutive, terms never go backwards, every entry repeats the CRC of the one before it;
//! - `durable ≤ written ≤ end`; maps are read below `written` and only for committed entries;
//! - the next offset of every queue is a function of the log: `append` and `truncate_after` alone change it.

pub mod draft;
pub mod entry_index;
pub mod format;
pub mod marks;
pub mod queue_offsets;
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

use bytes::Bytes;
use parking_lot::Mutex;

use self::draft::{Draft, Place, Placed};
use self::entry_index::EntryIndex;
use self::format::{PAD_HEADER_LEN, check_entry, pad_header, read_u32};
use self::marks::Mark;
use self::queue_offsets::QueueOffsets;
use self::reader::{EntryReader, Found};
use self::segments::Segments;
use self::tail::{RawEntry, Tail};
use self::writer::{Done, FlushPolicy, Op, Progress, Write};
use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;

/// Memory for the end of the log, bytes: what followers and consumers that keep up read.
const TAIL_BYTES: usize = 64 * 1024 * 1024;
/// Largest stored message, bytes: a record with a body of 4 MiB and full properties is far below.
const MAX_RECORD_LEN: u32 = 24 * 1024 * 1024;

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

/// Entries being appended by one call; they reach the storage thread as one operation.
pub struct AppendBatch<'a> {
    log: &'a CommitLog,
    writes: Vec<Write>,
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

    /// Entries `[from, to)` that are in memory, up to `max_bytes` but at least one; `None` when the first is not.
    pub fn read_tail(&self, from: u64, to: u64, max_bytes: usize) -> Option<Vec<RawEntry>> {
        let state = self.shared.state.lock();
        if state.purged.is_some_and(|p| from <= p.index) {
            return None;
        }
        state.tail.get(from)?;
        let mut bytes = 0;
        let mut out = Vec::new();
        for index in from..to {
            let Some(entry) = state.tail.get(index) else {
                break;
            };
            bytes += entry.bytes.len();
            if bytes > max_bytes && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        Some(out)
    }

    /// Entries `[from, to)` as far as the log holds them, up to `max_bytes` but at least one. Reads files: not for
    /// async threads.
    ///
    /// # Errors
    /// I/O, and [`StoreError::Corrupt`] for an entry that the log holds but the file does not.
    pub fn read_entries(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<RawEntry>> {
        let (first, last, tail_first, start) = {
            let state = self.shared.state.lock();
            let Some(last) = state.last else {
                return Ok(Vec::new());
            };
            let first = state.purged.map_or(0, |p| p.index + 1);
            let start = state.index.at_or_before(from.max(first));
            (first, last.index, state.tail.first_index(), start)
        };
        let from = from.max(first);
        let to = to.min(last + 1);
        if from >= to {
            return Ok(Vec::new());
        }
        if tail_first.is_some_and(|t| t <= from)
            && let Some(entries) = self.read_tail(from, to, max_bytes)
        {
            return Ok(entries);
        }
        let Some(point) = start else {
            // A log that does not begin at 0 (its first entries were never here).
            return self.read_entries_after_gap(from, to, max_bytes);
        };
        let file_to = tail_first.map_or(to, |t| to.min(t));
        let mut out = self
            .shared
            .read_files(point.position, from, file_to, max_bytes)?;
        let bytes: usize = out.iter().map(|e| e.bytes.len()).sum();
        if out.last().is_some_and(|e| e.header.index + 1 == file_to)
            && file_to < to
            && bytes < max_bytes
            && let Some(more) = self.read_tail(file_to, to, max_bytes - bytes)
        {
            out.extend(more);
        }
        Ok(out)
    }

    fn read_entries_after_gap(
        &self,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<RawEntry>> {
        let first = self.shared.state.lock().tail.first_index();
        match first {
            Some(first) if first < to => Ok(self
                .read_tail(first.max(from), to, max_bytes)
                .unwrap_or_default()),
            _ => Ok(Vec::new()),
        }
    }

    /// Whether a record at this position is surely in memory.
    pub fn is_hot(&self, position: u64) -> bool {
        self.shared
            .state
            .lock()
            .tail
            .first_position()
            .is_some_and(|first| position >= first)
    }

    /// The stored message at `position`, `size` bytes, without a copy.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] when that range is not committed or no longer kept.
    pub fn read_record(&self, position: u64, size: u32) -> Result<Bytes> {
        let committed = self.shared.committed.load(Ordering::Acquire);
        let end = position.saturating_add(u64::from(size));
        if end > committed
            || size > MAX_RECORD_LEN
            || position < self.shared.segments.first_base().unwrap_or(0)
        {
            return Err(self.out_of_range(position));
        }
        if end > self.shared.progress.written.load(Ordering::Acquire) {
            // Committed by the others before our own write ended.
            let state = self.shared.state.lock();
            let Some(entry) = state.tail.containing(position) else {
                drop(state);
                return Err(self.out_of_range(position));
            };
            let at = (position - entry.header.position) as usize;
            if at + size as usize > entry.bytes.len() {
                return Err(StoreError::corrupt(
                    format!("position {position}"),
                    "a record beyond its entry",
                ));
            }
            return Ok(entry.bytes.slice(at..at + size as usize));
        }
        let Some(segment) = self.shared.segments.containing(position) else {
            return Err(self.out_of_range(position));
        };
        if end > segment.base + segment.size {
            return Err(StoreError::corrupt(
                format!("position {position}"),
                "a record beyond its segment",
            ));
        }
        let at = (position - segment.base) as usize;
        Ok(segment.map()?.slice(at..at + size as usize))
    }

    /// The stored message that starts at `position`; its own first bytes tell its size.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`], and [`StoreError::Corrupt`] when no message starts there.
    pub fn read_record_at(&self, position: u64) -> Result<Bytes> {
        let head = self.read_record(position, PAD_HEADER_LEN as u32)?;
        let size = read_u32(&head, 0).unwrap_or(0);
        let bytes = self.read_record(position, size)?;
        let view = raftmq_remoting::message::StoredRecord::parse(&bytes)
            .map_err(|e| StoreError::corrupt(format!("position {position}"), e.to_string()))?;
        if view.physical_offset() as u64 != position {
            return Err(StoreError::corrupt(
                format!("position {position}"),
                "no message starts here",
            ));
        }
        Ok(bytes)
    }

    fn out_of_range(&self, position: u64) -> StoreError {
        StoreError::OutOfRange {
            position: position as i64,
            min: self.start() as i64,
            max: self.shared.committed.load(Ordering::Acquire) as i64,
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

impl AppendBatch<'_> {
    /// Appends a draft as the leader: gives it its place and stamps its messages.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`]; nothing is appended then.
    pub fn push_draft(
        &mut self,
        id: EntryId,
        draft: Draft,
        now_ms: i64,
    ) -> Result<(RawEntry, Vec<Placed>)> {
        let shared = &self.log.shared;
        let mut state = shared.state.lock();
        check_follows(&state, id);
        let position = self.place(state.end(), draft.len())?;
        let last = state.last;
        let store_timestamp = now_ms.max(last.map_or(0, |l| l.store_timestamp));
        let place = Place {
            index: id.index,
            term: id.term,
            position,
            previous: last.map_or(position, |_| state.last_start),
            previous_crc: last.map_or(0, |l| l.crc),
            store_timestamp,
        };
        let (header, bytes, placed) = draft.stamp(place, &mut state.offsets)?;
        let entry = RawEntry { header, bytes };
        let timestamp = if placed.is_empty() {
            last.map_or(0, |l| l.store_timestamp)
        } else {
            store_timestamp
        };
        self.finish(&mut state, entry.clone(), timestamp);
        Ok((entry, placed))
    }

    /// Appends an entry as a follower: the bytes are written as they came, after they proved to fit.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the checksum, the position, the chain or a queue offset contradicts this log:
    /// the replica must stop.
    pub fn push_encoded(&mut self, id: EntryId, bytes: Bytes) -> Result<()> {
        let header = check_entry(&bytes)?;
        let shared = &self.log.shared;
        let mut state = shared.state.lock();
        check_follows(&state, id);
        let position = self.place(state.end(), bytes.len())?;
        let crc = state.last.map_or(0, |l| l.crc);
        let expected = (id.index, id.term, position, crc);
        let found = (
            header.index,
            header.term,
            header.position,
            header.previous_crc,
        );
        if expected != found {
            return Err(StoreError::corrupt(
                format!("entry {} from the leader", id.index),
                format!(
                    "expected (index, term, position, previous crc) {expected:?}, found {found:?}"
                ),
            ));
        }
        state.offsets.follow(&header, &bytes)?;
        let timestamp = last_timestamp(&bytes)
            .unwrap_or(0)
            .max(state.last.map_or(0, |l| l.store_timestamp));
        self.finish(&mut state, RawEntry { header, bytes }, timestamp);
        Ok(())
    }

    /// Where an entry of `len` bytes goes, with the pad that precedes it.
    fn place(&mut self, end: u64, len: usize) -> Result<u64> {
        let size = self.log.shared.segments.size();
        if len as u64 > size {
            return Err(StoreError::TooLarge {
                size: len,
                limit: size as usize,
            });
        }
        let left = size - end % size;
        if len as u64 <= left {
            return Ok(end);
        }
        if left >= PAD_HEADER_LEN as u64 {
            self.writes.push(Write {
                position: end,
                bytes: Bytes::copy_from_slice(&pad_header(left as u32)),
            });
        }
        Ok(end + left)
    }

    fn finish(&mut self, state: &mut LogState, entry: RawEntry, store_timestamp: i64) {
        self.writes.push(Write {
            position: entry.header.position,
            bytes: entry.bytes.clone(),
        });
        let written = self.log.shared.progress.written.load(Ordering::Acquire);
        state.note(
            &entry,
            store_timestamp,
            self.log.shared.segments.size(),
            written,
        );
    }

    /// Hands the writes to the storage thread; `done` is told when they are persisted.
    pub fn submit(self, done: Done) {
        let end = self.log.end();
        self.log.send(Op::Append {
            writes: self.writes,
            end,
            done,
        });
    }
}

fn check_follows(state: &LogState, id: EntryId) {
    if let Some(last) = &state.last {
        assert_eq!(id.index, last.index + 1, "log indexes are consecutive");
        assert!(
            id.term >= last.term,
            "terms never go backwards: {} after {}",
            id.term,
            last.term
        );
    }
}

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

    /// Entries `[from, to)` wherever they are, under the state's lock: truncation only.
    fn collect_entries(&self, state: &LogState, from: u64, to: u64) -> Result<Vec<RawEntry>> {
        let mut out = Vec::new();
        let tail_first = state.tail.first_index().unwrap_or(to).min(to);
        let first = state.purged.map_or(0, |p| p.index + 1);
        if from < tail_first
            && let Some(point) = state.index.at_or_before(from.max(first))
        {
            out = self.read_files(point.position, from, tail_first, usize::MAX)?;
        }
        out.extend((tail_first.max(from)..to).filter_map(|i| state.tail.get(i).cloned()));
        Ok(out)
    }

    /// Entries `[from, to)` from the files, walking on from `position`.
    fn read_files(
        &self,
        position: u64,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<RawEntry>> {
        let mut reader = EntryReader::new(&self.segments, position);
        let mut out: Vec<RawEntry> = Vec::new();
        let mut bytes = 0;
        while out.last().map_or(from, |e| e.header.index + 1) < to {
            let at = reader.position();
            match reader.next()? {
                Found::Entry(entry) if entry.header.index < from => {}
                Found::Entry(entry) => {
                    bytes += entry.bytes.len();
                    if bytes > max_bytes && !out.is_empty() {
                        break;
                    }
                    out.push(entry);
                }
                Found::Nothing => {
                    return Err(StoreError::corrupt(
                        format!("log at {at}"),
                        format!("entries {from}..{to} are missing or damaged"),
                    ));
                }
            }
        }
        Ok(out)
    }

    /// Writes the sparse index of the segments touched since the last time, then the checkpoint.
    fn save_checkpoint(&self) -> Result<()> {
        let mut checkpoint_base = self.checkpoint_lock.lock();
        let durable = self.progress.durable.load(Ordering::Acquire);
        let (mark, files) = {
            let state = self.state.lock();
            if state.purged.is_some_and(|p| p.position > durable) {
                return Ok(());
            }
            let Some(mark) = state.checkpoint_at(durable) else {
                return Ok(());
            };
            let since = *checkpoint_base;
            let bases = self
                .segments
                .bases()
                .into_iter()
                .filter(|base| *base <= mark.position);
            let touched = bases.filter(|base| *base >= since || !self.has_index(*base));
            let end = mark.position + 1;
            let files: Vec<_> = touched
                .map(|base| (base, state.index.encode_segment(base, end)))
                .collect();
            (mark, files)
        };
        for (base, content) in files {
            let path = self.segments.index_path(base);
            self.fs
                .replace(&path, &content)
                .map_err(|e| StoreError::io(format!("write {}", path.display()), e))?;
        }
        mark.save(self.fs.as_ref(), &self.checkpoint_path())?;
        *checkpoint_base = mark.position / self.segments.size() * self.segments.size();
        Ok(())
    }

    fn has_index(&self, base: u64) -> bool {
        self.fs.exists(&self.segments.index_path(base))
    }
}
