//! Files that are not what the table says, and how they become whole again.

use std::fs;

use super::{Place, entries, is_corrupt};
use crate::consume_queue::ENTRIES_PER_FILE;

const FIRST: &str = "00000000000000000000";

#[test]
fn without_a_usable_table_everything_in_its_directory_goes() {
    let place = Place::new();
    let neighbour = place.temp.path().join("commitlog");
    fs::write(&neighbour, b"log").expect("writes");
    for damage in [false, true] {
        let table = place.open().table;
        let queue = table.get_or_create("t", 0).expect("makes");
        queue.write(&entries(0..10)).expect("writes");
        if damage {
            table.checkpoint(table.cut(1, 1)).expect("checkpoint");
            let mut bytes = fs::read(place.path("table")).expect("reads");
            bytes[20] ^= 1;
            fs::write(place.path("table"), bytes).expect("writes");
        }
        let opened = place.open();
        assert_eq!((opened.as_of, opened.table.len()), (None, 0));
        assert_eq!(fs::read_dir(place.dir()).expect("lists").count(), 0);
        assert!(neighbour.exists());
    }
}

#[test]
fn after_a_crash_the_numbers_of_the_table_count() {
    let place = Place::new();
    let table = place.open().table;
    let queue = table.get_or_create("t", 0).expect("makes");
    queue.write(&entries(0..10)).expect("writes");
    table.checkpoint(table.cut(1, 1)).expect("checkpoint");
    queue.write(&entries(10..20)).expect("writes");
    let late = table.get_or_create("late", 0).expect("makes");
    late.write(&entries(0..5)).expect("writes");

    let opened = place.open();
    assert_eq!((opened.as_of, opened.damaged), (Some((1, 1)), vec![]));
    assert!(opened.table.get("late", 0).is_none());
    let queue = opened.table.get("t", 0).expect("is there");
    assert_eq!(queue.read(0, 100).expect("reads"), entries(0..10));
    // What lies behind the end does not fill a gap.
    queue.write(&entries(15..16)).expect("writes");
    assert!(is_corrupt(&queue.read(10, 100)));
    assert_eq!(opened.table.damaged(), vec![("t".to_owned(), 0)]);
}

#[test]
fn missing_and_short_files_are_reported_and_repaired() {
    let place = Place::new();
    let table = place.open().table;
    for id in 0..3 {
        let queue = table.get_or_create("t", id).expect("makes");
        queue.write(&entries(0..10)).expect("writes");
    }
    table.get_or_create("empty", 0).expect("makes");
    table.checkpoint(table.cut(1, 1)).expect("checkpoint");
    fs::remove_file(place.path("t/0").join(FIRST)).expect("removes");
    let mut writing = fs::OpenOptions::new();
    let short = writing.write(true).open(place.path("t/1").join(FIRST));
    short.expect("opens").set_len(199).expect("cuts");

    let opened = place.open();
    let damaged = vec![("t".to_owned(), 0), ("t".to_owned(), 1)];
    assert_eq!(opened.damaged, damaged);
    let table = opened.table;
    for id in 0..2 {
        let queue = table.get("t", id).expect("is there");
        assert_eq!((queue.min(), queue.max()), (0, 10));
        assert!(is_corrupt(&queue.read(9, 1)));
        queue.repair(&entries(0..30)).expect("repairs");
        table.mark_repaired("t", id, 0);
        assert_eq!(queue.read(0, 100).expect("reads"), entries(0..10));
        assert_eq!((queue.min(), queue.max()), (0, 10));
    }
    assert_eq!(table.damaged(), vec![]);
    table.mark_damaged("t", 2);
    table.mark_damaged("unknown", 2);
    assert_eq!(table.damaged(), vec![("t".to_owned(), 2)]);
    table.remove_topic("t").expect("removes");
    assert_eq!(table.damaged(), vec![]);
}

#[test]
fn a_hole_is_an_error_and_not_skipped() {
    let place = Place::new();
    let table = place.open().table;
    let queue = table.get_or_create("t", 0).expect("makes");
    queue.write(&entries(0..2)).expect("writes");
    let far = ENTRIES_PER_FILE as i64 * 3;
    queue.write(&entries(far..far + 1)).expect("writes");
    assert_eq!(queue.read(0, 2).expect("reads"), entries(0..2));
    assert_eq!(table.damaged(), vec![]);
    for from in [0, 2, ENTRIES_PER_FILE as i64, far - 1] {
        assert!(is_corrupt(&queue.read(from, 4)), "{from}");
    }
    assert_eq!(table.damaged(), vec![("t".to_owned(), 0)]);
    assert_eq!(queue.read(far, 4).expect("reads"), entries(far..far + 1));
}

#[test]
fn a_front_the_log_no_longer_has_is_given_up_when_the_rest_is_repaired() {
    let place = Place::new();
    let table = place.open().table;
    let queue = table.get_or_create("t", 0).expect("makes");
    let (first, max) = (ENTRIES_PER_FILE as i64 + 7, ENTRIES_PER_FILE as i64 + 20);
    queue.write(&entries(0..max)).expect("writes");
    table.checkpoint(table.cut(1, 1)).expect("checkpoint");
    fs::remove_dir_all(place.path("t")).expect("removes");

    let table = place.open().table;
    let queue = table.get("t", 0).expect("is there");
    queue.repair(&entries(first..max)).expect("repairs");
    table.mark_repaired("t", 0, 0);
    assert_eq!((queue.min(), queue.max()), (first, max));
    assert_eq!(queue.read(0, 100).expect("reads"), entries(first..max));
    assert_eq!(table.damaged(), vec![]);
}

#[test]
fn what_a_power_cut_left_of_a_front_the_log_no_longer_has_is_given_up_too() {
    let place = Place::new();
    let table = place.open().table;
    let queue = table.get_or_create("t", 0).expect("makes");
    queue.write(&entries(0..20)).expect("writes");
    table.checkpoint(table.cut(1, 1)).expect("checkpoint");
    // Slots 3 to 11 are lost; the log begins with the message of slot 9.
    let file = fs::OpenOptions::new()
        .write(true)
        .open(place.path("t/0").join(FIRST));
    std::os::unix::fs::FileExt::write_all_at(&file.expect("opens"), &[0; 9 * 20], 3 * 20)
        .expect("writes");

    let table = place.open().table;
    let queue = table.get("t", 0).expect("is there");
    assert!(is_corrupt(&queue.read(0, 100)));
    queue.repair(&entries(9..20)).expect("repairs");
    table.mark_repaired("t", 0, 900);
    assert_eq!((queue.min(), queue.max()), (9, 20));
    assert_eq!(queue.read(0, 100).expect("reads"), entries(9..20));
    assert_eq!(table.damaged(), vec![]);
}
