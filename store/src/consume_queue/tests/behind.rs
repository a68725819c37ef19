//! What is in memory and what is in files: nobody who reads sees the difference, and no table speaks of the former.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Place, add, entries, entry, is_corrupt};
use crate::consume_queue::{ENTRIES_PER_FILE, MAX_IN_MEMORY, MAX_TAIL, QueueTable};
use crate::io_error::is_no_space;
use crate::vfs::{Crash, FileSystem, SimFs};

#[test]
fn reads_go_across_the_border_between_file_and_memory() {
    let place = Place::new();
    let table = place.open().table;
    let queue = table.get_or_create("t", 0).expect("makes");
    let edge = ENTRIES_PER_FILE as i64;
    queue.write(&entries(0..edge - 3)).expect("writes");
    place.fs.take_writes();
    // The last run has entries of two files.
    for (from, to) in [(edge - 3, edge - 1), (edge - 1, edge), (edge, edge + 5)] {
        add(&table, "t", 0, from..to).expect("publishes");
        assert_eq!((queue.max(), queue.written()), (to, edge - 3));
        for at in edge - 6..=to {
            let read = queue.read(at, usize::MAX).expect("reads");
            assert_eq!(read, entries(at..to), "{at}");
            let read = queue.read(at, 2).expect("reads");
            assert_eq!(read, entries(at..to.min(at + 2)), "{at}");
        }
    }
    assert_eq!((place.fs.take_writes(), table.in_memory()), (0, 8));
    // What is staged is not seen, and stays when the rest is written.
    queue.stage(entry(edge + 5));
    queue.write_out().expect("writes");
    assert_eq!((place.fs.take_writes(), table.in_memory()), (2, 0));
    let read = queue.read(edge - 6, 100).expect("reads");
    assert_eq!(read, entries(edge - 6..edge + 5));
    table.publish(&mut vec![queue.clone()]).expect("publishes");
    let read = queue.read(edge - 1, 100).expect("reads");
    assert_eq!(read, entries(edge - 1..edge + 6));
}

#[test]
fn ten_thousand_queues_cost_few_writes_and_a_bounded_memory() {
    const QUEUES: i32 = 10_000;
    const ROUNDS: i64 = 64;
    let place = Place::new();
    let table = place.open().table;
    for round in 0..ROUNDS {
        for from in (0..QUEUES).step_by(1000) {
            let mut staged = Vec::new();
            for id in from..from + 1000 {
                let queue = table.get_or_create("t", id).expect("makes");
                queue.stage(entry(round));
                staged.push(queue);
            }
            table.publish(&mut staged).expect("publishes");
            table.keep_bound().expect("writes");
            assert!(table.in_memory() <= 2 * MAX_IN_MEMORY);
        }
    }
    // What is beyond the bound, some fifty entries a write.
    let all = QUEUES as usize * ROUNDS as usize;
    let least = (all - 2 * MAX_IN_MEMORY) / ROUNDS as usize;
    let writes = place.fs.take_writes();
    assert!((least..2 * least).contains(&writes), "{writes} writes");
    table.relieve().expect("writes");
    assert!((1..=MAX_IN_MEMORY / 2).contains(&table.in_memory()));
    assert!(place.fs.take_writes() < QUEUES as usize);
    table.relieve().expect("nothing to do");
    assert_eq!(place.fs.take_writes(), 0);
    for (_, _, queue) in table.queues() {
        let read = queue.read(0, 100).expect("reads");
        assert_eq!(read, entries(0..ROUNDS));
    }
    table.checkpoint(table.cut(1, 1)).expect("checkpoint");
    assert!(place.fs.take_writes() <= QUEUES as usize);
    assert_eq!((table.in_memory(), table.waiting.lock().len()), (0, 0));
}

#[test]
fn a_busy_queue_is_written_in_runs() {
    let place = Place::new();
    let table = place.open().table;
    for from in (0..10 * MAX_TAIL as i64).step_by(64) {
        add(&table, "t", 0, from..from + 64).expect("publishes");
        assert!(table.in_memory() < MAX_TAIL);
    }
    assert_eq!(place.fs.take_writes(), 10);
    // One batch, of more than is copied at once.
    add(&table, "other", 0, 0..10_000).expect("publishes");
    assert_eq!((place.fs.take_writes(), table.in_memory()), (3, 0));
}

