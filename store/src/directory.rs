//! The lock that keeps a second process out of a store directory.

use std::fs;
use std::path::Path;

use crate::error::{Result, StoreError};

/// Holds the `lock` file of a directory as long as it lives.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: fs::File,
}

impl DirectoryLock {
    /// Takes the lock; the directory is made when it is missing.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when another process has it; I/O.
    pub fn take(dir: &Path) -> Result<Self> {
        let path = dir.join("lock");
        let failed = |e| StoreError::io(format!("open {}", path.display()), e);
        fs::create_dir_all(dir).map_err(failed)?;
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(
            |_| StoreError::Refused(format!("{} is in use by another process", dir.display())),
        )?;
        Ok(Self { _file: file })
    }
}
