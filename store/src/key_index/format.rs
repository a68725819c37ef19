//! An index file: blocks of 4 KiB, each with its own checksum, so that a lookup trusts no byte it has not checked
//! and still reads only a few blocks.
//!
//! ```text
//! file    = header block | entry blocks
//! block   = 4 080 bytes | block number u64 | 0 u32 | CRC32C u32 of all before it     (big-endian)
//! header  = magic u32 | version u32 | segment base u64 | segment size u64 | first u64 | end u64 | count u64
//!         | min timestamp i64 | max timestamp i64 | last position u64 | last timestamp i64
//!         | CRC32C u32 of all entry blocks | zeros
//! entries = up to 255 of (hash u64 | offset in the segment u32 | ms after the min timestamp u32), zeros
//! ```
//!
//! Entries are sorted by hash, then position, without duplicates. A time too far from the minimum for 32 bits (49
//! days) is stored as `u32::MAX` and stands for all times from there to the maximum: a query by time may find such
//! a message wrongly, but never misses it.

use crate::error::{Result, StoreError};

/// Bytes of a block.
pub const BLOCK: usize = 4096;
/// Bytes of an entry.
pub const ENTRY_LEN: usize = 16;
/// Entries in a full block.
pub const BLOCK_ENTRIES: usize = PAYLOAD / ENTRY_LEN;

const PAYLOAD: usize = BLOCK - 16;
const CRC_AT: usize = BLOCK - 4;
/// "KIX1"
const MAGIC: u32 = 0x4B49_5831;
const VERSION: u32 = 1;

/// One key of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Of topic and key.
    pub hash: u64,
    /// Byte position of the message in the log.
    pub position: u64,
    /// Store time, ms; when read from a file and far from its minimum, only the earliest it can be.
    pub timestamp: i64,
}

/// What an index file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// First position of the segment.
    pub base: u64,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// Every key of the log in `[first, end)` is in the file.
    pub first: u64,
    /// First position the file does not cover.
    pub end: u64,
    /// Entries.
    pub count: u64,
    /// What the entries span.
    pub span: Span,
    /// CRC32C over all entry blocks.
    pub entries_crc: u32,
}

/// Times of a set of entries, ms; meaningless for an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Earliest store time.
    pub min: i64,
    /// Latest store time.
    pub max: i64,
    /// Position of the last message.
    pub last_position: u64,
    /// Its store time.
    pub last_timestamp: i64,
}

impl Span {
    /// Of one entry.
    pub fn of(entry: &Entry) -> Self {
        Span {
            min: entry.timestamp,
            max: entry.timestamp,
            last_position: entry.position,
            last_timestamp: entry.timestamp,
        }
    }

    /// Of both; of the one that is there.
    pub fn join(one: Option<Span>, other: Span) -> Span {
        let Some(one) = one else { return other };
        let last = if other.last_position >= one.last_position {
            other
        } else {
            one
        };
        Span {
            min: one.min.min(other.min),
            max: one.max.max(other.max),
            ..last
        }
    }
}

impl Header {
    /// Entry blocks in the file.
    pub fn blocks(&self) -> u64 {
        self.count.div_ceil(BLOCK_ENTRIES as u64)
    }

    /// Length of the file, bytes; `None` beyond 64 bits.
    pub fn file_len(&self) -> Option<u64> {
        self.blocks().checked_add(1)?.checked_mul(BLOCK as u64)
    }

    /// Whether an entry may have a store time in `[begin, end]`.
    pub fn overlaps(&self, begin: i64, end: i64) -> bool {
        self.count > 0 && self.span.min <= end && self.span.max >= begin
    }

