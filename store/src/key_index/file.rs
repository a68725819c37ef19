//! One index file: what is known of it in memory, and its two ways of being read. A [`Scan`] reads all entries in
//! order and checks every byte; it holds one chunk in memory and no descriptor. [`Matches`] finds the entries of
//! one hash with a few reads of one block, newest message first.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::format::{BLOCK, BLOCK_ENTRIES, Entry, Header, check_block};
use crate::error::{Result, StoreError};
use crate::vfs::{File, FileSystem};

/// Extension of a part of a segment.
const RUN: &str = "run";
/// Extension of a whole segment.
const SEALED: &str = "sealed";

/// Tells files apart that have had the same path.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// A file that is whole as far as its header says.
#[derive(Debug)]
pub struct IndexFile {
    /// Unique in this process.
    pub id: u64,
    /// Where it is.
    pub path: PathBuf,
    /// What it says of itself.
    pub header: Header,
    /// Covers its segment to the end, and nothing else is needed for it.
    pub sealed: bool,
    removed: AtomicBool,
}

/// Name of a run.
pub fn run_name(first: u64) -> String {
    format!("{first:020}.{RUN}")
}

/// Name of a whole segment's file.
pub fn sealed_name(first: u64) -> String {
    format!("{first:020}.{SEALED}")
}

/// First position and kind of an index file by its name.
fn parse_name(name: &str) -> Option<(u64, bool)> {
    let (first, kind) = name.split_once('.')?;
    let sealed = match kind {
        SEALED => true,
        RUN => false,
        _ => return None,
    };
    Some((parse_number(first)?, sealed))
}

/// A position in a name: exactly 20 digits.
pub fn parse_number(name: &str) -> Option<u64> {
    let digits = name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| name.parse().ok())?
}

/// Whether the error tells of the file's content, not of the process or the disk as a whole.
pub fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt { .. })
}

impl IndexFile {
    /// A file just written.
    pub fn new(path: PathBuf, header: Header, sealed: bool) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            path,
            header,
            sealed,
            removed: AtomicBool::new(false),
        })
    }

    /// Reads and checks the header of the file `name` in the directory of a segment.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], also for a name that is none of ours; I/O when it cannot be opened.
    pub fn load(
        fs: &dyn FileSystem,
        dir: &Path,
        name: &str,
        base: u64,
        segment_size: u64,
    ) -> Result<Arc<Self>> {
        let path = dir.join(name);
        let what = path.display().to_string();
        let bad = |detail: &str| StoreError::corrupt(what.as_str(), detail);
        let (first, sealed) = parse_name(name).ok_or_else(|| bad("name"))?;
        let file = open(fs, &path)?;
        let mut block = vec![0; BLOCK];
        read(file.as_ref(), &mut block, 0, &what)?;
        let header = Header::decode(&block, &what)?;
        let segment_end = base.saturating_add(segment_size);
        if header.base != base || header.segment_size != segment_size || header.first != first {
            return Err(bad("of another segment or position"));
        }
        if first < base || first >= header.end || header.end > segment_end {
            return Err(bad("range"));
        }
        if sealed && header.end != segment_end {
            return Err(bad("sealed before the end of its segment"));
        }
        let span = &header.span;
        if header.count > 0
            && (span.min > span.max || !(first..header.end).contains(&span.last_position))
        {
            return Err(bad("times or last position"));
        }
        check_len(file.as_ref(), &header, &what)?;
        Ok(Self::new(path, header, sealed))
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is gone, I/O.
    pub fn open(&self, fs: &dyn FileSystem) -> Result<Arc<dyn File>> {
        open(fs, &self.path)
    }

    /// Says that the file is no longer part of the index. Comes before its deletion: whoever then fails to read it
    /// looks for what took its place.
    pub fn mark_removed(&self) {
        self.removed.store(true, Ordering::Release);
    }

    /// Whether it is no longer part of the index.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Reads every entry and checks every checksum.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or I/O.
    pub fn check(self: &Arc<Self>, fs: &dyn FileSystem) -> Result<()> {
        let what = self.path.display().to_string();
        let file = self.open(fs)?;
        let mut block = vec![0; BLOCK];
        read(file.as_ref(), &mut block, 0, &what)?;
        if Header::decode(&block, &what)? != self.header {
            return Err(StoreError::corrupt(what, "another header"));
        }
        check_len(file.as_ref(), &self.header, &what)?;
        let mut scan = Scan::new(self.clone(), 16);
        while scan.next(fs)?.is_some() {}
        Ok(())
    }

    fn what(&self) -> String {
        self.path.display().to_string()
    }

    fn entries_in_block(&self, number: u64) -> usize {
        let before = (number - 1) * BLOCK_ENTRIES as u64;
        (self.header.count - before).min(BLOCK_ENTRIES as u64) as usize
    }
}