#[test]
fn publishing_needs_no_room_on_the_disk_until_far_too_much_waits() {
    let place = Place::new();
    let table = place.open().table;
    table.set_limits(4, 50);
    place.fs.full.store(true, Ordering::Relaxed);
    let mut max = 0;
    while table.in_memory() <= 100 {
        table.keep_bound().expect("not yet");
        add(&table, "t", 0, max..max + 3).expect("publishes");
        max += 3;
    }
    let queue = table.get("t", 0).expect("is there");
    for _ in 0..3 {
        assert!(table.keep_bound().as_ref().is_err_and(is_no_space));
        assert!(table.relieve().as_ref().is_err_and(is_no_space));
        let checkpoint = table.checkpoint(table.cut(1, 1));
        assert!(checkpoint.as_ref().is_err_and(is_no_space));
        let read = queue.read(0, 1000).expect("reads");
        assert_eq!((queue.max(), read), (max, entries(0..max)));
    }
    // A gap needs the files; what was staged waits.
    queue.stage(entry(max + 10));
    let mut staged = vec![queue.clone()];
    for _ in 0..2 {
        let published = table.publish(&mut staged);
        assert!(published.as_ref().is_err_and(is_no_space));
        assert_eq!((queue.max(), staged.len()), (max, 1));
    }
    place.fs.full.store(false, Ordering::Relaxed);
    table.publish(&mut staged).expect("publishes");
    table.keep_bound().expect("writes");
    assert_eq!((queue.max(), table.in_memory()), (max + 11, 0));
    assert_eq!(queue.read(0, max as usize).expect("reads").len(), 102);
    assert!(is_corrupt(&queue.read(max, 100)));
    let read = queue.read(max + 10, 100).expect("reads");
    assert_eq!(read, entries(max + 10..max + 11));
}

#[test]
fn readers_see_every_entry_while_files_are_written_behind() {
    const END: i64 = 60_000;
    let place = Place::new();
    let table = place.open().table;
    table.set_limits(64, 20);
    let queues = [0, 1, 2].map(|id| table.get_or_create("t", id).expect("makes"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for queue in &queues {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let max = queue.max();
                    for from in [max - 200, max - 20, max - 1] {
                        let from = from.max(0);
                        let read = queue.read(from, 400).expect("reads");
                        let end = from + read.len() as i64;
                        assert!(end >= max.min(from + 400));
                        assert_eq!(read, entries(from..end));
                    }
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                table.relieve().expect("writes");
                table.checkpoint(table.cut(1, 1)).expect("checkpoint");
            }
        });
        for next in (0..END).step_by(5) {
            for id in 0..3 {
                add(&table, "t", id, next..next + 5).expect("publishes");
            }
            table.keep_bound().expect("writes");
        }
        done.store(true, Ordering::Relaxed);
    });
    table.checkpoint(table.cut(1, 1)).expect("checkpoint");
    assert_eq!((table.in_memory(), table.damaged()), (0, vec![]));
    for queue in place.open().table.queues() {
        let read = queue.2.read(0, usize::MAX).expect("reads");
        assert_eq!(read, entries(0..END));
    }
}

/// Publishes, takes a cut, goes on as apply does, and checkpoints.
fn two_checkpoints(fs: &SimFs) -> crate::Result<()> {
    let table = QueueTable::open(Arc::new(fs.clone()), "/data/queues".into())?.table;
    for round in 0..2 {
        let from = round * 10;
        for id in 0..3 {
            add(&table, "t", id, from..from + 4 + i64::from(id))?;
            add(&table, "t", id, from + 4 + i64::from(id)..from + 8)?;
        }
        let cut = table.cut(round as u64, round as u64);
        for id in 0..3 {
            add(&table, "t", id, from + 8..from + 10)?;
        }
        table.get_or_create("later", 0)?;
        table.checkpoint(cut)?;
    }
    Ok(())
}

