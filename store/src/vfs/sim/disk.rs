//! The simulated disk itself: names, contents, room and faults under one lock. Each operation asks the faults first
//! and then changes the cached side; syncs and power losses carry it over.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use bytes::Bytes;

use super::content::{Content, PAGE};
use super::faults::{FaultOp, Faults, full};
use super::names::{Ino, Tree};
use super::rng::Rng;
use crate::vfs::Space;

/// Size of a disk without a capacity, bytes.
const UNLIMITED: u64 = 1 << 40;
/// Longest file, bytes: `off_t`.
const MAX_LEN: u64 = i64::MAX as u64;
/// Files made unreachable before they are looked for, beside half of all files.
const SWEEP_AFTER: usize = 32;

struct Inode {
    content: Content,
    /// Whether a directory has it, as processes see it.
    linked: bool,
    handles: usize,
}

impl Inode {
    /// A file without name and handle gives its room back, though a power loss may still bring it back.
    fn charge(&self) -> u64 {
        match self.linked || self.handles > 0 {
            true => self.content.used(),
            false => 0,
        }
    }
}

pub(super) struct Disk {
    pub(super) tree: Tree,
    pub(super) faults: Faults,
    /// Bytes.
    pub(super) capacity: Option<u64>,
    /// Whether syncs do nothing.
    pub(super) lying: bool,
    files: BTreeMap<Ino, Inode>,
    /// Pages.
    used: u64,
    seed: u64,
    unlinked: usize,
}

/// What a failed sync leaves of what was dirty: read as before and clean, gone and clean, or still dirty.
fn fail_write_back(content: &mut Content, dice: &mut Rng) {
    match dice.below(4) {
        0 | 1 => content.clean_dirty(),
        2 => content.forget_dirty(),
        _ => {}
    }
}

