//! Opening a log: constants, sparse indexes, then every entry from the checkpoint on is read and its checksum,
//! place and chain are checked. The first thing that is no successor of the entry before it is the torn tail of a
//! killed process, and the log ends there. The checkpoint itself must be good: damage below it is not a torn tail.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use parking_lot::Mutex;

use super::entry_index::EntryIndex;
use super::format::{FORMAT_VERSION, MAX_SEGMENT_SIZE, MIN_SEGMENT_SIZE};
use super::marks::Mark;
use super::queue_offsets::QueueOffsets;
use super::reader::{EntryReader, Found};
use super::segments::Segments;
use super::tail::Tail;
use super::thread::{flusher_loop, storage_loop};
use super::vote::VoteFile;
use super::writer::{Op, Progress, SegmentWriter};
use super::{CommitLog, LogOptions, LogState, Shared, TAIL_BYTES, Threads, last_timestamp};
use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;

impl CommitLog {
    /// Opens or makes the log in `dir` and starts its two threads.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the directory was made with another segment size or format, I/O, damage.
    pub fn open(fs: Arc<dyn FileSystem>, dir: PathBuf, options: &LogOptions) -> Result<CommitLog> {
        check_constants(fs.as_ref(), &dir, options.segment_size)?;
        let segments = Arc::new(Segments::open(
            fs.clone(),
            dir.join("segments"),
            options.segment_size,
        )?);
        let progress = Arc::new(Progress::default());
        let vote = VoteFile::open(fs.as_ref(), &dir.join("vote"))?;
        let saved_vote = vote.current().map(<[u8]>::to_vec);

        let state = recover(fs.as_ref(), &dir, &segments)?;
        let end = state.end();
        progress.written.store(end, Ordering::Release);
        let first = segments.first_base().unwrap_or(0);
        progress.durable.store(first, Ordering::Release);

        let shared = Arc::new(Shared {
            fs: fs.clone(),
            segments: segments.clone(),
            state: Mutex::new(state),
            progress: progress.clone(),
            committed: AtomicU64::new(0),
            checkpoint_lock: Mutex::new(0),
            dir: dir.clone(),
        });
        // What a killed process left in the page cache is made durable before anything builds on it.
        shared.flush_written()?;

        let writer = SegmentWriter::new(fs, segments, vote, &dir, options.flush, progress);
        let (ops, ops_rx) = channel::<Op>();
        let (stop_flusher, stop_rx) = channel();
        let failed = |e| StoreError::io("start a storage thread", e);
        let lock = shared.clone();
        let storage = std::thread::Builder::new()
            .name("storage".into())
            .spawn(move || storage_loop(writer, &ops_rx, &lock.checkpoint_lock))
            .map_err(failed)?;
        let flush = shared.clone();
        let interval = options.flush_interval;
        let flusher = std::thread::Builder::new()
            .name("flusher".into())
            .spawn(move || flusher_loop(&flush, &stop_rx, interval))
            .map_err(failed)?;
        let threads = Threads {
            ops: ops.clone(),
            stop_flusher,
            storage,
            flusher,
        };
        Ok(CommitLog {
            shared,
            threads: Arc::new(Mutex::new(Some(threads))),
            ops,
            vote: Arc::new(Mutex::new(saved_vote)),
        })
    }

    /// Rebuilds the next queue offsets: `consumed` tells them as of the entry `applied`; the entries after it are
    /// read from the log.
    ///
    /// # Errors
    /// I/O or damage in that range.
    pub fn rebuild_offsets(&self, applied: Option<u64>, consumed: QueueOffsets) -> Result<()> {
        let (first, last) = {
            let mut state = self.shared.state.lock();
            state.offsets = consumed;
            let Some(last) = state.last else {
                return Ok(());
            };
            let floor = state.purged.map_or(0, |p| p.index + 1);
            (applied.map_or(0, |a| a + 1).max(floor), last.index)
        };
        let mut next = first;
        while next <= last {
            let entries = self.read_entries(next, last + 1, REBUILD_CHUNK)?;
            let Some(newest) = entries.last() else {
                return Err(StoreError::corrupt(
                    "log",
                    format!("no entry {next} while it ends at {last}"),
                ));
            };
            next = newest.header.index + 1;
            let mut state = self.shared.state.lock();
            for entry in &entries {
                state.offsets.adopt(&entry.header, &entry.bytes)?;
            }
        }
        Ok(())
    }
}

/// Bytes read at once while offsets are rebuilt.
const REBUILD_CHUNK: usize = 8 * 1024 * 1024;

