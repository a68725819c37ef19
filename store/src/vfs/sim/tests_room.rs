use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::content::Content;
use super::rng::Rng;
use super::{Crash, File, FileSystem, SimFs};

fn write(file: &Arc<dyn File>, at: u64, data: &[u8]) -> io::Result<()> {
    file.write_all_vectored_at(&[Bytes::copy_from_slice(data)], at)
}

fn room(fs: &SimFs) -> u64 {
    fs.space(Path::new("/")).expect("space").available / 4096
}

#[test]
fn reservations_and_pages_beyond_them_count_against_the_capacity() {
    let fs = SimFs::new(0);
    assert_eq!(fs.space(Path::new("/")).expect("space").total, 1 << 40);
    fs.set_capacity(Some(10 * 4096));
    let a = fs.open(Path::new("/a"), true).expect("made");
    a.allocate(4 * 4096).expect("fits");
    assert_eq!(room(&fs), 6);
    write(&a, 0, &[1; 4 * 4096]).expect("reserved");
    assert_eq!(room(&fs), 6);
    write(&a, 6 * 4096, &[1]).expect("fits");
    assert_eq!(room(&fs), 5);
    a.allocate(8 * 4096).expect("fits");
    assert_eq!(room(&fs), 2);
    let b = fs.open(Path::new("/b"), true).expect("made");
    let full = b.allocate(3 * 4096).expect_err("full");
    assert_eq!(full.raw_os_error(), Some(28));
    assert_eq!((room(&fs), b.len().expect("len")), (2, 0));
    let full = write(&b, 0, &[1; 3 * 4096]).expect_err("full");
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert_eq!((room(&fs), b.len().expect("len")), (0, 2 * 4096));
    a.set_len(5 * 4096).expect("cut");
    assert_eq!(room(&fs), 3);
    drop(b);
    fs.remove_file(Path::new("/b")).expect("removed");
    assert_eq!(room(&fs), 5);
    assert_eq!(room(&fs.crash(Crash::Kill, 0)), 5);
}

#[test]
fn replaced_and_removed_files_do_not_pile_up() {
    let fs = SimFs::new(0);
    for n in 0..1000u32 {
        fs.replace(Path::new("/a"), &n.to_be_bytes())
            .expect("replaced");
    }
    assert_eq!(room(&fs), (1 << 28) - 1);
    assert!(fs.disk.lock().files_kept() < 100);
    let after = fs.crash(Crash::Power, 0);
    let last = after.read(Path::new("/a")).expect("there");
    assert_eq!(last, 999u32.to_be_bytes());
}

#[test]
fn damage_is_seen_and_durable() {
    let fs = SimFs::new(0);
    for name in ["/a", "/b"] {
        let file = fs.open(Path::new(name), true).expect("made");
        write(&file, 0, &[1; 9000]).expect("written");
    }
    fs.sync_all(Path::new("/")).expect("synced");
    fs.corrupt("/a", 5000, 0x81).expect("there");
    fs.corrupt("/a", 9000, 1).expect_err("beyond the end");
    fs.truncate_file("/a", 6000).expect("there");
    fs.delete_file("/b").expect("there");
    fs.delete_file("/b").expect_err("gone");
    let mut want = vec![1; 6000];
    want[5000] = 0x80;
    assert_eq!(fs.read(Path::new("/a")).expect("there"), want);
    for seed in 0..50 {
        let after = fs.crash(Crash::Power, seed);
        assert_eq!(after.files(), [PathBuf::from("/a")]);
        assert_eq!(after.read(Path::new("/a")).expect("there"), want);
    }
}

#[test]
fn impossible_requests_are_refused() {
    let fs = SimFs::new(0);
    fs.create_dir_all(Path::new("/d/e")).expect("made");
    let file = fs.open(Path::new("/d/a"), true).expect("made");
    let kind = |r: io::Result<()>| r.expect_err("refused").kind();
    let open = |p: &str, create| fs.open(Path::new(p), create).map(drop);
    let rename = |a: &str, b: &str| fs.rename(Path::new(a), Path::new(b));
    assert_eq!(kind(open("/x", false)), ErrorKind::NotFound);
    assert_eq!(kind(open("/x/y", true)), ErrorKind::NotFound);
    assert_eq!(kind(open("/d", true)), ErrorKind::IsADirectory);
    assert_eq!(kind(open("/d/a/b", true)), ErrorKind::NotADirectory);
    assert_eq!(kind(rename("/d/x", "/d/y")), ErrorKind::NotFound);
    assert_eq!(kind(rename("/d/a", "/d/e")), ErrorKind::IsADirectory);
    assert_eq!(kind(rename("/d/e", "/d/a")), ErrorKind::NotADirectory);
    assert_eq!(kind(rename("/d/e", "/e")), ErrorKind::CrossesDevices);
    assert_eq!(kind(file.map(0).map(drop)), ErrorKind::Unsupported);
    assert_eq!(
        kind(file.read_view(0, usize::MAX).map(drop)),
        ErrorKind::UnexpectedEof
    );
    assert_eq!(
        kind(write(&file, u64::MAX - 1, b"abc")),
        ErrorKind::FileTooLarge
    );
    rename("/d/e", "/d/f").expect("within its directory");
    assert!(fs.exists(Path::new("/d/f")) && !fs.exists(Path::new("/d/e")));
}

fn seen(content: &Content) -> Vec<u8> {
    let mut buf = vec![0; content.len() as usize];
    content.read(0, &mut buf);
    buf
}

/// Random operations against a plain vector: what is seen is always the vector, a sync makes exactly that durable, a
/// failed write-back leaves what the platter has.
#[test]
fn content_follows_a_vector() {
    for seed in 0..300 {
        let mut dice = Rng::new(seed, 1);
        let mut content = Content::default();
        let mut model: Vec<u8> = Vec::new();
        for step in 0..60u8 {
            let at = dice.below(20_000) as usize;
            match dice.below(8) {
                0 => {
                    content.set_len(at as u64);
                    model.resize(at, 0);
                }
                1 => {
                    assert!(content.allocate(at as u64, u64::MAX));
                    model.resize(model.len().max(at), 0);
                }
                2 => {
                    content.sync();
                    let left = content.after_power_loss(&mut dice);
                    assert_eq!(seen(&left), model);
                    assert!(left.used() <= content.used());
                }
                3 if at < model.len() => {
                    assert!(content.corrupt(at as u64, step));
                    model[at] ^= step;
                }
                4 if dice.coin() => {
                    content.truncate(at as u64);
                    model.truncate(at);
                }
                5 if dice.coin() => {
                    content.forget_dirty();
                    let before = content.len();
                    model = seen(&content);
                    content.sync();
                    assert_eq!(content.len(), before);
                    assert_eq!(seen(&content.after_power_loss(&mut dice)), model);
                }
                _ => {
                    let data = vec![step + 1; dice.below(9000) as usize];
                    assert!(content.write(at as u64, &data, u64::MAX));
                    if !data.is_empty() {
                        model.resize(model.len().max(at + data.len()), 0);
                        model[at..at + data.len()].copy_from_slice(&data);
                    }
                }
            }
            assert_eq!(seen(&content), model, "seed {seed} step {step}");
        }
    }
}