fn open(fs: &dyn FileSystem, path: &Path) -> Result<Arc<dyn File>> {
    fs.open(path, false).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            StoreError::corrupt(path.display().to_string(), "is missing")
        }
        _ => StoreError::io(format!("open {}", path.display()), e),
    })
}

fn check_len(file: &dyn File, header: &Header, what: &str) -> Result<()> {
    match file.len() {
        Ok(len) if header.file_len() == Some(len) => Ok(()),
        Ok(len) => Err(StoreError::corrupt(what, format!("length {len}"))),
        Err(error) => Err(StoreError::corrupt(what, error.to_string())),
    }
}

/// A file that cannot be read is as good as a damaged one: the index is derived, the log still has it all.
fn read(file: &dyn File, buf: &mut [u8], at: u64, what: &str) -> Result<()> {
    file.read_exact_at(buf, at)
        .map_err(|e| StoreError::corrupt(what, format!("read at {at}: {e}")))
}

/// All entries of a file in its order.
pub struct Scan {
    file: Arc<IndexFile>,
    chunk: Vec<u8>,
    chunk_blocks: u64,
    /// Entries given so far; with those of the chunk, this tells where in the file the scan is.
    given: u64,
    blocks_read: u64,
    in_chunk: usize,
    crc: u32,
    last: Option<(u64, u64)>,
}

impl Scan {
    /// Reads `chunk_blocks` blocks at once.
    pub fn new(file: Arc<IndexFile>, chunk_blocks: u64) -> Self {
        Self {
            file,
            chunk: Vec::new(),
            chunk_blocks: chunk_blocks.max(1),
            given: 0,
            blocks_read: 0,
            in_chunk: 0,
            crc: 0,
            last: None,
        }
    }

    /// The file read.
    pub fn file(&self) -> &Arc<IndexFile> {
        &self.file
    }

    /// The next entry; `None` after the last, when all checksums were right.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or I/O.
    pub fn next(&mut self, fs: &dyn FileSystem) -> Result<Option<Entry>> {
        let header = &self.file.header;
        if self.given == header.count {
            return match self.crc == header.entries_crc {
                true => Ok(None),
                false => Err(StoreError::corrupt(
                    self.file.what(),
                    "checksum of all entries",
                )),
            };
        }
        if self.in_chunk == self.chunk.len() / BLOCK * BLOCK_ENTRIES {
            self.fill(fs)?;
        }
        let header = &self.file.header;
        let block = &self.chunk[self.in_chunk / BLOCK_ENTRIES * BLOCK..][..BLOCK];
        let (entry, _) = header.decode_entry(block, self.in_chunk % BLOCK_ENTRIES);
        let key = (entry.hash, entry.position);
        if self.last.is_some_and(|last| last >= key)
            || !(header.first..header.end).contains(&entry.position)
        {
            return Err(StoreError::corrupt(self.file.what(), "order of entries"));
        }
        self.last = Some(key);
        self.in_chunk += 1;
        self.given += 1;
        Ok(Some(entry))
    }

