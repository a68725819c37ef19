//! Where the index begins, kept in the file `start`: a missing segment at or after it is a gap, one before it was
//! dropped on purpose. The file also says when everything is being dropped, so that a crash in the middle of that
//! leaves no half of the old index.
//!
//! ```text
//! magic u32 | crc u32 (of what follows) | position u64 | dropping u8                 (big-endian)
//! ```

use std::path::Path;

use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;

/// Its name.
pub const START_FILE: &str = "start";
const MAGIC: u32 = 0x4B49_5853;
const LEN: usize = 17;

/// Content of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// First position of the index.
    pub position: u64,
    /// Whatever else is in the directory is of an earlier index.
    pub dropping: bool,
}

impl Start {
    /// Writes it durably.
    ///
    /// # Errors
    /// I/O.
    pub fn store(&self, fs: &dyn FileSystem, dir: &Path) -> Result<()> {
        let mut body = self.position.to_be_bytes().to_vec();
        body.push(u8::from(self.dropping));
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
        out.extend_from_slice(&body);
        let path = dir.join(START_FILE);
        fs.replace(&path, &out)
            .map_err(|e| StoreError::io(format!("write {}", path.display()), e))
    }

    /// `None` when there is none or it is damaged.
    pub fn load(fs: &dyn FileSystem, dir: &Path) -> Option<Self> {
        let path = dir.join(START_FILE);
        if !fs.exists(&path) {
            return None;
        }
        let start = fs.read(&path).ok().and_then(|bytes| Self::decode(&bytes));
        if start.is_none() {
            tracing::warn!("{} is damaged", path.display());
        }
        start
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != LEN
            || bytes[..4] != MAGIC.to_be_bytes()
            || bytes[4..8] != crc32c::crc32c(&bytes[8..]).to_be_bytes()
        {
            return None;
        }
        Some(Start {
            position: u64::from_be_bytes(bytes[8..16].try_into().ok()?),
            dropping: bytes[16] != 0,
        })
    }
}
