//! A file system in memory that can be killed and lose power, the same way each time for the same seed.
//!
//! It keeps what a process sees apart from what the platter holds. Writes, lengths and names change the first;
//! `sync_data` carries one file's content and length over, `sync_dir` the names in one directory, `sync_all` all.
//! [`SimFs::crash`] makes the disk that the next process finds. A new directory is a name in the one above it: it
//! and all in it vanish with the power until that one is synced, which holds for the test's own top directory too
//! (`sync_all("/")` after making it).

mod content;
mod disk;
mod faults;
mod names;
mod rng;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_room;

pub use faults::FaultOp;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use self::disk::{Disk, unreadable};
use self::names::Ino;
use super::{File, FileSystem, Space};

/// How a simulated process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process is gone, the machine stays up: all that was written is there, but what was not synced can still
    /// be lost to a later power loss.
    Kill,
    /// The machine loses power. What was synced is there; of the rest, each 512-byte sector is old or new, a length
    /// is one of those since the last sync, and each directory has a prefix of its unsynced changes.
    Power,
}

/// A simulated disk; clones are handles to the same one.
#[derive(Clone)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

impl Default for SimFs {
    fn default() -> Self {
        Self::new(0)
    }
}

impl SimFs {
    /// An empty disk without limit. `seed` decides where a killed write is torn and what a failed sync drops.
    pub fn new(seed: u64) -> Self {
        Self::of(Disk::new(seed))
    }

    fn of(disk: Disk) -> Self {
        Self {
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    /// Operations done since the disk was made (by [`SimFs::new`] or [`SimFs::crash`]): writes, syncs, allocations,
    /// `set_len`, opens that make a file, renames and removals; failed ones count, a killed one does not.
    pub fn ops(&self) -> u64 {
        self.disk.lock().faults.ops
    }

    /// Lets [`SimFs::ops`] come to `n_ops`; the next operation (the one with that number, counted from 0) and all
    /// after it, reads too, fail with "killed". It is not done, except that a write may have done any first part.
    /// So a run of `ops()` = n is killed at each of its operations by 0, 1 .. n - 1.
    pub fn kill_after(&self, n_ops: u64) {
        self.disk.lock().faults.kill_at = Some(n_ops);
    }

    /// Whether the process is dead: killed by [`SimFs::kill_after`] or left behind by [`SimFs::crash`].
    pub fn killed(&self) -> bool {
        self.disk.lock().faults.dead
    }

    /// The disk that the next process finds. This one is dead from now on: every operation on it and on its files
    /// fails. May be called again with another seed, for another outcome of the same moment. Capacity and
    /// [`SimFs::ignore_syncs`] pass over; armed faults and the count of operations do not.
    pub fn crash(&self, kind: Crash, seed: u64) -> SimFs {
        let mut disk = self.disk.lock();
        disk.faults.dead = true;
        Self::of(disk.successor(kind == Crash::Power, seed))
    }

    /// Makes the disk lie: syncs succeed and do nothing.
    pub fn ignore_syncs(&self, ignore: bool) {
        self.disk.lock().lying = ignore;
    }

    /// Arms one failure, beside those armed before: after `after` good operations of this kind from now on, one fails
    /// (`StorageFull` as `ENOSPC`). After a failed sync of a file, what was written since the last one is, as after a
    /// write-back error, every other time read as before though the next sync succeeds without it; or it is gone; or
    /// nothing has happened to it.
    pub fn fail(&self, op: FaultOp, after: u64, kind: io::ErrorKind) {
        self.disk.lock().faults.arm(op, after, kind);
    }

    /// Limits the disk, bytes (whole pages of 4096). What is reserved, and pages written beyond a reservation, count
    /// against it; beyond it is `ENOSPC`, with the part of a write that fitted written.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.disk.lock().capacity = capacity;
    }

    /// Flips bits of the byte at `offset`, in what is seen and in what is durable.
    ///
    /// # Errors
    /// No such file, or `InvalidInput` for an offset beyond its end.
    pub fn corrupt(&self, path: impl AsRef<Path>, offset: u64, xor: u8) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let ino = disk.tree.find_file(path.as_ref())?;
        match disk.change(ino, |c| c.corrupt(offset, xor))? {
            true => Ok(()),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Makes the pages that `[from, from + len)` touches unreadable (`EIO`), as a bad sector does, until each is written
    /// whole: a write of a part of one fails too, for the system reads the rest of it first.
    ///
    /// # Errors
    /// No such file.
    pub fn spoil(&self, path: impl AsRef<Path>, from: u64, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let ino = disk.tree.find_file(path.as_ref())?;
        disk.change(ino, |c| c.spoil(from, from + len))
    }

    /// Cuts a file to `len` bytes, durably; a shorter one stays as it is.
    ///
    /// # Errors
    /// No such file.
    pub fn truncate_file(&self, path: impl AsRef<Path>, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let ino = disk.tree.find_file(path.as_ref())?;
        disk.change(ino, |c| c.truncate(len))
    }

    /// Loses a file, durably; the other names of its directory become durable with it.
    ///
    /// # Errors
    /// No such file.
    pub fn delete_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.delete(path.as_ref())?;
        disk.tree.sync_above(path.as_ref())
    }

    /// Paths of all files there are, from `/`, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.disk.lock().tree.files()
    }
}

