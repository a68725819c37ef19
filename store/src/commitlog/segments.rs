//! The segment files: RocketMQ's `MappedFileQueue`. All have one size, named by their first byte's position.
//!
//! The next file is made and allocated before it is needed, so that an append neither waits for the file system nor
//! meets a full disk half-way; files that retention gave up are unlinked apart from the storage thread.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::damage::Damage;
use super::format::{parse_segment_name, segment_name};
use crate::error::{Result, StoreError};
use crate::io_error::is_damage;
use crate::mapped;
use crate::sabotage::sync_data;
use crate::vfs::{File, FileSystem};

/// Bytes zeroed at once.
const ZEROS: usize = 256 * 1024;

/// One file of the commitlog.
pub struct Segment {
    /// Position of its first byte.
    pub base: u64,
    /// Its length, bytes.
    pub size: u64,
    /// Its one descriptor.
    pub file: Arc<dyn File>,
    /// Whether an fsync of it has failed: what the disk holds is unknown then, and no later fsync says anything.
    unsynced: Mutex<bool>,
    map: OnceLock<Bytes>,
    /// One bit a region of the sparse index whose checksums were good when this process read it.
    verified: Vec<AtomicU64>,
}

impl Segment {
    fn new(base: u64, size: u64, file: Arc<dyn File>, regions: u64) -> Arc<Self> {
        let words = (size / regions / 64 + 1) as usize;
        Arc::new(Self {
            base,
            size,
            file,
            unsynced: Mutex::new(false),
            map: OnceLock::new(),
            verified: (0..words).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// A counted reference to bytes at a position, without a copy, read into memory.
    ///
    /// # Errors
    /// I/O.
    pub fn view(&self, position: u64, len: usize) -> Result<Bytes> {
        let failed = |e| StoreError::io(format!("read {len} bytes at {position}"), e);
        let at = position - self.base;
        if let Some(view) = self.file.read_view(at, len).map_err(failed)? {
            return Ok(view);
        }
        let at = at as usize;
        let slice = self.map()?.slice(at..at + len);
        mapped::make_resident(&slice).map_err(failed)?;
        Ok(slice)
    }

    fn map(&self) -> Result<&Bytes> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let mapped = self.file.map(self.size);
        let map = mapped
            .map_err(|e| StoreError::io(format!("map segment {}", segment_name(self.base)), e))?;
        Ok(self.map.get_or_init(|| map))
    }

    /// Reads bytes at a position of the log, which must lie in this segment.
    ///
    /// # Errors
    /// I/O.
    pub fn read_at(&self, position: u64, len: usize) -> Result<Vec<u8>> {
        let mut buf = vec![0; len];
        let read = self.file.read_exact_at(&mut buf, position - self.base);
        read.map_err(|e| StoreError::io(format!("read {len} bytes at {position}"), e))?;
        Ok(buf)
    }

    /// Makes what was written durable. One at a time, and never again after a failure: the kernel tells of a failed
    /// write-back once, and the next fsync of the same descriptor succeeds without it.
    ///
    /// # Errors
    /// I/O, this time or an earlier one.
    pub fn sync(&self) -> Result<()> {
        let mut unsynced = self.unsynced.lock();
        if *unsynced {
            let what = format!("an earlier fdatasync of segment {} failed", self.base);
            return Err(StoreError::Poisoned(what));
        }
        let synced = sync_data(self.file.as_ref());
        *unsynced = synced.is_err();
        synced.map_err(|e| StoreError::io(format!("fdatasync segment {}", self.base), e))
    }

    /// Whether the `nth` region was found good.
    pub fn is_verified(&self, nth: u64) -> bool {
        let word = self.verified.get((nth / 64) as usize);
        word.is_some_and(|w| w.load(Ordering::Relaxed) & (1 << (nth % 64)) != 0)
    }

    /// Notes that the `nth` region is good.
    pub fn set_verified(&self, nth: u64) {
        if let Some(word) = self.verified.get((nth / 64) as usize) {
            word.fetch_or(1 << (nth % 64), Ordering::Relaxed);
        }
    }

    /// Forgets what was found good: the file is not to be trusted, or was repaired.
    pub fn forget_verified(&self) {
        self.verified
            .iter()
            .for_each(|w| w.store(0, Ordering::Relaxed));
    }

    /// Makes `[from, to)` read as zeros: nothing of a truncated entry may come back.
    pub(super) fn clear(&self, from: u64, to: u64) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        match self.file.zero_range(from - self.base, to - from) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Unsupported => self.zero(from, to),
            Err(e) => Err(StoreError::io(format!("clear {from}..{to}"), e)),
        }
    }

