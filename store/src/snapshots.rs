//! Snapshots: the state between two segments of the log, as files. Messages are not in them, they stay in the log.
//!
//! The base snapshot belongs to the oldest retained position: a new replica gets it and then every retained entry. A
//! later one lets this replica go back when its metadata store is damaged or ahead of a log that lost its end. They are
//! written at segment boundaries, apart from the apply path, and thinned out: [`KEPT`] at most.
//!
//! ```text
//! file   = magic "RMQSNAP1" + frame(header, JSON) + frame(items)... + frame() of no bytes
//! frame  = length u32 | crc32c u32 | bytes
//! item   = family u8 | key length u32 | key | value length u32 | value
//!        | 255 | topic length u32 | topic | 12 | queue id i32, next offset i64                     (big-endian)
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::commitlog::format::read_u32;
use crate::commitlog::marks::Mark;
use crate::error::{Result, StoreError};
use crate::io_error::is_damage;
use crate::kv::{self, Family, Frozen, carried};
use crate::vfs::{File, FileSystem};

/// Snapshots kept: a trim can go to each, so retention is as fine as a 64th of the log.
pub const KEPT: usize = 64;
const MAGIC: &[u8] = b"RMQSNAP1";
/// Bytes gathered into one frame; an item larger than that has a frame of its own.
const FRAME_BYTES: usize = 256 * 1024;
/// Largest frame that is read, bytes.
const MAX_FRAME: usize = 64 * 1024 * 1024;
const QUEUE: u8 = 255;
const FRAME_HEADER: usize = 8;

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The last entry in it; its position is where the log goes on.
    pub mark: Mark,
    /// The membership at that entry, as the Raft layer encoded it.
    pub membership: Option<Vec<u8>>,
}

/// A snapshot on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What it is of.
    pub header: Header,
    /// Its file.
    pub path: PathBuf,
    /// Bytes of the file.
    pub len: u64,
}

/// State that was frozen between two entries, to be written by [`Snapshots::write`].
pub struct Pending {
    /// What it is of.
    pub header: Header,
    /// Next offset of every queue.
    pub queues: Vec<(String, i32, i64)>,
    /// The metadata store.
    pub kv: Frozen,
    /// Directory of the frozen store, removed afterwards.
    pub dir: PathBuf,
}

/// One thing in a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A pair of the metadata store.
    Pair(Family, Vec<u8>, Vec<u8>),
    /// A pair of a family of a later version, by its place: carried on, [`crate::kv::carried`].
    Carried(u8, Vec<u8>, Vec<u8>),
    /// Next offset of a queue.
    Queue(String, i32, i64),
}

/// The snapshots of one replica.
pub struct Snapshots {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    /// Oldest first.
    all: Vec<Snapshot>,
    /// Position of the one at which the log begins, or is about to; `None` while the log is kept whole.
    base: Option<u64>,
}

impl Snapshots {
    /// Where the files are.
    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    /// Opens the directory; what is not a whole snapshot is deleted. One that the disk cannot read is left where it is
    /// and not used.
    ///
    /// # Errors
    /// I/O, among it that the system does not let a file be opened now: nothing is deleted then.
    pub fn open(fs: Arc<dyn FileSystem>, dir: PathBuf) -> Result<Self> {
        let failed = |e| StoreError::io(format!("open {}", dir.display()), e);
        fs.make_dir(&dir).map_err(failed)?;
        let mut all = Vec::new();
        for name in fs.list(&dir).map_err(failed)? {
            let path = dir.join(&name);
            match name.strip_suffix(".snap") {
                Some(_) => match Reader::open(fs.as_ref(), &path) {
                    Ok(reader) => all.push(reader.snapshot(path)),
                    Err(error @ StoreError::Io { .. }) if is_damage(&error) => {
                        tracing::error!(%error, "a snapshot cannot be read");
                    }
                    Err(error @ StoreError::Io { .. }) => return Err(error),
                    Err(error) => {
                        tracing::warn!(%error, "a damaged snapshot is deleted");
                        fs.remove_file(&path).map_err(failed)?;
                    }
                },
                // RocksDB freezes under a name of its own and renames that.
                None if name.ends_with(".frozen") || name.ends_with(".frozen.tmp") => {
                    fs.remove_dir_all(&path).map_err(failed)?
                }
                None => fs.remove_file(&path).map_err(failed)?,
            }
        }
        all.sort_by_key(|s| s.header.mark.position);
        Ok(Self {
            fs,
            dir,
            list: Mutex::new(List { all, base: None }),
        })
    }

