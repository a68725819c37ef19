//! Writing, reading, and the life of a queue.

use super::{Place, entries, is_corrupt};
use crate::consume_queue::{ENTRIES_PER_FILE, MAX_OPEN_FILES, MAX_QUEUE_OFFSET};

#[test]
fn written_entries_are_read_back_across_files_and_after_a_restart() {
    let place = Place::new();
    let opened = place.open();
    assert_eq!(opened.as_of, None);
    let queue = opened.table.get_or_create("orders", 3).expect("makes");
    let edge = ENTRIES_PER_FILE as i64 - 2;
    queue.write(&entries(0..edge + 4)).expect("writes");
    let cut = opened.table.cut(17, 4711);
    opened.table.checkpoint(cut).expect("checkpoint");

    let again = place.open();
    assert_eq!((again.as_of, again.damaged), (Some((17, 4711)), vec![]));
    for table in [opened.table, again.table] {
        let queue = table.get("orders", 3).expect("is there");
        assert_eq!((queue.min(), queue.max()), (0, edge + 4));
        let read = queue.read(edge, 10).expect("reads");
        assert_eq!(read, entries(edge..edge + 4));
        assert_eq!(queue.read(edge + 4, 10).expect("reads"), vec![]);
        assert_eq!(queue.read(edge, usize::MAX).expect("reads").len(), 4);
        assert_eq!(table.offsets().get("orders", 3), edge + 4);
        assert_eq!((table.len(), table.queues().len()), (1, 1));
    }
}

#[test]
fn writing_the_same_entries_again_changes_nothing() {
    let table = Place::new().open().table;
    let queue = table.get_or_create("t", 0).expect("makes");
    queue.write(&entries(0..10)).expect("writes");
    queue.write(&entries(3..7)).expect("writes");
    let read = queue.read(0, 100).expect("reads");
    assert_eq!((queue.max(), read), (10, entries(0..10)));
}

#[test]
fn a_topic_made_again_sees_nothing_of_the_one_before() {
    let place = Place::new();
    let table = place.open().table;
    let old = table.get_or_create("t", 0).expect("makes");
    old.write(&entries(0..100)).expect("writes");
    assert_eq!(old.read(0, 100).expect("reads").len(), 100);
    table.remove_topic("t").expect("removes");
    assert!(table.get("t", 0).is_none() && !place.path("t").exists());

    let new = table.get_or_create("t", 0).expect("makes");
    assert_eq!((new.min(), new.max()), (0, 0));
    new.write(&entries(0..2)).expect("writes");
    assert_eq!(new.read(0, 100).expect("reads"), entries(0..2));
    // Who still holds the old one can do no harm.
    old.write(&entries(100..101)).expect("does nothing");
    old.repair(&entries(0..100)).expect("does nothing");
    assert_eq!(old.read(0, 100).expect("reads"), vec![]);
    assert_eq!(table.damaged(), vec![]);
    let path = place.path("t/0/00000000000000000000");
    assert_eq!(path.metadata().expect("stat").len(), 40);
}

#[test]
fn a_queue_starts_where_a_snapshot_says() {
    let place = Place::new();
    let table = place.open().table;
    let queue = table.get_or_create("t", 0).expect("makes");
    let next = ENTRIES_PER_FILE as i64 * 2 + 5;
    queue.write(&entries(0..10)).expect("writes");
    assert_eq!(queue.read(0, 1).expect("reads").len(), 1);
    queue.start_at(next).expect("starts");
    assert_eq!((queue.min(), queue.max()), (next, next));
    queue.write(&entries(next - 1..next + 1)).expect("writes");
    assert_eq!(queue.read(0, 9).expect("reads"), entries(next..next + 1));
    assert!(is_corrupt(&queue.start_at(MAX_QUEUE_OFFSET + 1)));
    assert!(is_corrupt(&queue.write(&entries(-1..0))));
}

#[test]
fn few_descriptors_serve_many_queues() {
    let table = Place::new().open().table;
    for id in 0..MAX_OPEN_FILES as i32 + 50 {
        let queue = table.get_or_create("t", id).expect("makes");
        queue.write(&entries(0..1)).expect("writes");
    }
    for (_, _, queue) in table.queues() {
        assert_eq!(queue.read(0, 9).expect("reads"), entries(0..1));
    }
    assert_eq!(table.shared.descriptors.lock().len(), MAX_OPEN_FILES);
    table.remove_topic("t").expect("removes");
    assert_eq!(table.shared.descriptors.lock().len(), 0);
}

#[test]
fn a_topic_may_be_called_as_the_table_file_is_but_not_leave_the_directory() {
    let place = Place::new();
    let table = place.open().table;
    let queue = table.get_or_create("table", 0).expect("makes");
    queue.write(&entries(0..3)).expect("writes");
    table.checkpoint(table.cut(1, 1)).expect("checkpoint");
    let table = place.open().table;
    let queue = table.get("table", 0).expect("is there");
    assert_eq!(queue.read(0, 9).expect("reads"), entries(0..3));
    for odd in ["", ".", "..", "../x", "a/b", &"x".repeat(256)] {
        let queue = table.get_or_create(odd, 0).expect("makes");
        queue.write(&entries(0..2)).expect("writes");
    }
    table.checkpoint(table.cut(2, 2)).expect("checkpoint");
    let table = place.open().table;
    for odd in ["", ".", "..", "../x", "a/b", &"x".repeat(256)] {
        let queue = table.get(odd, 0).expect("is there");
        assert_eq!(queue.read(0, 9).expect("reads"), entries(0..2));
        table.remove_topic(odd).expect("removes");
    }
    let queue = table.get("table", 0).expect("is there still");
    assert_eq!(queue.read(0, 9).expect("reads"), entries(0..3));
    assert!(is_corrupt(&table.get_or_create("t", 65_536)));
}
