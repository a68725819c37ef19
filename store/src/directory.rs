//! The first look at a store directory, before anything in it is touched: whose it is, and the lock that keeps a second
//! process out.
//!
//! Apache RocketMQ has the same default directory and some of the same names in it. A start deletes what it takes for
//! leftovers of its own, so what is neither ours nor empty is refused first, and nothing of it is changed.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::commitlog::format::parse_segment_name;
use crate::error::{Result, StoreError};

/// What a refusal names at most.
const NAMED: usize = 4;
/// Entries of one directory that are looked at: a foreign one may hold millions.
const LOOKED_AT: usize = 10_000;

/// Holds the `lock` file of a directory as long as it lives.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: fs::File,
}

impl DirectoryLock {
    /// Takes the lock; the directory is made when it is missing.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the directory holds something that is not ours (nothing is changed then), or when
    /// another process has it; I/O.
    pub fn take(dir: &Path) -> Result<Self> {
        refuse_foreign(dir)?;
        let path = lock_path(dir);
        let failed = |e| StoreError::io(format!("open {}", path.display()), e);
        fs::create_dir_all(dir).map_err(failed)?;
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        Self::hold(dir, file)
    }

    /// Takes the lock of a store that is there, and changes nothing: for tools that read.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when there is no store of ours, or another process has it; I/O.
    pub fn take_existing(dir: &Path) -> Result<Self> {
        refuse_foreign(dir)?;
        if !is_ours(dir) {
            return Err(StoreError::Refused(format!(
                "there is no store in {}",
                dir.display()
            )));
        }
        // A store that was copied without its lock file: nothing is written, so the directory itself is held.
        let path = lock_path(dir);
        let opened = match fs::File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => fs::File::open(dir),
            opened => opened,
        };
        let file = opened.map_err(|e| StoreError::io(format!("open {}", path.display()), e))?;
        Self::hold(dir, file)
    }

    fn hold(dir: &Path, file: fs::File) -> Result<Self> {
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(
            |_| StoreError::Refused(format!("{} is in use by another process", dir.display())),
        )?;
        Ok(Self { _file: file })
    }
}

fn lock_path(dir: &Path) -> PathBuf {
    dir.join("lock")
}

/// Whether a directory is a store of ours: it has the file with the constants of the log, or one that says which
/// replica it is.
pub fn is_ours(dir: &Path) -> bool {
    let begins = |path: PathBuf, with: &[u8]| {
        let mut head = vec![0; with.len()];
        let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
        read.is_ok() && head == with
    };
    begins(dir.join("commitlog/format"), b"version=") || begins(dir.join("identity"), b"{")
}

/// Refuses a directory that is neither ours nor empty. What a first start leaves that ended before it had written the
/// constants of the log counts as empty. Reads only.
///
/// # Errors
/// [`StoreError::Refused`] with what was found and what to do; I/O.
pub fn refuse_foreign(dir: &Path) -> Result<()> {
    if is_ours(dir) {
        return Ok(());
    }
    let names = list(dir)?;
    let mut strange = Vec::new();
    for name in names {
        strange_in(dir, &name, &mut strange)?;
        if strange.len() > NAMED {
            break;
        }
    }
    let signs = rocketmq_signs(dir)?;
    if strange.is_empty() && signs.is_empty() {
        return Ok(());
    }
    let named = |found: &[String]| {
        let more = if found.len() > NAMED { ", …" } else { "" };
        found[..found.len().min(NAMED)].join(", ") + more
    };
    Err(StoreError::Refused(if signs.is_empty() {
        format!(
            "{} is not empty and not a store of RaftMQ (found {}): nothing of it was read or changed; choose an empty directory with storePathRootDir, or move what is there away",
            dir.display(),
            named(&strange)
        )
    } else {
        format!(
            "{} is a store of Apache RocketMQ (found {}): RaftMQ cannot read it, and nothing of it was changed; choose an empty directory with storePathRootDir, and move topics over while both brokers run",
            dir.display(),
            named(&signs)
        )
    }))
}

/// What of `name` in `dir` a first start of ours does not leave behind.
fn strange_in(dir: &Path, name: &str, strange: &mut Vec<String>) -> Result<()> {
    let path = dir.join(name);
    let meta = fs::metadata(&path).map_err(|e| looked(&path, e))?;
    let allowed: &[&str] = match (name, meta.is_dir()) {
        // Of the file system itself.
        ("lost+found", true) => return Ok(()),
        // RocketMQ's has a word in it.
        ("lock", false) if meta.len() == 0 => return Ok(()),
        ("abort" | "abort.tmp", false) => return Ok(()),
        ("commitlog", true) => &["format.tmp"],
        ("snapshots", true) => &[],
        _ => {
            strange.push(name.to_owned());
            return Ok(());
        }
    };
    let inside = list(&path)?.into_iter();
    let inside = inside.filter(|inner| !allowed.contains(&inner.as_str()));
    strange.extend(inside.map(|inner| format!("{name}/{inner}")));
    Ok(())
}

/// What only Apache RocketMQ has in its store.
fn rocketmq_signs(dir: &Path) -> Result<Vec<String>> {
    let mut signs = Vec::new();
    let log = list(&dir.join("commitlog"))?.into_iter();
    let log = log.filter(|name| parse_segment_name(name).is_some());
    signs.extend(log.take(1).map(|name| format!("commitlog/{name}")));
    let files = ["config/topics.json", "checkpoint", "timerwheel", "timerlog"];
    let files = files.iter().filter(|name| dir.join(name).exists());
    signs.extend(files.map(|name| (*name).to_owned()));
    let queues = list(&dir.join("consumequeue"))?.into_iter();
    signs.extend(queues.take(1).map(|topic| format!("consumequeue/{topic}")));
    // One file of a common name proves nothing.
    let proven = signs.iter().any(|sign| sign.contains('/'));
    Ok(if proven { signs } else { Vec::new() })
}

/// Names in a directory, some of them if there are very many; none when there is no directory. Hidden ones are left out:
/// nothing of ours has such a name.
fn list(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) if e.kind() == ErrorKind::NotADirectory => {
            return Err(StoreError::Refused(format!(
                "{} is not a directory",
                dir.display()
            )));
        }
        Err(e) => return Err(looked(dir, e)),
    };
    let mut names = Vec::new();
    for entry in entries.take(LOOKED_AT) {
        let name = entry.map_err(|e| looked(dir, e))?.file_name();
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn looked(path: &Path, error: std::io::Error) -> StoreError {
    StoreError::io(format!("look at {}", path.display()), error)
}

#[cfg(test)]
mod tests;
