//! Damage: ranges of the log that were good once and cannot be read now. Never served, never voted with, and filled
//! again from the other replicas, which have the same bytes at the same positions.
//!
//! A range begins where an entry begins and ends where one begins or its segment ends. What a repair brings proves
//! itself: every checksum, place and link of the chain must be right, so it does not matter who sent it.

use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::format::{Header, PAD_HEADER_LEN, check_entry, pad_header};
use super::reader::{EntryReader, Found};
use super::segments::Segment;
use super::tail::RawEntry;
use super::{CommitLog, LogState, Shared};
use crate::error::{Result, StoreError};
use crate::io_error::is_damage;

/// A damaged range `[from, to)`, byte positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Damage {
    /// Where its first entry begins.
    pub from: u64,
    /// Where the next readable entry begins.
    pub to: u64,
}

impl Damage {
    /// A range.
    pub fn new(from: u64, to: u64) -> Self {
        Self { from, to }
    }
}

/// What the system reads and writes at once, bytes.
const PAGE: u64 = 4096;
/// Ranges kept at most: more of it is a disk to throw away.
const MAX_RANGES: usize = 4096;

impl CommitLog {
    /// What cannot be read, oldest first.
    pub fn damage(&self) -> Vec<Damage> {
        self.shared.damage.lock().clone()
    }

    /// Where the log had to be cut at the last start although what follows had been written: acknowledged entries may
    /// be missing at its end.
    pub fn cut_short(&self) -> bool {
        self.shared.cut_short
    }

    /// Entries from `position` on, where one must begin, to repair another replica: committed ones only, at most
    /// `max_bytes` but at least one.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`], and [`StoreError::Corrupt`] when it is damaged here too.
    pub fn read_range(&self, position: u64, max_bytes: usize) -> Result<Vec<RawEntry>> {
        let committed = self.shared.readable();
        if !(self.start()..committed).contains(&position) || !self.shared.entry_begins(position)? {
            return Err(self.out_of_range(position));
        }
        let mut reader = EntryReader::new(&self.shared.segments, position);
        let mut out = Vec::new();
        let mut bytes = 0;
        while bytes < max_bytes && reader.position() < committed {
            match reader.next()? {
                Found::Entry(entry) if entry.end() <= committed => {
                    bytes += entry.bytes.len();
                    out.push(entry);
                }
                Found::Entry(_) => break,
                Found::Nothing => {
                    self.shared.note_damage(reader.position());
                    break;
                }
            }
        }
        if out.is_empty() {
            return Err(self.out_of_range(position));
        }
        Ok(out)
    }

    /// Writes the entries of a damaged range, or of its beginning, back, durably.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when they are not what was there: nothing is written then; I/O.
    pub fn repair(&self, range: Damage, entries: &[Bytes]) -> Result<()> {
        let bad = |detail: String| {
            StoreError::corrupt(format!("repair of {}..{}", range.from, range.to), detail)
        };
        let Some(segment) = self.shared.segments.containing(range.from) else {
            return Err(self.out_of_range(range.from));
        };
        let end = segment.base + segment.size;
        let mut previous = self.shared.entry_before(range.from)?.map(|e| e.header);
        let mut at = range.from;
        for bytes in entries {
            let header = check_entry(bytes)?;
            if header.position != at || previous.is_some_and(|p| !follows(&p, &header)) {
                return Err(bad(format!(
                    "entry {} does not belong at {at}",
                    header.index
                )));
            }
            at += bytes.len() as u64;
            previous = Some(header);
        }
        let padded = at < range.to && range.to == end;
        if entries.is_empty() || at > range.to {
            return Err(bad(format!("the entries end at {at}")));
        }
        // What follows must be linked to the last of these, as far as it can be read.
        let next = if padded { end } else { at };
        if next == range.to && next < self.end() {
            let mut reader = EntryReader::new(&self.shared.segments, next);
            if let (Found::Entry(entry), Some(last)) = (reader.next()?, previous)
                && !follows(&last, &entry.header)
            {
                let index = entry.header.index;
                return Err(bad(format!("entry {index} does not follow them")));
            }
        }
        let failed = |e| StoreError::io(format!("repair {}..{}", range.from, range.to), e);
        self.shared.clear_bad_edges(&segment, range.from, next)?;
        let written = segment
            .file
            .write_all_vectored_at(entries, range.from - segment.base);
        written.map_err(failed)?;
        if padded && end - at >= PAD_HEADER_LEN as u64 {
            let pad = Bytes::copy_from_slice(&pad_header((end - at) as u32));
            let written = segment
                .file
                .write_all_vectored_at(&[pad], at - segment.base);
            written.map_err(failed)?;
        }
        segment.sync()?;
        segment.forget_verified();
        let covered = next;
        self.shared.index_again(entries);
        // Written anew with the next checkpoint.
        let index = self.shared.segments.index_path(segment.base);
        if self.shared.fs.exists(&index) {
            self.shared.fs.remove_file(&index).map_err(failed)?;
        }
        let mut damage = self.shared.damage.lock();
        for d in damage.iter_mut().filter(|d| d.from >= range.from) {
            d.from = d.from.max(covered.min(d.to));
        }
        damage.retain(|d| d.from < d.to);
        self.shared.save_damage(&damage)?;
        tracing::info!(
            from = range.from,
            to = covered,
            "a damaged range of the log is repaired"
        );
        Ok(())
    }
}

fn follows(previous: &Header, next: &Header) -> bool {
    next.index == previous.index + 1
        && next.previous_crc == previous.crc
        && next.previous == previous.position
        && next.term >= previous.term
}

