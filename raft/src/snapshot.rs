//! Snapshots between replicas: a file here, a stream of chunks on the wire, a file there. Only the state at the oldest
//! retained position travels this way; the messages come as log entries.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::Stream;
use raftmq_store::snapshots::Snapshot as Stored;

use crate::types::{CommittedLeaderId, Meta, decode_stored, log_id};

/// Bytes in one chunk.
const CHUNK: usize = 1024 * 1024;
/// Largest snapshot that is taken from a leader, bytes: metadata only, no messages.
const MAX_BYTES: u64 = 16 * 1024 * 1024 * 1024;

/// A snapshot as openraft hands it around: where it lies.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    /// The file.
    pub path: PathBuf,
}

/// What openraft wants to know of a stored snapshot.
///
/// # Errors
/// Damage of the membership in it.
pub fn meta_of(snapshot: &Stored) -> raftmq_store::Result<Meta> {
    let membership = snapshot.header.membership.as_deref();
    let mark = snapshot.header.mark;
    Ok(Meta {
        last_log_id: Some(log_id(mark.term, mark.index)),
        last_membership: membership
            .map(decode_stored)
            .transpose()?
            .unwrap_or_default(),
    })
}

/// The file's bytes, read beside the async threads. Ends early when the file cannot be read: the receiver refuses it then.
pub fn chunks(file: SnapshotFile) -> impl Stream<Item = Bytes> {
    futures_util::stream::unfold(None, move |open: Option<std::fs::File>| {
        let path = file.path.clone();
        async move {
            let read = crate::blocking::run(move || -> io::Result<_> {
                let mut file = match open {
                    Some(file) => file,
                    None => std::fs::File::open(path)?,
                };
                let mut bytes = Vec::with_capacity(CHUNK);
                (&mut file).take(CHUNK as u64).read_to_end(&mut bytes)?;
                Ok((bytes, file))
            });
            match read.await.map_err(io::Error::other).and_then(|r| r) {
                Ok((bytes, _)) if bytes.is_empty() => None,
                Ok((bytes, file)) => Some((Bytes::from(bytes), Some(file))),
                Err(error) => {
                    tracing::warn!(%error, "a snapshot cannot be read");
                    None
                }
            }
        }
    })
}

/// Receives chunks into a file.
pub struct Incoming {
    path: PathBuf,
    file: std::fs::File,
    bytes: u64,
}

impl Incoming {
    /// Makes the file.
    ///
    /// # Errors
    /// I/O.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let file = std::fs::File::create(&path)?;
        Ok(Self {
            path,
            file,
            bytes: 0,
        })
    }

    /// Adds a chunk, beside the async threads.
    ///
    /// # Errors
    /// I/O, or more than a snapshot may have.
    pub async fn write(mut self, chunk: Bytes) -> io::Result<Self> {
        self.bytes += chunk.len() as u64;
        if self.bytes > MAX_BYTES {
            return Err(io::Error::other("snapshot too large"));
        }
        let written = crate::blocking::run(move || {
            self.file.write_all(&chunk)?;
            Ok(self)
        });
        written.await.map_err(io::Error::other)?
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// I/O.
    pub async fn finish(self) -> io::Result<SnapshotFile> {
        let synced = crate::blocking::run(move || {
            self.file.sync_all()?;
            Ok(SnapshotFile { path: self.path })
        });
        synced.await.map_err(io::Error::other)?
    }
}

/// openraft's snapshot with our data.
pub type Snapshot =
    openraft::storage::Snapshot<CommittedLeaderId, u64, crate::options::Node, SnapshotFile>;
