//! The end of the log in memory: every entry not yet written to its file, and recent ones up to a byte limit.
//! Replication and apply read here; nothing is copied, slices are counted references.

use std::collections::VecDeque;

use bytes::Bytes;

use super::format::Header;

/// An entry with its decoded header.
#[derive(Debug, Clone)]
pub struct RawEntry {
    /// Decoded header.
    pub header: Header,
    /// The whole entry, header included.
    pub bytes: Bytes,
}

impl RawEntry {
    /// Position after its last byte.
    pub fn end(&self) -> u64 {
        self.header.position + u64::from(self.header.size)
    }
}

/// Consecutive entries up to the last one.
#[derive(Debug)]
pub struct Tail {
    entries: VecDeque<RawEntry>,
    bytes: usize,
    limit: usize,
}

impl Tail {
    /// Keeps about `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            limit,
        }
    }

    /// Adds the log's new last entry and lets go of old ones that lie below `written`.
    pub fn push(&mut self, entry: RawEntry, written: u64) {
        self.bytes += entry.bytes.len();
        self.entries.push_back(entry);
        while self.bytes > self.limit && self.entries.len() > 1 {
            match self.entries.front() {
                Some(front) if front.end() <= written => {
                    self.bytes -= front.bytes.len();
                    self.entries.pop_front();
                }
                _ => break,
            }
        }
    }

    /// First index it holds.
    pub fn first_index(&self) -> Option<u64> {
        self.entries.front().map(|e| e.header.index)
    }

    /// First position it holds.
    pub fn first_position(&self) -> Option<u64> {
        self.entries.front().map(|e| e.header.position)
    }

    /// The entry at `index`.
    pub fn get(&self, index: u64) -> Option<&RawEntry> {
        let first = self.first_index()?;
        self.entries
            .get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// The entry whose bytes contain `position`.
    pub fn containing(&self, position: u64) -> Option<&RawEntry> {
        let after = self
            .entries
            .partition_point(|e| e.header.position <= position);
        let entry = self.entries.get(after.checked_sub(1)?)?;
        (position < entry.end()).then_some(entry)
    }

    /// Removes and returns the last entry when its index is greater than `last`.
    pub fn pop_after(&mut self, last: Option<u64>) -> Option<RawEntry> {
        let back = self.entries.back()?;
        if last.is_some_and(|last| back.header.index <= last) {
            return None;
        }
        self.bytes -= back.bytes.len();
        self.entries.pop_back()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}
