//! Appending: the leader's drafts get their place and stamps, a follower's entries prove that they fit. Called by the Raft
//! core's task alone; the storage thread gets one operation a batch.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::draft::{Draft, Place, Placed};
use super::format::{EntryKind, PAD_HEADER_LEN, pad_header};
use super::tail::RawEntry;
use super::writer::{Done, Op, Write};
use super::{CommitLog, EntryId, LogState, last_timestamp};
use crate::error::{Result, StoreError};

/// Entries being appended by one call; they reach the storage thread as one operation.
pub struct AppendBatch<'a> {
    pub(super) log: &'a CommitLog,
    pub(super) writes: Vec<Write>,
    /// Something in it must survive a power cut whatever the flush mode.
    pub(super) durable: bool,
}
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
        assert!(
            follows(&state, id),
            "indexes are consecutive and terms never go backwards"
        );
        let position = self.place(state.end(), draft.len())?;
        let last = state.last;
        let store_timestamp = now_ms.max(last.map_or(0, |l| l.store_timestamp));
        let place = Place {
            index: id.index,
            term: id.term,
            position,
            previous: last.map_or(position, |l| l.start),
            previous_crc: last.map_or(0, |l| l.crc),
            store_timestamp,
        };
        let (header, bytes, placed) = draft.stamp(place, &mut state.offsets);
        let entry = RawEntry { header, bytes };
        let timestamp = if placed.is_empty() {
            last.map_or(0, |l| l.store_timestamp)
        } else {
            store_timestamp
        };
        self.finish(&mut state, entry.clone(), timestamp);
        Ok((entry, placed))
    }

    /// Appends an entry as a follower: the bytes are written as they came, after they proved to fit. Their checksum was
    /// looked at when they came ([`super::format::check_entry`]).
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the position, the chain or a queue offset contradicts this log: the replica must stop.
    pub fn push_encoded(&mut self, id: EntryId, entry: RawEntry) -> Result<()> {
        let RawEntry { header, bytes } = entry;
        let shared = &self.log.shared;
        let mut state = shared.state.lock();
        if !follows(&state, id) {
            return Err(StoreError::corrupt(
                format!("entry {} of term {} from the leader", id.index, id.term),
                format!(
                    "it does not follow {:?}",
                    state.last.as_ref().map(|l| (l.index, l.term))
                ),
            ));
        }
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
        self.durable |= entry.header.kind == EntryKind::Membership;
        state.note(
            &entry,
            store_timestamp,
            self.log.shared.segments.size(),
            written,
        );
    }

    /// Has the writes done; `done` is told when they are persisted. Small ones are perhaps done by the caller, and then `done`
    /// is told before this returns: see [`super::short_cut`].
    pub fn submit(self, done: Done) {
        let (log, op) = self.operation(done);
        let left = match &log.short_cut {
            Some(short_cut) => short_cut.run(op),
            None => Some(op),
        };
        if let Some(op) = left {
            log.send(op);
        }
    }

    /// As [`Self::submit`], by the storage thread whatever the size: for a `done` with more to do than the caller should.
    pub fn submit_to_thread(self, done: Done) {
        let (log, op) = self.operation(done);
        log.send(op);
    }
}

impl<'a> AppendBatch<'a> {
    fn operation(self, done: Done) -> (&'a CommitLog, Op) {
        let op = Op::Append {
            writes: self.writes,
            end: self.log.end(),
            durable: self.durable,
            done,
        };
        (self.log, op)
    }
}

/// Whether an entry can be the next one: indexes are consecutive, terms never go backwards.
fn follows(state: &LogState, id: EntryId) -> bool {
    state
        .last
        .is_none_or(|last| id.index == last.index + 1 && id.term >= last.term)
}