    fn path(&self, position: u64) -> PathBuf {
        self.dir.join(format!("{position:020}.snap"))
    }

    /// Where a metadata store may be frozen for a snapshot at `position`.
    pub fn frozen_dir(&self, position: u64) -> PathBuf {
        self.dir.join(format!("{position:020}.frozen"))
    }

    /// Gives back what an unfinished freeze took, as far as that can be done.
    pub(crate) fn remove_frozen(&self, position: u64) {
        let dir = self.frozen_dir(position);
        for dir in [dir.with_extension("frozen.tmp"), dir] {
            if self.fs.exists(&dir)
                && let Err(error) = self.fs.remove_dir_all(&dir)
            {
                tracing::warn!(%error, dir = %dir.display(), "removed at the next start");
            }
        }
    }

    /// Where a snapshot is received; [`Snapshots::adopt`] takes it from there.
    pub fn incoming_path(&self, nonce: u64) -> PathBuf {
        self.dir.join(format!("incoming-{nonce}.tmp"))
    }

    /// Boundaries with a snapshot, oldest first.
    pub fn marks(&self) -> Vec<Mark> {
        let list = self.list.lock();
        list.all.iter().map(|s| s.header.mark).collect()
    }

    /// The snapshot at which the log begins.
    pub fn base(&self) -> Option<Snapshot> {
        let list = self.list.lock();
        let base = list.base?;
        list.all
            .iter()
            .find(|s| s.header.mark.position == base)
            .cloned()
    }

    /// The oldest one of a log that starts after the entry `purged`.
    pub fn oldest_from(&self, purged: u64) -> Option<Snapshot> {
        let list = self.list.lock();
        list.all
            .iter()
            .find(|s| s.header.mark.index >= purged)
            .cloned()
    }

    /// The newest one that holds nothing beyond an entry.
    pub fn newest_until(&self, index: u64) -> Option<Snapshot> {
        let list = self.list.lock();
        list.all
            .iter()
            .rev()
            .find(|s| s.header.mark.index <= index)
            .cloned()
    }

    /// Makes the newest snapshot at or before `position` the base; `None` when that is not beyond the present one.
    pub fn move_base(&self, position: u64) -> Option<Snapshot> {
        let mut list = self.list.lock();
        let found = list
            .all
            .iter()
            .rev()
            .find(|s| s.header.mark.position <= position)
            .cloned()?;
        let at = found.header.mark.position;
        if list.base.is_some_and(|base| base >= at) {
            return None;
        }
        list.base = Some(at);
        Some(found)
    }

    /// Writes frozen state to a file, durably, unless there is one for that place.
    ///
    /// # Errors
    /// I/O, or the frozen store cannot be read.
    pub fn write(&self, pending: Pending) -> Result<()> {
        let mark = pending.header.mark;
        let known = {
            let list = self.list.lock();
            list.all.iter().any(|s| s.header.mark == mark)
        };
        let written = if known {
            Ok(())
        } else {
            self.write_file(pending.header, &pending.queues, pending.kv)
        };
        if self.fs.exists(&pending.dir) {
            let removed = self.fs.remove_dir_all(&pending.dir);
            removed.map_err(|e| StoreError::io(format!("remove {}", pending.dir.display()), e))?;
        }
        written?;
        self.thin()
    }

    fn write_file(&self, header: Header, queues: &[(String, i32, i64)], kv: Frozen) -> Result<()> {
        let path = self.path(header.mark.position);
        let mut writer = Writer::create(self.fs.as_ref(), path.with_extension("tmp"))?;
        let json = serde_json::to_vec(&header).map_err(|e| StoreError::Metadata(e.to_string()))?;
        writer.put(&json);
        writer.end_frame()?;
        for (topic, id, next) in queues {
            let mut value = id.to_be_bytes().to_vec();
            value.extend_from_slice(&next.to_be_bytes());
            writer.item(QUEUE, topic.as_bytes(), &value)?;
        }
        let kv = kv()?;
        for (nth, family) in Family::ALL.into_iter().enumerate() {
            kv::for_each(kv.as_ref(), family, |key, value| {
                let carried = carried::row_of(key).filter(|_| family == Family::Meta);
                let (place, key) = carried.unwrap_or((nth as u8, key));
                writer.item(place, key, value)
            })?;
        }
        drop(kv);
        let len = writer.finish()?;
        self.take(path.with_extension("tmp"), header, len)
    }