#[test]
fn a_table_is_never_ahead_of_the_files_wherever_a_checkpoint_is_cut_off() {
    let new = || {
        let fs = SimFs::new(7);
        fs.create_dir_all(Path::new("/data")).expect("made");
        fs.sync_all(Path::new("/")).expect("synced");
        fs
    };
    let whole = new();
    let before = whole.ops();
    two_checkpoints(&whole).expect("checkpoints");
    let mut found = [0; 3];
    for at in before..=whole.ops() {
        for kind in [Crash::Kill, Crash::Power] {
            let fs = new();
            fs.kill_after(at);
            assert_eq!(two_checkpoints(&fs).is_ok(), at == whole.ops());
            for seed in 0..4 {
                let fs = Arc::new(fs.crash(kind, seed));
                let opened = QueueTable::open(fs, "/data/queues".into()).expect("opens");
                assert_eq!(opened.damaged, vec![], "{at}");
                let round = opened.as_of.map(|(round, _)| round as i64);
                found[round.map_or(2, |round| round as usize)] += 1;
                for (topic, _, queue) in opened.table.queues() {
                    if &*topic == "later" {
                        assert_eq!((round, queue.max()), (Some(1), 0), "{at}");
                        continue;
                    }
                    let max = round.expect("a table") * 10 + 8;
                    let read = queue.read(0, 100).expect("reads");
                    assert_eq!((queue.max(), read), (max, entries(0..max)), "{at}");
                }
            }
        }
    }
    assert!(found.iter().all(|n| *n > 0), "{found:?}");
}

#[test]
fn what_is_deleted_or_trimmed_in_memory_is_not_written() {
    let place = Place::new();
    let table = place.open().table;
    add(&table, "deleted", 0, 0..10).expect("publishes");
    add(&table, "trimmed", 0, 0..10).expect("publishes");
    add(&table, "short", 0, 0..10).expect("publishes");
    let old = table.get("deleted", 0).expect("is there");
    assert_eq!(table.in_memory(), 30);
    table.remove_topic("deleted").expect("removes");
    assert_eq!(
        (table.in_memory(), old.read(0, 9).expect("reads").len()),
        (20, 0)
    );
    table.get("trimmed", 0).expect("is there").raise_min(10);
    table.trim(500).expect("trims");
    table.checkpoint(table.cut(1, 1)).expect("checkpoint");
    assert_eq!((place.fs.take_writes(), table.in_memory()), (1, 0));
    assert!(!place.path("trimmed").exists() && !place.path("deleted").exists());
    let opened = place.open();
    assert_eq!(opened.damaged, vec![]);
    let queue = opened.table.get("short", 0).expect("is there");
    assert_eq!(queue.read(0, 100).expect("reads"), entries(5..10));

    // Begun anew: nothing of before comes back.
    add(&opened.table, "short", 0, 10..15).expect("publishes");
    queue.start_at(40).expect("starts");
    assert_eq!(opened.table.in_memory(), 0);
    add(&opened.table, "short", 0, 40..42).expect("publishes");
    assert_eq!(queue.read(0, 100).expect("reads"), entries(40..42));
}

#[test]
fn a_repair_writes_what_files_should_have_and_leaves_memory_alone() {
    let place = Place::new();
    let table = place.open().table;
    let queue = table.get_or_create("t", 0).expect("makes");
    queue.write(&entries(0..10)).expect("writes");
    add(&table, "t", 0, 10..20).expect("publishes");
    table.checkpoint(table.cut(1, 1)).expect("checkpoint");

    let table = place.open().table;
    let queue = table.get("t", 0).expect("is there");
    add(&table, "t", 0, 20..30).expect("publishes");
    std::fs::remove_dir_all(place.path("t")).expect("removes");
    assert!(is_corrupt(&queue.read(0, 100)));
    assert_eq!(queue.read(20, 100).expect("reads"), entries(20..30));
    let mut wrong = entries(25..26);
    wrong[0].size = 1;
    queue
        .repair(&[entries(7..25), wrong].concat())
        .expect("repairs");
    table.mark_repaired("t", 0, 0);
    assert_eq!((queue.min(), queue.written()), (7, 20));
    assert_eq!(queue.read(0, 100).expect("reads"), entries(7..30));
    assert_eq!(table.damaged(), vec![]);

    // Nothing of the files is left: memory is.
    std::fs::remove_dir_all(place.path("t")).expect("removes");
    let table = place.open().table;
    add(&table, "t", 0, 20..23).expect("publishes");
    table.mark_repaired("t", 0, 0);
    let queue = table.get("t", 0).expect("is there");
    assert_eq!(queue.read(0, 100).expect("reads"), entries(20..23));
}
