//! What an error of the operating system means for a replica: the one place that decides between damage, a full disk, a
//! process short of something, and a disk that must not be trusted any more. Callers act on the meaning, never on a number.
//!
//! | meaning | errors | what is done |
//! |---|---|---|
//! | [`Meaning::Damage`] | `EIO`, `EUCLEAN`, `EBADMSG`, a short file ... | of a read: the stretch is damaged, as if its checksum were wrong; it is noted and repaired |
//! | [`Meaning::NoSpace`] | `ENOSPC`, `EDQUOT` | waited out or gone without; nothing is thrown away |
//! | [`Meaning::Refused`] | `EMFILE`, `ENFILE`, `ENOMEM`, `EACCES`, `EINTR` ... | it says nothing about the disk: try again later, or end; nothing is thrown away |
//! | [`Meaning::Fatal`] | anything else | the replica stops |
//!
//! A write or an fsync that fails with `EIO` is no damage of a stretch: what the file holds then is unknown, and the replica
//! stops whatever the meaning says.

use std::io;

use crate::error::StoreError;

/// What an I/O error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// These bytes of the disk cannot be read.
    Damage,
    /// The disk, or the quota, is full.
    NoSpace,
    /// The system did not let this process do it now; the disk is as it was.
    Refused,
    /// Nobody knows.
    Fatal,
}

/// Errors of a disk or a file system that cannot give back what it holds; Linux's numbers.
mod errno {
    pub const EIO: i32 = 5;
    /// A page of a map that could not be read, when it is asked for ahead of its use.
    pub const EFAULT: i32 = 14;
    /// A medium error of a block device.
    pub const ENODATA: i32 = 61;
    /// A checksum error of a block device.
    pub const EBADMSG: i32 = 74;
    /// A protection error of a block device.
    pub const EILSEQ: i32 = 84;
    /// "Structure needs cleaning": the file system found its own data damaged.
    pub const EUCLEAN: i32 = 117;
    /// The same, of a remote disk.
    pub const EREMOTEIO: i32 = 121;
    /// Memory that held the page failed.
    pub const EHWPOISON: i32 = 133;

    pub const EPERM: i32 = 1;
    pub const EINTR: i32 = 4;
    pub const EAGAIN: i32 = 11;
    pub const ENOMEM: i32 = 12;
    pub const EACCES: i32 = 13;
    pub const ENFILE: i32 = 23;
    pub const EMFILE: i32 = 24;
    pub const ENOSPC: i32 = 28;
    pub const EROFS: i32 = 30;
    pub const EDQUOT: i32 = 122;
}

/// What this error means.
pub fn meaning(error: &io::Error) -> Meaning {
    use errno::{
        EACCES, EAGAIN, EBADMSG, EDQUOT, EFAULT, EHWPOISON, EILSEQ, EINTR, EIO, EMFILE, ENFILE,
        ENODATA, ENOMEM, ENOSPC, EPERM, EREMOTEIO, EROFS, EUCLEAN,
    };
    match error.raw_os_error() {
        Some(EIO | EFAULT | ENODATA | EBADMSG | EILSEQ | EUCLEAN | EREMOTEIO | EHWPOISON) => {
            return Meaning::Damage;
        }
        Some(ENOSPC | EDQUOT) => return Meaning::NoSpace,
        Some(EPERM | EINTR | EAGAIN | ENOMEM | EACCES | ENFILE | EMFILE | EROFS) => {
            return Meaning::Refused;
        }
        _ => {}
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Meaning::Damage,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Meaning::NoSpace,
        io::ErrorKind::Interrupted
        | io::ErrorKind::WouldBlock
        | io::ErrorKind::OutOfMemory
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem => Meaning::Refused,
        _ => Meaning::Fatal,
    }
}

/// What a sentence of RocksDB means, which hands on the operating system's words and no number. Without such words it is
/// [`Meaning::Fatal`]: nothing is known about the disk.
pub fn meaning_of_text(text: &str) -> Meaning {
    let says = |words: &[&str]| words.iter().any(|w| text.contains(w));
    if says(&["No space left on device", "Disk quota exceeded"]) {
        Meaning::NoSpace
    } else if says(&[
        "Too many open files",
        "Cannot allocate memory",
        "Permission denied",
        "Operation not permitted",
        "Read-only file system",
        "Resource temporarily unavailable",
    ]) {
        Meaning::Refused
    } else if says(&["Input/output error", "Structure needs cleaning"]) {
        Meaning::Damage
    } else {
        Meaning::Fatal
    }
}

/// Whether a read failed because these bytes of the disk are damaged: wrong, or not to be read.
pub fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Corrupt { .. } => true,
        StoreError::Io { source, .. } => meaning(source) == Meaning::Damage,
        _ => false,
    }
}

/// Whether an error says that the disk is full: a refusal, not a failure.
pub fn is_no_space(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if meaning(source) == Meaning::NoSpace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_sector_a_full_disk_and_a_lack_of_descriptors_are_three_things() {
        let of = |errno| meaning(&io::Error::from_raw_os_error(errno));
        for damage in [5, 61, 74, 84, 117] {
            assert_eq!(of(damage), Meaning::Damage, "{damage}");
        }
        assert_eq!(of(28), Meaning::NoSpace);
        assert_eq!(of(122), Meaning::NoSpace);
        for refused in [12, 13, 23, 24, 4] {
            assert_eq!(of(refused), Meaning::Refused, "{refused}");
        }
        // A device that is gone.
        assert_eq!(of(6), Meaning::Fatal);
        let short = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(meaning(&short), Meaning::Damage);
        assert_eq!(
            meaning_of_text("IO error: While open a file: x: Too many open files"),
            Meaning::Refused
        );
        assert_eq!(
            meaning_of_text("IO error: No space left on device: x"),
            Meaning::NoSpace
        );
    }
}
