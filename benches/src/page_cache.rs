//! Files out of the page cache: what reads them next reads the disk.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use crate::error::BenchError;

/// Files and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// How many.
    pub files: u64,
    /// Their length together, bytes.
    pub bytes: u64,
}

/// Writes out every file in `dir` and below and drops it from the page cache. Pages that a process has mapped and
/// touched stay: whatever serves the files should not run meanwhile.
///
/// # Errors
/// A file cannot be opened or synced. Files that go away meanwhile are none.
pub fn evict(dir: &Path) -> Result<Evicted, BenchError> {
    let mut sum = Evicted::default();
    for entry in fs::read_dir(dir).map_err(BenchError::io(dir))? {
        let path = entry.map_err(BenchError::io(dir))?.path();
        let one = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => evict(&path)?,
            Ok(meta) if meta.is_file() => match evict_file(&path) {
                Ok(()) => Evicted {
                    files: 1,
                    bytes: meta.len(),
                },
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(BenchError::io(path)(e)),
            },
            Ok(_) => continue,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(BenchError::io(path)(e)),
        };
        sum.files += one.files;
        sum.bytes += one.bytes;
    }
    Ok(sum)
}

fn evict_file(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    // Dirty pages are not dropped.
    file.sync_data()?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_below_a_directory_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/b"), [1; 5000]).unwrap();
        fs::write(dir.path().join("c"), [2; 10]).unwrap();
        let evicted = evict(dir.path()).unwrap();
        let expected = Evicted {
            files: 2,
            bytes: 5010,
        };
        assert_eq!(evicted, expected);
        assert_eq!(fs::read(dir.path().join("c")).unwrap(), [2; 10]);
    }
}
