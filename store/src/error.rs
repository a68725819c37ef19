//! One error type for the disk side. Its kinds are what a caller can act on: stop the replica, refuse a
//! request, or report damage.

use std::io;

/// What can go wrong between RaftMQ and its disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A read, write, fsync, rename or allocation failed. The replica must stop: the state of the file is unknown.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the file's name.
        what: String,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// An earlier write or fsync failed; nothing is written any more (a failed fsync must never be retried).
    #[error("the store is poisoned by an earlier failure: {0}")]
    Poisoned(String),
    /// Bytes on disk or from a peer contradict their checksum or their place in the log.
    #[error("corrupt {what}: {detail}")]
    Corrupt {
        /// Which file or range.
        what: String,
        /// What contradicts what.
        detail: String,
    },
    /// The caller asked for a position that is not (or no longer) in the log.
    #[error("position {position} is outside of the log [{min}, {max})")]
    OutOfRange {
        /// The position asked for, bytes.
        position: i64,
        /// First position still there.
        min: i64,
        /// First position not yet there.
        max: i64,
    },
    /// An entry that does not fit into one segment, or a record beyond the format's limits.
    #[error("entry of {size} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Size asked for, bytes.
        size: usize,
        /// Largest size allowed, bytes.
        limit: usize,
    },
    /// A topic, queue id or name that cannot be stored: the proposal is refused, nothing has happened.
    #[error("cannot be stored: {0}")]
    Unstorable(String),
    /// The log or the metadata holds what a later version wrote: this binary can go no further, and damages nothing.
    #[error("newer than this binary: {0}")]
    Newer(String),
    /// The directory was made with other constants, or another process holds it.
    #[error("{0}")]
    Refused(String),
    /// The metadata store found its own files damaged: its content has to come from a snapshot and the log.
    #[error("damaged metadata store: {0}")]
    MetadataDamaged(String),
    /// The metadata store (RocksDB) failed.
    #[error("metadata store: {0}")]
    Metadata(String),
}

impl StoreError {
    /// Wraps an I/O error with what was being done.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        StoreError::Io {
            what: what.into(),
            source,
        }
    }

    /// Damage in `what`.
    pub fn corrupt(what: impl Into<String>, detail: impl Into<String>) -> Self {
        StoreError::Corrupt {
            what: what.into(),
            detail: detail.into(),
        }
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io { what, source } => {
                io::Error::new(source.kind(), format!("{what}: {source}"))
            }
            // So that those behind the seam can tell it from a failure.
            damage @ StoreError::Corrupt { .. } => {
                io::Error::new(io::ErrorKind::InvalidData, damage.to_string())
            }
            other => io::Error::other(other.to_string()),
        }
    }
}

/// Result of a store operation.
pub type Result<T> = std::result::Result<T, StoreError>;
