//! Trimming: what goes, in which order, and who may look on.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Place, entries, is_corrupt};
use crate::consume_queue::ENTRIES_PER_FILE;

const FILE: i64 = ENTRIES_PER_FILE as i64;

fn files(place: &Place, queue: &str) -> usize {
    std::fs::read_dir(place.path(queue)).expect("lists").count()
}

#[test]
fn the_front_goes_with_its_files_and_stays_gone() {
    let place = Place::new();
    let table = place.open().table;
    let queue = table.get_or_create("t", 0).expect("makes");
    queue.write(&entries(0..2 * FILE + 10)).expect("writes");
    let small = table.get_or_create("small", 0).expect("makes");
    small.write(&entries(0..5)).expect("writes");
    table.checkpoint(table.cut(1, 1)).expect("checkpoint");

    table.trim(201).expect("trims");
    assert_eq!((queue.min(), small.min(), files(&place, "t/0")), (3, 3, 3));
    assert_eq!(queue.read(0, 2).expect("reads"), entries(3..5));
    table.trim(100).expect("trims");
    assert_eq!((queue.min(), table.trimmed_to()), (3, 201));

    place.fs.take_ops();
    table.trim(FILE as u64 * 100).expect("trims");
    assert_eq!((queue.min(), files(&place, "t/0")), (FILE, 2));
    assert_eq!((small.min(), small.max()), (5, 5));
    assert_eq!(small.read(0, 9).expect("reads"), vec![]);
    let ops = place.fs.take_ops();
    let at = |op: &str| ops.iter().position(|o| o == op).expect(op);
    assert!(
        at("rename table") < at("remove t/0/00000000000000000000"),
        "{ops:?}"
    );

    // Killed without another checkpoint: nothing looks damaged, and the numbers are those after the trim.
    let opened = place.open();
    assert_eq!((opened.as_of, opened.damaged), (Some((1, 1)), vec![]));
    assert_eq!(opened.table.trimmed_to(), FILE as u64 * 100);
    let queue = opened.table.get("t", 0).expect("is there");
    assert_eq!((queue.min(), queue.max()), (FILE, 2 * FILE + 10));
}

#[test]
fn a_queue_trimmed_to_its_end_goes_on_there() {
    let place = Place::new();
    let table = place.open().table;
    let queue = table.get_or_create("t", 0).expect("makes");
    queue.write(&entries(0..FILE)).expect("writes");
    let cut = table.cut(1, 1);
    table.trim(u64::MAX).expect("trims");
    assert_eq!((queue.min(), queue.max()), (FILE, FILE));
    assert_eq!(files(&place, "t/0"), 0);
    // A cut from before the trim does not bring back what is deleted.
    table.checkpoint(cut).expect("checkpoint");
    let opened = place.open();
    assert_eq!(opened.damaged, vec![]);
    let queue = opened.table.get("t", 0).expect("is there");
    assert_eq!((queue.min(), queue.max()), (FILE, FILE));
    queue.write(&entries(FILE..FILE + 2)).expect("writes");
    let read = queue.read(0, 9).expect("reads");
    assert_eq!(read, entries(FILE..FILE + 2));
}

#[test]
fn a_queue_that_cannot_be_searched_keeps_what_it_has() {
    let place = Place::new();
    let table = place.open().table;
    for topic in ["bad", "good"] {
        let queue = table.get_or_create(topic, 0).expect("makes");
        queue.write(&entries(0..10)).expect("writes");
    }
    let bad = table.get("bad", 0).expect("is there");
    bad.write(&entries(20..21)).expect("writes");
    table.trim(1_500).expect("trims");
    assert_eq!(bad.min(), 0);
    assert_eq!(table.get("good", 0).expect("is there").min(), 10);
    assert_eq!(table.damaged(), vec![("bad".to_owned(), 0)]);
    assert!(is_corrupt(&bad.read(0, 100)));
}

#[test]
fn readers_and_the_writer_go_on_while_the_front_is_trimmed() {
    let place = Place::new();
    let table = place.open().table;
    let queue = table.get_or_create("t", 0).expect("makes");
    queue.write(&entries(0..3 * FILE)).expect("writes");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for from in [0, FILE - 3, 2 * FILE - 3, queue.min()] {
                        let read = queue.read(from, 64).expect("reads");
                        let first = read.first().expect("never empty").queue_offset;
                        assert!(first >= from);
                        assert_eq!(read, entries(first..first + read.len() as i64));
                    }
                }
            });
        }
        scope.spawn(|| {
            for start in 0..60 {
                table.trim((start * FILE / 20 * 100) as u64).expect("trims");
                table.checkpoint(table.cut(1, 1)).expect("checkpoint");
            }
            done.store(true, Ordering::Relaxed);
        });
        for next in 3 * FILE..3 * FILE + 5_000 {
            queue.write(&entries(next..next + 1)).expect("writes");
        }
    });
    assert_eq!((queue.min(), table.damaged()), (59 * FILE / 20, vec![]));
    assert_eq!(files(&place, "t/0"), 2);
}