    /// As [`Segment::clear`], for the whole rest of the file at a start; where there is no short way, up to the first
    /// megabyte of zeros: a segment is written front to back.
    pub(super) fn clear_rest(&self, from: u64) -> Result<()> {
        const CHUNK: u64 = 1024 * 1024;
        let end = self.base + self.size;
        if from >= end || self.file.zero_range(from - self.base, end - from).is_ok() {
            return Ok(());
        }
        let mut at = from;
        while at < end {
            let len = (end - at).min(CHUNK);
            match self.read_at(at, len as usize) {
                Ok(bytes) if bytes.iter().all(|b| *b == 0) => return Ok(()),
                Err(error) if !is_damage(&error) => return Err(error),
                // What cannot be read is written over.
                Ok(_) | Err(_) => {}
            }
            self.zero(at, at + len)?;
            at += len;
        }
        Ok(())
    }

    /// Writes zeros.
    fn zero(&self, from: u64, to: u64) -> Result<()> {
        let zeros = Bytes::from(vec![0; ZEROS]);
        let mut at = from;
        while at < to {
            let len = (to - at).min(ZEROS as u64);
            let written = self
                .file
                .write_all_vectored_at(&[zeros.slice(..len as usize)], at - self.base);
            written.map_err(|e| StoreError::io(format!("clear {len} bytes at {at}"), e))?;
            at += len;
        }
        Ok(())
    }
}

/// All segments, oldest first.
pub struct Segments {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    size: u64,
    /// Bytes of a region that is verified at once.
    region: u64,
    list: RwLock<Vec<Arc<Segment>>>,
    /// Held while a file is made: by the storage thread, or by the keeper ahead of it.
    making: Mutex<()>,
    /// Names taken out of the list whose files are still to be unlinked, in order.
    doomed: Mutex<Vec<u64>>,
    /// Zeros are written to a new file, so that no later fsync has to turn unwritten extents into written ones.
    warm: bool,
}

/// What opening the directory found.
pub struct Opened {
    /// The files.
    pub segments: Segments,
    /// Ranges that a missing or short file leaves without their bytes; beyond the log's end they mean nothing.
    pub damage: Vec<Damage>,
}