    /// Gives a whole file its name and adds it to the list.
    fn take(&self, from: PathBuf, header: Header, len: u64) -> Result<()> {
        let path = self.path(header.mark.position);
        let renamed = self.fs.rename(&from, &path);
        renamed
            .and_then(|()| self.fs.sync_dir(&self.dir))
            .map_err(|e| StoreError::io(format!("rename {}", from.display()), e))?;
        let mut list = self.list.lock();
        list.all
            .retain(|s| s.header.mark.position != header.mark.position);
        list.all.push(Snapshot { header, path, len });
        list.all.sort_by_key(|s| s.header.mark.position);
        Ok(())
    }

    /// Takes in a received file after checking all of it. It alone remains: what was here belongs to a log that is given
    /// up.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`]; nothing has changed then.
    pub fn adopt(&self, path: &Path) -> Result<Snapshot> {
        let mut reader = Reader::open(self.fs.as_ref(), path)?;
        while reader.next()?.is_some() {}
        let snapshot = reader.snapshot(path.to_path_buf());
        let position = snapshot.header.mark.position;
        self.take(path.to_path_buf(), snapshot.header, snapshot.len)?;
        self.list.lock().base = Some(position);
        let found = self.base();
        found.ok_or_else(|| StoreError::corrupt("snapshot", "lost while it was taken in"))
    }

    /// Opens one to read its items.
    ///
    /// # Errors
    /// I/O or damage.
    pub fn read(&self, snapshot: &Snapshot) -> Result<Reader> {
        Reader::open(self.fs.as_ref(), &snapshot.path)
    }

    /// Reads every snapshot whole and deletes the damaged ones; true when the base was among them. The log stays as it is
    /// then: what lies before the next snapshot, pending timers among it, is here and may be nowhere else.
    ///
    /// # Errors
    /// I/O.
    pub fn verify(&self) -> Result<bool> {
        let (all, base) = {
            let list = self.list.lock();
            (list.all.clone(), list.base)
        };
        let mut lost_base = false;
        for snapshot in &all {
            let position = snapshot.header.mark.position;
            match check(self.fs.as_ref(), &snapshot.path) {
                Ok(_) => {}
                Err(StoreError::Io { source, .. })
                    if source.kind() != std::io::ErrorKind::NotFound => {}
                // Thinned out meanwhile.
                Err(_) if !self.marks().iter().any(|m| m.position == position) => {}
                Err(error) => {
                    tracing::error!(%error, position, "a damaged snapshot is deleted");
                    lost_base |= Some(position) == base;
                    let mut list = self.list.lock();
                    list.all.retain(|s| s.header.mark.position != position);
                    drop(list);
                    if self.fs.exists(&snapshot.path) {
                        let removed = self.fs.remove_file(&snapshot.path);
                        removed.map_err(|e| StoreError::io("delete a damaged snapshot", e))?;
                    }
                }
            }
        }
        if lost_base {
            self.list.lock().base = None;
        }
        Ok(lost_base)
    }

    /// Deletes all but the one at `position`.
    ///
    /// # Errors
    /// I/O.
    pub fn keep_only(&self, position: u64) -> Result<()> {
        self.remove(|mark| mark.position != position)
    }

    /// Deletes those before the log's start.
    ///
    /// # Errors
    /// I/O.
    pub fn remove_before(&self, position: u64) -> Result<()> {
        self.remove(|mark| mark.position < position)
    }

    /// Deletes those of entries beyond `index`, which are no longer in the log.
    ///
    /// # Errors
    /// I/O.
    pub fn remove_beyond(&self, index: u64) -> Result<()> {
        self.remove(|mark| mark.index > index)
    }

