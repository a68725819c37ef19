//! What is refused at a start stays as it is, byte for byte.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::*;
use crate::Store;
use crate::commitlog::LogOptions;
use crate::commitlog::writer::FlushPolicy;

/// Every file and directory below: content and time of the last change.
fn picture(dir: &Path) -> BTreeMap<PathBuf, (Option<Vec<u8>>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(path) = left.pop() {
        let meta = fs::metadata(&path).unwrap();
        let content = meta.is_file().then(|| fs::read(&path).unwrap());
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        found.insert(path, (content, meta.modified().unwrap()));
    }
    found
}

fn make(dir: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = dir.join(name);
        match name.strip_suffix('/') {
            Some(_) => fs::create_dir_all(path).unwrap(),
            None => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
        }
    }
}

fn options() -> LogOptions {
    LogOptions::new(1 << 20, FlushPolicy::Async)
}

/// Starts on a directory with these files; the refusal.
fn refused(files: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), files);
    let before = picture(dir.path());
    let error = match Store::open(dir.path(), &options()) {
        Err(StoreError::Refused(why)) => why,
        Err(other) => panic!("{files:?}: {other}"),
        Ok(_) => panic!("{files:?}: opened"),
    };
    assert!(before == picture(dir.path()), "{files:?}: changed");
    let why = DirectoryLock::take_existing(dir.path()).unwrap_err();
    assert_eq!(why.to_string(), error);
    assert!(
        before == picture(dir.path()),
        "{files:?}: changed by a tool"
    );
    error
}

/// What a broker of Apache RocketMQ leaves in its directory.
const ROCKETMQ: &[(&str, &str)] = &[
    ("commitlog/00000000000000000000", "messages"),
    ("commitlog/00000000001073741824", ""),
    ("config/topics.json", "{}"),
    ("config/consumerOffset.json", "{}"),
    ("consumequeue/TopicTest/0/00000000000000000000", "entries"),
    ("index/20261201010101000", "keys"),
    ("checkpoint", "times"),
    ("lock", "lock"),
    ("abort", "4711"),
];

#[test]
fn a_store_of_rocketmq_is_refused_and_left_as_it_is() {
    let why = refused(ROCKETMQ);
    assert!(why.contains("Apache RocketMQ"), "{why}");
    assert!(why.contains("commitlog/00000000000000000000"), "{why}");
    assert!(why.contains("config/topics.json"), "{why}");
    assert!(why.contains("choose an empty directory"), "{why}");
    // Whatever part of it is there alone.
    for file in ROCKETMQ.iter().filter(|(name, _)| *name != "abort") {
        refused(std::slice::from_ref(file));
    }
}

#[test]
fn other_files_are_refused_and_named() {
    let why = refused(&[("photos/cat.jpg", "meow"), ("notes.txt", "buy milk")]);
    assert!(why.contains("found notes.txt, photos"), "{why}");
    assert!(why.contains("choose an empty directory"), "{why}");
    // Half of ours without what says that it is ours.
    refused(&[("commitlog/segments/00000000000000000000", "entries")]);
    refused(&[("commitlog/vote", "who")]);
    refused(&[("metadata/CURRENT", "MANIFEST")]);
    refused(&[("snapshots/00000000000000000000.snap", "state")]);
    refused(&[("snapshots/mine.txt", "deleted by a start otherwise")]);
    refused(&[("lock", ""), ("commitlog/mine.txt", "mine")]);
}

#[test]
fn an_empty_directory_and_a_half_made_one_become_a_store() {
    let half: &[&[(&str, &str)]] = &[
        &[],
        &[("lost+found/", ""), (".snapshot/", "")],
        &[("lock", "")],
        &[("lock", ""), ("abort.tmp", "boot")],
        &[("lock", ""), ("abort", "boot"), ("snapshots/", "")],
        &[
            ("lock", ""),
            ("abort", "boot"),
            ("snapshots/", ""),
            ("commitlog/format.tmp", "versi"),
        ],
    ];
    for files in half {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), files);
        assert!(
            DirectoryLock::take_existing(dir.path()).is_err(),
            "no store yet"
        );
        let (store, lock) = Store::open(dir.path(), &options()).unwrap();
        store.log.close();
        drop((store, lock));
        // Ours now, whatever somebody put beside it.
        make(dir.path(), &[("README.txt", "of the operator")]);
        let (store, _lock) = Store::open(dir.path(), &options()).unwrap();
        store.log.close();
        let busy = DirectoryLock::take_existing(dir.path()).unwrap_err();
        assert!(busy.to_string().contains("in use"), "{busy}");
    }
}
