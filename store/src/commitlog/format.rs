//! Every constant of the commitlog on disk. The Raft log is the commitlog: a segment file holds entries back to back.
//!
//! ```text
//! entry  = header (56 bytes) + records
//! header = magic u32 | size u32 | index u64 | term u64 | position u64 | previous position u64
//!        | previous crc u32 | crc u32 | records u32 | kind u8 | reserved [u8; 3]        (big-endian)
//! record = a stored message, as RocketMQ lays it out (clients read it as it lies),
//!        | size u32, COMMAND_MAGIC u32, command bytes
//! pad    = PAD_MAGIC u32 | size u32, to the end of the segment
//! ```
//!
//! `crc` is CRC32C of the header (with the field zero) and the records. `previous crc` chains an entry to the one
//! before it: after a truncation, an old entry that happens to lie at the right place with the right index is
//! still not taken for the successor of a new one. An entry never spans two segments.

use crate::error::{Result, StoreError};

/// "RMQ1": an entry starts here.
pub const ENTRY_MAGIC: u32 = 0x524D_5131;
/// "PAD1": nothing more in this segment.
pub const PAD_MAGIC: u32 = 0x5041_4431;
/// Marks a state change among the records; differs from both message magics of RocketMQ.
pub const COMMAND_MAGIC: u32 = 0x434D_4431;
/// Bytes before the records.
pub const HEADER_LEN: usize = 56;
/// Magic and size of a pad.
pub const PAD_HEADER_LEN: usize = 8;
/// Size and magic of a command record.
pub const COMMAND_HEADER_LEN: usize = 8;
/// Where the magic of a record lies, message or command.
pub const RECORD_MAGIC_AT: usize = 4;
/// Largest entry, bytes: above a whole frame of 16 MiB, so that one request always fits into one entry.
pub const MAX_ENTRY_LEN: usize = 24 * 1024 * 1024;
/// Smallest segment that can be configured, bytes.
pub const MIN_SEGMENT_SIZE: u64 = 64 * 1024;
/// Largest segment, bytes: positions inside a segment fit into 32 bits.
pub const MAX_SEGMENT_SIZE: u64 = 2 * 1024 * 1024 * 1024;
/// The version of this format, fixed for a set when it is created.
pub const FORMAT_VERSION: u32 = 1;

const CRC_AT: usize = 44;

/// What an entry is for Raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// A new leader's first entry.
    Blank = 1,
    /// Messages and commands.
    Normal = 2,
    /// A membership, encoded by the Raft layer, as one opaque record.
    Membership = 3,
}

impl EntryKind {
    fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(EntryKind::Blank),
            2 => Some(EntryKind::Normal),
            3 => Some(EntryKind::Membership),
            _ => None,
        }
    }
}

/// A decoded entry header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Header and records, bytes.
    pub size: u32,
    /// Raft index.
    pub index: u64,
    /// Raft term.
    pub term: u64,
    /// Byte position of this entry in the logical log.
    pub position: u64,
    /// Position of the entry before, or of this one for the first.
    pub previous: u64,
    /// CRC of the entry before; 0 for the first.
    pub previous_crc: u32,
    /// CRC32C of this entry.
    pub crc: u32,
    /// Records in it.
    pub records: u32,
    /// What it is.
    pub kind: EntryKind,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}

/// Big-endian u32 at `at`, or `None` beyond the end.
pub fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    (bytes.len() >= at + 4).then(|| u32_at(bytes, at))
}

impl Header {
    /// Reads a header; `None` when these bytes are not one (wrong magic, impossible size or kind).
    pub fn decode(bytes: &[u8]) -> Option<Header> {
        if bytes.len() < HEADER_LEN || u32_at(bytes, 0) != ENTRY_MAGIC {
            return None;
        }
        let header = Header {
            size: u32_at(bytes, 4),
            index: u64_at(bytes, 8),
            term: u64_at(bytes, 16),
            position: u64_at(bytes, 24),
            previous: u64_at(bytes, 32),
            previous_crc: u32_at(bytes, 40),
            crc: u32_at(bytes, CRC_AT),
            records: u32_at(bytes, 48),
            kind: EntryKind::from_u8(bytes[52])?,
        };
        let size = header.size as usize;
        (HEADER_LEN..=MAX_ENTRY_LEN)
            .contains(&size)
            .then_some(header)
    }