    fn remove(&self, doomed: impl Fn(&Mark) -> bool) -> Result<()> {
        let gone: Vec<PathBuf> = {
            let mut list = self.list.lock();
            let gone = list.all.iter().filter(|s| doomed(&s.header.mark));
            let gone = gone.map(|s| s.path.clone()).collect();
            list.all.retain(|s| !doomed(&s.header.mark));
            gone
        };
        for path in &gone {
            let removed = self.fs.remove_file(path);
            removed.map_err(|e| StoreError::io(format!("delete {}", path.display()), e))?;
        }
        if gone.is_empty() {
            return Ok(());
        }
        self.fs
            .sync_dir(&self.dir)
            .map_err(|e| StoreError::io("sync the snapshot directory", e))
    }

    /// Of too many, the one goes whose neighbours are closest together; never the oldest, the newest or the base.
    fn thin(&self) -> Result<()> {
        loop {
            let doomed = {
                let list = self.list.lock();
                if list.all.len() <= KEPT {
                    return Ok(());
                }
                let at = |i: usize| list.all[i].header.mark.position;
                let middle = 1..list.all.len() - 1;
                middle
                    .filter(|i| Some(at(*i)) != list.base)
                    .min_by_key(|i| at(i + 1) - at(i - 1))
                    .map(at)
            };
            match doomed {
                Some(position) => self.remove(|mark| mark.position == position)?,
                None => return Ok(()),
            }
        }
    }
}

/// Reads a file whole and says what it is of.
///
/// # Errors
/// [`StoreError::Corrupt`]; I/O.
pub fn check(fs: &dyn FileSystem, path: &Path) -> Result<Header> {
    let mut reader = Reader::open(fs, path)?;
    while reader.next()?.is_some() {}
    Ok(reader.header)
}

struct Writer {
    file: Arc<dyn File>,
    at: u64,
    frame: Vec<u8>,
}

impl Writer {
    fn create(fs: &dyn FileSystem, path: PathBuf) -> Result<Self> {
        let failed = |e| StoreError::io(format!("make {}", path.display()), e);
        if fs.exists(&path) {
            fs.remove_file(&path).map_err(failed)?;
        }
        let file = fs.open(&path, true).map_err(failed)?;
        let mut writer = Self {
            file,
            at: 0,
            frame: Vec::new(),
        };
        writer.write(Bytes::from_static(MAGIC))?;
        writer.frame = vec![0; FRAME_HEADER];
        Ok(writer)
    }

    fn write(&mut self, bytes: Bytes) -> Result<()> {
        let len = bytes.len() as u64;
        self.file
            .write_all_vectored_at(&[bytes], self.at)
            .map_err(|e| StoreError::io("write a snapshot", e))?;
        self.at += len;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) {
        self.frame.extend_from_slice(bytes);
    }

    fn item(&mut self, kind: u8, key: &[u8], value: &[u8]) -> Result<()> {
        self.put(&[kind]);
        self.put(&(key.len() as u32).to_be_bytes());
        self.put(key);
        self.put(&(value.len() as u32).to_be_bytes());
        self.put(value);
        if self.frame.len() >= FRAME_BYTES {
            self.end_frame()?;
        }
        Ok(())
    }

    fn end_frame(&mut self) -> Result<()> {
        let mut frame = std::mem::replace(&mut self.frame, vec![0; FRAME_HEADER]);
        let len = (frame.len() - FRAME_HEADER) as u32;
        let crc = crc32c::crc32c(&frame[FRAME_HEADER..]);
        frame[..4].copy_from_slice(&len.to_be_bytes());
        frame[4..8].copy_from_slice(&crc.to_be_bytes());
        self.write(frame.into())
    }

    fn finish(mut self) -> Result<u64> {
        if self.frame.len() > FRAME_HEADER {
            self.end_frame()?;
        }
        self.end_frame()?;
        self.file
            .sync_data()
            .map_err(|e| StoreError::io("sync a snapshot", e))?;
        Ok(self.at)
    }
}

/// Reads a snapshot's items, frame by frame.
pub struct Reader {
    file: Arc<dyn File>,
    at: u64,
    len: u64,
    header: Header,
}