impl Segments {
    /// Opens the files in `dir`, of a log that starts at `start`: files before it are what an interrupted purge left.
    /// Missing files are made anew and short ones extended, both with zeros.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a file at an impossible position or of a greater length; I/O.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        dir: PathBuf,
        size: u64,
        region: u64,
        start: u64,
        warm: bool,
    ) -> Result<Opened> {
        fs.make_dir(&dir)
            .map_err(|e| StoreError::io(format!("make {}", dir.display()), e))?;
        let names = fs
            .list(&dir)
            .map_err(|e| StoreError::io(format!("list {}", dir.display()), e))?;
        let segments = Self {
            fs,
            dir,
            size,
            region,
            list: RwLock::new(Vec::new()),
            making: Mutex::new(()),
            doomed: Mutex::new(Vec::new()),
            warm,
        };
        let mut damage = Vec::new();
        let mut list: Vec<Arc<Segment>> = Vec::new();
        let mut next = start / size * size;
        for base in names.iter().filter_map(|n| parse_segment_name(n)) {
            if base % size != 0 {
                return Err(StoreError::corrupt(
                    segments.path(base).display().to_string(),
                    format!("segments start at multiples of {size}"),
                ));
            }
            if base + size <= start {
                segments.doomed.lock().push(base);
                continue;
            }
            while next < base {
                damage.push(Damage::new(next, next + size));
                list.push(segments.make(next)?);
                next += size;
            }
            let (segment, len) = segments.open_one(base)?;
            if len < size {
                damage.push(Damage::new(base + len, base + size));
            }
            list.push(segment);
            next = base + size;
        }
        *segments.list.write() = list;
        segments.unlink_doomed()?;
        Ok(Opened { segments, damage })
    }

    fn open_one(&self, base: u64) -> Result<(Arc<Segment>, u64)> {
        let path = self.path(base);
        let failed = |e| StoreError::io(format!("open {}", path.display()), e);
        let file = self.fs.open(&path, false).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        if len > self.size {
            return Err(StoreError::corrupt(
                path.display().to_string(),
                format!("{len} bytes, not {}", self.size),
            ));
        }
        if len < self.size {
            file.allocate(self.size).map_err(failed)?;
        }
        Ok((Segment::new(base, self.size, file, self.region), len))
    }

    fn path(&self, base: u64) -> PathBuf {
        self.dir.join(segment_name(base))
    }

    /// Bytes in each file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The segment a position lies in.
    pub fn containing(&self, position: u64) -> Option<Arc<Segment>> {
        let list = self.list.read();
        let first = list.first()?.base;
        let nth = position.checked_sub(first)? / self.size;
        list.get(usize::try_from(nth).ok()?).cloned()
    }

    /// Forgets of every segment what was found good.
    pub fn forget_verified(&self) {
        self.list.read().iter().for_each(|s| s.forget_verified());
    }

    /// Base positions, oldest first; the last may be a file made ahead.
    pub fn bases(&self) -> Vec<u64> {
        self.list.read().iter().map(|s| s.base).collect()
    }

    /// First position of the first file.
    pub fn first_base(&self) -> Option<u64> {
        self.list.read().first().map(|s| s.base)
    }

    /// The segment for writing at `position`, made and allocated when it is the next one.
    ///
    /// # Errors
    /// [`StoreError::Io`], "no space left" among them; nothing has changed then.
    pub fn ensure(&self, position: u64) -> Result<Arc<Segment>> {
        if let Some(segment) = self.containing(position) {
            return Ok(segment);
        }
        let _making = self.making.lock();
        // The keeper may have made it meanwhile.
        if let Some(segment) = self.containing(position) {
            return Ok(segment);
        }
        let segment = self.make(position / self.size * self.size)?;
        let mut list = self.list.write();
        if let Some(last) = list.last() {
            assert_eq!(
                last.base + self.size,
                segment.base,
                "segments are made one after the other"
            );
        }
        list.push(segment.clone());
        Ok(segment)
    }

    fn make(&self, base: u64) -> Result<Arc<Segment>> {
        let path = self.path(base);
        let failed = |e| StoreError::io(format!("make segment {}", path.display()), e);
        let file = self.fs.open(&path, true).map_err(failed)?;
        if let Err(error) = file.allocate(self.size) {
            // An empty name is no segment: what could not be allocated must not be taken for a truncated file.
            drop(file);
            let removed = self.fs.remove_file(&path);
            if let Err(second) = removed {
                tracing::warn!(error = %second, path = %path.display(), "cannot remove a file that could not be allocated");
            }
            return Err(failed(error));
        }
        let segment = Segment::new(base, self.size, file, self.region);
        if self.warm {
            segment.zero(base, base + self.size)?;
            segment.file.sync_data().map_err(failed)?;
        }
        self.fs.sync_dir(&self.dir).map_err(failed)?;
        Ok(segment)
    }

    /// Fsyncs `[from, to)` as far as there are files; returns up to where. What is purged need not be synced any more.
    ///
    /// # Errors
    /// I/O.
    pub fn sync(&self, from: u64, to: u64) -> Result<u64> {
        let mut position = from.max(self.first_base().unwrap_or(0));
        while position < to {
            let Some(segment) = self.containing(position) else {
                break;
            };
            segment.sync()?;
            position = to.min(segment.base + segment.size);
        }
        Ok(position)
    }

    /// Takes segments for which `doomed(base)` holds out of the list; [`Segments::unlink_doomed`] deletes the files.
    pub fn forget(&self, doomed: impl Fn(u64) -> bool) {
        let mut list = self.list.write();
        let mut gone: Vec<u64> = list.iter().map(|s| s.base).filter(|b| doomed(*b)).collect();
        list.retain(|s| !doomed(s.base));
        let oldest_go = match (gone.first(), list.first()) {
            (Some(gone), Some(kept)) => *gone < kept.base,
            _ => true,
        };
        // Old ones oldest first, new ones newest first: a process killed in between leaves no hole.
        if !oldest_go {
            gone.reverse();
        }
        self.doomed.lock().extend(gone);
    }

    /// Deletes the files of forgotten segments.
    ///
    /// # Errors
    /// I/O; what was not deleted is tried again at the next call or start.
    pub fn unlink_doomed(&self) -> Result<()> {
        let _making = self.making.lock();
        let mut doomed = self.doomed.lock();
        if doomed.is_empty() {
            return Ok(());
        }
        while let Some(base) = doomed.first().copied() {
            for path in [self.index_path(base), self.path(base)] {
                if self.fs.exists(&path) {
                    let removed = self.fs.remove_file(&path);
                    removed.map_err(|e| StoreError::io(format!("delete {}", path.display()), e))?;
                }
            }
            doomed.remove(0);
        }
        self.fs
            .sync_dir(&self.dir)
            .map_err(|e| StoreError::io("sync the commitlog directory", e))
    }

    /// Where a segment's sparse index is kept.
    pub fn index_path(&self, base: u64) -> PathBuf {
        self.dir.join(format!("{}.idx", segment_name(base)))
    }
}