impl FileSystem for SimFs {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let ino = self.disk.lock().open(path, create)?;
        Ok(Arc::new(SimFile {
            disk: self.disk.clone(),
            ino,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk.lock();
        disk.faults.alive()?;
        disk.tree.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.faults.alive()?;
        disk.tree.create_dir_all(dir)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.lock().remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.lock().remove_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.lock().rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.lock().sync_dir(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        let disk = self.disk.lock();
        disk.faults.alive().is_ok() && disk.tree.find(path).is_ok()
    }

    fn sync_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.lock().sync_all(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let disk = self.disk.lock();
        disk.faults.alive()?;
        disk.tree.find(dir)?;
        Ok(disk.space())
    }
}

struct SimFile {
    disk: Arc<Mutex<Disk>>,
    ino: Ino,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.lock().close(self.ino);
    }
}

/// Fails for a range that does not end within `len`, before anything is allocated for it.
fn within(offset: u64, wanted: usize, len: u64) -> io::Result<()> {
    match offset.checked_add(wanted as u64) {
        Some(end) if end <= len => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl File for SimFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.faults.alive()?;
        disk.faults.strike(FaultOp::Read)?;
        let content = disk.content(self.ino)?;
        within(offset, buf.len(), content.len())?;
        if content.is_bad(offset, offset + buf.len() as u64) {
            return Err(unreadable());
        }
        content.read(offset, buf);
        Ok(())
    }

    fn write_all_vectored_at(&self, bufs: &[Bytes], offset: u64) -> io::Result<()> {
        self.disk.lock().write(self.ino, bufs, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.lock().sync_data(self.ino)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.lock().allocate(self.ino, len)
    }

    fn len(&self) -> io::Result<u64> {
        let disk = self.disk.lock();
        disk.faults.alive()?;
        Ok(disk.content(self.ino)?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.lock().set_len(self.ino, len)
    }

    /// Never: a `Bytes` in memory would not show what is written later, as a real map does.
    fn map(&self, _len: u64) -> io::Result<Bytes> {
        self.disk.lock().faults.alive()?;
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_view(&self, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        let mut disk = self.disk.lock();
        disk.faults.alive()?;
        disk.faults.strike(FaultOp::Read)?;
        let content = disk.content(self.ino)?;
        within(offset, len, content.len())?;
        if content.is_bad(offset, offset + len as u64) {
            return Err(unreadable());
        }
        let mut buf = vec![0; len];
        content.read(offset, &mut buf);
        Ok(Some(buf.into()))
    }
}
