use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use super::*;

const SEEDS: std::ops::Range<u64> = 0..200;

fn disk() -> SimFs {
    let fs = SimFs::new(7);
    fs.create_dir_all(Path::new("/d")).expect("made");
    fs.sync_all(Path::new("/")).expect("synced");
    fs
}

fn open(fs: &SimFs, path: &str) -> Arc<dyn File> {
    fs.open(Path::new(path), true).expect("opened")
}

fn write(file: &Arc<dyn File>, at: u64, data: &[u8]) -> io::Result<()> {
    file.write_all_vectored_at(&[Bytes::copy_from_slice(data)], at)
}

fn put(file: &Arc<dyn File>, at: u64, data: &[u8]) {
    write(file, at, data).expect("written");
}

fn get(fs: &SimFs, path: &str) -> Option<Vec<u8>> {
    fs.read(Path::new(path)).ok()
}

fn sync_dir(fs: &SimFs, path: &str) {
    fs.sync_dir(Path::new(path)).expect("synced");
}

/// A durable file of `len` bytes `fill`.
fn durable(fs: &SimFs, path: &str, fill: u8, len: usize) -> Arc<dyn File> {
    let file = open(fs, path);
    put(&file, 0, &vec![fill; len]);
    file.sync_data().expect("synced");
    sync_dir(fs, "/d");
    file
}

#[test]
fn synced_content_and_name_outlive_a_power_loss() {
    let fs = disk();
    durable(&fs, "/d/a", 1, 10_000);
    for seed in SEEDS {
        let after = fs.crash(Crash::Power, seed);
        assert_eq!(get(&after, "/d/a"), Some(vec![1; 10_000]));
    }
}

#[test]
fn a_kill_loses_nothing_but_a_later_power_loss_may() {
    let fs = disk();
    let file = durable(&fs, "/d/a", 1, 512);
    put(&file, 0, &[2; 512]);
    put(&open(&fs, "/d/b"), 0, &[3; 5]);
    let next = fs.crash(Crash::Kill, 0);
    assert_eq!(get(&next, "/d/a"), Some(vec![2; 512]));
    assert_eq!(get(&next, "/d/b"), Some(vec![3; 5]));
    let seen: BTreeSet<_> = SEEDS
        .map(|seed| {
            let after = next.crash(Crash::Power, seed);
            (get(&after, "/d/a").expect("named")[0], get(&after, "/d/b"))
        })
        .collect();
    assert!(seen.iter().any(|(a, _)| *a == 1) && seen.iter().any(|(a, _)| *a == 2));
    assert!(seen.iter().any(|(_, b)| b.is_none()) && seen.iter().any(|(_, b)| b.is_some()));
}

#[test]
fn dirty_sectors_are_old_or_new_each_by_itself() {
    let fs = disk();
    let file = durable(&fs, "/d/a", 1, 16 * 512);
    put(&file, 100, &[2; 10 * 512]);
    let new = fs.read(Path::new("/d/a")).expect("read");
    let mut mixed = 0;
    for seed in SEEDS {
        let got = get(&fs.crash(Crash::Power, seed), "/d/a").expect("named");
        let arrived = (0..16).filter(|s| {
            let range = s * 512..(s + 1) * 512;
            let is_new = got[range.clone()] == new[range.clone()];
            assert!(is_new || got[range.clone()] == vec![1; 512]);
            is_new && got[range] != vec![1; 512]
        });
        mixed += u32::from((1..11).contains(&arrived.count()));
    }
    assert!(mixed > 50, "{mixed}");
}

#[test]
fn an_unsynced_length_is_one_of_those_since_the_sync() {
    let fs = disk();
    let file = durable(&fs, "/d/a", 1, 100);
    put(&file, 100, &[2; 100]);
    file.allocate(5000).expect("allocated");
    file.set_len(50).expect("cut");
    let lens: BTreeSet<_> = SEEDS
        .map(|seed| get(&fs.crash(Crash::Power, seed), "/d/a").map(|c| c.len()))
        .collect();
    assert_eq!(lens, BTreeSet::from([100, 200, 5000, 50].map(Some)));
}

