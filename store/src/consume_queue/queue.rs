//! One queue of one topic.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

use super::{ENTRIES_PER_FILE, ENTRY_LEN};
use crate::error::{Result, StoreError};
use crate::vfs::{File, FileSystem};

/// Where a message of a queue lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueEntry {
    /// Offset in this queue, entries.
    pub queue_offset: i64,
    /// Byte position in the commitlog.
    pub physical_offset: i64,
    /// Bytes of the stored message.
    pub size: u32,
    /// Java hash of the message's tags, 0 without.
    pub tags_code: i64,
}

impl QueueEntry {
    fn encode(&self, out: &mut BytesMut) {
        out.put_i64(self.physical_offset);
        out.put_u32(self.size);
        out.put_i64(self.tags_code);
    }

    /// `None` for a place that was never written.
    fn decode(queue_offset: i64, bytes: &[u8]) -> Option<Self> {
        let size = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
        (size > 0).then_some(Self {
            queue_offset,
            physical_offset: i64::from_be_bytes(bytes.get(..8)?.try_into().ok()?),
            size,
            tags_code: i64::from_be_bytes(bytes.get(12..20)?.try_into().ok()?),
        })
    }
}

/// Files of one queue.
pub struct ConsumeQueue {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    /// By file number; few are ever open, a reader far behind opens one more.
    files: Mutex<Vec<(u64, Arc<dyn File>)>>,
    min: AtomicI64,
    max: AtomicI64,
    /// Entries of the apply batch under way; readers see them after [`ConsumeQueue::flush_staged`].
    staged: Mutex<Vec<QueueEntry>>,
}

/// Descriptors a queue keeps open: the one being written and one being read far behind.
const OPEN_FILES: usize = 2;

fn file_name(number: u64) -> String {
    format!("{:020}", number * ENTRIES_PER_FILE * ENTRY_LEN as u64)
}

impl ConsumeQueue {
    /// Opens the queue in `dir`, which may not exist yet.
    ///
    /// # Errors
    /// I/O.
    pub fn open(fs: Arc<dyn FileSystem>, dir: PathBuf) -> Result<Self> {
        let mut min = 0;
        let mut max = 0;
        if fs.exists(&dir) {
            let names = fs
                .list(&dir)
                .map_err(|e| StoreError::io(format!("list {}", dir.display()), e))?;
            let bases: Vec<u64> = names.iter().filter_map(|n| n.parse().ok()).collect();
            if let (Some(first), Some(last)) = (bases.first(), bases.last()) {
                let path = dir.join(format!("{last:020}"));
                let len = fs.open(&path, false).and_then(|f| f.len());
                let len = len.map_err(|e| StoreError::io(format!("stat {}", path.display()), e))?;
                min = (first / ENTRY_LEN as u64) as i64;
                max = ((last + len) / ENTRY_LEN as u64) as i64;
            }
        }
        Ok(Self {
            fs,
            dir,
            files: Mutex::new(Vec::new()),
            min: AtomicI64::new(min),
            max: AtomicI64::new(max),
            staged: Mutex::new(Vec::new()),
        })
    }

    /// First offset still kept.
    pub fn min(&self) -> i64 {
        self.min.load(Ordering::Acquire)
    }

    /// Offset of the next message.
    pub fn max(&self) -> i64 {
        self.max.load(Ordering::Acquire)
    }

    fn file(&self, number: u64, create: bool) -> Result<Arc<dyn File>> {
        let mut files = self.files.lock();
        if let Some((_, file)) = files.iter().find(|(n, _)| *n == number) {
            return Ok(file.clone());
        }
        let path = self.dir.join(file_name(number));
        let failed = |e| StoreError::io(format!("open {}", path.display()), e);
        if create {
            self.fs.create_dir_all(&self.dir).map_err(failed)?;
        }
        let file = self.fs.open(&path, create).map_err(failed)?;
        if files.len() >= OPEN_FILES {
            files.remove(0);
        }
        files.push((number, file.clone()));
        Ok(file)
    }

    /// Adds an entry to the present batch; true for the batch's first.
    pub fn stage(&self, entry: QueueEntry) -> bool {
        let mut staged = self.staged.lock();
        staged.push(entry);
        staged.len() == 1
    }

    /// Writes what was staged; from now on readers see it.
    ///
    /// # Errors
    /// I/O.
    pub fn flush_staged(&self) -> Result<()> {
        let mut staged = self.staged.lock();
        let written = self.write(&staged);
        staged.clear();
        written
    }

