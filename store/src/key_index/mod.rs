//! Message positions by key: RocketMQ's `IndexFile`, in a format of our own. Derived from the commitlog, and cut where
//! its segments are cut, so that it expires with them and a query in a time range asks only the segments of that
//! time.
//!
//! One thread adds messages to the open run in memory; a full run is sorted and written as a file into the segment's
//! directory, by a thread of its own in a broker; a complete segment's runs are merged to one sealed file in the background. What a crash takes is what
//! was in memory: [`KeyIndex::covered`] tells from where to add again. What damage takes are whole files:
//! [`KeyIndex::gaps`] tells which segments to read once more for [`KeyIndex::rebuild`].

mod beside;
mod descriptors;
mod file;
mod format;
mod merge;
mod rebuild;
mod recover;
mod shared;
mod start;
mod state;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use format::key_hash;
pub use rebuild::GapBuilder;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use crate::commitlog::format::{MAX_SEGMENT_SIZE, MIN_SEGMENT_SIZE};
use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;
use beside::Beside;
use descriptors::Descriptors;
use shared::Shared;
use state::Limits;

/// Entries of a full run.
pub const RUN_ENTRIES: usize = 32_768;
/// Bytes of the log after which a run is written though it is not full.
pub const RUN_BYTES: u64 = 64 * 1024 * 1024;
/// Descriptors queries keep open.
pub const MAX_DESCRIPTORS: usize = 64;

/// Figures for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyIndexStats {
    /// Entries in files and in memory.
    pub entries: u64,
    /// Files.
    pub files: u64,
    /// Their bytes on disk.
    pub bytes: u64,
}

/// The key index of a replica. One thread adds, any thread queries, one in the background maintains.
pub struct KeyIndex {
    shared: Arc<Shared>,
}

impl KeyIndex {
    /// Opens the index in `dir`, made when it is not there, for a log with segments of `segment_size` bytes (64 KiB to
    /// 2 GiB). Damaged or torn files are deleted; what they covered is in [`KeyIndex::gaps`] or lowers
    /// [`KeyIndex::covered`].
    ///
    /// # Errors
    /// I/O, [`StoreError::Refused`] for a segment size out of range.
    pub fn open(fs: Arc<dyn FileSystem>, dir: PathBuf, segment_size: u64) -> Result<KeyIndex> {
        let limits = Limits {
            entries: RUN_ENTRIES,
            bytes: RUN_BYTES,
        };
        Self::open_with(fs, dir, segment_size, limits)
    }

    fn open_with(
        fs: Arc<dyn FileSystem>,
        dir: PathBuf,
        segment_size: u64,
        limits: Limits,
    ) -> Result<KeyIndex> {
        if !(MIN_SEGMENT_SIZE..=MAX_SEGMENT_SIZE).contains(&segment_size) {
            return Err(StoreError::Refused(format!(
                "a segment of {segment_size} bytes is not in [{MIN_SEGMENT_SIZE}, {MAX_SEGMENT_SIZE}]"
            )));
        }
        let state = recover::recover(fs.as_ref(), &dir, segment_size, limits)?;
        let shared = Shared {
            fs,
            dir,
            segment_size,
            state: Mutex::new(state),
            writer: Mutex::new(()),
            run: Mutex::new(()),
            beside: Beside::default(),
            maintenance: Mutex::new(()),
            descriptors: Descriptors::new(MAX_DESCRIPTORS),
            epoch: AtomicU64::new(0),
        };
        Ok(KeyIndex {
            shared: Arc::new(shared),
        })
    }

    /// Everything before this position that is still kept and not in a gap is in files: after a restart, add again
    /// from here. May lie before the start of the log when files were lost: then [`KeyIndex::trim`] or
    /// [`KeyIndex::reset`] comes first.
    pub fn covered(&self) -> u64 {
        self.shared.state.lock().covered()
    }