#[test]
fn cut_bytes_read_as_zero_when_the_file_grows_again() {
    let fs = disk();
    let file = durable(&fs, "/d/a", 1, 10_000);
    file.set_len(700).expect("cut");
    file.set_len(10_000).expect("grown");
    let want = [vec![1; 700], vec![0; 9300]].concat();
    assert_eq!(get(&fs, "/d/a"), Some(want.clone()));
    file.sync_data().expect("synced");
    assert_eq!(get(&fs.crash(Crash::Power, 0), "/d/a"), Some(want));
}

#[test]
fn an_unsynced_cut_is_lost_or_zeroes_what_follows() {
    let fs = disk();
    let file = durable(&fs, "/d/a", 1, 10_000);
    file.set_len(700).expect("cut");
    file.set_len(10_000).expect("grown");
    let seen: BTreeSet<_> = SEEDS
        .map(|seed| get(&fs.crash(Crash::Power, seed), "/d/a").expect("named"))
        .collect();
    let zeroed = [vec![1; 700], vec![0; 9300]].concat();
    let want = [vec![1; 10_000], vec![1; 700], zeroed];
    assert_eq!(seen, BTreeSet::from(want));
}

#[test]
fn sync_all_makes_contents_names_and_removals_durable() {
    let fs = disk();
    durable(&fs, "/d/old", 1, 1);
    fs.create_dir_all(Path::new("/e/f")).expect("made");
    put(&open(&fs, "/e/f/a"), 0, b"new");
    fs.remove_file(Path::new("/d/old")).expect("removed");
    fs.sync_all(Path::new("/d")).expect("synced");
    for seed in SEEDS {
        let after = fs.crash(Crash::Power, seed);
        assert_eq!(after.files(), [PathBuf::from("/e/f/a")]);
        assert_eq!(get(&after, "/e/f/a"), Some(b"new".to_vec()));
    }
}

#[test]
fn a_synced_file_without_a_durable_name_is_gone() {
    let fs = disk();
    let file = open(&fs, "/d/a");
    put(&file, 0, b"x");
    file.sync_data().expect("synced");
    let kept = SEEDS.filter(|s| get(&fs.crash(Crash::Power, *s), "/d/a").is_some());
    let kept = kept.count();
    assert!(kept > 0 && kept < 200, "{kept}");

    // The same one directory up: names in a directory whose own name is not durable.
    let fs = disk();
    fs.create_dir_all(Path::new("/d/e/f")).expect("made");
    let file = open(&fs, "/d/e/f/a");
    file.sync_data().expect("synced");
    sync_dir(&fs, "/d/e/f");
    sync_dir(&fs, "/d/e");
    assert!(SEEDS.into_iter().any(|s| {
        let after = fs.crash(Crash::Power, s);
        after.list(Path::new("/d")).expect("there").is_empty()
    }));
}

#[test]
fn of_directory_changes_a_prefix_remains() {
    let fs = disk();
    durable(&fs, "/d/old", 9, 1);
    open(&fs, "/d/a");
    open(&fs, "/d/b");
    fs.rename(Path::new("/d/a"), Path::new("/d/c")).expect("ok");
    fs.remove_file(Path::new("/d/old")).expect("removed");
    let seen: BTreeSet<String> = SEEDS
        .map(|s| fs.crash(Crash::Power, s))
        .map(|after| after.list(Path::new("/d")).expect("there").join(" "))
        .collect();
    let want = ["old", "a old", "a b old", "b c old", "b c"].map(String::from);
    assert_eq!(seen, BTreeSet::from(want));
}

#[test]
fn a_rename_replaces_the_old_file_or_does_not() {
    let fs = disk();
    fs.replace(Path::new("/d/a"), b"one").expect("replaced");
    fs.replace(Path::new("/d/a"), b"two").expect("replaced");
    assert_eq!(
        get(&fs.crash(Crash::Power, 1), "/d/a"),
        Some(b"two".to_vec())
    );

    let fs = disk();
    durable(&fs, "/d/a", 1, 3);
    durable(&fs, "/d/t", 2, 4);
    let (from, to) = (Path::new("/d/t"), Path::new("/d/a"));
    fs.rename(from, to).expect("renamed");
    for seed in SEEDS {
        let after = fs.crash(Crash::Power, seed);
        match after.files().len() {
            1 => assert_eq!(get(&after, "/d/a"), Some(vec![2; 4])),
            _ => assert_eq!(get(&after, "/d/a"), Some(vec![1; 3])),
        }
    }
}

