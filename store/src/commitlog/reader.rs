//! Sequential reading of entries from segment files with `pread`: recovery, catch-up of a follower far behind.

use std::sync::Arc;

use bytes::Bytes;

use super::format::{HEADER_LEN, Header, PAD_HEADER_LEN, PAD_MAGIC, check_entry, read_u32};
use super::segments::{Segment, Segments};
use super::tail::RawEntry;
use crate::error::Result;
use crate::io_error::is_damage;

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// What lies at a position.
#[derive(Debug)]
pub enum Found {
    /// A whole entry with a good checksum.
    Entry(RawEntry),
    /// Nothing, or something that is not an entry, or what the disk cannot read: the end, or damage.
    Nothing,
}

/// Walks entries from a position on.
pub struct EntryReader<'a> {
    segments: &'a Segments,
    position: u64,
    segment: Option<Arc<Segment>>,
    chunk: Bytes,
    chunk_at: u64,
    /// Up to here no more is read at once than is asked for: something of it cannot be read.
    careful_until: u64,
}

impl<'a> EntryReader<'a> {
    /// Starts at `position`, which must be where an entry or a pad starts.
    pub fn new(segments: &'a Segments, position: u64) -> Self {
        Self {
            segments,
            position,
            segment: None,
            chunk: Bytes::new(),
            chunk_at: 0,
            careful_until: 0,
        }
    }

    /// Where the next entry is looked for.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next entry, past any pad.
    ///
    /// # Errors
    /// Only I/O that says nothing about these bytes: what is no entry, or cannot be read, is [`Found::Nothing`].
    pub fn next(&mut self) -> Result<Found> {
        let size = self.segments.size();
        loop {
            let left = size - self.position % size;
            if left < PAD_HEADER_LEN as u64 {
                self.position += left;
                continue;
            }
            let Some(head) = self.peek(HEADER_LEN.min(left as usize))? else {
                return Ok(Found::Nothing);
            };
            if read_u32(&head, 0) == Some(PAD_MAGIC) {
                if read_u32(&head, 4) != Some(left as u32) {
                    return Ok(Found::Nothing);
                }
                self.position += left;
                continue;
            }
            let Some(header) = Header::decode(&head) else {
                return Ok(Found::Nothing);
            };
            if u64::from(header.size) > left || header.position != self.position {
                return Ok(Found::Nothing);
            }
            let Some(bytes) = self.peek(header.size as usize)? else {
                return Ok(Found::Nothing);
            };
            if check_entry(&bytes).is_err() {
                return Ok(Found::Nothing);
            }
            self.position += u64::from(header.size);
            return Ok(Found::Entry(RawEntry { header, bytes }));
        }
    }

    /// `len` bytes at the present position, without moving on.
    fn peek(&mut self, len: usize) -> Result<Option<Bytes>> {
        let offset = self.position.wrapping_sub(self.chunk_at) as usize;
        if self.position >= self.chunk_at && offset + len <= self.chunk.len() {
            return Ok(Some(self.chunk.slice(offset..offset + len)));
        }
        let here = |s: &Arc<Segment>| s.base <= self.position && self.position < s.base + s.size;
        if !self.segment.as_ref().is_some_and(here) {
            self.segment = self.segments.containing(self.position);
        }
        let Some(segment) = &self.segment else {
            return Ok(None);
        };
        let left = (segment.base + segment.size - self.position) as usize;
        let ahead = match self.position < self.careful_until {
            true => len,
            false => len.max(CHUNK),
        };
        let mut read = segment.read_at(self.position, ahead.min(left));
        if ahead > len && read.as_ref().is_err_and(is_damage) {
            // What is asked for may lie before the bad sector.
            self.careful_until = self.position + ahead as u64;
            read = segment.read_at(self.position, len.min(left));
        }
        self.chunk = match read {
            Ok(bytes) => bytes.into(),
            Err(error) if is_damage(&error) => {
                tracing::warn!(%error, "a part of the log cannot be read");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.chunk_at = self.position;
        Ok((self.chunk.len() >= len).then(|| self.chunk.slice(..len)))
    }
}
