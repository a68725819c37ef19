//! The segment files: RocketMQ's `MappedFileQueue`. All have one size, named by their first byte's position.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::RwLock;

use super::format::{parse_segment_name, segment_name};
use crate::error::{Result, StoreError};
use crate::vfs::{File, FileSystem};

/// One file of the commitlog.
pub struct Segment {
    /// Position of its first byte.
    pub base: u64,
    /// Its length, bytes.
    pub size: u64,
    /// Its one descriptor.
    pub file: Arc<dyn File>,
    map: OnceLock<Bytes>,
}

impl Segment {
    /// A read-only view of the whole file; made at first use.
    pub fn map(&self) -> Result<&Bytes> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let mapped = self.file.map(self.size);
        let map = mapped
            .map_err(|e| StoreError::io(format!("map segment {}", segment_name(self.base)), e))?;
        Ok(self.map.get_or_init(|| map))
    }

    /// Reads bytes at a position of the log, which must lie in this segment.
    pub fn read_at(&self, position: u64, len: usize) -> Result<Vec<u8>> {
        let mut buf = vec![0; len];
        let read = self.file.read_exact_at(&mut buf, position - self.base);
        read.map_err(|e| StoreError::io(format!("read {len} bytes at {position}"), e))?;
        Ok(buf)
    }
}

/// All segments, oldest first.
pub struct Segments {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    size: u64,
    list: RwLock<Vec<Arc<Segment>>>,
}

impl Segments {
    /// Opens the files in `dir`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a segment is missing in the middle or has another length.
    pub fn open(fs: Arc<dyn FileSystem>, dir: PathBuf, size: u64) -> Result<Self> {
        fs.create_dir_all(&dir)
            .map_err(|e| StoreError::io(format!("make {}", dir.display()), e))?;
        let names = fs
            .list(&dir)
            .map_err(|e| StoreError::io(format!("list {}", dir.display()), e))?;
        let mut list: Vec<Arc<Segment>> = Vec::new();
        for base in names.iter().filter_map(|n| parse_segment_name(n)) {
            let path = dir.join(segment_name(base));
            let file = fs
                .open(&path, false)
                .map_err(|e| StoreError::io(format!("open {}", path.display()), e))?;
            let len = file
                .len()
                .map_err(|e| StoreError::io(format!("stat {}", path.display()), e))?;
            let follows = list.last().is_none_or(|last| last.base + size == base);
            if base % size != 0 || !follows {
                return Err(StoreError::corrupt(
                    path.display().to_string(),
                    "does not follow the segment before it",
                ));
            }
            if len != size {
                // Made but not yet allocated when the process died: nothing was ever written to it.
                if len == 0 {
                    file.allocate(size)
                        .map_err(|e| StoreError::io(format!("allocate {}", path.display()), e))?;
                } else {
                    return Err(StoreError::corrupt(
                        path.display().to_string(),
                        format!("{len} bytes, not {size}"),
                    ));
                }
            }
            list.push(Arc::new(Segment {
                base,
                size,
                file,
                map: OnceLock::new(),
            }));
        }
        let list = RwLock::new(list);
        Ok(Self {
            fs,
            dir,
            size,
            list,
        })
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

    /// Base positions, oldest first.
    pub fn bases(&self) -> Vec<u64> {
        self.list.read().iter().map(|s| s.base).collect()
    }

    /// First position of the first file, 0 when there is none.
    pub fn first_base(&self) -> Option<u64> {
        self.list.read().first().map(|s| s.base)
    }

    /// The segment for writing at `position`, made and allocated when it is the next one.
    ///
    /// # Errors
    /// [`StoreError::Io`], "no space left" among them.
    pub fn ensure(&self, position: u64) -> Result<Arc<Segment>> {
        if let Some(segment) = self.containing(position) {
            return Ok(segment);
        }
        let base = position - position % self.size;
        let path = self.dir.join(segment_name(base));
        let failed = |e| StoreError::io(format!("make segment {}", path.display()), e);
        let file = self.fs.open(&path, true).map_err(failed)?;
        file.allocate(self.size).map_err(failed)?;
        self.fs.sync_dir(&self.dir).map_err(failed)?;
        let segment = Arc::new(Segment {
            base,
            size: self.size,
            file,
            map: OnceLock::new(),
        });
        let mut list = self.list.write();
        if let Some(last) = list.last() {
            assert_eq!(
                last.base + self.size,
                base,
                "segments are made one after the other"
            );
        }
        list.push(segment.clone());
        Ok(segment)
    }

    /// Deletes segments for which `doomed(base)` holds: old ones oldest first, new ones newest first, so that a process
    /// killed in between leaves no hole.
    pub fn remove(&self, doomed: impl Fn(u64) -> bool) -> Result<()> {
        let mut gone: Vec<u64> = {
            let mut list = self.list.write();
            let gone = list.iter().map(|s| s.base).filter(|b| doomed(*b)).collect();
            list.retain(|s| !doomed(s.base));
            gone
        };
        let oldest_goes = self
            .first_base()
            .is_none_or(|kept| gone.first().is_some_and(|g| *g < kept));
        if !oldest_goes {
            gone.reverse();
        }
        for base in &gone {
            for path in [self.index_path(*base), self.dir.join(segment_name(*base))] {
                if self.fs.exists(&path) {
                    let removed = self.fs.remove_file(&path);
                    removed.map_err(|e| StoreError::io(format!("delete {}", path.display()), e))?;
                }
            }
        }
        if !gone.is_empty() {
            self.fs
                .sync_dir(&self.dir)
                .map_err(|e| StoreError::io("sync the commitlog directory", e))?;
        }
        Ok(())
    }

    /// Where a segment's sparse index is kept.
    pub fn index_path(&self, base: u64) -> PathBuf {
        self.dir.join(format!("{}.idx", segment_name(base)))
    }
}