#[test]
fn a_rename_between_directories_is_in_both_or_in_neither() {
    let fs = disk();
    fs.create_dir_all(Path::new("/e")).expect("made");
    durable(&fs, "/d/a", 1, 3);
    fs.sync_all(Path::new("/")).expect("synced");
    fs.rename(Path::new("/d/a"), Path::new("/e/a")).expect("ok");
    let seen: BTreeSet<_> = SEEDS.map(|s| fs.crash(Crash::Power, s).files()).collect();
    let want = ["/d/a", "/e/a"].map(|p| vec![PathBuf::from(p)]);
    assert_eq!(seen, BTreeSet::from(want));
}

#[test]
fn a_removed_directory_is_gone_with_a_sync_of_its_parent() {
    let fs = disk();
    fs.create_dir_all(Path::new("/d/e/f")).expect("made");
    open(&fs, "/d/e/f/a");
    open(&fs, "/d/e/b");
    fs.sync_all(Path::new("/")).expect("synced");
    fs.remove_dir_all(Path::new("/d/e")).expect("removed");
    assert!(!fs.exists(Path::new("/d/e")) && fs.files().is_empty());
    let back = SEEDS.filter(|s| fs.crash(Crash::Power, *s).exists(Path::new("/d/e")));
    assert!(back.count() > 0);

    let next = fs.crash(Crash::Kill, 0);
    sync_dir(&next, "/d");
    assert!(SEEDS.into_iter().all(|s| {
        let after = next.crash(Crash::Power, s);
        !after.exists(Path::new("/d/e"))
    }));
}

#[test]
fn a_handle_to_a_removed_file_works_and_keeps_its_room() {
    let fs = disk();
    fs.set_capacity(Some(2 * 4096));
    let file = open(&fs, "/d/a");
    put(&file, 0, b"one");
    fs.remove_file(Path::new("/d/a")).expect("removed");
    let other = open(&fs, "/d/a");
    put(&file, 3, b"two");
    file.sync_data().expect("synced");
    let view = file.read_view(0, 6).expect("read");
    assert_eq!(view.as_deref(), Some(&b"onetwo"[..]));
    assert_eq!(other.len().expect("len"), 0);
    let room = || fs.space(Path::new("/")).expect("space").available;
    assert_eq!(room(), 4096);
    drop(file);
    assert_eq!(room(), 2 * 4096);
}

#[test]
fn a_kill_comes_at_its_operation_and_stops_everything() {
    let run = |fs: &SimFs| -> io::Result<()> {
        let file = fs.open(Path::new("/d/a"), true)?;
        fs.open(Path::new("/d/a"), true)?;
        file.allocate(8192)?;
        write(&file, 0, b"x")?;
        file.sync_data()?;
        fs.sync_dir(Path::new("/d"))?;
        file.set_len(5)?;
        fs.rename(Path::new("/d/a"), Path::new("/d/b"))?;
        fs.remove_file(Path::new("/d/b"))?;
        fs.create_dir_all(Path::new("/d/e"))?;
        fs.remove_dir_all(Path::new("/d/e"))?;
        fs.sync_all(Path::new("/d"))
    };
    let clean = disk();
    let before = clean.ops();
    run(&clean).expect("clean run");
    assert_eq!(clean.ops() - before, 10);
    for n in before..clean.ops() {
        let fs = disk();
        fs.kill_after(n);
        let error = run(&fs).expect_err("killed");
        assert!(error.to_string().contains("killed"), "{error}");
        assert!(fs.killed() && fs.ops() == n);
        fs.list(Path::new("/d")).expect_err("dead");
        fs.create_dir_all(Path::new("/x")).expect_err("dead");
        let next = fs.crash(Crash::Kill, 0);
        assert_eq!(next.ops(), 0);
        assert_eq!(next.exists(Path::new("/d/b")), n == before + 7);
        next.sync_all(Path::new("/d")).expect("alive");
    }
}

#[test]
fn a_killed_write_is_torn_at_any_byte() {
    let mut lens = BTreeSet::new();
    for seed in 0..400 {
        let fs = SimFs::new(seed);
        let file = open(&fs, "/a");
        fs.kill_after(1);
        let bufs = [&b"abc"[..], b"defg", b"h"].map(Bytes::from_static);
        file.write_all_vectored_at(&bufs, 0).expect_err("killed");
        let mut buf = [0; 1];
        file.read_exact_at(&mut buf, 0).expect_err("dead");
        let got = get(&fs.crash(Crash::Kill, 0), "/a").expect("there");
        assert!(b"abcdefgh".starts_with(&got));
        lens.insert(got.len());
    }
    assert_eq!(lens, (0..=8).collect());
}

