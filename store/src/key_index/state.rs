//! What the index knows in memory: the open run, the run being written, and the files of each segment. Everything
//! here is short work under one lock; nothing here touches a file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::KeyIndexStats;
use super::file::IndexFile;
use super::format::{BLOCK, Entry};

/// When the open run is written.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries.
    pub entries: usize,
    /// Bytes of the log.
    pub bytes: u64,
}

/// Files of a segment of the log.
#[derive(Debug, Default)]
pub struct Segment {
    /// In log order, without overlaps. All of them serve queries, also beside a hole.
    pub files: Vec<Arc<IndexFile>>,
    /// Something is missing.
    pub damaged: bool,
}

impl Segment {
    /// Whether one file is all there is to say.
    pub fn is_sealed(&self) -> bool {
        !self.damaged && self.files.len() == 1 && self.files[0].sealed
    }

    /// The files cover `[from, to)`.
    pub fn covers(&self, from: u64, to: u64) -> bool {
        self.contiguous_from(from).1 >= to
    }

    /// How many files follow each other from `from`, and where they end.
    pub fn contiguous_from(&self, from: u64) -> (usize, u64) {
        let mut end = from;
        for (nth, file) in self.files.iter().enumerate() {
            if file.header.first != end {
                return (nth, end);
            }
            end = file.header.end;
        }
        (self.files.len(), end)
    }
}

/// A run on its way to its file.
pub struct Pending {
    /// First position it covers.
    pub first: u64,
    /// Where it ends.
    pub end: u64,
    /// In log order.
    pub entries: Arc<Vec<Entry>>,
}

/// The next place a query looks at.
pub enum Source {
    /// Positions found in memory, newest first, and the first position that memory covers.
    Memory(Vec<u64>, u64),
    /// A file that may hold some.
    File(Arc<IndexFile>),
}

/// All of it.
pub struct State {
    /// Bytes of a segment.
    pub segment_size: u64,
    /// When the open run is written.
    pub limits: Limits,
    /// First position of the index.
    pub start: u64,
    /// First position of the open run.
    pub first: u64,
    /// All messages before this were added.
    pub upto: u64,
    /// The open run, in log order.
    pub entries: Vec<Entry>,
    /// The run being written; stays when that fails.
    pub pending: Option<Pending>,
    /// By first position.
    pub segments: BTreeMap<u64, Segment>,
    /// Damaged files that queries have taken out, not yet deleted.
    pub doomed: Vec<PathBuf>,
    /// Store time and position of the last message with a key.
    pub last: (i64, u64),
    /// Why nothing can be added any more.
    pub poisoned: Option<String>,
}

impl State {
    /// An empty index that begins at `start`.
    pub fn new(segment_size: u64, limits: Limits, start: u64) -> Self {
        Self {
            segment_size,
            limits,
            start,
            first: start,
            upto: start,
            entries: Vec::new(),
            pending: None,
            segments: BTreeMap::new(),
            doomed: Vec::new(),
            last: (0, 0),
            poisoned: None,
        }
    }

    /// First position of the segment a position lies in.
    pub fn base_of(&self, position: u64) -> u64 {
        position - position % self.segment_size
    }

    /// End of that segment.
    pub fn end_of(&self, position: u64) -> u64 {
        self.base_of(position).saturating_add(self.segment_size)
    }

    /// What the files of a segment have to cover.
    pub fn range_of(&self, base: u64) -> (u64, u64) {
        (base.max(self.start), self.end_of(base))
    }

    /// Everything before this is in files, or in a gap.
    pub fn covered(&self) -> u64 {
        self.pending.as_ref().map_or(self.first, |run| run.first)
    }

    /// Whether the segment is wholly behind the runs being made.
    pub fn is_complete(&self, base: u64) -> bool {
        self.end_of(base) <= self.covered()
    }

    /// Notes that all messages before `position` were added, unless the open run has to be written first: up to
    /// which position, then.
    pub fn advance(&mut self, position: u64) -> Option<u64> {
        if position <= self.upto {
            return None;
        }
        let segment_end = self.end_of(self.first);
        if position >= segment_end {
            return Some(segment_end);
        }
        if self.entries.len() >= self.limits.entries || position - self.first > self.limits.bytes {
            return Some(position);
        }
        self.upto = position;
        None
    }

    /// Whether messages with so many keys that end at `position` may fill the open run.
    pub fn fills(&self, position: u64, keys: usize) -> bool {
        position >= self.end_of(self.first)
            || self.entries.len() + keys >= self.limits.entries
            || position.saturating_sub(self.first) > self.limits.bytes
    }

