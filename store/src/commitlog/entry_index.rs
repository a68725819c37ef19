//! Raft index → byte position, sparse: one point every few KiB. Derived from the log; a copy of each segment's
//! points lies beside it (`<base>.idx`), so that opening a store reads no sealed segment.

use crate::error::{Result, StoreError};

/// Distance between two points, bytes: a lookup reads at most this much and one entry.
pub const POINT_EVERY: u64 = 32 * 1024;
const IDX_MAGIC: u32 = 0x4944_5831;
const IDX_HEADER_LEN: usize = 16;
const POINT_LEN: usize = 12;

/// One known place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Raft index of the entry.
    pub index: u64,
    /// Its byte position.
    pub position: u64,
}

/// The points of all segments, in log order.
#[derive(Debug, Default)]
pub struct EntryIndex {
    points: Vec<Point>,
}

impl EntryIndex {
    /// Notes an appended entry; keeps it when it is the first of a segment or far enough from the last point.
    pub fn add(&mut self, index: u64, position: u64, segment_size: u64) {
        let keep = match self.points.last() {
            Some(last) => {
                position / segment_size != last.position / segment_size
                    || position - last.position >= POINT_EVERY
            }
            None => true,
        };
        if keep {
            self.points.push(Point { index, position });
        }
    }

    /// The nearest point at or before `index`.
    pub fn at_or_before(&self, index: u64) -> Option<Point> {
        let after = self.points.partition_point(|p| p.index <= index);
        after.checked_sub(1).map(|i| self.points[i])
    }

    /// Forgets entries with a greater index than `last` (all, when `None`).
    pub fn truncate_after(&mut self, last: Option<u64>) {
        let keep = last.map_or(0, |last| self.points.partition_point(|p| p.index <= last));
        self.points.truncate(keep);
    }

    /// Forgets points of segments that start before `base`.
    pub fn purge_before(&mut self, base: u64) {
        let first = self.points.partition_point(|p| p.position < base);
        self.points.drain(..first);
    }

    /// The last point at or before a byte position.
    pub fn at_or_before_position(&self, position: u64) -> Option<Point> {
        let after = self.points.partition_point(|p| p.position <= position);
        after.checked_sub(1).map(|i| self.points[i])
    }

    /// Takes in points that may lie between those it has.
    pub fn merge(&mut self, other: &EntryIndex) {
        self.points.extend_from_slice(&other.points);
        self.points.sort_unstable_by_key(|p| p.index);
        self.points.dedup();
    }

    /// The first point beyond a byte position.
    pub fn after_position(&self, position: u64) -> Option<Point> {
        let after = self.points.partition_point(|p| p.position <= position);
        self.points.get(after).copied()
    }

    /// The file beside a segment: its points below `end`.
    pub fn encode_segment(&self, base: u64, end: u64) -> Vec<u8> {
        let from = self.points.partition_point(|p| p.position < base);
        let to = self.points.partition_point(|p| p.position < end);
        let points = &self.points[from..to];
        let mut out = Vec::with_capacity(IDX_HEADER_LEN + points.len() * POINT_LEN);
        out.extend_from_slice(&IDX_MAGIC.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&base.to_be_bytes());
        for point in points {
            out.extend_from_slice(&point.index.to_be_bytes());
            out.extend_from_slice(&((point.position - base) as u32).to_be_bytes());
        }
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Takes in a segment's file.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`]; the caller scans the segment instead.
    pub fn load_segment(&mut self, base: u64, bytes: &[u8]) -> Result<()> {
        let bad = |detail: &str| StoreError::corrupt(format!("index of segment {base}"), detail);
        if bytes.len() < IDX_HEADER_LEN || !(bytes.len() - IDX_HEADER_LEN).is_multiple_of(POINT_LEN)
        {
            return Err(bad("length"));
        }
        let word = |at: usize| super::format::read_u32(bytes, at).unwrap_or(0);
        if word(0) != IDX_MAGIC
            || word(4) != crc32c::crc32c(&bytes[8..])
            || bytes[8..16] != base.to_be_bytes()
        {
            return Err(bad("magic, checksum or base"));
        }
        let mut points = Vec::with_capacity((bytes.len() - IDX_HEADER_LEN) / POINT_LEN);
        for chunk in bytes[IDX_HEADER_LEN..].chunks_exact(POINT_LEN) {
            let mut index = [0; 8];
            index.copy_from_slice(&chunk[..8]);
            let relative = super::format::read_u32(chunk, 8).unwrap_or(0);
            points.push(Point {
                index: u64::from_be_bytes(index),
                position: base + u64::from(relative),
            });
        }
        if points.is_empty() {
            return Err(bad("no points"));
        }
        let before = self.points.last().copied();
        let all = before.iter().chain(&points);
        if !all.is_sorted_by(|a, b| a.index < b.index && a.position < b.position) {
            return Err(bad("points out of order"));
        }
        self.points.append(&mut points);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_point_and_survives_its_file() {
        let mut index = EntryIndex::default();
        for i in 0..1000u64 {
            index.add(i, i * 4096, 1 << 20);
        }
        assert_eq!(index.at_or_before(0).map(|p| p.position), Some(0));
        let point = index.at_or_before(777).expect("a point");
        assert!(point.index <= 777 && 777 * 4096 - point.position < POINT_EVERY);

        let mut again = EntryIndex::default();
        for base in (0..4).map(|s| s << 20) {
            again
                .load_segment(base, &index.encode_segment(base, base + (1 << 20)))
                .expect("loads");
        }
        assert_eq!(index.points, again.points);
        let mut damaged = index.encode_segment(0, 1 << 20);
        damaged[20] ^= 1;
        assert!(again.load_segment(0, &damaged).is_err());
    }

    #[test]
    fn truncation_forgets_what_follows() {
        let mut index = EntryIndex::default();
        for i in 5..100u64 {
            index.add(i, i * 40_000, 1 << 20);
        }
        index.truncate_after(Some(50));
        assert_eq!(index.at_or_before(99).map(|p| p.index), Some(50));
        index.truncate_after(None);
        assert_eq!(index.at_or_before(99), None);
    }
}