#[test]
fn old_handles_die_with_a_crash() {
    let fs = disk();
    let file = durable(&fs, "/d/a", 1, 3);
    let after = fs.crash(Crash::Power, 0);
    for result in [
        write(&file, 0, b"x"),
        file.sync_data(),
        file.len().map(drop),
        file.read_view(0, 1).map(drop),
        fs.rename(Path::new("/d/a"), Path::new("/d/b")),
        fs.open(Path::new("/d/a"), false).map(drop),
    ] {
        assert!(result.expect_err("dead").to_string().contains("killed"));
    }
    assert_eq!(get(&after, "/d/a"), Some(vec![1; 3]));
}

#[test]
fn a_lying_disk_loses_what_was_synced() {
    let fs = disk();
    fs.ignore_syncs(true);
    durable(&fs, "/d/a", 1, 100);
    fs.sync_all(Path::new("/")).expect("said so");
    let lost = SEEDS.filter(|s| get(&fs.crash(Crash::Power, *s), "/d/a") != Some(vec![1; 100]));
    assert!(lost.count() > 50);
}

#[test]
fn armed_faults_fire_once_after_their_good_ones() {
    let fs = disk();
    let file = open(&fs, "/d/a");
    fs.fail(FaultOp::Write, 1, ErrorKind::Other);
    fs.fail(FaultOp::Allocate, 0, ErrorKind::StorageFull);
    fs.fail(FaultOp::Read, 0, ErrorKind::InvalidData);
    fs.fail(FaultOp::Rename, 0, ErrorKind::PermissionDenied);
    fs.fail(FaultOp::Remove, 0, ErrorKind::PermissionDenied);
    put(&file, 0, b"a");
    write(&file, 1, b"b").expect_err("armed");
    assert_eq!(file.len().expect("len"), 1);
    put(&file, 1, b"b");
    let full = file.allocate(9).expect_err("armed");
    assert_eq!(full.raw_os_error(), Some(28));
    file.allocate(9).expect("once");
    let error = file.read_exact_at(&mut [0; 2], 0).expect_err("armed");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let (a, b) = (Path::new("/d/a"), Path::new("/d/b"));
    fs.rename(a, b).expect_err("armed");
    fs.remove_file(a).expect_err("armed");
    assert_eq!(get(&fs, "/d/a"), Some(b"ab\0\0\0\0\0\0\0".to_vec()));
}

#[test]
fn a_failed_sync_may_drop_what_was_written() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let fs = SimFs::new(seed);
        let file = open(&fs, "/a");
        put(&file, 0, &[1; 5000]);
        fs.sync_all(Path::new("/")).expect("synced");
        put(&file, 4000, &[2; 2000]);
        fs.fail(FaultOp::Sync, 0, ErrorKind::Other);
        file.sync_data().expect_err("armed");
        let now = get(&fs, "/a").expect("there");
        file.sync_data().expect("the next one says nothing");
        let later = get(&fs.crash(Crash::Power, 0), "/a").expect("there");
        assert_eq!((now.len(), later.len()), (6000, 6000));
        seen.insert((now[4500], later[4500]));
    }
    // Read as before and clean; gone and clean; still dirty.
    assert_eq!(seen, BTreeSet::from([(2, 1), (1, 1), (2, 2)]));
}

#[test]
fn a_bad_page_is_read_again_after_it_was_written_whole() {
    let fs = SimFs::new(1);
    let file = open(&fs, "/a");
    put(&file, 0, &[1; 10_000]);
    fs.spoil("/a", 5_000, 10).expect("there");
    let mut buf = [0; 100];
    let eio = |r: std::io::Result<()>| r.expect_err("bad").raw_os_error() == Some(5);
    assert!(eio(file.read_exact_at(&mut buf, 4_050)));
    file.read_exact_at(&mut buf, 8_192).expect("another page");
    let part = [Bytes::from(vec![2; 50])];
    assert!(eio(file.write_all_vectored_at(&part, 5_000)));
    let whole = [Bytes::from(vec![2; 4_196])];
    file.write_all_vectored_at(&whole, 4_046).expect("whole");
    file.read_exact_at(&mut buf, 4_050).expect("readable");
    assert_eq!(buf, [2; 100]);
}
