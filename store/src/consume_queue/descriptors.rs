//! The descriptors of all queues of a table: the most recently used ones stay open, whatever queue they belong to.

use std::collections::HashMap;
use std::sync::Arc;

use crate::vfs::File;

/// Descriptors a table keeps open; threads that are at work on others hold those besides.
pub const MAX_OPEN_FILES: usize = 512;

/// A queue's uid and the file's number. The uid is of one life of a queue: after a deletion, nothing finds the
/// descriptors of the life before.
pub(super) type FileKey = (u64, u64);

struct Open {
    file: Arc<dyn File>,
    used: u64,
}

/// Open files, least recently used first to go.
#[derive(Default)]
pub(super) struct Descriptors {
    open: HashMap<FileKey, Open, ahash::RandomState>,
    clock: u64,
}

impl Descriptors {
    /// The open file.
    pub fn get(&mut self, key: FileKey) -> Option<Arc<dyn File>> {
        self.clock += 1;
        let open = self.open.get_mut(&key)?;
        open.used = self.clock;
        Some(open.file.clone())
    }

    /// Keeps an opened file. Gives the one to use (another thread's, if that was first) and the one that had to
    /// go, for the caller to close without the lock.
    pub fn put(
        &mut self,
        key: FileKey,
        file: Arc<dyn File>,
    ) -> (Arc<dyn File>, Option<Arc<dyn File>>) {
        if let Some(first) = self.get(key) {
            return (first, Some(file));
        }
        let mut evicted = None;
        if self.open.len() >= MAX_OPEN_FILES {
            // A scan of so few costs less than the open that comes before it.
            let oldest = self.open.iter().min_by_key(|(_, open)| open.used);
            let oldest = oldest.map(|(key, _)| *key);
            evicted = oldest.and_then(|oldest| self.open.remove(&oldest));
        }
        let used = self.clock;
        let kept = file.clone();
        self.open.insert(key, Open { file, used });
        (kept, evicted.map(|open| open.file))
    }

    /// Lets go of files that are deleted; the caller closes them without the lock.
    pub fn remove(&mut self, doomed: impl Fn(FileKey) -> bool) -> Vec<Arc<dyn File>> {
        let gone = self.open.extract_if(|key, _| doomed(*key));
        gone.map(|(_, open)| open.file).collect()
    }

    /// How many are open.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.open.len()
    }
}