    /// An empty queue whose next message gets offset `next`: after a snapshot.
    ///
    /// # Errors
    /// I/O.
    pub fn start_at(&self, next: i64) -> Result<()> {
        let number = next as u64 / ENTRIES_PER_FILE;
        let len = next as u64 % ENTRIES_PER_FILE * ENTRY_LEN as u64;
        let made = self.file(number, true)?.set_len(len);
        made.map_err(|e| StoreError::io(format!("start consume queue {}", self.dir.display()), e))?;
        self.min.store(next, Ordering::Release);
        self.max.store(next, Ordering::Release);
        Ok(())
    }

    /// Writes consecutive entries at their offsets; entries that are already there are written again alike.
    ///
    /// # Errors
    /// I/O. The queue's end has not moved then.
    pub fn write(&self, entries: &[QueueEntry]) -> Result<()> {
        let mut rest = entries;
        while let Some(first) = rest.first() {
            let number = first.queue_offset as u64 / ENTRIES_PER_FILE;
            let file_end = ((number + 1) * ENTRIES_PER_FILE) as i64;
            let mut run = BytesMut::with_capacity(rest.len() * ENTRY_LEN);
            let mut count = 0;
            for entry in rest {
                if entry.queue_offset != first.queue_offset + count as i64
                    || entry.queue_offset >= file_end
                {
                    break;
                }
                entry.encode(&mut run);
                count += 1;
            }
            let at = (first.queue_offset as u64 % ENTRIES_PER_FILE) * ENTRY_LEN as u64;
            let written = self
                .file(number, true)?
                .write_all_vectored_at(&[Bytes::from(run)], at);
            written.map_err(|e| {
                StoreError::io(format!("write consume queue {}", self.dir.display()), e)
            })?;
            self.max
                .fetch_max(first.queue_offset + count as i64, Ordering::AcqRel);
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Up to `max` entries from `from` on, as far as they are there.
    ///
    /// # Errors
    /// I/O.
    pub fn read(&self, from: i64, max: usize) -> Result<Vec<QueueEntry>> {
        let end = self.max().min(from.saturating_add(max as i64));
        let mut out = Vec::new();
        let mut at = from.max(self.min());
        while at < end {
            let number = at as u64 / ENTRIES_PER_FILE;
            let stop = end.min(((number + 1) * ENTRIES_PER_FILE) as i64);
            let mut buf = vec![0; (stop - at) as usize * ENTRY_LEN];
            let position = (at as u64 % ENTRIES_PER_FILE) * ENTRY_LEN as u64;
            let read = self.file(number, false)?.read_exact_at(&mut buf, position);
            read.map_err(|e| {
                StoreError::io(format!("read consume queue {}", self.dir.display()), e)
            })?;
            let entries = buf.chunks_exact(ENTRY_LEN).enumerate();
            out.extend(entries.filter_map(|(i, bytes)| QueueEntry::decode(at + i as i64, bytes)));
            at = stop;
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::RealFs;

    fn entry(queue_offset: i64) -> QueueEntry {
        QueueEntry {
            queue_offset,
            physical_offset: queue_offset * 100,
            size: 99,
            tags_code: -queue_offset,
        }
    }

    #[test]
    fn written_entries_are_read_back_across_files_and_after_a_restart() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("q");
        let queue = ConsumeQueue::open(Arc::new(RealFs), path.clone()).expect("opens");
        assert_eq!((queue.min(), queue.max()), (0, 0));
        let edge = ENTRIES_PER_FILE as i64 - 2;
        queue
            .write(&(0..edge + 4).map(entry).collect::<Vec<_>>())
            .expect("writes");
        for queue in [
            queue,
            ConsumeQueue::open(Arc::new(RealFs), path).expect("opens"),
        ] {
            assert_eq!(queue.max(), edge + 4);
            assert_eq!(
                queue.read(edge, 10).expect("reads"),
                (edge..edge + 4).map(entry).collect::<Vec<_>>()
            );
            assert_eq!(queue.read(edge + 4, 10).expect("reads"), vec![]);
        }
    }

    #[test]
    fn writing_the_same_entries_again_changes_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let queue = ConsumeQueue::open(Arc::new(RealFs), dir.path().join("q")).expect("opens");
        let entries: Vec<_> = (0..10).map(entry).collect();
        queue.write(&entries).expect("writes");
        queue.write(&entries[3..7]).expect("writes");
        assert_eq!(
            (queue.max(), queue.read(0, 100).expect("reads")),
            (10, entries)
        );
    }
}
