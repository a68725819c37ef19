//! A replica's commitlog as it lies on the disk, read without the store: entry by entry, with all checks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use raftmq_store::commitlog::format::{
    Header, PAD_MAGIC, check_entry, parse_segment_name, read_u32,
};

/// Walks the entries of a log from its first segment to the first thing that is no successor of the entry before.
pub struct Walk {
    segments: BTreeMap<u64, PathBuf>,
    /// The segment being read.
    base: u64,
    bytes: Vec<u8>,
    at: usize,
    before: Option<Header>,
}

impl Walk {
    /// Of the replica whose store is in `store`.
    ///
    /// # Errors
    /// The segments cannot be listed.
    pub fn new(store: &Path) -> std::io::Result<Self> {
        let mut segments = BTreeMap::new();
        for file in std::fs::read_dir(store.join("commitlog").join("segments"))? {
            let path = file?.path();
            let name = path.file_name().and_then(|n| n.to_str());
            if let Some(base) = name.and_then(parse_segment_name) {
                segments.insert(base, path);
            }
        }
        let base = segments.keys().next().copied().unwrap_or(0);
        let mut walk = Self {
            segments,
            base,
            bytes: Vec::new(),
            at: 0,
            before: None,
        };
        walk.load()?;
        Ok(walk)
    }

    /// Position of the first entry that is kept.
    pub fn start(&self) -> u64 {
        self.segments.keys().next().copied().unwrap_or(0)
    }

    /// Position of the next entry, or of the end.
    pub fn position(&self) -> u64 {
        self.base + self.at as u64
    }

    fn load(&mut self) -> std::io::Result<()> {
        self.at = 0;
        self.bytes = match self.segments.get(&self.base) {
            Some(path) => std::fs::read(path)?,
            None => Vec::new(),
        };
        Ok(())
    }

    /// The next entry and its bytes.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn next(&mut self) -> std::io::Result<Option<(Header, &[u8])>> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let padded = read_u32(rest, 0) == Some(PAD_MAGIC);
        // An entry may also end exactly where its segment does.
        if (padded || rest.is_empty()) && !self.bytes.is_empty() {
            self.base += self.bytes.len() as u64;
            self.load()?;
        }
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let Some(size) = Header::decode(rest).map(|h| h.size as usize) else {
            return Ok(None);
        };
        let Some(Ok(header)) = rest.get(..size).map(check_entry) else {
            return Ok(None);
        };
        let follows = match &self.before {
            Some(before) => {
                header.index == before.index + 1
                    && header.previous_crc == before.crc
                    && header.term >= before.term
            }
            None => true,
        };
        if header.position != self.position() || !follows {
            return Ok(None);
        }
        let from = self.at;
        self.at += size;
        self.before = Some(header);
        Ok(Some((header, &self.bytes[from..self.at])))
    }
}
