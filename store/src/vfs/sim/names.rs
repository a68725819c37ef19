//! Directories: the names processes see, the names the platter holds, and between them, for each directory, a journal
//! of changes that a sync or a power loss carries over from its start. A rename between two directories is in both
//! journals under one number and is carried over in both or in neither.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::rng::Rng;

/// Names a file or a directory for the life of a disk; never used twice.
pub(super) type Ino = u64;

const ROOT: Ino = 0;

#[derive(Clone)]
enum Change {
    Set(String, Ino),
    Clear(String),
    Move(String, String, Ino),
}

#[derive(Clone)]
struct NameOp {
    seq: u64,
    change: Change,
    /// The other directory of a rename between two.
    partner: Option<Ino>,
}

#[derive(Clone, Default)]
struct Directory {
    names: BTreeMap<String, Ino>,
    durable: BTreeMap<String, Ino>,
    journal: Vec<NameOp>,
}

fn apply(names: &mut BTreeMap<String, Ino>, change: &Change) {
    match change {
        Change::Set(name, ino) => {
            names.insert(name.clone(), *ino);
        }
        Change::Clear(name) => {
            names.remove(name);
        }
        Change::Move(from, to, ino) => {
            names.remove(from);
            names.insert(to.clone(), *ino);
        }
    }
}

/// All directories of a disk.
#[derive(Clone)]
pub(super) struct Tree {
    dirs: BTreeMap<Ino, Directory>,
    next: Ino,
    seq: u64,
}

/// The names on a path; `/a`, `a` and `./a` are the same file.
fn parts(path: &Path) -> io::Result<Vec<&str>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                parts.push(name.to_str().ok_or(io::ErrorKind::InvalidFilename)?)
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidFilename.into());
            }
        }
    }
    Ok(parts)
}

impl Tree {
    /// An empty root.
    pub(super) fn new() -> Self {
        Self {
            dirs: BTreeMap::from([(ROOT, Directory::default())]),
            next: ROOT + 1,
            seq: 0,
        }
    }

