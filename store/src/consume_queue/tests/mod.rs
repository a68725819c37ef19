//! What the tests share: entries, a temporary table, and a file system that writes down what was done to it and can
//! be full.

mod behind;
mod checkpoints;
mod damage;
mod queues;
mod trims;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Opened, QueueEntry, QueueTable};
use crate::error::{Result, StoreError};
use crate::vfs::{File, FileSystem, RealFs, Space};

fn entry(queue_offset: i64) -> QueueEntry {
    QueueEntry {
        queue_offset,
        physical_offset: queue_offset * 100,
        size: 99,
        tags_code: -queue_offset,
    }
}

fn entries(range: std::ops::Range<i64>) -> Vec<QueueEntry> {
    range.map(entry).collect()
}

fn is_corrupt<T>(result: &Result<T>) -> bool {
    matches!(result, Err(StoreError::Corrupt { .. }))
}

/// Stages entries and publishes them.
fn add(table: &QueueTable, topic: &str, id: i32, range: std::ops::Range<i64>) -> Result<()> {
    let queue = table.get_or_create(topic, id)?;
    range.for_each(|offset| {
        queue.stage(entry(offset));
    });
    table.publish(&mut vec![queue])
}

/// A table's directory below a temporary one.
struct Place {
    temp: tempfile::TempDir,
    fs: TestFs,
}

impl Place {
    fn new() -> Self {
        Self {
            temp: tempfile::tempdir().expect("temp dir"),
            fs: TestFs::default(),
        }
    }

    fn dir(&self) -> PathBuf {
        self.temp.path().join("consumequeue")
    }

    fn open(&self) -> Opened {
        QueueTable::open(Arc::new(self.fs.clone()), self.dir()).expect("opens")
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.dir().join(relative)
    }
}

/// The real file system; keeps the operations that change something or make it durable, paths relative to the table.
#[derive(Clone, Default)]
struct TestFs {
    ops: Arc<Mutex<Vec<String>>>,
    full: Arc<AtomicBool>,
    /// Writes to files of queues.
    writes: Arc<AtomicUsize>,
    sync_fails: Arc<AtomicBool>,
}

impl TestFs {
    fn note(&self, op: &str, path: &Path) {
        let path = path.to_string_lossy();
        let short = path
            .split_once("/consumequeue")
            .map_or(&*path, |(_, rest)| rest.trim_start_matches('/'));
        self.ops.lock().push(format!("{op} {short}"));
    }

    fn take_writes(&self) -> usize {
        self.writes.swap(0, Ordering::Relaxed)
    }

    fn take_ops(&self) -> Vec<String> {
        std::mem::take(&mut *self.ops.lock())
    }

    fn check_sync(&self) -> io::Result<()> {
        match self.sync_fails.load(Ordering::Relaxed) {
            true => Err(io::Error::other("injected fault")),
            false => Ok(()),
        }
    }
}

struct TestFile {
    inner: Arc<dyn File>,
    fs: TestFs,
    path: PathBuf,
}

impl FileSystem for TestFs {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(TestFile {
            inner: RealFs.open(path, create)?,
            fs: self.clone(),
            path: path.to_path_buf(),
        }))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.note("list", dir);
        RealFs.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealFs.create_dir_all(dir)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.note("remove", path);
        RealFs.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir_all(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename", to);
        RealFs.rename(from, to)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealFs.sync_dir(dir)?;
        self.note("sync_dir", dir);
        Ok(())
    }
    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }
    fn sync_all(&self, dir: &Path) -> io::Result<()> {
        self.check_sync()?;
        self.note("sync_all", dir);
        Ok(())
    }
    fn space(&self, dir: &Path) -> io::Result<Space> {
        RealFs.space(dir)
    }
}

impl File for TestFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(buf, offset)
    }
    fn write_all_vectored_at(&self, bufs: &[Bytes], offset: u64) -> io::Result<()> {
        if self.fs.full.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(28));
        }
        if self.path.extension().is_none() {
            self.fs.writes.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.write_all_vectored_at(bufs, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.fs.check_sync()?;
        self.fs.note("sync", &self.path);
        self.inner.sync_data()
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
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
}
