//! The one place with `unsafe`: read-only maps of segment files, handed out as [`Bytes`].
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

/// A mapped file as the owner behind [`Bytes`]; unmapped when the last slice is dropped.
struct Mapping(Mmap);

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps the first `len` bytes of `file` read-only.
///
/// # Errors
/// The kernel's, and `InvalidInput` when the file is shorter than `len` (touching such a map would be a SIGBUS).
pub fn map_readonly(file: &File, len: u64) -> io::Result<Bytes> {
    if file.metadata()?.len() < len {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "file is shorter than the range to map",
        ));
    }
    // SAFETY: A segment file is allocated to its full length before it is mapped and is never shortened while the
    // process lives (deleting the name keeps the pages). Slices of a map are handed out only for committed
    // entries, whose bytes never change again, so no reader sees a byte change under its reference: a repair writes the
    // very bytes that were there, and nothing of a damaged range is handed out before. The data
    // directory is locked against other processes.
    let map = unsafe { MmapOptions::new().len(len as usize).map(file)? };
    Ok(Bytes::from_owner(Mapping(map)))
}

/// A multiple of it is asked for; larger pages only mean that more is read.
const PAGE: usize = 4096;

/// Reads the pages behind a slice of a map into memory, so that touching them later neither waits for the disk nor
/// ends in a SIGBUS. Kernels before 5.14 cannot be asked to; there the bytes come at first touch.
///
/// # Errors
/// The disk's, for pages that cannot be read.
pub fn make_resident(bytes: &Bytes) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let page = PAGE;
    let start = bytes.as_ptr() as usize / page * page;
    let len = bytes.as_ptr() as usize + bytes.len() - start;
    let advice = rustix::mm::Advice::LinuxPopulateRead;
    // SAFETY: The range starts in the page of the slice's first byte and ends with its last one, so all of it is mapped
    // while `bytes` lives. Populating only reads: no content and no other mapping changes.
    match unsafe { rustix::mm::madvise(start as *mut _, len, advice) } {
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
