//! Many sorted files to one: each is read in chunks through a heap of their next entries. Memory is bounded by a
//! budget that the files share, whatever their number; a chunk is never less than a block.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::sync::Arc;

use super::file::{IndexFile, Scan};
use super::format::{BLOCK, Entry, Span};
use super::write::{Extent, FileWriter};
use crate::error::{Result, StoreError};
use crate::vfs::FileSystem;

/// Most that is read of one file at once, bytes.
const CHUNK: usize = 64 * 1024;
/// What the chunks of all files together should not exceed, bytes.
const BUDGET: usize = 16 * 1024 * 1024;
/// Entries between two looks at whether the merge is still wanted.
const CANCEL_EVERY: u64 = 4096;

/// How a merge ended.
pub enum Merged {
    /// The new file.
    Done(Arc<IndexFile>),
    /// Nobody wants it any more.
    Cancelled,
    /// This input is damaged.
    Damaged(Arc<IndexFile>, StoreError),
}

/// Merges `inputs` to the sealed file `path`, durably. Inputs stay where they are.
///
/// # Errors
/// I/O.
pub fn merge(
    fs: &dyn FileSystem,
    inputs: &[Arc<IndexFile>],
    path: PathBuf,
    extent: &Extent,
    cancelled: &dyn Fn() -> bool,
) -> Result<Merged> {
    let with_entries = inputs.iter().filter(|f| f.header.count > 0);
    let span = with_entries.fold(None, |span, file| Some(Span::join(span, file.header.span)));
    let mut writer = FileWriter::create(fs, path, &Extent { span, ..*extent })?;
    match feed(fs, inputs, &mut writer, cancelled)? {
        None => Ok(Merged::Done(writer.finish(true, true)?)),
        Some(stopped) => {
            writer.abandon();
            Ok(stopped)
        }
    }
}

/// `None` when all entries were written.
fn feed(
    fs: &dyn FileSystem,
    inputs: &[Arc<IndexFile>],
    writer: &mut FileWriter<'_>,
    cancelled: &dyn Fn() -> bool,
) -> Result<Option<Merged>> {
    let chunk = (BUDGET / inputs.len().max(1)).clamp(BLOCK, CHUNK) / BLOCK;
    let scan = |file: &Arc<IndexFile>| Scan::new(file.clone(), chunk as u64);
    let mut scans: Vec<Scan> = inputs.iter().map(scan).collect();
    let mut heads: Vec<Option<Entry>> = vec![None; scans.len()];
    let mut heap = BinaryHeap::with_capacity(scans.len());
    let mut refill: Vec<usize> = (0..scans.len()).collect();
    let mut merged = 0;
    loop {
        while let Some(nth) = refill.pop() {
            match scans[nth].next(fs) {
                Ok(head) => {
                    heads[nth] = head;
                    heap.extend(head.map(|e| Reverse((e.hash, e.position, nth))));
                }
                Err(error) if super::file::is_damage(&error) => {
                    return Ok(Some(Merged::Damaged(scans[nth].file().clone(), error)));
                }
                Err(error) => return Err(error),
            }
        }
        let Some(Reverse((_, _, nth))) = heap.pop() else {
            return Ok(None);
        };
        if let Some(entry) = heads[nth] {
            writer.push(&entry)?;
        }
        refill.push(nth);
        merged += 1;
        if merged % CANCEL_EVERY == 0 && cancelled() {
            return Ok(Some(Merged::Cancelled));
        }
    }
}
