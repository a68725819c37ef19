//! The index behind its handles. Four locks, always taken in this order:
//!
//! - `maintenance`: who merges, trims, rebuilds, resets or deletes files; held across file I/O. Apply never waits
//!   for it, queries only try it.
//! - `writer`: who adds.
//! - `run`: who writes the pending run, which is whoever adds or the thread beside; held while it is written.
//! - `state`: what is in memory; never held across file I/O.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::beside::Beside;
use super::descriptors::Descriptors;
use super::file::{IndexFile, Matches, is_damage, run_name};
use super::format::{Entry, hashes};
use super::merge::{Merged, merge};
use super::recover::{delete_files, drop_segments, segment_bases};
use super::start::Start;
use super::state::{Source, State};
use super::write::{Extent, make_segment_dir, sealed_path, write_entries};
use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;

/// See the module.
pub struct Shared {
    /// Where files are.
    pub fs: Arc<dyn FileSystem>,
    /// Holds the segments' directories.
    pub dir: PathBuf,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// Short-lived.
    pub state: Mutex<State>,
    /// One who adds.
    pub writer: Mutex<()>,
    /// One who writes the pending run.
    pub run: Mutex<()>,
    /// Writes runs, if it was started.
    pub beside: Beside,
    /// One who rearranges files.
    pub maintenance: Mutex<()>,
    /// For queries.
    pub descriptors: Descriptors,
    /// Counts resets: work that began before one is given up.
    pub epoch: AtomicU64,
}

impl Shared {
    /// See [`super::KeyIndex::add`].
    pub fn add(
        &self,
        topic: &str,
        unique: Option<&str>,
        keys: Option<&str>,
        position: u64,
        timestamp: i64,
    ) -> Result<()> {
        let _writer = self.writer.lock();
        loop {
            let mut state = self.sound_state()?;
            if position < state.upto {
                return Ok(());
            }
            if let Some(end) = state.advance(position) {
                drop(state);
                self.write_run(end)?;
                continue;
            }
            let before = state.entries.len();
            state
                .entries
                .extend(hashes(topic, unique, keys).map(|hash| Entry {
                    hash,
                    position,
                    timestamp,
                }));
            if state.entries.len() > before {
                state.last = (timestamp, position);
            }
            return Ok(());
        }
    }

    /// See [`super::KeyIndex::advance`].
    pub fn advance(&self, position: u64) -> Result<()> {
        let _writer = self.writer.lock();
        loop {
            let due = self.sound_state()?.advance(position);
            match due {
                Some(end) => self.write_run(end)?,
                None => return Ok(()),
            }
        }
    }

    /// See [`super::KeyIndex::flush`].
    pub fn flush(&self) -> Result<()> {
        let _writer = self.writer.lock();
        let (first, upto) = {
            let state = self.sound_state()?;
            (state.first, state.upto)
        };
        if first < upto {
            self.write_run(upto)?;
        }
        self.write_pending()
    }

    fn sound_state(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        match &state.poisoned {
            Some(why) => Err(StoreError::Poisoned(why.clone())),
            None => Ok(state),
        }
    }

    /// Writes the open run up to `end`, or has it written; the writer's lock is held.
    fn write_run(&self, end: u64) -> Result<()> {
        // One is on its way at a time.
        self.write_pending()?;
        self.state.lock().cut(end);
        match self.beside.write() {
            true => Ok(()),
            false => self.write_pending(),
        }
    }

