//! The file-system seam: everything the store does to files goes through [`FileSystem`] and [`File`], so that
//! tests can count, fail and forget writes. [`RealFs`] is the disk; [`FaultyFs`] fails on demand;
//! [`SimFs`] is a disk in memory that can be killed and lose power.

mod faulty;
mod real;
mod sim;

pub use faulty::{Fault, FaultyFs};
pub use real::RealFs;
pub use sim::{Crash, FaultOp, SimFs};

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

/// One open file; one long-lived descriptor a file, so that a write error is reported to the fsync that follows.
pub trait File: Send + Sync {
    /// Fills `buf` from `offset` or fails (a short file is an error).
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bufs`, one after the other, from `offset` on.
    fn write_all_vectored_at(&self, bufs: &[Bytes], offset: u64) -> io::Result<()>;
    /// `fdatasync`.
    fn sync_data(&self) -> io::Result<()>;
    /// Reserves `len` bytes on the disk, so that a full disk is an error here and not a fault at write time.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes a range read as zeros, keeping it reserved; `Unsupported` where that has no short way.
    fn zero_range(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Present length, bytes.
    fn len(&self) -> io::Result<u64>;
    /// Sets the length.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// A read-only view of the first `len` bytes.
    fn map(&self, len: u64) -> io::Result<Bytes>;
    /// A copy of a range as it is now, from a file system whose [`File::map`] cannot show later writes; `None` from one
    /// whose map does. A range beyond the end is an error.
    fn read_view(&self, _offset: u64, _len: usize) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Room on a file system, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it, as an unprivileged process may use it.
    pub total: u64,
    /// What is left of that.
    pub available: u64,
}

/// Directories and names.
pub trait FileSystem: Send + Sync {
    /// Opens for reading and writing; makes the file when `create`.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>>;
    /// File and directory names in `dir`, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes `dir` and its parents.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Deletes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Deletes a directory with all that is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Renames; the directory is not synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes created, renamed and deleted names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Whether the path exists.
    fn exists(&self, path: &Path) -> bool;
    /// Makes everything on the file system that holds `dir` durable (`syncfs`).
    fn sync_all(&self, dir: &Path) -> io::Result<()>;
    /// How full the file system that holds `dir` is.
    fn space(&self, dir: &Path) -> io::Result<Space>;

    /// Makes `dir`, and its name durable in its parent.
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        if self.exists(dir) {
            return Ok(());
        }
        self.create_dir_all(dir)?;
        match dir.parent() {
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }

    /// Reads a small file whole.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, false)?;
        let len = file.len()?;
        if len > MAX_SMALL_FILE {
            return Err(io::Error::other(format!(
                "{} has {len} bytes, more than expected",
                path.display()
            )));
        }
        let mut buf = vec![0; len as usize];
        file.read_exact_at(&mut buf, 0)?;
        Ok(buf)
    }

    /// Replaces a small file: written beside it, synced, renamed over it, directory synced.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let temp: PathBuf = path.with_extension("tmp");
        if self.exists(&temp) {
            self.remove_file(&temp)?;
        }
        let file = self.open(&temp, true)?;
        file.write_all_vectored_at(&[Bytes::copy_from_slice(content)], 0)?;
        file.sync_data()?;
        self.rename(&temp, path)?;
        match path.parent() {
            Some(dir) => self.sync_dir(dir),
            None => Ok(()),
        }
    }
}

/// Largest file that [`FileSystem::read`] reads: index and state files stay far below.
const MAX_SMALL_FILE: u64 = 64 * 1024 * 1024;