    /// Ranges `[from, to)` of complete segments that must be read from the log again, oldest first; each is one
    /// segment, from the start of the index on. What is left of their files still serves queries.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        self.shared.state.lock().gaps()
    }

    /// Begins at `position`, everything dropped: after a snapshot, or when the log does not start at 0. Also lifts an
    /// earlier failure.
    ///
    /// # Errors
    /// I/O. What is left is dropped at the next start.
    pub fn reset(&self, position: u64) -> Result<()> {
        self.shared.reset(position)
    }

    /// Whether adding messages with so many keys, the last of which ends at `position`, may write and sync a file.
    pub fn may_write(&self, position: u64, keys: usize) -> bool {
        let state = self.shared.state.lock();
        let waits = state.pending.is_some() || !self.shared.beside.is_there();
        waits && state.fills(position, keys)
    }

    /// Adds a message's unique id and each blank-separated token of its keys. Positions never decrease, and a message
    /// is added whole: one at a lower position than was told before was added before, and is ignored. May write a
    /// run.
    ///
    /// # Errors
    /// I/O; [`StoreError::Poisoned`] from then on.
    pub fn add(
        &self,
        topic: &str,
        unique: Option<&str>,
        keys: Option<&str>,
        position: u64,
        store_timestamp_ms: i64,
    ) -> Result<()> {
        self.shared
            .add(topic, unique, keys, position, store_timestamp_ms)
    }

    /// Says that all messages before `position` were added. May write a run.
    ///
    /// # Errors
    /// As [`KeyIndex::add`].
    pub fn advance(&self, position: u64) -> Result<()> {
        self.shared.advance(position)
    }

    /// Writes the open run whatever its size: at a clean stop. A message at or after the last position told to
    /// [`KeyIndex::advance`] stays in memory.
    ///
    /// # Errors
    /// As [`KeyIndex::add`].
    pub fn flush(&self) -> Result<()> {
        self.shared.flush()
    }

    /// Merges complete segments to one file each; how many. For a background thread.
    ///
    /// # Errors
    /// I/O; nothing is lost then.
    pub fn maintain(&self) -> Result<usize> {
        self.shared.maintain()
    }

    /// Tells `visit` the positions of messages that may have the key and a store time in `[begin_ms, end_ms]`, newest
    /// first, each once, until it says to stop. A few may have another key with the same hash: the caller reads the
    /// message. A damaged file becomes a gap, and the query goes on without it.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn query(
        &self,
        topic: &str,
        key: &str,
        begin_ms: i64,
        end_ms: i64,
        visit: &mut dyn FnMut(u64) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let hash = format::key_hash(topic, key);
        self.shared.query(hash, begin_ms, end_ms, visit)
    }

    /// Drops segments that end at or before `log_start`.
    ///
    /// # Errors
    /// I/O.
    pub fn trim(&self, log_start: u64) -> Result<()> {
        self.shared.trim(log_start)
    }

    /// Drops everything; the index begins at 0.
    ///
    /// # Errors
    /// I/O.
    pub fn clear(&self) -> Result<()> {
        self.shared.reset(0)
    }

    /// Rebuilds one of [`KeyIndex::gaps`]: the caller adds all messages of the log in `[from, to)` in order, then
    /// finishes.
    pub fn rebuild(&self, from: u64, to: u64) -> GapBuilder {
        GapBuilder::new(self.shared.clone(), from, to)
    }

    /// Checks every checksum in the files of the segment at `base`; true when all was well. A damaged file is deleted
    /// and its segment a gap; one that is not yet complete becomes a gap when it is.
    ///
    /// # Errors
    /// I/O other than on a file's content.
    pub fn verify(&self, base: u64) -> Result<bool> {
        self.shared.verify(base)
    }

    /// Store time, ms, and position of the last message added that has a key; zeros when there was none.
    pub fn last(&self) -> (i64, u64) {
        self.shared.state.lock().last
    }

    /// Entries, files, bytes on disk.
    pub fn stats(&self) -> KeyIndexStats {
        self.shared.state.lock().stats()
    }
}
