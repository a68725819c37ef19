//! Files that rot: bits of them flip, their ends go missing. Which files of a store belong to which kind.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use raftmq_benches::BenchError;

use crate::random::Random;

/// Bits that flip in one file at most.
const BITS: usize = 8;

/// A kind of file in a store.
#[derive(Debug)]
pub struct FileKind {
    /// As faults are called: `bitflip:segment`.
    pub name: &'static str,
    /// Below the store.
    dir: &'static str,
    /// What the files' names end with; others are of another kind.
    ends: &'static [&'static str],
}

/// All kinds that faults know. Marks are what a replica has promised: an old one put back would break a promise without anybody being
/// able to tell, so they only rot.
pub const KINDS: [FileKind; 7] = [
    kind(
        "segment",
        "commitlog/segments",
        &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    ),
    kind("sparse-index", "commitlog/segments", &[".idx"]),
    kind("queue", "consumequeue", &[]),
    kind("key-index", "index", &[".run", ".sealed"]),
    kind("metadata", "metadata", &[".log", ".sst"]),
    kind("snapshot", "snapshots", &[".snap"]),
    kind(
        "marks",
        "commitlog",
        &["vote", "marker", "checkpoint", "log_start"],
    ),
];

const fn kind(name: &'static str, dir: &'static str, ends: &'static [&'static str]) -> FileKind {
    FileKind { name, dir, ends }
}

impl FileKind {
    /// The kind of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|k| k.name == name)
    }

    /// The directory its files are in.
    pub fn dir(&self, store: &Path) -> PathBuf {
        store.join(self.dir)
    }

    /// Its files, in order.
    ///
    /// # Errors
    /// I/O.
    pub fn files(&self, store: &Path) -> Result<Vec<PathBuf>, BenchError> {
        let (mut found, mut dirs) = (Vec::new(), vec![self.dir(store)]);
        while let Some(dir) = dirs.pop() {
            let entries = match fs::read_dir(&dir) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.map_err(BenchError::io(&dir))?,
            };
            for entry in entries {
                let entry = entry.map_err(BenchError::io(&dir))?;
                let (path, name) = (entry.path(), entry.file_name());
                let name = name.to_string_lossy();
                if path.is_dir() {
                    // Marks are right in their directory.
                    if self.name != "marks" {
                        dirs.push(path);
                    }
                } else if self.ends.is_empty() || self.ends.iter().any(|e| name.ends_with(e)) {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The end of a file may never have been committed, and become something else: what all clients had under way.
const TAIL: usize = 64 << 10;

/// A byte that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    pub path: PathBuf,
    pub offset: u64,
    pub was: u8,
    /// It was near the end of what was written.
    pub late: bool,
}

impl Flip {
    /// Whether the byte is what it was, or its file gone.
    pub fn is_repaired(&self) -> bool {
        let mut byte = [0];
        match File::open(&self.path) {
            Ok(file) => file.read_exact_at(&mut byte, self.offset).is_ok() && byte[0] == self.was,
            Err(_) => true,
        }
    }
}

/// Flips a few bits of a file, where it is not all zero at its end.
///
/// # Errors
/// I/O.
pub fn flip(path: &Path, random: &mut Random) -> Result<Vec<Flip>, BenchError> {
    let (file, bytes) = read(path)?;
    let used = used(&bytes);
    if used == 0 {
        return Ok(Vec::new());
    }
    let mut flips = Vec::new();
    for _ in 0..=random.below(BITS) {
        let offset = random.below(used);
        if flips.iter().any(|f: &Flip| f.offset == offset as u64) {
            continue;
        }
        let new = bytes[offset] ^ (1 << random.below(8));
        let flip = Flip {
            path: path.to_owned(),
            offset: offset as u64,
            was: bytes[offset],
            late: offset + TAIL > used,
        };
        file.write_all_at(&[new], flip.offset)
            .map_err(BenchError::io(path))?;
        flips.push(flip);
    }
    Ok(flips)
}

/// Takes the end of a file away. The first byte of it that was not zero, if there was one, stands for all.
///
/// # Errors
/// I/O.
pub fn truncate(path: &Path, random: &mut Random) -> Result<Option<Flip>, BenchError> {
    let (file, bytes) = read(path)?;
    let used = used(&bytes);
    let left = random.below(used);
    file.set_len(left as u64).map_err(BenchError::io(path))?;
    let first = bytes[left..used].iter().position(|b| *b != 0);
    Ok(first.map(|first| Flip {
        path: path.to_owned(),
        offset: (left + first) as u64,
        was: bytes[left + first],
        late: left + first + TAIL > used,
    }))
}

fn read(path: &Path) -> Result<(File, Vec<u8>), BenchError> {
    let file = File::options().write(true).open(path);
    let bytes = fs::read(path).map_err(BenchError::io(path))?;
    Ok((file.map_err(BenchError::io(path))?, bytes))
}

/// Up to the last byte that is not zero.
fn used(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flips_hit_what_is_written_and_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000");
        let mut bytes = vec![7_u8; 1000];
        bytes.resize(5000, 0);
        fs::write(&path, &bytes).unwrap();
        let flips = flip(&path, &mut Random::new(1)).unwrap();
        let after = fs::read(&path).unwrap();
        let differ: Vec<_> = (0..bytes.len())
            .filter(|i| bytes[*i] != after[*i])
            .collect();
        assert!((1..=BITS).contains(&differ.len()) && differ.iter().all(|i| *i < 1000));
        assert_eq!(differ.len(), flips.len());
        assert!(flips.iter().all(|f| f.was == 7 && !f.is_repaired()));
        fs::write(&path, &bytes).unwrap();
        assert!(flips.iter().all(Flip::is_repaired));
        fs::write(&path, [0; 100]).unwrap();
        assert_eq!(flip(&path, &mut Random::new(1)).unwrap(), []);
    }

    #[test]
    fn a_truncation_takes_something_that_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, vec![7_u8; 1000]).unwrap();
        let gone = truncate(&path, &mut Random::new(3)).unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), gone.offset);
        assert!(gone.was == 7 && !gone.is_repaired());
        fs::write(&path, [0; 1000]).unwrap();
        assert_eq!(truncate(&path, &mut Random::new(3)).unwrap(), None);
    }

    #[test]
    fn kinds_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "commitlog/segments/00000000",
            "commitlog/segments/00000000.idx",
            "commitlog/vote",
            "commitlog/format",
            "consumequeue/T/0/00000000",
            "metadata/000004.sst",
            "metadata/CURRENT",
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let names = |kind| {
            let files = FileKind::named(kind).unwrap().files(dir.path()).unwrap();
            let names = files.iter().map(|f| f.strip_prefix(dir.path()).unwrap());
            names
                .map(|n| n.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("segment"), ["commitlog/segments/00000000"]);
        assert_eq!(names("sparse-index"), ["commitlog/segments/00000000.idx"]);
        assert_eq!(names("queue"), ["consumequeue/T/0/00000000"]);
        assert_eq!(names("metadata"), ["metadata/000004.sst"]);
        assert_eq!(names("marks"), ["commitlog/vote"]);
        assert!(names("snapshot").is_empty());
    }
}