    /// The header block.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK);
        out.extend_from_slice(&MAGIC.to_be_bytes());
        out.extend_from_slice(&VERSION.to_be_bytes());
        for word in [
            self.base,
            self.segment_size,
            self.first,
            self.end,
            self.count,
            self.span.min as u64,
            self.span.max as u64,
            self.span.last_position,
            self.span.last_timestamp as u64,
        ] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&self.entries_crc.to_be_bytes());
        seal_block(&mut out, 0);
        out
    }

    /// Reads a header block; knows nothing yet of where the file lies.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub fn decode(block: &[u8], what: &str) -> Result<Self> {
        check_block(block, 0, what)?;
        if u32_at(block, 0) != MAGIC || u32_at(block, 4) != VERSION {
            return Err(StoreError::corrupt(what, "magic or version"));
        }
        Ok(Header {
            base: u64_at(block, 8),
            segment_size: u64_at(block, 16),
            first: u64_at(block, 24),
            end: u64_at(block, 32),
            count: u64_at(block, 40),
            span: Span {
                min: u64_at(block, 48) as i64,
                max: u64_at(block, 56) as i64,
                last_position: u64_at(block, 64),
                last_timestamp: u64_at(block, 72) as i64,
            },
            entries_crc: u32_at(block, 80),
        })
    }

    /// Puts an entry of this file behind `out`.
    pub fn encode_entry(&self, entry: &Entry, out: &mut Vec<u8>) {
        let after_min = entry.timestamp.abs_diff(self.span.min);
        out.extend_from_slice(&entry.hash.to_be_bytes());
        out.extend_from_slice(&((entry.position - self.base) as u32).to_be_bytes());
        out.extend_from_slice(&u32::try_from(after_min).unwrap_or(u32::MAX).to_be_bytes());
    }

    /// The `nth` entry of a checked block, and the latest its store time can be.
    pub fn decode_entry(&self, block: &[u8], nth: usize) -> (Entry, i64) {
        let at = nth * ENTRY_LEN;
        let after_min = u32_at(block, at + 12);
        let timestamp = self.span.min.saturating_add(i64::from(after_min));
        let latest = match after_min {
            u32::MAX => self.span.max,
            _ => timestamp,
        };
        let entry = Entry {
            hash: u64_at(block, at),
            position: self.base + u64::from(u32_at(block, at + 8)),
            timestamp,
        };
        (entry, latest)
    }
}

/// Fills a block up and puts its number and checksum behind it.
pub fn seal_block(block: &mut Vec<u8>, number: u64) {
    block.resize(PAYLOAD, 0);
    block.extend_from_slice(&number.to_be_bytes());
    block.extend_from_slice(&[0; 4]);
    let crc = crc32c::crc32c(block);
    block.extend_from_slice(&crc.to_be_bytes());
}

/// Whether a block is whole and the one that was asked for.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn check_block(block: &[u8], number: u64, what: &str) -> Result<()> {
    if block.len() != BLOCK
        || u32_at(block, CRC_AT) != crc32c::crc32c(&block[..CRC_AT])
        || u64_at(block, PAYLOAD) != number
    {
        return Err(StoreError::corrupt(
            what,
            format!("checksum or number of block {number}"),
        ));
    }
    Ok(())
}

/// Hash of a key within a topic: FNV-1a, then a finalizer that spreads it over all 64 bits, because the search in a
/// file takes hashes for uniform. Part of the format.
pub fn key_hash(topic: &str, key: &str) -> u64 {
    let bytes = topic.bytes().chain([b'#']).chain(key.bytes());
    let mut hash = bytes.fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^ (hash >> 33)
}

/// The hashes of a message: its unique id and each blank-separated key.
pub fn hashes<'a>(
    topic: &'a str,
    unique: Option<&'a str>,
    keys: Option<&'a str>,
) -> impl Iterator<Item = u64> + 'a {
    let tokens = keys.into_iter().flat_map(|keys| keys.split(' '));
    let all = unique.into_iter().chain(tokens);
    all.filter(|key| !key.is_empty())
        .map(move |key| key_hash(topic, key))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(key_hash("topic", "key"), 0x98CF_EFC9_EF74_D7A3);
        assert_ne!(key_hash("a", "b#c"), key_hash("a#b", "d"));
    }

    #[test]
    fn far_times_are_never_missed() {
        let span = Span {
            min: i64::MIN,
            max: i64::MAX,
            last_position: 70,
            last_timestamp: 0,
        };
        let header = Header {
            base: 64,
            segment_size: 65536,
            first: 64,
            end: 128,
            count: 1,
            span,
            entries_crc: 7,
        };
        assert_eq!(Header::decode(&header.encode(), "h").expect("good"), header);
        for timestamp in [i64::MIN, i64::MIN + 5, 0, i64::MAX] {
            let entry = Entry {
                hash: 9,
                position: 70,
                timestamp,
            };
            let mut block = Vec::new();
            header.encode_entry(&entry, &mut block);
            let (read, latest) = header.decode_entry(&block, 0);
            assert_eq!((read.hash, read.position), (9, 70));
            assert!(read.timestamp <= timestamp && timestamp <= latest);
        }
    }
}
