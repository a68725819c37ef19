//! What was written, created or deleted since the last checkpoint and is not known to be durable. A few files and
//! directories are noted one by one; beyond that one sync of the whole file system is cheaper, and nothing is noted
//! any more than that it is due.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::descriptors::FileKey;

/// Files, and directories, that are synced one by one.
pub(super) const MAX_SINGLE_SYNCS: usize = 256;

/// Since the last checkpoint.
///
/// A change is noted after it was made, never before: a checkpoint that takes the note finds the change in place,
/// and one that comes too early leaves the note for the next.
#[derive(Default)]
pub(super) struct Dirty {
    /// Written files, with the queue's topic and id.
    pub files: HashMap<FileKey, (Arc<str>, i32), ahash::RandomState>,
    /// Directories with new or deleted names.
    pub dirs: HashSet<PathBuf, ahash::RandomState>,
    /// Too many to count, or unknown: everything is to be synced.
    pub all: bool,
}

impl Dirty {
    /// A file has been written.
    pub fn file(&mut self, key: FileKey, topic: &Arc<str>, id: i32) {
        if !self.all {
            let place = || (topic.clone(), id);
            self.files.entry(key).or_insert_with(place);
            self.bound();
        }
    }

    /// A directory has got or lost names.
    pub fn dir(&mut self, dir: PathBuf) {
        if !self.all {
            self.dirs.insert(dir);
            self.bound();
        }
    }

    fn bound(&mut self) {
        if self.files.len() > MAX_SINGLE_SYNCS || self.dirs.len() > MAX_SINGLE_SYNCS {
            self.everything();
        }
    }

    /// Everything is to be synced.
    pub fn everything(&mut self) {
        *self = Self {
            all: true,
            ..Self::default()
        };
    }

    /// Takes all notes.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}
