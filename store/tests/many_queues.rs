//! A hundred thousand queues in one table: memory, descriptors, and the times of what is done to all of them. Alone
//! in its process, so that the process' numbers are the table's.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use raftmq_store::consume_queue::{ConsumeQueue, MAX_OPEN_FILES, QueueEntry, QueueTable};
use raftmq_store::vfs::RealFs;

const QUEUES_EACH: i32 = 8;
/// The tests measure the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Resident memory, bytes; pages of 4 KiB.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("statm");
    let pages = statm.split(' ').nth(1).expect("resident pages");
    pages.parse::<usize>().expect("a number") * 4096
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("lists").count()
}

#[test]
fn thousands_of_queues_fit() {
    measure(500);
}

#[test]
#[ignore = "a hundred thousand directories: minutes on a busy disk, most of them to delete them"]
fn a_hundred_thousand_queues_fit() {
    let (bytes, cut) = measure(12_500);
    assert!(bytes <= 200, "{bytes} bytes a queue");
    assert!(cut <= Duration::from_millis(10), "cut in {cut:?}");
}

/// Bytes a queue and the time of a cut, with one entry in each queue of so many topics.
fn measure(topics: i32) -> (usize, Duration) {
    let _alone = ALONE.lock().expect("the other test did not fail");
    let queues = (topics * QUEUES_EACH) as usize;
    assert!(size_of::<ConsumeQueue>() <= 112);
    let temp = tempfile::tempdir().expect("temp dir");
    let dir = temp.path().join("consumequeue");
    let others = descriptors();
    let started = Instant::now();
    let table = QueueTable::open(Arc::new(RealFs), dir.clone()).expect("opens");
    let table = table.table;
    for topic in 0..topics {
        for id in 0..QUEUES_EACH {
            let queue = table.get_or_create(&format!("topic-{topic}"), id);
            let queue = queue.expect("makes");
            queue.stage(QueueEntry {
                queue_offset: 0,
                physical_offset: i64::from(topic * QUEUES_EACH + id) * 100,
                size: 99,
                tags_code: 0,
            });
            table.publish(&mut vec![queue]).expect("publishes");
        }
    }
    let written = started.elapsed();
    assert!(descriptors() - others <= MAX_OPEN_FILES);

    let cuts = (0..5).map(|_| {
        let started = Instant::now();
        let cut = table.cut(1, 1);
        (started.elapsed(), cut)
    });
    let (cut_time, cut) = cuts.min_by_key(|(time, _)| *time).expect("five");
    let started = Instant::now();
    table.checkpoint(cut).expect("checkpoint");
    let checkpointed = started.elapsed();
    drop(table);

    let started = Instant::now();
    let first = QueueTable::open(Arc::new(RealFs), dir.clone()).expect("opens");
    let opened = started.elapsed();
    assert_eq!((first.as_of, first.damaged.len()), (Some((1, 1)), 0));
    // The first two take what was freed before; the third shows what one costs.
    let second = QueueTable::open(Arc::new(RealFs), dir.clone()).expect("opens");
    let before = resident();
    let third = QueueTable::open(Arc::new(RealFs), dir).expect("opens");
    let bytes = resident().saturating_sub(before) / third.table.len();
    drop((first, third));

    let table = second.table;
    let started = Instant::now();
    table.trim(queues as u64 / 2 * 100).expect("trims");
    let trimmed = started.elapsed();
    let all = table.queues();
    let empty = all.iter().filter(|(_, _, q)| q.min() == q.max()).count();
    assert_eq!((all.len(), empty), (queues, queues / 2));
    for (_, _, queue) in all.iter().filter(|(_, _, q)| q.min() < q.max()).take(2_000) {
        assert_eq!(queue.read(0, 9).expect("reads").len(), 1);
    }
    assert!(descriptors() - others <= MAX_OPEN_FILES);
    let started = Instant::now();
    drop(temp);
    let deleted = started.elapsed();
    println!(
        "{bytes} bytes a queue; written {written:?}, cut {cut_time:?}, checkpoint {checkpointed:?}, \
         opened {opened:?}, trimmed {trimmed:?}, deleted {deleted:?}"
    );
    (bytes, cut_time)
}
