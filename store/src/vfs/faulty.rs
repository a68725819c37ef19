//! A file system that fails where a test says so: the n-th write, fsync, allocation or rename.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{File, FileSystem, Space};

/// What fails, counted from the moment the fault is armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The write after `after` good ones fails.
    Write {
        /// Writes that still succeed.
        after: u64,
    },
    /// The fsync after `after` good ones fails.
    Sync {
        /// Fsyncs that still succeed.
        after: u64,
    },
    /// The next allocation fails with "no space left".
    Allocate,
}

/// Wraps a file system; faults are armed with [`FaultyFs::arm`] and fire once.
pub struct FaultyFs {
    inner: Arc<dyn FileSystem>,
    armed: Arc<Mutex<Option<Fault>>>,
}

impl FaultyFs {
    /// No fault armed.
    pub fn new(inner: Arc<dyn FileSystem>) -> Self {
        Self {
            inner,
            armed: Arc::default(),
        }
    }

    /// Arms one fault.
    pub fn arm(&self, fault: Fault) {
        *self.armed.lock() = Some(fault);
    }
}

struct FaultyFile {
    inner: Arc<dyn File>,
    armed: Arc<Mutex<Option<Fault>>>,
}

#[derive(PartialEq)]
enum Op {
    Write,
    Sync,
    Allocate,
}

fn check(armed: &Mutex<Option<Fault>>, op: Op) -> io::Result<()> {
    let mut guard = armed.lock();
    let fires = match (guard.as_mut(), op) {
        (Some(Fault::Write { after }), Op::Write) | (Some(Fault::Sync { after }), Op::Sync) => {
            let now = *after == 0;
            *after = after.saturating_sub(1);
            now
        }
        (Some(Fault::Allocate), Op::Allocate) => true,
        _ => false,
    };
    if fires {
        *guard = None;
        return Err(io::Error::other("injected fault"));
    }
    Ok(())
}

impl FileSystem for FaultyFs {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FaultyFile {
            inner: self.inner.open(path, create)?,
            armed: self.armed.clone(),
        }))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
    fn exists(&self, path: &Path) -> bool {
        self.inner.exists(path)
    }
    fn sync_all(&self, dir: &Path) -> io::Result<()> {
        check(&self.armed, Op::Sync)?;
        self.inner.sync_all(dir)
    }
    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.inner.space(dir)
    }
}

impl File for FaultyFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(buf, offset)
    }
    fn write_all_vectored_at(&self, bufs: &[Bytes], offset: u64) -> io::Result<()> {
        check(&self.armed, Op::Write)?;
        self.inner.write_all_vectored_at(bufs, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        check(&self.armed, Op::Sync)?;
        self.inner.sync_data()
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        check(&self.armed, Op::Allocate)?;
        self.inner.allocate(len)
    }
    fn zero_range(&self, offset: u64, len: u64) -> io::Result<()> {
        check(&self.armed, Op::Write)?;
        self.inner.zero_range(offset, len)
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn map(&self, len: u64) -> io::Result<Bytes> {
        self.inner.map(len)
    }
    fn read_view(&self, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        self.inner.read_view(offset, len)
    }
}