impl Shared {
    fn damage_path(&self) -> PathBuf {
        self.dir.join("damage")
    }

    pub(super) fn save_damage(&self, damage: &[Damage]) -> Result<()> {
        let json = serde_json::to_vec(damage).map_err(|e| StoreError::Metadata(e.to_string()))?;
        self.fs
            .replace(&self.damage_path(), &json)
            .map_err(|e| StoreError::io("write the damage file", e))
    }

    /// Ranges noted before; an unreadable file is taken for none: what is damaged is found again.
    pub(super) fn load_damage(
        fs: &dyn crate::vfs::FileSystem,
        dir: &std::path::Path,
    ) -> Vec<Damage> {
        let bytes = fs.read(&dir.join("damage")).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Notes that no good entry lies at `at`, which is below the committed end.
    pub(super) fn note_damage(&self, at: u64) {
        let range = {
            let state = self.state.lock();
            if state.purged.is_some_and(|p| at < p.position) || at >= state.end() {
                return;
            }
            self.range_around(&state, at)
        };
        self.add_damage(range);
    }

    pub(super) fn add_damage(&self, range: Damage) {
        let mut damage = self.damage.lock();
        if damage
            .iter()
            .any(|d| d.from <= range.from && range.to <= d.to)
            || damage.len() >= MAX_RANGES
        {
            return;
        }
        tracing::error!(
            from = range.from,
            to = range.to,
            "the log is damaged here: nothing of it is served until it is repaired from another replica"
        );
        damage.retain(|d| d.from < range.from || d.to > range.to);
        damage.push(range);
        damage.sort();
        if let Some(segment) = self.segments.containing(range.from) {
            segment.forget_verified();
        }
        if let Err(error) = self.save_damage(&damage) {
            tracing::warn!(%error, "the damage is not noted on disk; it will be found again");
        }
        drop(damage);
        if let Some(told) = self.progress.damaged.get() {
            told();
        }
    }

    /// Adds repaired entries to the sparse index, which may have been built without them.
    fn index_again(&self, entries: &[Bytes]) {
        let size = self.segments.size();
        let mut points = super::entry_index::EntryIndex::default();
        for header in entries.iter().filter_map(|bytes| Header::decode(bytes)) {
            points.add(header.index, header.position, size);
        }
        self.state.lock().index.merge(&points);
    }

    /// A range widened to where entries surely begin.
    pub(super) fn aligned(&self, range: Damage) -> Damage {
        let state = self.state.lock();
        let first = self.range_around(&state, range.from);
        let last = self.range_around(&state, range.to.saturating_sub(1).max(range.from));
        Damage::new(first.from, last.to)
    }

    /// The range between the index points around a position: that is where entries surely begin.
    fn range_around(&self, state: &LogState, at: u64) -> Damage {
        let size = self.segments.size();
        let base = at / size * size;
        let from = state
            .index
            .at_or_before_position(at)
            .map_or(base, |p| p.position)
            .max(base);
        let end = (base + size).min(state.end());
        let to = state
            .index
            .after_position(at)
            .map_or(end, |p| p.position)
            .min(base + size);
        Damage::new(from, to)
    }

    /// Whether an entry begins at a position below the committed end, as this log itself says: whoever asks for another one
    /// learns nothing of damage here. What cannot be read on the way is noted.
    fn entry_begins(&self, position: u64) -> Result<bool> {
        let from = self.range_around(&self.state.lock(), position).from;
        let mut reader = EntryReader::new(&self.segments, from);
        while reader.position() < position {
            match reader.next()? {
                Found::Entry(entry) if entry.header.position >= position => {
                    return Ok(entry.header.position == position);
                }
                Found::Entry(_) => {}
                Found::Nothing => {
                    self.note_damage(reader.position());
                    return Ok(reader.position() == position);
                }
            }
        }
        Ok(reader.position() == position)
    }

    /// A page that cannot be read cannot be written in part either: the system reads the rest of it first. Where the
    /// edges of `[from, to)` lie in such pages, what these hold beyond it is damaged too: noted, and cleared, so that the
    /// disk finds another place for the page.
    fn clear_bad_edges(&self, segment: &Segment, from: u64, to: u64) -> Result<()> {
        let first = from / PAGE * PAGE;
        let last = to / PAGE * PAGE;
        for (page, beyond) in [(first, first..from), (last, to..last + PAGE)] {
            if beyond.is_empty() || to == segment.base + segment.size && page == last {
                continue;
            }
            match segment.read_at(page, PAGE as usize) {
                Err(error) if is_damage(&error) => {}
                read => {
                    read?;
                    continue;
                }
            }
            if page + PAGE > self.settled() {
                let what = format!("log at {page}");
                return Err(StoreError::corrupt(
                    what,
                    "cannot be read, and is still written to",
                ));
            }
            self.note_damage(beyond.start);
            segment.clear(page, page + PAGE)?;
        }
        Ok(())
    }

    /// The entry that ends where one begins at `position`; `None` when it is not kept or not readable.
    fn entry_before(&self, position: u64) -> Result<Option<RawEntry>> {
        let point = {
            let state = self.state.lock();
            position
                .checked_sub(1)
                .and_then(|p| state.index.at_or_before_position(p))
        };
        let Some(point) = point else { return Ok(None) };
        let mut reader = EntryReader::new(&self.segments, point.position);
        let mut last = None;
        while reader.position() < position {
            match reader.next()? {
                Found::Entry(entry) if entry.header.position < position => last = Some(entry),
                Found::Entry(_) => break,
                Found::Nothing => return Ok(None),
            }
        }
        Ok(last)
    }
}