/// `EIO`, as the operating system gives it.
pub(super) fn unreadable() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn gone() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            tree: Tree::new(),
            faults: Faults::default(),
            capacity: None,
            lying: false,
            files: BTreeMap::new(),
            used: 0,
            seed,
            unlinked: 0,
        }
    }

    /// Dice for the operation under way: they depend on its number only, not on what other threads rolled.
    fn dice(&self) -> Rng {
        Rng::new(self.seed, self.faults.ops)
    }

    fn room(&self) -> u64 {
        (self.capacity.unwrap_or(UNLIMITED) / PAGE).saturating_sub(self.used)
    }

    /// How full the disk is.
    pub(super) fn space(&self) -> Space {
        Space {
            total: self.capacity.unwrap_or(UNLIMITED),
            available: self.room() * PAGE,
        }
    }

    /// The content of a file.
    pub(super) fn content(&self, ino: Ino) -> io::Result<&Content> {
        Ok(&self.files.get(&ino).ok_or_else(gone)?.content)
    }

    /// Changes a file and keeps the books of used pages.
    pub(super) fn change<T>(
        &mut self,
        ino: Ino,
        how: impl FnOnce(&mut Content) -> T,
    ) -> io::Result<T> {
        self.account(ino, |inode| how(&mut inode.content))
    }

    fn account<T>(&mut self, ino: Ino, how: impl FnOnce(&mut Inode) -> T) -> io::Result<T> {
        let inode = self.files.get_mut(&ino).ok_or_else(gone)?;
        let before = inode.charge();
        let result = how(inode);
        self.used = self.used + inode.charge() - before;
        Ok(result)
    }

    /// Opens a file for one more handle.
    pub(super) fn open(&mut self, path: &Path, create: bool) -> io::Result<Ino> {
        self.faults.alive()?;
        self.faults.strike(FaultOp::Open)?;
        let ino = match self.tree.find_file(path) {
            Err(e) if create && e.kind() == io::ErrorKind::NotFound => {
                self.faults.count()?;
                let ino = self.tree.create(path)?;
                let inode = Inode {
                    content: Content::default(),
                    linked: true,
                    handles: 0,
                };
                self.files.insert(ino, inode);
                ino
            }
            found => found?,
        };
        self.account(ino, |inode| inode.handles += 1)?;
        Ok(ino)
    }

    /// Drops a handle.
    pub(super) fn close(&mut self, ino: Ino) {
        // A handle that outlived its disk's crash has nothing to give back; its inode is still there all the same.
        let _ = self.account(ino, |inode| inode.handles = inode.handles.saturating_sub(1));
    }

    /// Writes `bufs` one after the other; a write that the process dies in is torn anywhere.
    pub(super) fn write(&mut self, ino: Ino, bufs: &[Bytes], offset: u64) -> io::Result<()> {
        self.faults.alive()?;
        let total: u64 = bufs.iter().map(|b| b.len() as u64).sum();
        if offset.checked_add(total).is_none_or(|end| end > MAX_LEN) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if let Err(killed) = self.faults.count() {
            let part = self.dice().prefix(total);
            self.write_part(ino, bufs, offset, part)?;
            return Err(killed);
        }
        self.faults.strike(FaultOp::Write)?;
        if self.content(ino)?.needs_bad(offset, offset + total) {
            return Err(unreadable());
        }
        match self.write_part(ino, bufs, offset, total)? {
            true => Ok(()),
            false => Err(full()),
        }
    }

    fn write_part(
        &mut self,
        ino: Ino,
        bufs: &[Bytes],
        mut at: u64,
        mut left: u64,
    ) -> io::Result<bool> {
        for buf in bufs {
            let n = left.min(buf.len() as u64);
            let room = self.room();
            if !self.change(ino, |c| c.write(at, &buf[..n as usize], room))? {
                return Ok(false);
            }
            at += n;
            left -= n;
        }
        Ok(true)
    }

    /// Reserves the first `len` bytes.
    pub(super) fn allocate(&mut self, ino: Ino, len: u64) -> io::Result<()> {
        self.faults.count()?;
        self.faults.strike(FaultOp::Allocate)?;
        if len == 0 || len > MAX_LEN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let room = self.room();
        match self.change(ino, |c| c.allocate(len, room))? {
            true => Ok(()),
            false => Err(full()),
        }
    }

    /// Sets the length.
    pub(super) fn set_len(&mut self, ino: Ino, len: u64) -> io::Result<()> {
        self.faults.count()?;
        if len > MAX_LEN {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.change(ino, |c| c.set_len(len))
    }

    /// Makes one file durable.
    pub(super) fn sync_data(&mut self, ino: Ino) -> io::Result<()> {
        self.faults.count()?;
        if let Err(failed) = self.faults.strike(FaultOp::Sync) {
            let mut dice = self.dice();
            self.change(ino, |content| fail_write_back(content, &mut dice))?;
            return Err(failed);
        }
        match self.lying {
            true => Ok(()),
            false => self.change(ino, Content::sync),
        }
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.faults.count()?;
        let dir = self.tree.find_dir(path)?;
        self.faults.strike(FaultOp::Sync)?;
        if !self.lying {
            self.tree.sync(dir);
            self.sweep();
        }
        Ok(())
    }

    /// Makes everything durable.
    pub(super) fn sync_all(&mut self, path: &Path) -> io::Result<()> {
        self.faults.count()?;
        self.tree.find_dir(path)?;
        let struck = self.faults.strike(FaultOp::Sync);
        if struck.is_ok() && self.lying {
            return Ok(());
        }
        let mut dice = self.dice();
        let all: Vec<Ino> = self.files.keys().copied().collect();
        for ino in all {
            if struck.is_ok() {
                self.change(ino, Content::sync)?;
            } else {
                self.change(ino, |content| fail_write_back(content, &mut dice))?;
            }
        }
        if struck.is_ok() {
            self.tree.sync_all();
            self.sweep();
        }
        struck
    }

    /// Renames a file or, within its directory, a directory.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.count()?;
        self.faults.strike(FaultOp::Rename)?;
        let replaced = self.tree.rename(from, to)?;
        replaced.map_or(Ok(()), |ino| self.unlink(ino))
    }

    /// Removes a file.
    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.faults.count()?;
        self.faults.strike(FaultOp::Remove)?;
        self.delete(path)
    }

    /// Removes a file without asking the faults.
    pub(super) fn delete(&mut self, path: &Path) -> io::Result<()> {
        let ino = self.tree.remove_file(path)?;
        self.unlink(ino)
    }

    /// Removes a directory and what is beneath.
    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        self.faults.count()?;
        self.faults.strike(FaultOp::Remove)?;
        for ino in self.tree.remove_dir_all(path)? {
            self.unlink(ino)?;
        }
        Ok(())
    }

    fn unlink(&mut self, ino: Ino) -> io::Result<()> {
        self.unlinked += 1;
        self.account(ino, |inode| inode.linked = false)
    }

    /// Forgets files that neither a process nor a power loss can find any more; not at each removal, as it looks at
    /// all names.
    fn sweep(&mut self) {
        if self.unlinked > SWEEP_AFTER + self.files.len() / 2 {
            self.unlinked = 0;
            let live = self.tree.live();
            self.tree.keep(&live);
            self.files
                .retain(|ino, inode| inode.handles > 0 || live.contains(ino));
        }
    }

    /// Files held in memory, those among them that only a power loss could find.
    #[cfg(test)]
    pub(super) fn files_kept(&self) -> usize {
        self.files.len()
    }

    /// The disk as the next process finds it: after a kill what processes saw, with what was not synced still at
    /// stake; after a power loss what the platter happens to hold.
    pub(super) fn successor(&self, power: bool, seed: u64) -> Self {
        let tree = match power {
            true => self.tree.after_power_loss(seed),
            false => self.tree.clone(),
        };
        let live = tree.live();
        let mut next = Self {
            tree,
            capacity: self.capacity,
            lying: self.lying,
            ..Self::new(seed)
        };
        for (ino, inode) in self.files.iter().filter(|(ino, _)| live.contains(ino)) {
            let content = match power {
                true => inode.content.after_power_loss(&mut Rng::new(seed, *ino)),
                false => inode.content.clone(),
            };
            let inode = Inode {
                content,
                // After a power loss only names that are there keep a file alive.
                linked: power || inode.linked,
                handles: 0,
            };
            next.used += inode.charge();
            next.files.insert(*ino, inode);
        }
        next
    }
}
