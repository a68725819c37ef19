//! Opening a log: constants, sparse indexes, then every entry from the checkpoint on is read and its checksum, place
//! and chain are checked; no sealed segment is read. The first thing that is no successor of the entry before it ends
//! the log. If the marker of the last process lies beyond it, this was no torn tail: what is missing had been written,
//! perhaps acknowledged, and whoever opened the log is told ([`CommitLog::cut_short`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use bytes::Bytes;
use parking_lot::Mutex;

use super::damage::Damage;
use super::entry_index::{EntryIndex, POINT_EVERY};
use super::format::{
    FORMAT_VERSION, MAX_SEGMENT_SIZE, MIN_SEGMENT_SIZE, PAD_HEADER_LEN, pad_header, segment_name,
};
use super::marks::{Mark, Marker};
use super::queue_offsets::QueueOffsets;
use super::reader::{EntryReader, Found};
use super::segments::Segments;
use super::short_cut::ShortCut;
use super::tail::{RawEntry, Tail};
use super::thread::{flusher_loop, keeper_loop, storage_loop};
use super::vote::VoteFile;
use super::writer::{Keep, Op, Progress, SegmentWriter};
use super::{CommitLog, Drive, Driver, LogOptions, LogState, Shared, last_timestamp};
use crate::error::{Result, StoreError};
use crate::io_error::is_damage;
use crate::sabotage::{self, Sabotage};
use crate::vfs::FileSystem;

