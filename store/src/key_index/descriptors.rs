//! The descriptors queries keep open: few, however many files there are; the one used longest ago is closed first.

use std::sync::Arc;

use parking_lot::Mutex;

use super::file::IndexFile;
use crate::error::Result;
use crate::vfs::{File, FileSystem};

/// Open descriptors by file id, least recently used first.
pub struct Descriptors {
    limit: usize,
    open: Mutex<Vec<(u64, Arc<dyn File>)>>,
}

impl Descriptors {
    /// Keeps at most `limit`.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            open: Mutex::new(Vec::new()),
        }
    }

    /// The descriptor of a file, opened when it is not.
    ///
    /// # Errors
    /// [`crate::StoreError::Corrupt`] when the file is gone, I/O when it cannot be opened.
    pub fn get(&self, fs: &dyn FileSystem, of: &IndexFile) -> Result<Arc<dyn File>> {
        {
            let mut open = self.open.lock();
            if let Some(i) = open.iter().position(|(id, _)| *id == of.id) {
                let used = open.remove(i);
                let file = used.1.clone();
                open.push(used);
                return Ok(file);
            }
        }
        let file = of.open(fs)?;
        let mut open = self.open.lock();
        // Asked under the lock: a removed file is marked before it is forgotten, and must not come back.
        if !of.is_removed() && open.iter().all(|(id, _)| *id != of.id) {
            if open.len() >= self.limit {
                open.remove(0);
            }
            open.push((of.id, file.clone()));
        }
        Ok(file)
    }

    /// Closes a file that was removed, so that the disk has its bytes back.
    pub fn forget(&self, id: u64) {
        self.open.lock().retain(|(open, _)| *open != id);
    }

    /// Open now.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.open.lock().len()
    }
}
