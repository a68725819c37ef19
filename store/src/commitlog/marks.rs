//! The three small files beside the segments, each replaced whole:
//! `checkpoint` (where the next start begins to check), `log_start` (what is purged) and `anchor` (where an
//! installed snapshot lets the log begin anew).

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;

/// A place between two entries, and what the entry before it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Index of the entry before.
    pub index: u64,
    /// Term of the entry before.
    pub term: u64,
    /// Position after it.
    pub position: u64,
    /// Its CRC, which the next entry repeats.
    pub crc: u32,
    /// Timestamp of the last message up to here.
    pub store_timestamp: i64,
}

impl Mark {
    /// A line of JSON and its checksum.
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{json}\n{:08x}\n", crc32c::crc32c(json.as_bytes())).into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Mark> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (json, crc) = text.split_once('\n')?;
        let crc = u32::from_str_radix(crc.trim_end(), 16).ok()?;
        (crc == crc32c::crc32c(json.as_bytes()))
            .then(|| serde_json::from_str(json).ok())
            .flatten()
    }

    /// Reads a mark; `None` when there is no such file.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there is one with a bad checksum.
    pub fn load(fs: &dyn FileSystem, path: &Path) -> Result<Option<Mark>> {
        if !fs.exists(path) {
            return Ok(None);
        }
        let bytes = fs
            .read(path)
            .map_err(|e| StoreError::io(format!("read {}", path.display()), e))?;
        let damaged = || StoreError::corrupt(path.display().to_string(), "bad checksum");
        Mark::decode(&bytes).map(Some).ok_or_else(damaged)
    }

    /// Replaces the file, durably.
    pub fn save(&self, fs: &dyn FileSystem, path: &Path) -> Result<()> {
        fs.replace(path, &self.encode())
            .map_err(|e| StoreError::io(format!("replace {}", path.display()), e))
    }
}