    fn walk(&self, parts: &[&str]) -> io::Result<Ino> {
        let mut at = ROOT;
        for part in parts {
            let dir = self.dirs.get(&at).ok_or(io::ErrorKind::NotADirectory)?;
            at = *dir.names.get(*part).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    /// What the path names.
    pub(super) fn find(&self, path: &Path) -> io::Result<Ino> {
        self.walk(&parts(path)?)
    }

    /// The file that the path names.
    pub(super) fn find_file(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.find(path)?;
        if self.dirs.contains_key(&ino) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(ino)
    }

    /// The directory that the path names.
    pub(super) fn find_dir(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.find(path)?;
        if !self.dirs.contains_key(&ino) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(ino)
    }

    /// The directory a path lies in, and its name there.
    fn place<'p>(&self, path: &'p Path) -> io::Result<(Ino, &'p str)> {
        let parts = parts(path)?;
        let (name, above) = parts.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.walk(above)?;
        if !self.dirs.contains_key(&dir) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok((dir, name))
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn note(&mut self, dir: Ino, seq: u64, change: Change, partner: Option<Ino>) {
        if let Some(directory) = self.dirs.get_mut(&dir) {
            apply(&mut directory.names, &change);
            let op = NameOp {
                seq,
                change,
                partner,
            };
            directory.journal.push(op);
        }
    }

    fn make(&mut self, dir: Ino, name: &str) -> Ino {
        let ino = self.next;
        self.next += 1;
        let seq = self.next_seq();
        self.note(dir, seq, Change::Set(name.to_owned(), ino), None);
        ino
    }

    /// Names a new file; nothing may have the name yet.
    pub(super) fn create(&mut self, path: &Path) -> io::Result<Ino> {
        let (dir, name) = self.place(path)?;
        Ok(self.make(dir, name))
    }

    /// Makes the directories of a path that are not there.
    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut at = ROOT;
        for part in parts(path)? {
            let dir = self.dirs.get(&at).ok_or(io::ErrorKind::NotADirectory)?;
            at = match dir.names.get(part) {
                Some(ino) => *ino,
                None => {
                    let ino = self.make(at, part);
                    self.dirs.insert(ino, Directory::default());
                    ino
                }
            };
        }
        match self.dirs.contains_key(&at) {
            true => Ok(()),
            false => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    /// Names in a directory, sorted.
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let dir = self.find_dir(path)?;
        let names = self.dirs.get(&dir).map(|d| d.names.keys().cloned());
        Ok(names.into_iter().flatten().collect())
    }

    /// Takes a file's name away.
    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<Ino> {
        let ino = self.find_file(path)?;
        let (dir, name) = self.place(path)?;
        let seq = self.next_seq();
        self.note(dir, seq, Change::Clear(name.to_owned()), None);
        Ok(ino)
    }

    /// Takes away a directory and all beneath it, one name after the other; returns the files.
    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<Vec<Ino>> {
        let dir = self.find_dir(path)?;
        let (above, name) = self.place(path)?;
        let mut files = Vec::new();
        self.empty(dir, &mut files);
        let seq = self.next_seq();
        self.note(above, seq, Change::Clear(name.to_owned()), None);
        Ok(files)
    }

    fn empty(&mut self, dir: Ino, files: &mut Vec<Ino>) {
        let names = self.dirs.get(&dir).map(|d| d.names.clone());
        for (name, ino) in names.into_iter().flatten() {
            if self.dirs.contains_key(&ino) {
                self.empty(ino, files);
            } else {
                files.push(ino);
            }
            let seq = self.next_seq();
            self.note(dir, seq, Change::Clear(name), None);
        }
    }

    /// Renames; returns the file that lost its name to it.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<Option<Ino>> {
        let ino = self.find(from)?;
        let (old_dir, old_name) = self.place(from)?;
        let (new_dir, new_name) = self.place(to)?;
        let replaced = self.find(to).ok();
        if replaced == Some(ino) {
            return Ok(None);
        }
        if self.dirs.contains_key(&ino) {
            if old_dir != new_dir {
                // Two journals cannot keep a tree of moved directories free of cycles; nothing here needs it.
                return Err(io::ErrorKind::CrossesDevices.into());
            }
            match replaced.map(|r| self.dirs.get(&r)) {
                Some(Some(dir)) if !dir.names.is_empty() => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                Some(None) => return Err(io::ErrorKind::NotADirectory.into()),
                _ => {}
            }
        } else if replaced.is_some_and(|r| self.dirs.contains_key(&r)) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let (old_name, new_name) = (old_name.to_owned(), new_name.to_owned());
        let seq = self.next_seq();
        if old_dir == new_dir {
            self.note(old_dir, seq, Change::Move(old_name, new_name, ino), None);
        } else {
            self.note(new_dir, seq, Change::Set(new_name, ino), Some(old_dir));
            self.note(old_dir, seq, Change::Clear(old_name), Some(new_dir));
        }
        Ok(replaced.filter(|r| !self.dirs.contains_key(r)))
    }

    /// Makes the changes of a directory up to a number durable.
    fn flush(&mut self, dir: Ino, upto: u64) {
        let mut work = vec![(dir, upto)];
        while let Some((dir, upto)) = work.pop() {
            if let Some(directory) = self.dirs.get_mut(&dir) {
                let n = directory.journal.partition_point(|op| op.seq <= upto);
                for op in directory.journal.drain(..n) {
                    apply(&mut directory.durable, &op.change);
                    work.extend(op.partner.map(|partner| (partner, op.seq)));
                }
            }
        }
    }

    /// Makes all changes of a directory durable.
    pub(super) fn sync(&mut self, dir: Ino) {
        self.flush(dir, self.seq);
    }

    /// Makes all changes of the directory that a path lies in durable.
    pub(super) fn sync_above(&mut self, path: &Path) -> io::Result<()> {
        let (dir, _) = self.place(path)?;
        self.sync(dir);
        Ok(())
    }

    /// Makes all names durable.
    pub(super) fn sync_all(&mut self) {
        for directory in self.dirs.values_mut() {
            if !directory.journal.is_empty() {
                directory.durable.clone_from(&directory.names);
                directory.journal.clear();
            }
        }
    }

    /// What a power loss leaves: of each directory's changes a prefix.
    pub(super) fn after_power_loss(&self, seed: u64) -> Self {
        let mut left = self.clone();
        for (ino, directory) in &self.dirs {
            let n = Rng::new(seed, *ino).prefix(directory.journal.len() as u64) as usize;
            if let Some(last) = directory.journal[..n].last() {
                left.flush(*ino, last.seq);
            }
        }
        for directory in left.dirs.values_mut() {
            directory.names.clone_from(&directory.durable);
            directory.journal.clear();
        }
        let live = left.live();
        left.keep(&live);
        left
    }

    /// All that a process or a power loss can still find: seen, durable, or in a journal.
    pub(super) fn live(&self) -> BTreeSet<Ino> {
        let mut live = BTreeSet::from([ROOT]);
        let mut work = vec![ROOT];
        while let Some(directory) = work.pop().and_then(|ino| self.dirs.get(&ino)) {
            let set = directory.journal.iter().filter_map(|op| match op.change {
                Change::Set(_, ino) | Change::Move(_, _, ino) => Some(ino),
                Change::Clear(_) => None,
            });
            let names = directory.names.values().chain(directory.durable.values());
            for ino in names.copied().chain(set) {
                if live.insert(ino) && self.dirs.contains_key(&ino) {
                    work.push(ino);
                }
            }
        }
        live
    }

    /// Forgets the directories that are not in `live`.
    pub(super) fn keep(&mut self, live: &BTreeSet<Ino>) {
        self.dirs.retain(|ino, _| live.contains(ino));
    }

    /// Paths of all files, sorted.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut work = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, ino)) = work.pop() {
            match self.dirs.get(&ino) {
                Some(dir) => work.extend(dir.names.iter().map(|(n, i)| (path.join(n), *i))),
                None => found.push(path),
            }
        }
        found.sort();
        found
    }
}
