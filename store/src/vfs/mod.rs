//! The file-system seam: everything the store does to files goes through [`FileSystem`] and [`File`], so that
//! tests can count, fail and forget writes. [`RealFs`] is the disk; [`FaultyFs`] fails on demand.

mod faulty;
mod real;

pub use faulty::{Fault, FaultyFs};
pub use real::RealFs;

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
    /// Present length, bytes.
    fn len(&self) -> io::Result<u64>;
    /// Sets the length.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// A read-only view of the first `len` bytes.
    fn map(&self, len: u64) -> io::Result<Bytes>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
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
