//! Snapshots between replicas: a file here, a stream of chunks on the wire, a file there. Only the state at the oldest
//! retained position travels this way; the messages come as log entries.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use bytes::Bytes;
use futures_util::Stream;
use raftmq_store::snapshots::Snapshot as Stored;
use raftmq_store::vfs::{File, FileSystem};

use crate::blocking;
use crate::types::{CommittedLeaderId, Meta, decode_stored, log_id};

/// Bytes in one chunk.
const CHUNK: u64 = 1024 * 1024;
/// Largest snapshot that is taken from a leader, bytes: metadata only, no messages.
const MAX_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// A snapshot may take this part of what is free on the disk: installed it is there twice.
const PART_OF_DISK: u64 = 2;

/// A snapshot as openraft hands it around: where it lies.
#[derive(Clone)]
pub struct SnapshotFile {
    /// The file.
    pub path: PathBuf,
    /// Where files are.
    pub fs: Arc<dyn FileSystem>,
    /// Of one that was received: deletes what is left of it when nobody needs it any more.
    _received: Option<Arc<Received>>,
}

/// A file of a transfer, gone with the last who needs it, unless it was taken in under another name.
pub struct Received {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
}

impl Drop for Received {
    fn drop(&mut self) {
        if self.fs.exists(&self.path)
            && let Err(error) = self.fs.remove_file(&self.path)
        {
            tracing::warn!(%error, "a snapshot that was not installed is not deleted");
        }
    }
}

impl SnapshotFile {
    /// One that stays.
    pub fn kept(fs: Arc<dyn FileSystem>, path: PathBuf) -> Self {
        Self {
            path,
            fs,
            _received: None,
        }
    }
}

impl fmt::Debug for SnapshotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
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
pub fn chunks(source: SnapshotFile) -> impl Stream<Item = Bytes> {
    futures_util::stream::unfold(
        (None, 0),
        move |(open, at): (Option<Arc<dyn File>>, u64)| {
            let SnapshotFile { path, fs, .. } = source.clone();
            async move {
                let read = blocking::run(move || -> io::Result<_> {
                    let file = match open {
                        Some(file) => file,
                        None => fs.open(&path, false)?,
                    };
                    let left = file.len()?.saturating_sub(at).min(CHUNK);
                    let mut bytes = vec![0; left as usize];
                    file.read_exact_at(&mut bytes, at)?;
                    Ok((bytes, file))
                });
                match read.await.map_err(io::Error::other).and_then(|r| r) {
                    Ok((bytes, _)) if bytes.is_empty() => None,
                    Ok((bytes, file)) => {
                        let next = at + bytes.len() as u64;
                        Some((Bytes::from(bytes), (Some(file), next)))
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a snapshot cannot be read");
                        None
                    }
                }
            }
        },
    )
}

/// Receives chunks into a file.
pub struct Incoming {
    target: SnapshotFile,
    file: Arc<dyn File>,
    bytes: u64,
    most: u64,
}

impl Incoming {
    /// Makes the file, which no other transfer may have.
    ///
    /// # Errors
    /// I/O.
    pub fn create(fs: Arc<dyn FileSystem>, path: PathBuf, dir: &Path) -> io::Result<Self> {
        let space = fs.space(dir)?;
        let file = fs.open(&path, true)?;
        let received = Received {
            fs: fs.clone(),
            path: path.clone(),
        };
        Ok(Self {
            target: SnapshotFile {
                path,
                fs,
                _received: Some(Arc::new(received)),
            },
            file,
            bytes: 0,
            most: MAX_BYTES.min(space.available / PART_OF_DISK),
        })
    }

    /// Adds a chunk, beside the async threads.
    ///
    /// # Errors
    /// I/O, or more than a snapshot may have.
    pub async fn write(mut self, chunk: Bytes) -> io::Result<Self> {
        let at = self.bytes;
        self.bytes += chunk.len() as u64;
        if self.bytes > self.most {
            let most = self.most;
            return Err(io::Error::other(format!(
                "a snapshot of more than {most} bytes: half of what is free on this disk, or the limit"
            )));
        }
        let written = blocking::run(move || {
            self.file.write_all_vectored_at(&[chunk], at)?;
            Ok(self)
        });
        written.await.map_err(io::Error::other)?
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// I/O.
    pub async fn finish(self) -> io::Result<SnapshotFile> {
        let synced = blocking::run(move || {
            self.file.sync_data()?;
            Ok(self.target)
        });
        synced.await.map_err(io::Error::other)?
    }
}

/// openraft's snapshot with our data.
pub type Snapshot =
    openraft::storage::Snapshot<CommittedLeaderId, u64, crate::options::Node, SnapshotFile>;
