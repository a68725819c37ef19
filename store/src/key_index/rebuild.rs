//! Rebuilding a gap: the caller reads the segment's messages once more; their entries are spilled to sorted files
//! beside the index' own and merged to one sealed file. Until that is in place, nothing else has changed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::file::IndexFile;
use super::format::{Entry, hashes};
use super::merge::{Merged, merge};
use super::recover::delete_files;
use super::shared::Shared;
use super::write::{make_segment_dir, sealed_path, write_entries};
use crate::error::{Result, StoreError};

/// Tells the spilled files of two builders apart.
static NEXT_BUILDER: AtomicU64 = AtomicU64::new(0);

/// Takes the messages of one gap. Memory: one run. Dropped before [`GapBuilder::finish`], it leaves the gap as it
/// was.
pub struct GapBuilder {
    shared: Arc<Shared>,
    from: u64,
    to: u64,
    epoch: u64,
    id: u64,
    entries: Vec<Entry>,
    spills: Vec<Arc<IndexFile>>,
    /// The gap was gone once, and entries were thrown away.
    void: bool,
}

impl GapBuilder {
    pub(super) fn new(shared: Arc<Shared>, from: u64, to: u64) -> Self {
        Self {
            epoch: shared.epoch.load(Ordering::Acquire),
            shared,
            from,
            to,
            id: NEXT_BUILDER.fetch_add(1, Ordering::Relaxed),
            entries: Vec::new(),
            spills: Vec::new(),
            void: false,
        }
    }

    /// Adds a message, as [`super::KeyIndex::add`]. One outside of the gap is ignored.
    ///
    /// # Errors
    /// I/O.
    pub fn add(
        &mut self,
        topic: &str,
        unique: Option<&str>,
        keys: Option<&str>,
        position: u64,
        store_timestamp_ms: i64,
    ) -> Result<()> {
        if self.void || !(self.from..self.to).contains(&position) {
            return Ok(());
        }
        let limit = self.shared.state.lock().limits.entries;
        self.entries
            .extend(hashes(topic, unique, keys).map(|hash| Entry {
                hash,
                position,
                timestamp: store_timestamp_ms,
            }));
        if self.entries.len() >= limit {
            let shared = self.shared.clone();
            let _held = shared.maintenance.lock();
            if self.is_wanted()? {
                return self.spill();
            }
            self.void = true;
            self.entries.clear();
        }
        Ok(())
    }

    /// Makes the segment whole. Nothing happens when the gap is no more (trimmed, reset, rebuilt by another).
    ///
    /// # Errors
    /// I/O; [`StoreError::Refused`] when the range is not what [`super::KeyIndex::gaps`] told.
    pub fn finish(mut self) -> Result<()> {
        let shared = self.shared.clone();
        let held = shared.maintenance.lock();
        if !self.is_wanted()? {
            return Ok(());
        }
        shared.delete_doomed(&held);
        self.spill()?;
        let base = self.base();
        let extent = shared.extent(base, self.from, self.to);
        let path = sealed_path(shared.dir(), &extent);
        let cancelled = || shared.epoch.load(Ordering::Acquire) != self.epoch;
        match merge(shared.fs.as_ref(), &self.spills, path, &extent, &cancelled)? {
            Merged::Done(file) => shared.seal(base, file),
            Merged::Cancelled => Ok(()),
            Merged::Damaged(_, error) => Err(error),
        }
    }

    fn base(&self) -> u64 {
        self.from - self.from % self.shared.segment_size
    }

    /// Whether the gap is still there; it cannot go while the maintenance lock is held.
    fn is_wanted(&self) -> Result<bool> {
        if self.void || self.shared.epoch.load(Ordering::Acquire) != self.epoch {
            return Ok(false);
        }
        let gaps = self.shared.state.lock().gaps();
        let base = self.base();
        let end = base.saturating_add(self.shared.segment_size);
        match gaps.into_iter().find(|gap| (base..end).contains(&gap.0)) {
            None => Ok(false),
            Some(gap) if gap == (self.from, self.to) => Ok(true),
            Some((from, to)) => Err(StoreError::Refused(format!(
                "the gap of the key index is [{from}, {to}), not [{}, {})",
                self.from, self.to
            ))),
        }
    }

    fn spill(&mut self) -> Result<()> {
        let fs = self.shared.fs.as_ref();
        let base = self.base();
        let dir = make_segment_dir(fs, self.shared.dir(), base)?;
        let path = dir.join(format!("{}-{}.spill", self.id, self.spills.len()));
        let extent = self.shared.extent(base, self.from, self.to);
        let file = write_entries(fs, path, &extent, &mut self.entries, false)?;
        self.spills.push(file);
        self.entries.clear();
        Ok(())
    }
}

impl Drop for GapBuilder {
    fn drop(&mut self) {
        let paths = self.spills.iter().map(|f| -> &Path { &f.path });
        if let Err(error) = delete_files(self.shared.fs.as_ref(), paths) {
            tracing::warn!(%error, "key index: spilled files stay until the next start");
        }
    }
}