    /// Writes the pending run, if there is one.
    pub fn write_pending(&self) -> Result<()> {
        let _run = self.run.lock();
        let (extent, entries) = {
            let state = self.sound_state()?;
            let Some(run) = &state.pending else {
                return Ok(());
            };
            let base = state.base_of(run.first);
            (self.extent(base, run.first, run.end), run.entries.clone())
        };
        // Queries read the pending run meanwhile: it is sorted in a copy.
        let mut sorted = entries.to_vec();
        let written = make_segment_dir(self.fs.as_ref(), &self.dir, extent.base).and_then(|dir| {
            let path = dir.join(run_name(extent.first));
            write_entries(self.fs.as_ref(), path, &extent, &mut sorted, true)
        });
        let mut state = self.state.lock();
        match written {
            Ok(file) => {
                let segment = state.segments.entry(extent.base).or_default();
                segment.files.push(file);
                state.pending = None;
                Ok(())
            }
            Err(error) => {
                state.poisoned = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// A range of a segment, nothing known of its entries.
    pub fn extent(&self, base: u64, first: u64, end: u64) -> Extent {
        Extent {
            base,
            segment_size: self.segment_size,
            first,
            end,
            span: None,
        }
    }

    /// See [`super::KeyIndex::query`].
    pub fn query(
        &self,
        hash: u64,
        begin: i64,
        end: i64,
        visit: &mut dyn FnMut(u64) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        // Only positions before this are still to be told. Files come and go meanwhile; this alone says where the
        // query is, so that it may ask again which file is next at any time.
        let mut before = u64::MAX;
        if begin > end {
            return Ok(());
        }
        loop {
            let source = self.state.lock().source(hash, before, begin, end);
            let file = match source {
                None => return Ok(()),
                Some(Source::Memory(found, covered)) => {
                    for position in found {
                        if visit(position)?.is_break() {
                            return Ok(());
                        }
                    }
                    before = covered;
                    continue;
                }
                Some(Source::File(file)) => file,
            };
            let opened = self.descriptors.get(self.fs.as_ref(), &file);
            let mut matches =
                opened.and_then(|open| Matches::find(file.clone(), open, hash, before));
            loop {
                let next = match &mut matches {
                    Ok(matches) => matches.next(begin, end),
                    Err(_) => Ok(None),
                };
                match next {
                    Ok(Some(position)) => {
                        before = position;
                        if visit(position)?.is_break() {
                            return Ok(());
                        }
                    }
                    Ok(None) => break,
                    Err(error) => matches = Err(error),
                }
            }
            match matches {
                Ok(_) => before = file.header.first,
                Err(error) if file.is_removed() => {
                    tracing::debug!(%error, "key index: a file went away under a query");
                }
                Err(error) if is_damage(&error) => self.doom(&file, &error),
                Err(error) => {
                    tracing::warn!(%error, "key index: a query passes over a file");
                    before = file.header.first;
                }
            }
        }
    }

    /// Takes a damaged file out; it is deleted now, or by whoever rearranges files at the moment.
    fn doom(&self, file: &IndexFile, error: &StoreError) {
        self.note_damage(file, error);
        if let Some(held) = self.maintenance.try_lock() {
            self.delete_doomed(&held);
        }
    }

    /// Takes a damaged file out.
    pub fn note_damage(&self, file: &IndexFile, error: &StoreError) {
        tracing::warn!(%error, "key index: a file is damaged, its segment is a gap");
        if self.state.lock().doom(file) {
            self.descriptors.forget(file.id);
        }
    }

    /// Deletes damaged files. Under the maintenance lock: a rebuilt file may get the same name.
    pub fn delete_doomed(&self, _held: &MutexGuard<'_, ()>) {
        let doomed = std::mem::take(&mut self.state.lock().doomed);
        let paths = doomed.iter().map(PathBuf::as_path);
        if let Err(error) = delete_files(self.fs.as_ref(), paths) {
            tracing::warn!(%error, "key index: a damaged file stays until the next start");
        }
    }

    /// Puts a sealed file in the place of what a segment has, and deletes that.
    pub fn seal(&self, base: u64, file: Arc<IndexFile>) -> Result<()> {
        let old = self.state.lock().seal(base, file);
        old.iter().for_each(|f| self.descriptors.forget(f.id));
        delete_files(self.fs.as_ref(), old.iter().map(|f| f.path.as_path()))
    }

    /// See [`super::KeyIndex::maintain`].
    pub fn maintain(&self) -> Result<usize> {
        let held = self.maintenance.lock();
        self.delete_doomed(&held);
        let epoch = self.epoch.load(Ordering::Acquire);
        let bases = self.state.lock().unmerged();
        let mut merged = 0;
        for base in bases {
            merged += usize::from(self.merge_segment(base, epoch)?);
        }
        self.delete_doomed(&held);
        Ok(merged)
    }

    fn merge_segment(&self, base: u64, epoch: u64) -> Result<bool> {
        let (files, (from, to)) = {
            let mut state = self.state.lock();
            let (from, to) = state.range_of(base);
            let Some(segment) = state.segments.get_mut(&base) else {
                return Ok(false);
            };
            segment.damaged |= !segment.covers(from, to);
            if segment.damaged {
                return Ok(false);
            }
            (segment.files.clone(), (from, to))
        };
        let extent = self.extent(base, from, to);
        let path = sealed_path(&self.dir, &extent);
        let cancelled = || self.epoch.load(Ordering::Acquire) != epoch;
        match merge(self.fs.as_ref(), &files, path, &extent, &cancelled)? {
            Merged::Done(file) => self.seal(base, file).map(|()| true),
            Merged::Cancelled => Ok(false),
            Merged::Damaged(file, error) => {
                self.note_damage(&file, &error);
                Ok(false)
            }
        }
    }

    /// See [`super::KeyIndex::verify`].
    pub fn verify(&self, base: u64) -> Result<bool> {
        let held = self.maintenance.lock();
        self.delete_doomed(&held);
        let files = {
            let state = self.state.lock();
            let base = state.base_of(base);
            let segment = state.segments.get(&base);
            segment.map_or(Vec::new(), |s| s.files.clone())
        };
        for file in files {
            match file.check(self.fs.as_ref()) {
                Err(error) if is_damage(&error) => self.note_damage(&file, &error),
                other => other?,
            }
        }
        self.delete_doomed(&held);
        let state = self.state.lock();
        let segment = state.segments.get(&state.base_of(base));
        Ok(segment.is_none_or(|s| !s.damaged))
    }

    /// See [`super::KeyIndex::trim`].
    pub fn trim(&self, log_start: u64) -> Result<()> {
        let held = self.maintenance.lock();
        self.delete_doomed(&held);
        let start = {
            let state = self.state.lock();
            let start = state.base_of(log_start);
            if start <= state.start {
                return Ok(());
            }
            start
        };
        let gone = {
            let mut state = self.state.lock();
            if state.covered() >= start {
                state.drop_before(start)
            } else {
                // The log lost what was not yet indexed: no run may be on its way to a segment that goes.
                drop(state);
                let _writer = self.writer.lock();
                let _run = self.run.lock();
                state = self.state.lock();
                state.skip_to(start);
                state.drop_before(start)
            }
        };
        for file in gone.iter().flat_map(|(_, segment)| &segment.files) {
            self.descriptors.forget(file.id);
        }
        let position = start;
        let dropping = false;
        Start { position, dropping }.store(self.fs.as_ref(), &self.dir)?;
        let bases: Vec<u64> = gone.iter().map(|(base, _)| *base).collect();
        drop_segments(self.fs.as_ref(), &self.dir, &bases)
    }

    /// See [`super::KeyIndex::reset`].
    pub fn reset(&self, position: u64) -> Result<()> {
        // A merge under way sees this and stops, and so does a rebuild begun before.
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let _held = self.maintenance.lock();
        let _writer = self.writer.lock();
        let _run = self.run.lock();
        let fs = self.fs.as_ref();
        let store = |dropping| Start { position, dropping }.store(fs, &self.dir);
        store(true)?;
        {
            let mut state = self.state.lock();
            for (_, segment) in state.drop_before(u64::MAX) {
                segment
                    .files
                    .iter()
                    .for_each(|f| self.descriptors.forget(f.id));
            }
            *state = State::new(self.segment_size, state.limits, position);
        }
        drop_segments(fs, &self.dir, &segment_bases(fs, &self.dir)?)?;
        store(false)
    }

    /// Where a segment's files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