    /// Takes the open run up to `end` out; it is pending from now on.
    pub fn cut(&mut self, end: u64) {
        let keep = self.entries.partition_point(|e| e.position < end);
        let rest = self.entries.split_off(keep);
        let entries = Arc::new(std::mem::replace(&mut self.entries, rest));
        let first = std::mem::replace(&mut self.first, end);
        self.upto = self.upto.max(end);
        self.pending = Some(Pending {
            first,
            end,
            entries,
        });
    }

    /// Where to look for messages before `before`; `None` when there is nothing more.
    pub fn source(&self, hash: u64, before: u64, begin: i64, end: i64) -> Option<Source> {
        if self.covered() < before {
            let pending = self.pending.iter().flat_map(|run| run.entries.iter());
            let newest_first = self.entries.iter().rev().chain(pending.rev());
            let mut found: Vec<u64> = newest_first
                .filter(|e| e.hash == hash && e.position < before)
                .filter(|e| (begin..=end).contains(&e.timestamp))
                .map(|e| e.position)
                .collect();
            found.dedup();
            return Some(Source::Memory(found, self.covered()));
        }
        for (_, segment) in self.segments.range(..before).rev() {
            let older = segment.files.partition_point(|f| f.header.first < before);
            let mut files = segment.files[..older].iter().rev();
            if let Some(file) = files.find(|f| f.header.overlaps(begin, end)) {
                return Some(Source::File(file.clone()));
            }
        }
        None
    }

    /// Takes a damaged file out; false when it was no longer part of the index.
    pub fn doom(&mut self, file: &IndexFile) -> bool {
        let Some(segment) = self.segments.get_mut(&file.header.base) else {
            return false;
        };
        let Some(nth) = segment.files.iter().position(|f| f.id == file.id) else {
            return false;
        };
        segment.files.remove(nth);
        segment.damaged = true;
        file.mark_removed();
        self.doomed.push(file.path.clone());
        true
    }

    /// Complete segments that lack something.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let damaged = self.segments.iter().filter(|(_, s)| s.damaged);
        let complete = damaged.filter(|(base, _)| self.is_complete(**base));
        complete.map(|(base, _)| self.range_of(*base)).collect()
    }

    /// Complete segments that are not yet one file.
    pub fn unmerged(&self) -> Vec<u64> {
        let whole = self
            .segments
            .iter()
            .filter(|(_, s)| !s.damaged && !s.is_sealed());
        let complete = whole.filter(|(base, _)| self.is_complete(**base));
        complete.map(|(base, _)| *base).collect()
    }

    /// Puts one file in the place of a segment's files and gives those back, marked as removed.
    pub fn seal(&mut self, base: u64, file: Arc<IndexFile>) -> Vec<Arc<IndexFile>> {
        let header = &file.header;
        // A rebuilt gap may hold the last message that has a key.
        if header.count > 0 && header.span.last_position >= self.last.1 {
            self.last = (header.span.last_timestamp, header.span.last_position);
        }
        let segment = self.segments.entry(base).or_default();
        segment.damaged = false;
        let old = std::mem::replace(&mut segment.files, vec![file]);
        old.iter().for_each(|file| file.mark_removed());
        old
    }

    /// Gives up what was not yet in files: nothing before `start` comes any more.
    pub fn skip_to(&mut self, start: u64) {
        if self.first < start {
            self.entries.clear();
            self.first = start;
            self.upto = self.upto.max(start);
        }
        self.pending = self.pending.take().filter(|run| run.first >= start);
    }

    /// Takes out the segments before `start`; their bases and files, marked as removed.
    pub fn drop_before(&mut self, start: u64) -> Vec<(u64, Segment)> {
        let kept = self.segments.split_off(&start);
        let gone = std::mem::replace(&mut self.segments, kept);
        self.start = self.start.max(start);
        for file in gone.values().flat_map(|s| &s.files) {
            file.mark_removed();
        }
        gone.into_iter().collect()
    }

    /// Figures for metrics.
    pub fn stats(&self) -> KeyIndexStats {
        let pending = self.pending.as_ref().map_or(0, |run| run.entries.len());
        let mut stats = KeyIndexStats {
            entries: (self.entries.len() + pending) as u64,
            ..KeyIndexStats::default()
        };
        for file in self.segments.values().flat_map(|s| &s.files) {
            stats.entries += file.header.count;
            stats.files += 1;
            stats.bytes += (file.header.blocks() + 1) * BLOCK as u64;
        }
        stats
    }
}