impl CommitLog {
    /// Opens or makes the log in `dir` and starts its threads. `base` is where the log starts according to the oldest
    /// snapshot: used when the log-start file is damaged.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the directory was made with another segment size or format, I/O, damage of the vote.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        dir: PathBuf,
        options: &LogOptions,
        base: Option<Mark>,
    ) -> Result<CommitLog> {
        check_constants(fs.as_ref(), &dir, options.segment_size)?;
        // Names that the last process changed and did not live to sync, before anything builds on them.
        fs.sync_dir(&dir)
            .map_err(|e| StoreError::io(format!("sync {}", dir.display()), e))?;
        let boot = crc32c::crc32c(options.boot.as_bytes());
        let vote = VoteFile::open(fs.as_ref(), &dir.join("vote"))?;
        let saved_vote = vote.current().map(<[u8]>::to_vec);
        let recovered = recover(&fs, &dir, options, base, boot)?;
        let segments = Arc::new(recovered.segments);
        let progress = Arc::new(Progress::default());
        let end = recovered.state.end();
        let first = segments.first_base().unwrap_or(0);
        progress.written.store(end, Ordering::Release);
        progress.durable.store(first, Ordering::Release);

        let shared = Arc::new(Shared {
            fs: fs.clone(),
            segments: segments.clone(),
            state: Mutex::new(recovered.state),
            progress: progress.clone(),
            committed: AtomicU64::new(0),
            checkpoint_lock: Mutex::new(0),
            damage: Mutex::default(),
            cut_short: recovered.cut_short,
            keeper_waits: options.drive == Drive::Threads,
            dir: dir.clone(),
        });
        recovered
            .damage
            .into_iter()
            .for_each(|range| shared.add_damage(shared.aligned(range)));
        // What an earlier process left in the page cache was written again by the scan, and is made durable before anything
        // builds on it. Sealed segments were synced before the checkpoint that covers them.
        let from = recovered.checked_from.min(end);
        progress
            .durable
            .store(from.max(first.min(end)), Ordering::Release);
        shared.flush_written()?;

        let mut writer =
            SegmentWriter::new(fs, segments, vote, &dir, options.flush, progress, boot)?;
        let (ops, queue) = channel::<Op>();
        let (driver, threads) = match options.drive {
            Drive::Caller => {
                let writer = Box::new(writer);
                (Driver::Caller { writer, queue }, None)
            }
            Drive::Threads => {
                let (keeper, wake) = channel::<Keep>();
                let (stop_flusher, stop) = channel();
                writer = writer.with_keeper(keeper.clone());
                let short_cut = Arc::new(ShortCut::new(writer));
                let (lock, own) = (shared.clone(), short_cut.clone());
                spawn("storage", move || {
                    storage_loop(&own, &queue, &lock.checkpoint_lock);
                })?;
                let flushed = shared.clone();
                let every = options.every;
                let flusher = spawn("flusher", move || flusher_loop(&flushed, &stop, every))?;
                let kept = shared.clone();
                spawn("keeper", move || keeper_loop(&kept, &wake))?;
                let driver = Driver::Threads {
                    stop_flusher,
                    flusher,
                };
                (driver, Some((keeper, short_cut)))
            }
        };
        let (keeper, short_cut) = threads.unzip();
        Ok(CommitLog {
            shared,
            driver: Arc::new(Mutex::new(Some(driver))),
            ops,
            short_cut,
            keeper,
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
                state.offsets.adopt(&entry.header, &entry.bytes);
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
    fs.make_dir(dir)
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

/// What opening found.
struct Recovered {
    segments: Segments,
    state: LogState,
    damage: Vec<Damage>,
    cut_short: bool,
    /// Entries before this position were durable before.
    checked_from: u64,
}

fn recover(
    fs: &Arc<dyn FileSystem>,
    dir: &Path,
    options: &LogOptions,
    base: Option<Mark>,
    boot: u32,
) -> Result<Recovered> {
    let purged = readable(fs.as_ref(), &dir.join("log_start"));
    let begins_at_zero = fs.exists(&dir.join("segments").join(segment_name(0)));
    let purged = match purged {
        Marked::Good(mark) => Some(mark),
        // A log that was never purged has no such file.
        Marked::Missing | Marked::Damaged => base.filter(|_| !begins_at_zero),
    };
    let checkpoint = match readable(fs.as_ref(), &dir.join("checkpoint")) {
        Marked::Good(mark) => Some(mark),
        Marked::Missing | Marked::Damaged => None,
    };
    let checkpoint = checkpoint.filter(|c| purged.is_none_or(|p| c.index > p.index));
    let start = purged.map_or(0, |p| p.position);
    let opened = Segments::open(
        fs.clone(),
        dir.join("segments"),
        options.segment_size,
        POINT_EVERY,
        start,
        options.warm,
    )?;
    let segments = opened.segments;
    let mut state = LogState {
        purged,
        last: purged,
        index: EntryIndex::default(),
        tail: Tail::new(options.tail_bytes),
        offsets: QueueOffsets::default(),
        truncating: 0,
    };
    // How far the log must be readable for its end to be a torn tail.
    let marker = fs.read(&dir.join("marker")).unwrap_or_default();
    let durable = checkpoint.map_or(0, |c| c.position + 1);
    let bound = Marker::decode(&marker).bound(boot).max(durable);

    let mut damage = Shared::load_damage(fs.as_ref(), dir);
    damage.extend(opened.damage.iter().filter(|d| d.from < bound));
    let mut from = None;
    if let Some(mark) = checkpoint {
        load_indexes(fs.as_ref(), &segments, &mark, &mut state.index, &mut damage)?;
        from = state.index.at_or_before_position(mark.position);
    }
    let checked_from = from.map_or(start, |p| p.position);
    // Back to the newest place from which the log can be read.
    let mut timestamp = checkpoint.map_or(0, |c| c.store_timestamp);
    loop {
        let Some(point) = from else {
            state.index.truncate_after(None);
            state.last = purged;
            timestamp = timestamp.max(purged.map_or(0, |p| p.store_timestamp));
            break;
        };
        let mut reader = EntryReader::new(&segments, point.position);
        if let Found::Entry(entry) = reader.next()?
            && entry.header.index == point.index
        {
            state.index.truncate_after(point.index.checked_sub(1));
            state.last = None;
            break;
        }
        from = point
            .position
            .checked_sub(1)
            .and_then(|before| state.index.at_or_before_position(before));
    }
    let scan_from = from.map_or(start, |p| p.position);
    let entries = scan(&segments, scan_from, &mut state, timestamp)?;
    let end = state.end();
    let doubt = doubt_path(dir);
    let cut_short = end < bound || fs.exists(&doubt);
    if end < bound {
        // First of all: what is done from here on takes away what proves it.
        fs.replace(&doubt, b"the end of the log may be missing\n")
            .map_err(|e| StoreError::io("note the doubt", e))?;
        tracing::error!(
            end,
            written = bound,
            "the end of the log cannot be read although it had been written: it is cut here, acknowledged messages may be missing"
        );
        set_aside(fs.as_ref(), &segments, dir, end, bound)?;
    }
    damage.retain(|d| d.from < end && d.to > start);
    damage.iter_mut().for_each(|d| d.to = d.to.min(end));
    clear_after(&segments, end)?;
    tracing::info!(
        from = scan_from,
        end,
        entries,
        damage = damage.len(),
        "commitlog opened"
    );
    Ok(Recovered {
        segments,
        state,
        damage,
        cut_short,
        checked_from,
    })
}

/// Where it is noted that the end of the log may be missing.
pub(super) fn doubt_path(dir: &Path) -> PathBuf {
    dir.join("doubt")
}

/// Reads entries from `from` to the end of the chain into `state`, and writes the same bytes again: after a sync that
/// failed they may be in the page cache alone, where the next sync does not see them. Nobody can tell such a stop from
/// another one, so that this is done at every start; it is what was written since the last checkpoint.
fn scan(segments: &Segments, from: u64, state: &mut LogState, known: i64) -> Result<u64> {
    let mut reader = EntryReader::new(segments, from);
    let mut again = Again::new(segments, from);
    let mut entries = 0;
    let mut newest = known;
    while let Found::Entry(entry) = reader.next()? {
        let header = entry.header;
        let follows = state.last.is_none_or(|last| {
            header.index == last.index + 1
                && header.term >= last.term
                && header.previous_crc == last.crc
        });
        if !follows {
            break;
        }
        newest = newest.max(last_timestamp(&entry.bytes).unwrap_or(0));
        again.push(&entry)?;
        let written = entry.end();
        state.note(&entry, newest, segments.size(), written);
        entries += 1;
    }
    again.write()?;
    Ok(entries)
}

/// Entries that are written again where they were read, some at a time.
struct Again<'a> {
    segments: &'a Segments,
    /// Where the first of `run` lies.
    at: u64,
    /// Where the next entry or pad begins.
    end: u64,
    run: Vec<Bytes>,
}

impl<'a> Again<'a> {
    /// Bytes written at once.
    const MOST: u64 = 4 * 1024 * 1024;

    fn new(segments: &'a Segments, from: u64) -> Self {
        Self {
            segments,
            at: from,
            end: from,
            run: Vec::new(),
        }
    }

    fn push(&mut self, entry: &RawEntry) -> Result<()> {
        let size = self.segments.size();
        if entry.header.position != self.end {
            // The rest of the segment before is a pad.
            let left = size - self.end % size;
            if left >= PAD_HEADER_LEN as u64 {
                self.run
                    .push(Bytes::copy_from_slice(&pad_header(left as u32)));
            }
            self.write()?;
            (self.at, self.end) = (entry.header.position, entry.header.position);
        }
        self.run.push(entry.bytes.clone());
        self.end = entry.end();
        if self.end - self.at >= Self::MOST || self.end.is_multiple_of(size) {
            self.write()?;
            self.at = self.end;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let run = std::mem::take(&mut self.run);
        let segment = match run.is_empty() || sabotage::on(Sabotage::TrustPageCache) {
            true => None,
            false => self.segments.containing(self.at),
        };
        let Some(segment) = segment else {
            return Ok(());
        };
        let written = segment
            .file
            .write_all_vectored_at(&run, self.at - segment.base);
        written.map_err(|e| StoreError::io(format!("write {} again", self.at), e))
    }
}

enum Marked {
    Good(Mark),
    Missing,
    Damaged,
}

fn readable(fs: &dyn FileSystem, path: &Path) -> Marked {
    match Mark::load(fs, path) {
        Ok(Some(mark)) => Marked::Good(mark),
        Ok(None) => Marked::Missing,
        Err(error) => {
            tracing::warn!(%error, "done without: what it says is found elsewhere");
            Marked::Damaged
        }
    }
}

/// Keeps a copy of what is cut off although it had been written: a replica alone has no other one.
fn set_aside(
    fs: &dyn FileSystem,
    segments: &Segments,
    dir: &Path,
    end: u64,
    bound: u64,
) -> Result<()> {
    /// More than this is not copied: it is a whole segment missing, with nothing to copy.
    const MOST: u64 = 64 * 1024 * 1024;
    let Some(segment) = segments.containing(end) else {
        return Ok(());
    };
    let len = (bound - end)
        .min(segment.base + segment.size - end)
        .min(MOST);
    if len == 0 {
        return Ok(());
    }
    let bytes = match segment.read_at(end, len as usize) {
        // There is nothing to keep of what cannot be read.
        Err(error) if is_damage(&error) => return Ok(()),
        read => read?,
    };
    let path = dir.join(format!("cut-off-{end:020}"));
    if fs.exists(&path) {
        // An earlier start did; the bytes here are cleared since.
        return Ok(());
    }
    fs.replace(&path, &bytes)
        .map_err(|e| StoreError::io(format!("write {}", path.display()), e))
}

/// Clears what lies behind the end of the log, so that nothing of it comes back: the bytes a torn write left, and
/// segments beyond.
fn clear_after(segments: &Segments, end: u64) -> Result<()> {
    let size = segments.size();
    let last_base = end.saturating_sub(1) / size * size;
    let beyond = |base: u64| base > last_base + size;
    segments.forget(beyond);
    segments.unlink_doomed()?;
    for base in segments.bases().into_iter().filter(|b| *b >= last_base) {
        let Some(segment) = segments.containing(base) else {
            continue;
        };
        segment.clear_rest(end.max(base))?;
    }
    Ok(())
}

/// Loads the sparse indexes up to the checkpoint; a segment whose index is missing or damaged is read.
fn load_indexes(
    fs: &dyn FileSystem,
    segments: &Segments,
    mark: &Mark,
    index: &mut EntryIndex,
    damage: &mut Vec<Damage>,
) -> Result<()> {
    let bases: Vec<u64> = segments.bases();
    for base in bases.into_iter().filter(|b| *b <= mark.position) {
        let loaded = match fs.read(&segments.index_path(base)) {
            Ok(bytes) => index.load_segment(base, &bytes),
            Err(e) => Err(StoreError::io("read a segment's index", e)),
        };
        if let Err(error) = loaded {
            tracing::warn!(%error, base, "a segment's index is rebuilt from the log");
            let stop = index_segment(segments, base, index)?;
            if stop < mark.position && stop < base + segments.size() {
                damage.push(Damage::new(stop, base + segments.size()));
            }
        }
    }
    // The entry at the mark is added again when it is read; points beyond it may be of truncated entries.
    index.truncate_after(Some(mark.index));
    Ok(())
}

/// Adds a segment's entries to the index by reading it; where it ends, or cannot be read on.
fn index_segment(segments: &Segments, base: u64, index: &mut EntryIndex) -> Result<u64> {
    let mut reader = EntryReader::new(segments, base);
    while reader.position() < base + segments.size() {
        match reader.next()? {
            Found::Entry(entry) if entry.header.position < base + segments.size() => {
                index.add(entry.header.index, entry.header.position, segments.size());
            }
            Found::Entry(_) | Found::Nothing => break,
        }
    }
    Ok(reader.position())
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|e| StoreError::io("start a storage thread", e))
}
