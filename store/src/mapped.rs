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
    // entries, whose bytes are never written again, so no reader sees a byte change under its reference. The data
    // directory is locked against other processes.
    let map = unsafe { MmapOptions::new().len(len as usize).map(file)? };
    Ok(Bytes::from_owner(Mapping(map)))
}