impl Reader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is no snapshot; I/O.
    pub fn open(fs: &dyn FileSystem, path: &Path) -> Result<Self> {
        let failed = |e| StoreError::io(format!("read {}", path.display()), e);
        let file = fs.open(path, false).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        let mut magic = vec![0; MAGIC.len()];
        let short = len < MAGIC.len() as u64;
        if !short {
            file.read_exact_at(&mut magic, 0).map_err(failed)?;
        }
        if short || magic != MAGIC {
            return Err(StoreError::corrupt(
                path.display().to_string(),
                "no snapshot",
            ));
        }
        let mut reader = Self {
            file,
            at: MAGIC.len() as u64,
            len,
            header: Header {
                mark: Mark::default(),
                membership: None,
            },
        };
        let frame = reader.frame()?;
        reader.header = serde_json::from_slice(&frame)
            .map_err(|e| StoreError::corrupt(path.display().to_string(), e.to_string()))?;
        Ok(reader)
    }

    /// What it is of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    fn snapshot(&self, path: PathBuf) -> Snapshot {
        Snapshot {
            header: self.header.clone(),
            path,
            len: self.len,
        }
    }

    fn frame(&mut self) -> Result<Vec<u8>> {
        let bad = |detail: &str| StoreError::corrupt("snapshot", detail);
        let failed = |e| StoreError::io("read a snapshot", e);
        if self.at + FRAME_HEADER as u64 > self.len {
            return Err(bad("it ends early"));
        }
        let mut head = [0; FRAME_HEADER];
        self.file
            .read_exact_at(&mut head, self.at)
            .map_err(failed)?;
        let size = read_u32(&head, 0).unwrap_or(0) as usize;
        self.at += FRAME_HEADER as u64;
        if size > MAX_FRAME || self.at + size as u64 > self.len {
            return Err(bad("it ends early"));
        }
        let mut bytes = vec![0; size];
        self.file
            .read_exact_at(&mut bytes, self.at)
            .map_err(failed)?;
        if read_u32(&head, 4) != Some(crc32c::crc32c(&bytes)) {
            return Err(bad("bad checksum"));
        }
        self.at += size as u64;
        Ok(bytes)
    }

    /// The next items; `None` at the end.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`]; I/O.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Vec<Item>>> {
        let frame = self.frame()?;
        if frame.is_empty() {
            return match self.at == self.len {
                true => Ok(None),
                false => Err(StoreError::corrupt("snapshot", "bytes after its end")),
            };
        }
        let mut rest = &frame[..];
        let mut items = Vec::new();
        while !rest.is_empty() {
            items.push(
                item(&mut rest).ok_or_else(|| StoreError::corrupt("snapshot", "a broken item"))?,
            );
        }
        Ok(Some(items))
    }
}

fn item(rest: &mut &[u8]) -> Option<Item> {
    let (kind, tail) = rest.split_first()?;
    *rest = tail;
    let mut field = || {
        let len = read_u32(rest, 0)? as usize;
        let field = rest.get(4..4 + len)?;
        *rest = &rest[4 + len..];
        Some(field)
    };
    let (key, value) = (field()?, field()?);
    if *kind == QUEUE {
        let id = i32::from_be_bytes(value.get(..4)?.try_into().ok()?);
        let next = i64::from_be_bytes(value.get(4..12)?.try_into().ok()?);
        let topic = std::str::from_utf8(key).ok()?.to_owned();
        return Some(Item::Queue(topic, id, next));
    }
    let (key, value) = (key.to_vec(), value.to_vec());
    Some(match Family::ALL.get(usize::from(*kind)) {
        Some(family) => Item::Pair(*family, key, value),
        None => Item::Carried(*kind, key, value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Env;

    #[test]
    fn what_a_kill_left_unfinished_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        // The second is RocksDB's, before it has all files.
        for frozen in ["0.frozen", "1.frozen.tmp"] {
            std::fs::create_dir(dir.path().join(frozen)).unwrap();
            std::fs::write(dir.path().join(frozen).join("CURRENT"), "x").unwrap();
        }
        std::fs::write(dir.path().join("2.tmp"), "x").unwrap();
        Snapshots::open(Env::real().fs, dir.path().to_owned()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
