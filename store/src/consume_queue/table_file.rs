//! The table file: which entries every queue has, as of an applied entry of the log.
//!
//! ```text
//! table = magic u32 | crc u32 | index u64 | position u64 | log start u64 | topics                (big-endian)
//! topic = name length u16 | name | queues u32 | queues x (id u32 | min i64 | max i64)
//! ```
//!
//! `crc` is CRC32C of everything after it. The file is written whole and replaced; a damaged one counts as none, for
//! queues can be rebuilt from the log and a wrong next offset could not be undone.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut};

use super::MAX_QUEUE_OFFSET;
use crate::commitlog::queue_offsets::MAX_QUEUE_ID;
use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;

/// "CQT1".
const MAGIC: u32 = 0x4351_5431;
const PREFIX_LEN: usize = 8;
/// Largest table read or written, bytes: some fifty million queues.
const MAX_LEN: u64 = 1024 * 1024 * 1024;

/// One queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub topic: Arc<str>,
    pub id: i32,
    pub min: i64,
    pub max: i64,
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// The last entry that is in the queues.
    pub index: u64,
    /// Byte position of the log after it.
    pub position: u64,
    /// Log start the queues were trimmed to.
    pub log_start: u64,
    /// Queues; those of a topic one after the other.
    pub rows: Vec<Row>,
}

impl Image {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.rows.len() * 32);
        out.put_u32(MAGIC);
        out.put_u32(0);
        out.put_u64(self.index);
        out.put_u64(self.position);
        out.put_u64(self.log_start);
        for rows in self.rows.chunk_by(|a, b| a.topic == b.topic) {
            let name = rows[0].topic.as_bytes();
            out.put_u16(name.len() as u16);
            out.put_slice(name);
            out.put_u32(rows.len() as u32);
            for row in rows {
                out.put_u32(row.id as u32);
                out.put_i64(row.min);
                out.put_i64(row.max);
            }
        }
        let crc = crc32c::crc32c(&out[PREFIX_LEN..]);
        out[4..PREFIX_LEN].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// `None` for bytes that are no table.
    fn decode(mut bytes: &[u8]) -> Option<Image> {
        let magic = bytes.try_get_u32().ok()?;
        let crc = bytes.try_get_u32().ok()?;
        if magic != MAGIC || crc != crc32c::crc32c(bytes) {
            return None;
        }
        let mut image = Image {
            index: bytes.try_get_u64().ok()?,
            position: bytes.try_get_u64().ok()?,
            log_start: bytes.try_get_u64().ok()?,
            rows: Vec::new(),
        };
        while !bytes.is_empty() {
            let len = usize::from(bytes.try_get_u16().ok()?);
            let (name, rest) = bytes.split_at_checked(len)?;
            let topic: Arc<str> = Arc::from(std::str::from_utf8(name).ok()?);
            bytes = rest;
            for _ in 0..bytes.try_get_u32().ok()? {
                let row = Row {
                    topic: topic.clone(),
                    id: i32::try_from(bytes.try_get_u32().ok()?).ok()?,
                    min: bytes.try_get_i64().ok()?,
                    max: bytes.try_get_i64().ok()?,
                };
                let sound = row.id <= MAX_QUEUE_ID
                    && (0..=row.max).contains(&row.min)
                    && row.max <= MAX_QUEUE_OFFSET;
                if !sound {
                    return None;
                }
                image.rows.push(row);
            }
        }
        Some(image)
    }

    /// Reads the file; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is damaged; I/O.
    pub fn read(fs: &dyn FileSystem, path: &Path) -> Result<Option<Image>> {
        let failed = |e| StoreError::io(format!("read {}", path.display()), e);
        let file = match fs.open(path, false) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let len = file.len().map_err(failed)?;
        if len > MAX_LEN {
            return Err(StoreError::corrupt(
                path.display().to_string(),
                format!("{len} bytes, more than any table has"),
            ));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        let image = Image::decode(&bytes);
        let damaged = || StoreError::corrupt(path.display().to_string(), "magic, checksum or rows");
        image.map(Some).ok_or_else(damaged)
    }

    /// Replaces the file durably.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] beyond a GiB; I/O, after which the old file or the new one is there.
    pub fn write(&self, fs: &dyn FileSystem, path: &Path) -> Result<()> {
        let bytes = self.encode();
        if bytes.len() as u64 > MAX_LEN {
            return Err(StoreError::TooLarge {
                size: bytes.len(),
                limit: MAX_LEN as usize,
            });
        }
        let replaced = fs.replace(path, &bytes);
        replaced.map_err(|e| StoreError::io(format!("replace {}", path.display()), e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_back_and_any_flipped_bit_is_seen() {
        let row = |topic: &str, id, min, max| Row {
            topic: topic.into(),
            id,
            min,
            max,
        };
        let image = Image {
            index: 7,
            position: 4096,
            log_start: 1024,
            rows: vec![row("a", 0, 0, 0), row("a", 9, 3, 5), row("b", 1, 0, 9)],
        };
        let bytes = image.encode();
        assert_eq!(Image::decode(&bytes), Some(image));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(Image::decode(&damaged), None, "byte {at}");
            assert_eq!(Image::decode(&bytes[..at]), None, "{at} bytes");
        }
    }
}
