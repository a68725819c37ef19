//! Writing index files: entries in order into a temporary file, then its header, a sync, the rename, and a sync of
//! the directory. A crash leaves the whole file or none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::file::{IndexFile, sealed_name};
use super::format::{BLOCK, BLOCK_ENTRIES, Entry, Header, Span, seal_block};
use crate::error::{Result, StoreError};
use crate::vfs::{File, FileSystem};

/// Extension of files not yet whole; deleted when the index is opened.
pub const TEMP: &str = "tmp";
/// Bytes handed to the file system at once.
const WRITE_LEN: usize = 64 * 1024;

/// A range of a segment and what its entries span.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// First position of the segment.
    pub base: u64,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// First position covered.
    pub first: u64,
    /// First position not covered.
    pub end: u64,
    /// Of all entries to come; `None` when there are none.
    pub span: Option<Span>,
}

/// A file being written.
pub struct FileWriter<'a> {
    fs: &'a dyn FileSystem,
    path: PathBuf,
    temp: PathBuf,
    file: Arc<dyn File>,
    header: Header,
    block: Vec<u8>,
    in_block: usize,
    blocks: u64,
    ready: Vec<u8>,
    written: u64,
    last: Option<(u64, u64)>,
}

impl<'a> FileWriter<'a> {
    /// Begins the file `path`.
    ///
    /// # Errors
    /// I/O.
    pub fn create(fs: &'a dyn FileSystem, path: PathBuf, extent: &Extent) -> Result<Self> {
        let mut temp = path.clone().into_os_string();
        temp.push(".");
        temp.push(TEMP);
        let temp = PathBuf::from(temp);
        let failed = |e| StoreError::io(format!("make {}", temp.display()), e);
        if fs.exists(&temp) {
            fs.remove_file(&temp).map_err(failed)?;
        }
        let file = fs.open(&temp, true).map_err(failed)?;
        let span = extent.span.unwrap_or(Span {
            min: 0,
            max: 0,
            last_position: extent.first,
            last_timestamp: 0,
        });
        Ok(Self {
            fs,
            path,
            file,
            header: Header {
                base: extent.base,
                segment_size: extent.segment_size,
                first: extent.first,
                end: extent.end,
                count: 0,
                span,
                entries_crc: 0,
            },
            temp,
            block: Vec::with_capacity(BLOCK),
            in_block: 0,
            blocks: 0,
            ready: Vec::with_capacity(WRITE_LEN),
            written: BLOCK as u64,
            last: None,
        })
    }

    /// Adds the next entry; the one added last is ignored when it comes again.
    ///
    /// # Errors
    /// I/O.
    pub fn push(&mut self, entry: &Entry) -> Result<()> {
        let key = Some((entry.hash, entry.position));
        if self.last == key {
            return Ok(());
        }
        self.last = key;
        self.header.encode_entry(entry, &mut self.block);
        self.header.count += 1;
        self.in_block += 1;
        if self.in_block == BLOCK_ENTRIES {
            self.end_block()?;
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<()> {
        self.blocks += 1;
        seal_block(&mut self.block, self.blocks);
        self.header.entries_crc = crc32c::crc32c_append(self.header.entries_crc, &self.block);
        self.ready.append(&mut self.block);
        self.in_block = 0;
        if self.ready.len() >= WRITE_LEN {
            self.write_ready()?;
        }
        Ok(())
    }

    fn write_ready(&mut self) -> Result<()> {
        let bytes = std::mem::replace(&mut self.ready, Vec::with_capacity(WRITE_LEN));
        let len = bytes.len() as u64;
        let written = self
            .file
            .write_all_vectored_at(&[Bytes::from(bytes)], self.written);
        written.map_err(|e| self.failed(e))?;
        self.written += len;
        Ok(())
    }

    fn failed(&self, error: std::io::Error) -> StoreError {
        StoreError::io(format!("write {}", self.temp.display()), error)
    }

    /// Makes the file whole, durable when `sync`.
    ///
    /// # Errors
    /// I/O.
    pub fn finish(mut self, sync: bool, sealed: bool) -> Result<Arc<IndexFile>> {
        if self.in_block > 0 {
            self.end_block()?;
        }
        if !self.ready.is_empty() {
            self.write_ready()?;
        }
        let header = Bytes::from(self.header.encode());
        let written = self.file.write_all_vectored_at(&[header], 0);
        written.map_err(|e| self.failed(e))?;
        if sync {
            self.file.sync_data().map_err(|e| self.failed(e))?;
        }
        let renamed = self.fs.rename(&self.temp, &self.path);
        renamed.map_err(|e| self.failed(e))?;
        if let Some(dir) = self.path.parent().filter(|_| sync) {
            self.fs.sync_dir(dir).map_err(|e| self.failed(e))?;
        }
        Ok(IndexFile::new(self.path, self.header, sealed))
    }

    /// Gives the file up.
    pub fn abandon(self) {
        if let Err(error) = self.fs.remove_file(&self.temp) {
            tracing::warn!(%error, "{} was left behind", self.temp.display());
        }
    }
}

/// Directory of a segment.
pub fn segment_dir(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}"))
}

/// Makes the directory of a segment, durably.
///
/// # Errors
/// I/O.
pub fn make_segment_dir(fs: &dyn FileSystem, dir: &Path, base: u64) -> Result<PathBuf> {
    let path = segment_dir(dir, base);
    if !fs.exists(&path) {
        let made = fs.create_dir_all(&path).and_then(|()| fs.sync_dir(dir));
        made.map_err(|e| StoreError::io(format!("make {}", path.display()), e))?;
    }
    Ok(path)
}

/// Writes entries in any order to one file. They are sorted in place.
///
/// # Errors
/// I/O.
pub fn write_entries(
    fs: &dyn FileSystem,
    path: PathBuf,
    extent: &Extent,
    entries: &mut [Entry],
    sync: bool,
) -> Result<Arc<IndexFile>> {
    // In log order, the last entry of the latest position tells the span's end: before they are sorted.
    let span = entries
        .iter()
        .fold(None, |span, entry| Some(Span::join(span, Span::of(entry))));
    entries.sort_unstable_by_key(|e| (e.hash, e.position));
    let mut writer = FileWriter::create(fs, path, &Extent { span, ..*extent })?;
    for entry in entries.iter() {
        writer.push(entry)?;
    }
    writer.finish(sync, false)
}

/// Path of the sealed file of an extent.
pub fn sealed_path(dir: &Path, extent: &Extent) -> PathBuf {
    segment_dir(dir, extent.base).join(sealed_name(extent.first))
}
