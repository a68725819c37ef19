//! The small files beside the segments. Three are replaced whole: `checkpoint` (where the next start begins to
//! check), `log_start` (what is purged) and `anchor` (where an installed snapshot lets the log begin anew). The fourth,
//! `marker`, is written over in place after every group and never synced: what a process that died had written and
//! fsynced, so that the next one can tell a torn tail from damage.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;

/// A place between two entries, and what the entry before it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mark {
    /// Index of the entry before.
    pub index: u64,
    /// Term of the entry before.
    pub term: u64,
    /// Where it starts, bytes.
    pub start: u64,
    /// Position after it, or where the next segment begins when nothing more fits in its own.
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
        // What follows belongs to a longer mark that this one was written over.
        let crc = u32::from_str_radix(crc.get(..8)?, 16).ok()?;
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

/// Content of the `marker` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marker {
    /// Everything before this position had been written by a process of the boot below.
    pub written: u64,
    /// Everything before this position had been fsynced, whatever boot it was.
    pub durable: u64,
    /// CRC of the kernel's boot id: only in the same boot does the page cache still hold what was written.
    pub boot: u32,
}

/// Bytes of a [`Marker`] on disk: within one sector, so that it is never torn.
const MARKER_LEN: usize = 24;

impl Marker {
    /// For the file.
    pub fn encode(&self) -> [u8; MARKER_LEN] {
        let mut out = [0; MARKER_LEN];
        out[..8].copy_from_slice(&self.written.to_be_bytes());
        out[8..16].copy_from_slice(&self.durable.to_be_bytes());
        out[16..20].copy_from_slice(&self.boot.to_be_bytes());
        let crc = crc32c::crc32c(&out[..20]);
        out[20..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads it back; all zero when it is not whole: the marker only ever adds knowledge.
    pub fn decode(bytes: &[u8]) -> Self {
        let word = |at: usize| u64::from(super::format::read_u32(bytes, at).unwrap_or(0));
        if bytes.len() < MARKER_LEN || word(20) as u32 != crc32c::crc32c(&bytes[..20]) {
            return Self::default();
        }
        Self {
            written: word(0) << 32 | word(4),
            durable: word(8) << 32 | word(12),
            boot: word(16) as u32,
        }
    }

    /// Up to where the log must be readable: less of it is damage, not a torn tail.
    pub fn bound(&self, boot: u32) -> u64 {
        if self.boot == boot {
            self.written.max(self.durable)
        } else {
            self.durable
        }
    }
}

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The id of this boot of the machine; empty where the kernel does not say.
pub fn boot_id() -> String {
    std::fs::read_to_string(BOOT_ID).unwrap_or_default()
}
