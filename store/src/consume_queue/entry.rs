//! An entry of a queue and its 20 bytes.

use bytes::{BufMut, BytesMut};

use super::ENTRY_LEN;

/// Where a message of a queue lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueEntry {
    /// Offset in this queue, entries.
    pub queue_offset: i64,
    /// Byte position in the commitlog.
    pub physical_offset: i64,
    /// Bytes of the stored message.
    pub size: u32,
    /// Java hash of the message's tags, 0 without.
    pub tags_code: i64,
}

impl QueueEntry {
    /// Appends the stored form.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_i64(self.physical_offset);
        out.put_u32(self.size);
        out.put_i64(self.tags_code);
    }

    /// `None` for a place that was never written, and for bytes that no entry has.
    pub(super) fn decode(queue_offset: i64, bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ENTRY_LEN] = bytes.try_into().ok()?;
        let entry = Self {
            queue_offset,
            physical_offset: i64::from_be_bytes(bytes[..8].try_into().ok()?),
            size: u32::from_be_bytes(bytes[8..12].try_into().ok()?),
            tags_code: i64::from_be_bytes(bytes[12..].try_into().ok()?),
        };
        (entry.size > 0 && entry.physical_offset >= 0).then_some(entry)
    }
}