fn check_constants(fs: &dyn FileSystem, dir: &std::path::Path, segment_size: u64) -> Result<()> {
    if !(MIN_SEGMENT_SIZE..=MAX_SEGMENT_SIZE).contains(&segment_size) {
        return Err(StoreError::Refused(format!(
            "mappedFileSizeCommitLog={segment_size} is not in {MIN_SEGMENT_SIZE}..={MAX_SEGMENT_SIZE}"
        )));
    }
    fs.create_dir_all(dir)
        .map_err(|e| StoreError::io(format!("make {}", dir.display()), e))?;
    let path = dir.join("format");
    let wanted = format!("version={FORMAT_VERSION}\nmappedFileSizeCommitLog={segment_size}\n");
    if !fs.exists(&path) {
        return fs
            .replace(&path, wanted.as_bytes())
            .map_err(|e| StoreError::io("write the format file", e));
    }
    let found = fs
        .read(&path)
        .map_err(|e| StoreError::io("read the format file", e))?;
    if found != wanted.as_bytes() {
        return Err(StoreError::Refused(format!(
            "{} was made with other constants ({}), this configuration says ({}); they are fixed when a set is created",
            dir.display(),
            String::from_utf8_lossy(&found).trim().replace('\n', ", "),
            wanted.trim().replace('\n', ", ")
        )));
    }
    Ok(())
}

fn recover(fs: &dyn FileSystem, dir: &std::path::Path, segments: &Segments) -> Result<LogState> {
    let purged = Mark::load(fs, &dir.join("log_start"))?;
    let checkpoint = Mark::load(fs, &dir.join("checkpoint"))?;
    let checkpoint = checkpoint.filter(|c| purged.is_none_or(|p| c.index > p.index));
    let mut state = LogState {
        purged,
        last: purged,
        last_start: purged.map_or(0, |p| p.position),
        index: EntryIndex::default(),
        tail: Tail::new(TAIL_BYTES),
        offsets: QueueOffsets::default(),
    };
    let Some(first_base) = segments.first_base() else {
        if let Some(mark) = checkpoint {
            return Err(StoreError::corrupt(
                "commitlog",
                format!("no segment, but the checkpoint says {mark:?}"),
            ));
        }
        return Ok(state);
    };
    let log_start = purged.map_or(first_base, |p| p.position.max(first_base));
    let indexed =
        checkpoint.is_some_and(|mark| load_indexes(fs, segments, &mark, &mut state.index));
    let mut from = log_start;
    if let Some(mark) = checkpoint.filter(|_| indexed) {
        from = mark.position;
        // Not an entry's identity yet: the entry at the mark gives that when it is read.
        state.last = None;
    }
    let mut reader = EntryReader::new(segments, from);
    let mut entries = 0u64;
    while let Found::Entry(entry) = reader.next()? {
        let header = entry.header;
        let follows = match &state.last {
            Some(last) => {
                header.index == last.index + 1
                    && header.term >= last.term
                    && header.previous_crc == last.crc
            }
            None => checkpoint.is_none_or(|mark| !indexed || header.index == mark.index),
        };
        if !follows {
            break;
        }
        let known = state
            .last
            .map_or(checkpoint.map_or(0, |c| c.store_timestamp), |l| {
                l.store_timestamp
            });
        let timestamp = last_timestamp(&entry.bytes).unwrap_or(0).max(known);
        let written = entry.end();
        state.note(&entry, timestamp, segments.size(), written);
        entries += 1;
    }
    if let Some(mark) = checkpoint
        && state.last.is_none_or(|last| last.index < mark.index)
    {
        return Err(StoreError::corrupt(
            format!("commitlog at {}", mark.position),
            format!(
                "entry {} was durable at the checkpoint and cannot be read now; this is damage, not a torn tail",
                mark.index
            ),
        ));
    }
    tracing::info!(from, end = state.end(), entries, "commitlog opened");
    Ok(state)
}

/// Loads the sparse indexes up to the checkpoint; false when one is missing or damaged, then all is scanned.
fn load_indexes(
    fs: &dyn FileSystem,
    segments: &Segments,
    mark: &Mark,
    index: &mut EntryIndex,
) -> bool {
    for base in segments.bases().into_iter().filter(|b| *b <= mark.position) {
        let loaded = match fs.read(&segments.index_path(base)) {
            Ok(bytes) => index.load_segment(base, &bytes),
            Err(e) => Err(StoreError::io("read a segment's index", e)),
        };
        if let Err(error) = loaded {
            tracing::warn!(%error, "a segment's index is rebuilt from the log");
            index.truncate_after(None);
            return false;
        }
    }
    // The entry at the mark is added again when it is read; points beyond it may be of truncated entries.
    index.truncate_after(mark.index.checked_sub(1));
    true
}
