//! What the files in a directory say. Every run is read and checked whole, a sealed file by its header: runs are
//! the last few minutes, sealed files are everything.

use std::path::Path;
use std::sync::Arc;

use super::file::{IndexFile, is_damage, parse_number};
use super::start::Start;
use super::state::{Limits, Segment, State};
use super::write::segment_dir;
use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;

/// Deletes what is torn, damaged or not part of the index, and finds out what is covered.
///
/// # Errors
/// I/O.
pub fn recover(
    fs: &dyn FileSystem,
    dir: &Path,
    segment_size: u64,
    limits: Limits,
) -> Result<State> {
    fs.create_dir_all(dir)
        .map_err(|e| StoreError::io(format!("make {}", dir.display()), e))?;
    let mut bases = segment_bases(fs, dir)?;
    let loaded = Start::load(fs, dir);
    let start = match loaded {
        Some(start) if start.dropping => {
            drop_segments(fs, dir, &bases)?;
            bases.clear();
            start.position
        }
        Some(start) => start.position,
        None => bases.first().copied().unwrap_or(0),
    };
    let settled = Start {
        position: start,
        dropping: false,
    };
    if loaded != Some(settled) {
        settled.store(fs, dir)?;
    }
    let mut state = State::new(segment_size, limits, start);
    let unusable = |base: &u64| {
        let end = base.checked_add(segment_size);
        !base.is_multiple_of(segment_size) || end.is_none_or(|end| end <= start)
    };
    let (gone, kept): (Vec<u64>, Vec<u64>) = bases.iter().partition(|base| unusable(base));
    drop_segments(fs, dir, &gone)?;
    for base in kept {
        let segment = load_segment(fs, &segment_dir(dir, base), base, segment_size)?;
        state.segments.insert(base, segment);
    }
    drop_empty_end(fs, dir, &mut state)?;
    settle_newest(fs, &mut state)?;
    mark_gaps(&mut state);
    let files = state
        .segments
        .values()
        .rev()
        .flat_map(|s| s.files.iter().rev());
    let newest = files.map(|f| &f.header).find(|h| h.count > 0);
    state.last = newest.map_or((0, 0), |h| (h.span.last_timestamp, h.span.last_position));
    Ok(state)
}

/// First positions of the segments that have a directory, in order.
///
/// # Errors
/// I/O.
pub fn segment_bases(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<u64>> {
    let names = list(fs, dir)?;
    Ok(names.iter().filter_map(|name| parse_number(name)).collect())
}

/// Deletes the directories of segments, durably.
///
/// # Errors
/// I/O.
pub fn drop_segments(fs: &dyn FileSystem, dir: &Path, bases: &[u64]) -> Result<()> {
    for base in bases {
        let path = segment_dir(dir, *base);
        if fs.exists(&path) {
            fs.remove_dir_all(&path)
                .map_err(|e| StoreError::io(format!("delete {}", path.display()), e))?;
        }
    }
    if bases.is_empty() {
        return Ok(());
    }
    fs.sync_dir(dir)
        .map_err(|e| StoreError::io(format!("sync {}", dir.display()), e))
}

/// Deletes files that may already be gone, durably.
///
/// # Errors
/// I/O.
pub fn delete_files<'a>(
    fs: &dyn FileSystem,
    paths: impl IntoIterator<Item = &'a Path>,
) -> Result<()> {
    let mut dirs: Vec<&Path> = Vec::new();
    for path in paths {
        match fs.remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io(format!("delete {}", path.display()), e));
            }
            _ => dirs.extend(path.parent().filter(|dir| !dirs.contains(dir))),
        }
    }
    for dir in dirs.into_iter().filter(|dir| fs.exists(dir)) {
        fs.sync_dir(dir)
            .map_err(|e| StoreError::io(format!("sync {}", dir.display()), e))?;
    }
    Ok(())
}

fn list(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<String>> {
    fs.list(dir)
        .map_err(|e| StoreError::io(format!("list {}", dir.display()), e))
}

fn load_segment(fs: &dyn FileSystem, dir: &Path, base: u64, segment_size: u64) -> Result<Segment> {
    let mut files: Vec<Arc<IndexFile>> = Vec::new();
    let mut bad = Vec::new();
    for name in list(fs, dir)? {
        let loaded = IndexFile::load(fs, dir, &name, base, segment_size);
        let checked = loaded.and_then(|file| match file.sealed {
            true => Ok(file),
            false => file.check(fs).map(|()| file),
        });
        match checked {
            Ok(file) => files.push(file),
            Err(error) if is_damage(&error) => {
                tracing::warn!(%error, "key index: a file is dropped");
                bad.push(dir.join(name));
            }
            Err(error) => return Err(error),
        }
    }
    // A sealed file wins over the runs it was made of, which a crash may have left behind.
    files.sort_by_key(|f| (!f.sealed, f.header.first));
    let mut segment = Segment::default();
    for file in files {
        let apart = |other: &Arc<IndexFile>| {
            file.header.end <= other.header.first || other.header.end <= file.header.first
        };
        if segment.files.iter().all(apart) {
            segment.files.push(file);
        } else {
            bad.push(file.path.clone());
        }
    }
    segment.files.sort_by_key(|f| f.header.first);
    delete_files(fs, bad.iter().map(AsRef::as_ref))?;
    Ok(segment)
}

/// Segments after the last file say nothing.
fn drop_empty_end(fs: &dyn FileSystem, dir: &Path, state: &mut State) -> Result<()> {
    let mut gone = Vec::new();
    while let Some(last) = state.segments.last_entry() {
        if !last.get().files.is_empty() {
            break;
        }
        gone.push(last.remove_entry().0);
    }
    drop_segments(fs, dir, &gone)
}

/// The newest segment is added to from where its first hole is: what lies after the hole comes again.
fn settle_newest(fs: &dyn FileSystem, state: &mut State) -> Result<()> {
    let Some(newest) = state.segments.keys().next_back().copied() else {
        return Ok(());
    };
    let from = state.range_of(newest).0;
    if let Some(segment) = state.segments.get_mut(&newest) {
        let (keep, end) = segment.contiguous_from(from);
        // Newest first: a crash in between leaves the hole where it is.
        let behind: Vec<_> = segment.files.drain(keep..).rev().collect();
        delete_files(fs, behind.iter().map(|f| f.path.as_path()))?;
        state.first = end;
        state.upto = end;
    }
    Ok(())
}

fn mark_gaps(state: &mut State) {
    let Some(newest) = state.segments.keys().next_back().copied() else {
        return;
    };
    let mut base = state.base_of(state.start);
    while base < newest {
        let (from, to) = state.range_of(base);
        let segment = state.segments.entry(base).or_default();
        segment.damaged = !segment.covers(from, to);
        base = to;
    }
}
