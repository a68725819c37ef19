//! What a checkpoint makes durable, in which order, and what it leaves out.

use std::sync::atomic::Ordering;

use super::{Place, entries};
use crate::error::StoreError;

const FIRST: &str = "00000000000000000000";

#[test]
fn files_and_directories_are_synced_before_the_table_is_replaced() {
    let place = Place::new();
    let table = place.open().table;
    for topic in ["a", "b"] {
        let queue = table.get_or_create(topic, 1).expect("makes");
        queue.write(&entries(0..3)).expect("writes");
    }
    place.fs.take_ops();
    table.checkpoint(table.cut(1, 1)).expect("checkpoint");
    let ops = place.fs.take_ops();
    let (before, replaced) = ops.split_at(ops.len() - 3);
    assert_eq!(replaced, ["sync table.tmp", "rename table", "sync_dir "]);
    let mut before = before.to_vec();
    before.sort();
    let (a, b) = (format!("sync a/1/{FIRST}"), format!("sync b/1/{FIRST}"));
    let dirs = ["", "a", "a/1", "b", "b/1"].map(|dir| format!("sync_dir {dir}"));
    assert_eq!(before, [&[a, b.clone()][..], &dirs].concat());

    // Only what is new since; no directory has a new name.
    let queue = table.get("b", 1).expect("is there");
    queue.write(&entries(3..4)).expect("writes");
    table.checkpoint(table.cut(2, 2)).expect("checkpoint");
    let ops = place.fs.take_ops();
    assert_eq!(ops, [&[b][..], replaced].concat());
    table.remove_topic("a").expect("removes");
    table.checkpoint(table.cut(3, 3)).expect("checkpoint");
    assert_eq!(place.fs.take_ops()[0], "sync_dir ");
}

#[test]
fn many_files_and_what_an_earlier_process_left_are_synced_at_once() {
    let place = Place::new();
    let table = place.open().table;
    for id in 0..300 {
        let queue = table.get_or_create("t", id).expect("makes");
        queue.write(&entries(0..1)).expect("writes");
    }
    let at_once = ["sync_all ", "sync table.tmp", "rename table", "sync_dir "];
    place.fs.take_ops();
    table.checkpoint(table.cut(1, 1)).expect("checkpoint");
    assert_eq!(place.fs.take_ops(), at_once);
    table.checkpoint(table.cut(2, 2)).expect("checkpoint");
    assert_eq!(place.fs.take_ops(), at_once[1..]);

    let table = place.open().table;
    place.fs.take_ops();
    table.checkpoint(table.cut(3, 3)).expect("checkpoint");
    assert_eq!(place.fs.take_ops(), at_once);
}

#[test]
fn a_cut_holds_the_numbers_of_its_moment() {
    let place = Place::new();
    let table = place.open().table;
    let queue = table.get_or_create("t", 0).expect("makes");
    queue.write(&entries(0..5)).expect("writes");
    let cut = table.cut(5, 500);
    queue.write(&entries(5..9)).expect("writes");
    table.get_or_create("later", 0).expect("makes");
    std::thread::scope(|scope| {
        let background = scope.spawn(|| table.checkpoint(cut));
        queue.write(&entries(9..12)).expect("writes");
        background.join().expect("joins").expect("checkpoint");
    });
    let opened = place.open();
    assert_eq!(opened.as_of, Some((5, 500)));
    assert!(opened.table.get("later", 0).is_none());
    assert_eq!(opened.table.get("t", 0).expect("is there").max(), 5);
}

#[test]
fn what_was_deleted_after_the_cut_does_not_come_back() {
    let place = Place::new();
    let table = place.open().table;
    for topic in ["kept", "made again"] {
        let queue = table.get_or_create(topic, 0).expect("makes");
        queue.write(&entries(0..50)).expect("writes");
    }
    let cut = table.cut(1, 1);
    table.remove_topic("made again").expect("removes");
    let queue = table.get_or_create("made again", 0).expect("makes");
    queue.write(&entries(0..1)).expect("writes");
    table.checkpoint(cut).expect("checkpoint");
    let opened = place.open();
    assert_eq!((opened.table.len(), opened.damaged), (1, vec![]));
    assert!(opened.table.get("kept", 0).is_some());

    let cut = opened.table.cut(2, 2);
    opened.table.clear().expect("clears");
    let refused = opened.table.checkpoint(cut);
    assert!(matches!(refused, Err(StoreError::Refused(_))));
    assert_eq!((place.open().as_of, opened.table.len()), (None, 0));
}

#[test]
fn after_a_failed_sync_no_table_is_written_any_more() {
    let place = Place::new();
    let table = place.open().table;
    let queue = table.get_or_create("t", 0).expect("makes");
    queue.write(&entries(0..5)).expect("writes");
    place.fs.full.store(true, Ordering::Relaxed);
    let full = table.checkpoint(table.cut(1, 1));
    assert!(matches!(full, Err(StoreError::Io { .. })));
    place.fs.full.store(false, Ordering::Relaxed);
    table.checkpoint(table.cut(1, 1)).expect("room again");

    queue.write(&entries(5..6)).expect("writes");
    place.fs.sync_fails.store(true, Ordering::Relaxed);
    let failed = table.checkpoint(table.cut(2, 2));
    assert!(matches!(failed, Err(StoreError::Io { .. })));
    place.fs.sync_fails.store(false, Ordering::Relaxed);
    let poisoned = table.checkpoint(table.cut(2, 2));
    assert!(matches!(poisoned, Err(StoreError::Poisoned(_))));
    assert_eq!(place.open().as_of, Some((1, 1)));
}