    fn fill(&mut self, fs: &dyn FileSystem) -> Result<()> {
        let blocks = (self.file.header.blocks() - self.blocks_read).min(self.chunk_blocks);
        let what = self.file.what();
        self.chunk.resize(blocks as usize * BLOCK, 0);
        let at = (self.blocks_read + 1) * BLOCK as u64;
        read(self.file.open(fs)?.as_ref(), &mut self.chunk, at, &what)?;
        for block in self.chunk.chunks_exact(BLOCK) {
            self.blocks_read += 1;
            check_block(block, self.blocks_read, &what)?;
        }
        self.crc = crc32c::crc32c_append(self.crc, &self.chunk);
        self.in_chunk = 0;
        Ok(())
    }
}

/// Positions with one hash in a file, newest first.
pub struct Matches {
    of: Arc<IndexFile>,
    file: Arc<dyn File>,
    hash: u64,
    block: Vec<u8>,
    /// The block held, from 1; 0 when the search is over.
    number: u64,
    /// Entries of it not yet looked at.
    left: usize,
}

impl Matches {
    /// Looks for the last entry with the hash and a position before `before`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub fn find(of: Arc<IndexFile>, file: Arc<dyn File>, hash: u64, before: u64) -> Result<Self> {
        let mut matches = Self {
            of,
            file,
            hash,
            block: vec![0; BLOCK],
            number: 0,
            left: 0,
        };
        let target = (hash, before);
        // The block sought is the last one that starts before the target: always in [low - 1, high).
        let (mut low, mut high) = (1, matches.of.header.blocks() + 1);
        let (mut low_hash, mut high_hash) = (0, u64::MAX);
        let mut probes = 0;
        while low < high {
            // Hashes are uniform unless many messages share a key: every third probe halves, whatever they are.
            let step = match probes % 3 {
                2 => (high - low) / 2,
                _ => interpolate(hash, low_hash, high_hash, high - low),
            };
            probes += 1;
            let middle = low + step;
            matches.load(middle)?;
            let last = matches.key(matches.left - 1);
            if matches.key(0) >= target {
                high = middle;
                high_hash = matches.key(0).0;
            } else if last < target {
                low = middle + 1;
                low_hash = last.0;
            } else {
                low = middle + 1;
                high = low;
            }
        }
        if low == 1 {
            matches.number = 0;
            return Ok(matches);
        }
        if matches.number != low - 1 {
            matches.load(low - 1)?;
        }
        let (mut from, mut to) = (0, matches.left);
        while from < to {
            let middle = from.midpoint(to);
            if matches.key(middle) < target {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        matches.left = from;
        Ok(matches)
    }

    /// The next older position with a store time in `[begin, end]`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub fn next(&mut self, begin: i64, end: i64) -> Result<Option<u64>> {
        while self.number > 0 {
            if self.left == 0 {
                match self.number - 1 {
                    0 => self.number = 0,
                    previous => self.load(previous)?,
                }
                continue;
            }
            self.left -= 1;
            let (entry, latest) = self.of.header.decode_entry(&self.block, self.left);
            if entry.hash != self.hash {
                self.number = 0;
            } else if entry.timestamp <= end && latest >= begin {
                return Ok(Some(entry.position));
            }
        }
        Ok(None)
    }

    fn key(&self, nth: usize) -> (u64, u64) {
        let (entry, _) = self.of.header.decode_entry(&self.block, nth);
        (entry.hash, entry.position)
    }

    fn load(&mut self, number: u64) -> Result<()> {
        let what = self.of.what();
        let at = number * BLOCK as u64;
        read(self.file.as_ref(), &mut self.block, at, &what)?;
        check_block(&self.block, number, &what)?;
        self.number = number;
        self.left = self.of.entries_in_block(number);
        Ok(())
    }
}

/// Where in `[0, len)` a hash is likely, between two known ones.
fn interpolate(hash: u64, low: u64, high: u64, len: u64) -> u64 {
    let width = u128::from(high.saturating_sub(low)) + 1;
    let guess = u128::from(hash.saturating_sub(low)) * u128::from(len) / width;
    (guess as u64).min(len - 1)
}
