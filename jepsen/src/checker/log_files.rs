//! A replica's commitlog as it lies on the disk, read without the store: entry by entry, with all checks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use raftmq_store::commitlog::format::{
    Header, PAD_MAGIC, check_entry, parse_segment_name, read_u32,
};

/// How a log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Only zeros follow.
    Clean,
    /// Something follows that is no successor of the entry before.
    Bad(String),
}

/// Walks the entries of a log from its first segment to its end, or to what is none.
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

    /// The next entry and its bytes; None at the end, which [`Self::end`] tells more about.
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
        let Ok(header) = self.here() else {
            return Ok(None);
        };
        let from = self.at;
        self.at += header.size as usize;
        self.before = Some(header);
        Ok(Some((header, &self.bytes[from..self.at])))
    }

    /// The entry that lies here, or what is wrong with it.
    fn here(&self) -> Result<Header, String> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let size = Header::decode(rest).map(|h| h.size as usize);
        let entry = size.and_then(|size| rest.get(..size));
        let entry = entry.ok_or_else(|| "no header of an entry".to_owned())?;
        let header = check_entry(entry).map_err(|e| e.to_string())?;
        if header.position != self.position() {
            return Err(format!("an entry of position {}", header.position));
        }
        match &self.before {
            Some(before)
                if header.index != before.index + 1
                    || header.previous_crc != before.crc
                    || header.term < before.term =>
            {
                Err(format!(
                    "entry {} of term {} after {} of term {}",
                    header.index, header.term, before.index, before.term
                ))
            }
            _ => Ok(header),
        }
    }

    /// Walks on to the end and tells how the log ends.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn end(&mut self) -> std::io::Result<End> {
        while self.next()?.is_some() {}
        let zeros = |bytes: &[u8]| bytes.iter().all(|b| *b == 0);
        if !zeros(self.bytes.get(self.at..).unwrap_or(&[])) {
            let why = self.here().err().unwrap_or_default();
            return Ok(End::Bad(format!("at {}: {why}", self.position())));
        }
        // Segments are made before they are needed.
        for (base, path) in self.segments.range(self.base + 1..) {
            if !zeros(&std::fs::read(path)?) {
                let why = format!("at {}: nothing, but the segment {base} is not empty", {
                    self.position()
                });
                return Ok(End::Bad(why));
            }
        }
        Ok(End::Clean)
    }
}