    /// Writes the header into the first [`HEADER_LEN`] bytes of `entry` and computes the CRC over all of `entry`.
    pub fn seal(mut self, entry: &mut [u8]) -> Header {
        entry[0..4].copy_from_slice(&ENTRY_MAGIC.to_be_bytes());
        entry[4..8].copy_from_slice(&self.size.to_be_bytes());
        entry[8..16].copy_from_slice(&self.index.to_be_bytes());
        entry[16..24].copy_from_slice(&self.term.to_be_bytes());
        entry[24..32].copy_from_slice(&self.position.to_be_bytes());
        entry[32..40].copy_from_slice(&self.previous.to_be_bytes());
        entry[40..44].copy_from_slice(&self.previous_crc.to_be_bytes());
        entry[48..52].copy_from_slice(&self.records.to_be_bytes());
        entry[52] = self.kind as u8;
        entry[53..56].fill(0);
        self.crc = compute_crc(entry);
        entry[CRC_AT..CRC_AT + 4].copy_from_slice(&self.crc.to_be_bytes());
        self
    }
}

/// CRC32C of a whole entry, its CRC field counted as zero.
pub fn compute_crc(entry: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&entry[..CRC_AT]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &entry[CRC_AT + 4..])
}

/// Decodes and checks a whole entry.
///
/// # Errors
/// [`StoreError::Corrupt`] naming what does not fit.
pub fn check_entry(entry: &[u8]) -> Result<Header> {
    let Some(header) = Header::decode(entry) else {
        return Err(StoreError::corrupt("log entry", "no entry header"));
    };
    let place = || format!("log entry {} at {}", header.index, header.position);
    if header.size as usize != entry.len() {
        return Err(StoreError::corrupt(
            place(),
            format!("size {} in {} bytes", header.size, entry.len()),
        ));
    }
    let crc = compute_crc(entry);
    if crc != header.crc {
        return Err(StoreError::corrupt(
            place(),
            format!("crc {crc:08x}, header says {:08x}", header.crc),
        ));
    }
    Ok(header)
}

/// One record of a normal entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// A stored message and where it starts, counted from the entry's first byte.
    Message {
        /// Offset in the entry, bytes.
        at: usize,
        /// The record, as clients get it.
        bytes: &'a [u8],
    },
    /// A state change, encoded by [`crate::command`].
    Command(&'a [u8]),
}

/// Walks the records of a normal entry. Ends after the first error.
pub fn records(entry: &[u8]) -> impl Iterator<Item = Result<Record<'_>>> {
    let mut at = HEADER_LEN;
    std::iter::from_fn(move || {
        if at >= entry.len() {
            return None;
        }
        let rest = &entry[at..];
        let size = read_u32(rest, 0).unwrap_or(0) as usize;
        let Some(magic) = read_u32(rest, RECORD_MAGIC_AT) else {
            at = entry.len();
            return Some(Err(StoreError::corrupt(
                "log entry",
                "a record of less than 8 bytes",
            )));
        };
        if size < COMMAND_HEADER_LEN || size > rest.len() {
            at = entry.len();
            return Some(Err(StoreError::corrupt(
                "log entry",
                format!("a record of {size} bytes"),
            )));
        }
        let bytes = &rest[..size];
        let start = at;
        at += size;
        Some(Ok(match magic {
            COMMAND_MAGIC => Record::Command(&bytes[COMMAND_HEADER_LEN..]),
            _ => Record::Message { at: start, bytes },
        }))
    })
}

/// A pad that covers `len` bytes; only its header is written.
pub fn pad_header(len: u32) -> [u8; PAD_HEADER_LEN] {
    let mut pad = [0; PAD_HEADER_LEN];
    pad[..4].copy_from_slice(&PAD_MAGIC.to_be_bytes());
    pad[4..].copy_from_slice(&len.to_be_bytes());
    pad
}

/// File name of the segment that starts at `base`: RocketMQ's 20 digits.
pub fn segment_name(base: u64) -> String {
    format!("{base:020}")
}

/// The base position a segment's name says.
pub fn parse_segment_name(name: &str) -> Option<u64> {
    (name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit()))
        .then(|| name.parse().ok())
        .flatten()
}
