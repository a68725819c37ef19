//! What all queues of a table share, so that a queue itself stays small: where the files lie, the open
//! descriptors, what is not durable yet, how much is in no file, and which queues are damaged.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use sha2::Digest;

use super::descriptors::Descriptors;
use super::dirty::Dirty;
use super::{ENTRIES_PER_FILE, ENTRY_LEN};
use crate::error::{Result, StoreError};
use crate::vfs::{File, FileSystem};

/// The table file's name in the table's directory, beside the topics.
pub(super) const TABLE_FILE: &str = "table";
/// Longest name of a directory, bytes.
const LONGEST_DIR: usize = 255;
/// Where the topic goes that is called as the table file is.
const TABLE_TOPIC_DIR: &str = "table.topic";

/// One file of one queue.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub uid: u64,
    pub topic: &'a Arc<str>,
    pub id: i32,
    pub number: u64,
}

/// See the module.
pub(super) struct Shared {
    pub fs: Arc<dyn FileSystem>,
    pub dir: PathBuf,
    pub descriptors: Mutex<Descriptors>,
    pub dirty: Mutex<Dirty>,
    /// Published entries that no file has.
    pub in_memory: AtomicUsize,
    pub damaged: Mutex<BTreeSet<(Arc<str>, i32)>>,
    next_uid: AtomicU64,
}

impl Shared {
    /// Nothing open, nothing dirty.
    pub fn new(fs: Arc<dyn FileSystem>, dir: PathBuf) -> Self {
        Self {
            fs,
            dir,
            descriptors: Mutex::default(),
            dirty: Mutex::default(),
            in_memory: AtomicUsize::new(0),
            damaged: Mutex::default(),
            next_uid: AtomicU64::new(0),
        }
    }

    /// A uid no queue has had since the table was opened.
    pub fn new_uid(&self) -> u64 {
        self.next_uid.fetch_add(1, Ordering::Relaxed)
    }

    /// Directory of a topic. Every topic has one: whose name is none of a directory, for its length or its characters, has
    /// one that is named by a hash. Such names begin with a dot, and no topic's own directory does.
    pub fn topic_dir(&self, topic: &str) -> PathBuf {
        if topic == TABLE_FILE {
            self.dir.join(TABLE_TOPIC_DIR)
        } else if names_a_directory(topic) {
            self.dir.join(topic)
        } else {
            self.dir.join(hashed(topic))
        }
    }

    /// Directory of a queue.
    pub fn queue_dir(&self, topic: &str, id: i32) -> PathBuf {
        self.topic_dir(topic).join(id.to_string())
    }

    /// A file of a queue.
    pub fn path(&self, topic: &str, id: i32, number: u64) -> PathBuf {
        let first_byte = number * ENTRIES_PER_FILE * ENTRY_LEN as u64;
        self.queue_dir(topic, id).join(format!("{first_byte:020}"))
    }

    /// The table file.
    pub fn table_path(&self) -> PathBuf {
        self.dir.join(TABLE_FILE)
    }

    /// A file for reading; `None` when it does not exist.
    ///
    /// # Errors
    /// I/O.
    pub fn existing(&self, place: Place<'_>) -> Result<Option<Arc<dyn File>>> {
        let known = self.descriptors.lock().get((place.uid, place.number));
        if known.is_some() {
            return Ok(known);
        }
        let path = self.path(place.topic, place.id, place.number);
        match self.fs.open(&path, false) {
            Ok(file) => Ok(Some(self.keep(place, file))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io(format!("open {}", path.display()), e)),
        }
    }

    /// A file for writing, made with its directories when missing.
    ///
    /// # Errors
    /// I/O.
    pub fn made(&self, place: Place<'_>) -> Result<Arc<dyn File>> {
        if let Some(file) = self.existing(place)? {
            return Ok(file);
        }
        let path = self.path(place.topic, place.id, place.number);
        let failed = |e| StoreError::io(format!("make {}", path.display()), e);
        let dir = self.queue_dir(place.topic, place.id);
        if !self.fs.exists(&dir) {
            self.fs.create_dir_all(&dir).map_err(failed)?;
            let mut dirty = self.dirty.lock();
            dirty.dir(self.dir.clone());
            dirty.dir(self.topic_dir(place.topic));
        }
        let file = self.fs.open(&path, true).map_err(failed)?;
        self.dirty.lock().dir(dir);
        Ok(self.keep(place, file))
    }

    fn keep(&self, place: Place<'_>, file: Arc<dyn File>) -> Arc<dyn File> {
        let key = (place.uid, place.number);
        let (file, evicted) = self.descriptors.lock().put(key, file);
        drop(evicted);
        file
    }

    /// Deletes a directory with all that is in it, if it exists; its parent is to be synced.
    ///
    /// # Errors
    /// I/O.
    pub fn remove_dir(&self, dir: &Path) -> Result<()> {
        if !self.fs.exists(dir) {
            return Ok(());
        }
        let removed = self.fs.remove_dir_all(dir);
        removed.map_err(|e| StoreError::io(format!("delete {}", dir.display()), e))?;
        if let Some(parent) = dir.parent() {
            self.dirty.lock().dir(parent.to_path_buf());
        }
        Ok(())
    }

    /// Empties the table's directory, durably without a table file before anything else goes: a table never
    /// speaks of files that were deleted here.
    ///
    /// # Errors
    /// I/O.
    pub fn remove_all(&self) -> Result<()> {
        let failed = |e| StoreError::io(format!("empty {}", self.dir.display()), e);
        let fs = &self.fs;
        if fs.exists(&self.dir) {
            if fs.exists(&self.table_path()) {
                fs.remove_file(&self.table_path()).map_err(failed)?;
                fs.sync_dir(&self.dir).map_err(failed)?;
            }
            fs.remove_dir_all(&self.dir).map_err(failed)?;
        }
        fs.create_dir_all(&self.dir).map_err(failed)?;
        match self.dir.parent() {
            Some(parent) => fs.sync_dir(parent).map_err(failed),
            None => Ok(()),
        }
    }
}

fn names_a_directory(topic: &str) -> bool {
    (1..=LONGEST_DIR).contains(&topic.len())
        && topic != TABLE_TOPIC_DIR
        && !topic.starts_with('.')
        && !topic.bytes().any(|b| matches!(b, b'/' | 0))
}

/// Half of SHA-256: nobody finds two topics with one directory.
fn hashed(topic: &str) -> String {
    let digest = sha2::Sha256::digest(topic.as_bytes());
    let hex = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
    format!(".{}", hex.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::SimFs;

    #[test]
    fn every_topic_has_a_directory_of_its_own_right_below_the_table() {
        let shared = Shared::new(Arc::new(SimFs::new(1)), PathBuf::from("/queues"));
        let long = "t".repeat(300);
        let names = [
            "a",
            "table",
            "table.topic",
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\0b",
            &long,
            &long[1..],
        ];
        let dirs: BTreeSet<PathBuf> = names.iter().map(|name| shared.topic_dir(name)).collect();
        assert_eq!(dirs.len(), names.len(), "{dirs:?}");
        for dir in dirs {
            assert_eq!(dir.parent(), Some(shared.dir.as_path()), "{dir:?}");
            assert!(
                dir.file_name()
                    .is_some_and(|name| name.len() <= LONGEST_DIR)
            );
        }
    }
}
