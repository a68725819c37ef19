//! Reading the log: entries for replication and apply, stored messages for consumers. Any thread.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::entry_index::POINT_EVERY;
use super::format::{PAD_HEADER_LEN, read_u32};
use super::reader::{EntryReader, Found};
use super::segments::Segment;
use super::tail::RawEntry;
use super::{CommitLog, LogState, Shared};
use crate::error::{Result, StoreError};
use crate::io_error::is_damage;

/// Largest stored message, bytes: a record with a body of 4 MiB and full properties is far below.
const MAX_RECORD_LEN: u32 = 24 * 1024 * 1024;

impl CommitLog {
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

    /// Where the entry `index` ends, or the log, when it has no such entry.
    ///
    /// # Errors
    /// I/O or damage.
    pub fn position_after(&self, index: u64) -> Result<u64> {
        let (purged, last) = self.bounds();
        if purged.is_some_and(|p| index <= p.index) {
            return Ok(self.start());
        }
        if last.is_none_or(|last| last.index <= index) {
            return Ok(self.end());
        }
        let entries = self.read_entries(index, index + 1, 1)?;
        Ok(entries.first().map_or(self.end(), |e| e.end()))
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

    /// The stored message at `position`, `size` bytes, without a copy. What is no longer in the tail is checked and read
    /// into memory first: not for async threads unless [`CommitLog::is_hot`].
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] when that range is not committed or no longer kept; [`StoreError::Corrupt`] when it is
    /// damaged.
    pub fn read_record(&self, position: u64, size: u32) -> Result<Bytes> {
        let committed = self.shared.committed.load(Ordering::Acquire);
        let end = position.saturating_add(u64::from(size));
        if end > committed || size > MAX_RECORD_LEN {
            return Err(self.out_of_range(position));
        }
        if let Some(bytes) = self.shared.tail_slice(position, size as usize)? {
            return Ok(bytes);
        }
        if position < self.start() {
            return Err(self.out_of_range(position));
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
        self.shared.verify(&segment, position)?;
        let viewed = segment.view(position, size as usize);
        viewed.map_err(|error| self.shared.unreadable(position, error))
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

    pub(super) fn out_of_range(&self, position: u64) -> StoreError {
        StoreError::OutOfRange {
            position: position as i64,
            min: self.start() as i64,
            max: self.shared.committed.load(Ordering::Acquire) as i64,
        }
    }
}

impl Shared {
    /// What a failed read of committed bytes is to those who asked: damage of that stretch is noted.
    fn unreadable(&self, position: u64, error: StoreError) -> StoreError {
        if !is_damage(&error) {
            return error;
        }
        self.note_damage(position);
        StoreError::corrupt(format!("log at {position}"), error.to_string())
    }

    /// Up to where the files hold what will not change: what is committed may not be written here yet.
    pub(super) fn readable(&self) -> u64 {
        let committed = self.committed.load(Ordering::Acquire);
        committed.min(self.progress.written.load(Ordering::Acquire))
    }

    /// Up to where nothing changes any more. What is not committed may be truncated this very moment; at a start nothing
    /// is, and nothing is known to be committed.
    pub(super) fn settled(&self) -> u64 {
        match self.readable() {
            0 => self.progress.durable.load(Ordering::Acquire),
            committed => committed,
        }
    }

    /// A record that the tail holds.
    fn tail_slice(&self, position: u64, size: usize) -> Result<Option<Bytes>> {
        let state = self.state.lock();
        let Some(entry) = state.tail.containing(position) else {
            return Ok(None);
        };
        let at = (position - entry.header.position) as usize;
        if at + size > entry.bytes.len() {
            return Err(StoreError::corrupt(
                format!("position {position}"),
                "a record beyond its entry",
            ));
        }
        Ok(Some(entry.bytes.slice(at..at + size)))
    }

    /// Makes sure that the entries around a position have good checksums, once for each stretch of the sparse index.
    fn verify(&self, segment: &Segment, position: u64) -> Result<()> {
        let size = self.segments.size();
        let committed = self.readable();
        let (first, next) = {
            let state = self.state.lock();
            let first = state.index.at_or_before_position(position);
            (first, state.index.after_position(position))
        };
        let Some(first) = first.filter(|p| p.position >= segment.base) else {
            return Err(StoreError::corrupt(
                format!("position {position}"),
                "no entry is known to begin before it in its segment",
            ));
        };
        let nth = (first.position - segment.base) / POINT_EVERY;
        if segment.is_verified(nth) {
            return Ok(());
        }
        // What is not committed may not be written yet, or truncated this very moment.
        let next = next.filter(|p| p.position <= committed);
        let last_of_segment = next.is_some_and(|p| p.position / size != first.position / size);
        let end = match next {
            Some(next) if !last_of_segment => next.position,
            _ => (segment.base + size).min(committed),
        };
        let mut reader = EntryReader::new(&self.segments, first.position);
        while reader.position() < end {
            match reader.next()? {
                Found::Entry(entry) if entry.header.position >= end => break,
                Found::Entry(entry) => {
                    // What follows a good entry may be damaged without harm to it.
                    if entry.header.position <= position && position < entry.end() && next.is_none()
                    {
                        return Ok(());
                    }
                }
                // Beyond a pad: the next segment is not asked about.
                Found::Nothing if reader.position() >= end => break,
                Found::Nothing => {
                    let at = reader.position();
                    self.note_damage(at);
                    if at > position {
                        return Ok(());
                    }
                    return Err(StoreError::corrupt(
                        format!("log at {at}"),
                        "damaged; it is repaired from the other replicas of the set",
                    ));
                }
            }
        }
        if next.is_some() {
            segment.set_verified(nth);
        }
        Ok(())
    }

    /// Entries `[from, to)` wherever they are, under the state's lock: truncation only.
    pub(super) fn collect_entries(
        &self,
        state: &LogState,
        from: u64,
        to: u64,
    ) -> Result<Vec<RawEntry>> {
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
                    let at = reader.position();
                    if at < self.settled() {
                        self.note_damage(at);
                    }
                    return Err(StoreError::corrupt(
                        format!("log at {at}"),
                        format!("entries {from}..{to} are missing or damaged"),
                    ));
                }
            }
        }
        Ok(out)
    }
}
