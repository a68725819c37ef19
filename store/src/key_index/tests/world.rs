//! A log in memory, an index of it on disk, and the question whether the two agree.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::state::Limits;
use super::super::{KeyIndex, Result};
use crate::vfs::RealFs;

pub const SEGMENT: u64 = 64 * 1024;
pub const LIMITS: Limits = Limits {
    entries: 24,
    bytes: 20_000,
};

#[derive(Debug, Clone)]
pub struct Message {
    pub topic: String,
    pub unique: Option<String>,
    pub keys: Option<String>,
    pub position: u64,
    pub timestamp: i64,
}

impl Message {
    fn has(&self, topic: &str, key: &str) -> bool {
        let named = |keys: &Option<String>| match keys {
            Some(keys) => keys.split(' ').any(|k| k == key),
            None => false,
        };
        self.topic == topic && (self.unique.as_deref() == Some(key) || named(&self.keys))
    }
}

pub struct World {
    _temp: tempfile::TempDir,
    pub dir: PathBuf,
    pub index: KeyIndex,
    pub log: Vec<Message>,
    /// The log is `[start, end)`.
    pub start: u64,
    pub end: u64,
}

impl World {
    pub fn new() -> Self {
        let temp = tempfile::tempdir().expect("temp dir");
        let dir = temp.path().join("index");
        World {
            index: open(&dir),
            _temp: temp,
            dir,
            log: Vec::new(),
            start: 0,
            end: 0,
        }
    }

    /// A message of `size` bytes at the end of the log; it never spans two segments.
    pub fn add(&mut self, topic: &str, unique: Option<&str>, keys: &str, size: u64, time: i64) {
        if self.end % SEGMENT + size > SEGMENT {
            self.end += SEGMENT - self.end % SEGMENT;
        }
        self.log.push(Message {
            topic: topic.to_owned(),
            unique: unique.map(str::to_owned),
            keys: (!keys.is_empty()).then(|| keys.to_owned()),
            position: self.end,
            timestamp: time,
        });
        self.end += size;
        self.apply(self.log.len() - 1);
    }

    fn apply(&self, nth: usize) {
        let m = &self.log[nth];
        let (unique, keys) = (m.unique.as_deref(), m.keys.as_deref());
        let added = self
            .index
            .add(&m.topic, unique, keys, m.position, m.timestamp);
        added.expect("added");
    }

    pub fn reopen(&mut self) {
        self.index = open(&self.dir);
    }

    /// What a broker does after a start: the log again from `covered`, then the gaps.
    pub fn catch_up(&self) {
        self.index.trim(self.start).expect("trimmed");
        let covered = self.index.covered();
        assert!((self.start..=self.end).contains(&covered));
        for nth in 0..self.log.len() {
            if self.log[nth].position >= covered {
                self.apply(nth);
            }
        }
        for (from, to) in self.index.gaps() {
            let mut builder = self.index.rebuild(from, to);
            for m in self.log.iter().filter(|m| m.position < to) {
                let (unique, keys) = (m.unique.as_deref(), m.keys.as_deref());
                let added = builder.add(&m.topic, unique, keys, m.position, m.timestamp);
                added.expect("added");
            }
            builder.finish().expect("rebuilt");
        }
        assert_eq!(self.index.gaps(), vec![]);
    }

    pub fn trim(&mut self, position: u64) {
        let start = position - position % SEGMENT;
        if start <= self.start {
            return;
        }
        self.start = start;
        self.log.retain(|m| m.position >= start);
        self.index.trim(position).expect("trimmed");
    }

    pub fn found(&self, topic: &str, key: &str, begin: i64, end: i64) -> Vec<u64> {
        let mut found = Vec::new();
        let mut visit = |position| -> Result<ControlFlow<()>> {
            found.push(position);
            Ok(ControlFlow::Continue(()))
        };
        let told = self.index.query(topic, key, begin, end, &mut visit);
        told.expect("query");
        assert!(found.windows(2).all(|w| w[0] > w[1]), "newest first, once");
        found
    }

    fn known(&self, topic: &str, key: &str, begin: i64, end: i64) -> Vec<u64> {
        let mine = self.log.iter().rev().filter(|m| m.has(topic, key));
        mine.filter(|m| (begin..=end).contains(&m.timestamp))
            .map(|m| m.position)
            .collect()
    }

    /// Nothing missing, and nothing too much but by time where the format allows it.
    pub fn check(&self, topic: &str, key: &str, begin: i64, end: i64) {
        let mut found = self.found(topic, key, begin, end);
        let known = self.known(topic, key, begin, end);
        let any_time = self.known(topic, key, i64::MIN, i64::MAX);
        assert!(found.iter().all(|p| any_time.contains(p)));
        found.retain(|p| {
            let message = self.log.iter().find(|m| m.position == *p);
            message.is_some_and(|m| (begin..=end).contains(&m.timestamp))
        });
        assert_eq!(found, known, "{topic} {key} [{begin}, {end}]");
    }

    /// With damage unnoticed: what is found is right, but something may be missing.
    pub fn check_subset(&self, topic: &str, key: &str) {
        let known = self.known(topic, key, i64::MIN, i64::MAX);
        let found = self.found(topic, key, i64::MIN, i64::MAX);
        assert!(found.iter().all(|p| known.contains(p)));
    }

    pub fn check_all(&self) {
        for topic in TOPICS {
            for key in KEYS {
                self.check(topic, key, i64::MIN, i64::MAX);
            }
        }
    }

    /// Files below the index' directory.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut dirs = vec![self.dir.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).expect("list") {
                let path = entry.expect("entry").path();
                match path.is_dir() {
                    true => dirs.push(path),
                    false => files.push(path),
                }
            }
        }
        files.sort();
        files
    }

    pub fn verify_all(&self) -> bool {
        let bases = (self.start..=self.end).step_by(SEGMENT as usize);
        let bad = bases.filter(|base| !self.index.verify(*base).expect("verified"));
        bad.count() == 0
    }
}

pub fn open(dir: &std::path::Path) -> KeyIndex {
    KeyIndex::open_with(Arc::new(RealFs), dir.to_owned(), SEGMENT, LIMITS).expect("opens")
}

pub const TOPICS: [&str; 2] = ["orders", "payments"];
pub const KEYS: [&str; 6] = ["a", "b", "c", "hot", "id-1", "id-2"];
