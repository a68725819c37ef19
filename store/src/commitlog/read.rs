//! Reading the log: entries for replication and apply, stored messages for consumers. Any thread.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::format::{PAD_HEADER_LEN, read_u32};
use super::reader::{EntryReader, Found};
use super::tail::RawEntry;
use super::{CommitLog, LogState, Shared};
use crate::error::{Result, StoreError};

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
}

impl Shared {
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
}
