//! The log by itself: places, chains, recovery after every kind of tear, truncation, faults.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftmq_remoting::ByteStr;
use raftmq_remoting::message::{NewMessage, StoredRecord, body_crc};

use super::draft::{Draft, Placed};
use super::format::{ENTRY_MAGIC, Record, check_entry, records, segment_name};
use super::queue_offsets::QueueOffsets;
use super::writer::FlushPolicy;
use super::{CommitLog, EntryId, LogOptions};
use crate::StoreError;
use crate::command::Command;
use crate::vfs::{Fault, FaultyFs, FileSystem, RealFs};

const SEGMENT: u64 = 64 * 1024;

fn open_on(fs: Arc<dyn FileSystem>, dir: &Path, flush: FlushPolicy) -> crate::Result<CommitLog> {
    let mut options = LogOptions::new(SEGMENT, flush);
    options.every.interval = Duration::from_millis(10);
    CommitLog::open(fs, dir.to_path_buf(), &options, None)
}

fn open(dir: &Path) -> CommitLog {
    open_on(Arc::new(RealFs), dir, FlushPolicy::Async).expect("opens")
}

fn message(topic: &str, queue_id: i32, body: &[u8]) -> NewMessage {
    NewMessage {
        topic: ByteStr::from(topic),
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 5,
        born_host: ([127, 0, 0, 1], 1).into(),
        store_host: ([127, 0, 0, 1], 2).into(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: Bytes::copy_from_slice(body),
        body_crc: body_crc(body),
        properties: Bytes::new(),
    }
}

/// Appends one entry with one message and waits until it is written.
fn append(log: &CommitLog, term: u64, index: u64, message: &NewMessage) -> Placed {
    try_append(log, term, index, message).expect("persisted")
}

fn try_append(
    log: &CommitLog,
    term: u64,
    index: u64,
    message: &NewMessage,
) -> Result<Placed, String> {
    let mut draft = Draft::new(0);
    draft.push_message(message).expect("fits");
    append_draft(log, term, index, draft).map(|placed| placed[0])
}

fn append_draft(
    log: &CommitLog,
    term: u64,
    index: u64,
    draft: Draft,
) -> Result<Vec<Placed>, String> {
    let (tx, rx) = std::sync::mpsc::channel();
    let mut batch = log.append();
    let (_, placed) = batch
        .push_draft(EntryId { term, index }, draft, 1_000)
        .expect("appends");
    batch.submit(Box::new(move |result| tx.send(result).expect("heard")));
    rx.recv().expect("answered").map(|()| placed)
}

fn wait(run: impl FnOnce(super::writer::Done)) {
    let (tx, rx) = std::sync::mpsc::channel();
    run(Box::new(move |result| tx.send(result).expect("heard")));
    rx.recv().expect("answered").expect("done");
}

fn all(log: &CommitLog) -> Vec<(u64, u64, String)> {
    let entries = log.read_entries(0, u64::MAX, usize::MAX).expect("reads");
    let body = |bytes: &Bytes| match records(bytes).next() {
        Some(Ok(Record::Message { bytes, .. })) => {
            String::from_utf8_lossy(StoredRecord::parse(bytes).expect("a record").body())
                .into_owned()
        }
        _ => String::new(),
    };
    entries
        .iter()
        .map(|e| (e.header.term, e.header.index, body(&e.bytes)))
        .collect()
}

#[test]
fn entries_roll_over_segments_and_come_back_after_a_kill() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    let mut expected = Vec::new();
    for index in 0..200 {
        let body = format!("{index:04}").repeat(500);
        let placed = append(&log, 1, index, &message("T", 0, body.as_bytes()));
        assert_eq!(placed.queue_offset, index as i64);
        expected.push((1, index, body));
    }
    assert!(log.shared.segments.bases().len() > 5, "many segments");
    assert_eq!(all(&log), expected);
    // No close: as after a kill, with and without a checkpoint.
    for _ in 0..2 {
        let again = open(dir.path());
        assert_eq!(all(&again), expected);
        assert_eq!(again.end(), log.end());
        again.close();
    }
}

#[test]
fn a_message_is_found_at_its_physical_offset_without_a_copy() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    let mut draft = Draft::new(0);
    for i in 0..10 {
        draft
            .push_message(&message("T", i % 2, format!("body {i}").as_bytes()))
            .expect("fits");
    }
    let placed = append_draft(&log, 1, 0, draft).expect("persisted");
    assert!(
        log.read_record_at(placed[3].physical_offset as u64)
            .is_err(),
        "not committed yet"
    );
    log.set_committed(log.end(), 0);
    for (i, place) in placed.iter().enumerate() {
        let bytes = log
            .read_record_at(place.physical_offset as u64)
            .expect("found");
        let view = StoredRecord::parse(&bytes).expect("a record");
        assert_eq!(view.body(), format!("body {i}").as_bytes());
        assert_eq!(
            (view.queue_offset(), view.physical_offset()),
            (place.queue_offset, place.physical_offset)
        );
        assert_eq!(view.queue_offset(), i as i64 / 2);
        assert!(view.body_crc_ok());
    }
    assert!(
        log.read_record_at(placed[3].physical_offset as u64 + 1)
            .is_err(),
        "no record starts there"
    );
    assert!(matches!(
        log.read_record(log.end(), 100),
        Err(StoreError::OutOfRange { .. })
    ));
    log.close();
}

#[test]
fn a_torn_tail_is_cut_wherever_it_is_torn() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    let mut ends = vec![0];
    for index in 0..5 {
        append(&log, 1, index, &message("T", 0, b"some bytes"));
        ends.push(log.end());
    }
    let path = log.shared.segments.dir().join(segment_name(0));
    let good = std::fs::read(&path).expect("reads");
    for torn in (ends[3] as usize..ends[5] as usize).step_by(3) {
        let copy = tempfile::tempdir().expect("temp dir");
        std::fs::create_dir_all(copy.path().join("segments")).expect("made");
        let mut bytes = good.clone();
        bytes[torn..].fill(0xEE);
        std::fs::write(copy.path().join("segments").join(segment_name(0)), &bytes).expect("writes");
        let again = open(copy.path());
        let whole = ends.iter().filter(|end| **end as usize <= torn).count() as u64 - 1;
        assert_eq!(all(&again).len() as u64, whole, "torn at {torn}");
        // The log goes on from there.
        append(&again, 2, whole, &message("T", 0, b"next"));
        assert_eq!(
            all(&again).last().map(|e| e.2.clone()),
            Some("next".to_owned())
        );
        again.close();
    }
    log.close();
}

/// Flips a bit at a position of the log.
fn flip(dir: &Path, position: u64) {
    let base = position / SEGMENT * SEGMENT;
    let path = dir.join("segments").join(segment_name(base));
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes[(position - base) as usize] ^= 1;
    std::fs::write(&path, bytes).expect("writes");
}

#[test]
fn an_unreadable_end_that_had_been_written_is_no_torn_tail() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    for index in 0..200 {
        append(&log, 1, index, &message("T", 0, &[7; 1000]));
    }
    let last = log.read_entries(198, 199, 1).expect("reads")[0].clone();
    log.close();
    let whole = open(dir.path());
    assert!(!whole.cut_short());
    whole.close();
    flip(dir.path(), last.header.position + 70);
    let cut = open(dir.path());
    assert!(cut.cut_short(), "the marker knows how much there was");
    assert_eq!(all(&cut).len(), 198);
    let aside = dir
        .path()
        .join(format!("cut-off-{:020}", last.header.position));
    assert!(aside.exists(), "what is cut off is kept aside");
    append(&cut, 2, 198, &message("T", 0, b"on"));
    cut.close();
    let again = open(dir.path());
    assert!(
        again.cut_short(),
        "said until it is settled, though nothing but a note shows it any more"
    );
    again.close();
    std::fs::remove_file(dir.path().join("doubt")).expect("settled");
    let again = open(dir.path());
    assert!(!again.cut_short());
    assert_eq!(all(&again).len(), 199);
    again.close();
}

#[test]
fn damage_in_the_middle_is_found_when_read_and_repaired_from_another_replica() {
    let (one, two) = (
        tempfile::tempdir().expect("temp dir"),
        tempfile::tempdir().expect("temp dir"),
    );
    let logs = [open(one.path()), open(two.path())];
    let mut places = Vec::new();
    for index in 0..300 {
        for log in &logs {
            let placed = append(log, 1, index, &message("T", 0, &[index as u8; 1000]));
            places.push(placed.physical_offset as u64);
        }
    }
    logs.iter().for_each(CommitLog::close);
    let victim = places[2 * 10];
    flip(one.path(), victim + 100);
    // A whole segment, and the rest of another.
    std::fs::remove_file(one.path().join("segments").join(segment_name(2 * SEGMENT)))
        .expect("removed");
    let third = one.path().join("segments").join(segment_name(3 * SEGMENT));
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&third)
        .expect("opens");
    file.set_len(10_000).expect("cut");
    drop(file);

    let options = || {
        let mut options = LogOptions::new(SEGMENT, FlushPolicy::Async);
        options.tail_bytes = 0;
        options
    };
    let reopen = |dir: &Path| {
        CommitLog::open(Arc::new(RealFs), dir.to_path_buf(), &options(), None).expect("opens")
    };
    let (damaged, good) = (reopen(one.path()), reopen(two.path()));
    for log in [&damaged, &good] {
        log.set_committed(log.end(), 299);
    }
    assert_eq!(damaged.end(), good.end());
    assert!(!damaged.cut_short());
    assert_eq!(damaged.damage().len(), 2, "what is missing is seen at once");
    assert!(matches!(
        damaged.read_record_at(victim),
        Err(StoreError::Corrupt { .. })
    ));
    assert_eq!(damaged.damage().len(), 3, "a flipped bit when it is read");
    let mut unreadable = 0;
    for place in places.iter().step_by(2) {
        match damaged.read_record_at(*place) {
            Ok(record) => assert_eq!(record, good.read_record_at(*place).expect("reads")),
            Err(_) => unreadable += 1,
        }
    }
    assert!(unreadable > 60, "never garbage: {unreadable}");
    damaged.close();
    drop(damaged);
    // Known after a restart, too.
    let damaged = reopen(one.path());
    damaged.set_committed(damaged.end(), 299);
    assert!(damaged.damage().len() >= 3);
    let wrong = good.read_range(0, 1).expect("reads");
    let first = damaged.damage()[0];
    if first.from != 0 {
        assert!(damaged.repair(first, &[wrong[0].bytes.clone()]).is_err());
    }
    for round in 0.. {
        let Some(range) = damaged.damage().first().copied() else {
            break;
        };
        assert!(round < 100, "{range:?} is not repaired");
        let entries = good
            .read_range(range.from, 20_000)
            .expect("the other has it");
        let whole = entries.iter().any(|e| e.header.position >= range.to);
        let kept: Vec<_> = entries
            .iter()
            .filter(|e| e.header.position < range.to)
            .collect();
        let end = kept.last().map_or(range.from, |e| e.end());
        let to = if whole || end >= range.to {
            range.to
        } else {
            end
        };
        let bytes: Vec<Bytes> = kept.iter().map(|e| e.bytes.clone()).collect();
        damaged
            .repair(super::damage::Damage::new(range.from, to), &bytes)
            .expect("repairs");
    }
    for place in places.iter().step_by(2) {
        assert_eq!(
            damaged.read_record_at(*place).expect("reads"),
            good.read_record_at(*place).expect("reads")
        );
    }
    damaged.close();
    good.close();
    for base in (0..)
        .map(|n| n * SEGMENT)
        .take_while(|base| *base < good.end())
    {
        let bytes = |dir: &Path| std::fs::read(dir.join("segments").join(segment_name(base)));
        assert!(
            bytes(one.path()).expect("reads") == bytes(two.path()).expect("reads"),
            "segment {base} is not byte-identical"
        );
    }
}

#[test]
fn a_truncated_entry_never_comes_back_as_the_successor_of_another() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    append(&log, 1, 0, &message("T", 0, b"zero"));
    append(&log, 3, 1, &message("T", 0, b"old1"));
    append(&log, 3, 2, &message("T", 0, b"old2"));
    let stale = std::fs::read(log.shared.segments.dir().join(segment_name(0))).expect("reads");
    let stale = &stale[..log.end() as usize];
    wait(|done| log.truncate_after(Some(0), done).expect("truncates"));
    let placed = append(&log, 2, 1, &message("T", 0, b"new1"));
    assert_eq!(placed.queue_offset, 1, "queue offsets were taken back");
    let path = log.shared.segments.dir().join(segment_name(0));
    let mut bytes = std::fs::read(&path).expect("reads");
    let at = log.end() as usize;
    assert!(
        bytes[at..].iter().all(|b| *b == 0),
        "what was cut is cleared"
    );
    log.close();
    // A disk that lost the clearing: the stale entry of the same size and an older term lies right behind the new one.
    bytes[at..stale.len()].copy_from_slice(&stale[at..]);
    assert_eq!(bytes[at..at + 4], ENTRY_MAGIC.to_be_bytes());
    std::fs::write(&path, &bytes).expect("writes");
    let again = open(dir.path());
    assert_eq!(all(&again), [(1, 0, "zero".into()), (2, 1, "new1".into())]);
    again.close();
}

#[test]
fn truncation_across_segments_takes_queue_offsets_and_topic_deletions_back() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    for index in 0..50 {
        append(
            &log,
            1,
            index,
            &message("T", (index % 3) as i32, &[1; 3000]),
        );
    }
    let before: Vec<i64> = (0..3).map(|q| log.next_queue_offset("T", q)).collect();
    let end = log.end();
    let mut draft = Draft::new(0);
    draft
        .push_command(&Command::DeleteTopic {
            topic: "T".into(),
            now_ms: 0,
        })
        .expect("fits");
    draft
        .push_message(&message("T", 1, b"after the deletion"))
        .expect("fits");
    let placed = append_draft(&log, 1, 50, draft).expect("persisted");
    assert_eq!(
        placed[0].queue_offset, 0,
        "records take effect in their order"
    );
    assert_eq!(
        append(&log, 1, 51, &message("T", 1, b"second")).queue_offset,
        1
    );
    for index in 52..100 {
        append(&log, 1, index, &message("T", 2, &[2; 3000]));
    }
    wait(|done| log.truncate_after(Some(49), done).expect("truncates"));
    assert_eq!(
        (0..3)
            .map(|q| log.next_queue_offset("T", q))
            .collect::<Vec<_>>(),
        before
    );
    assert_eq!(log.end(), end);
    assert_eq!(all(&log).len(), 50);
    append(&log, 2, 50, &message("T", 0, b"on"));
    let again = open(dir.path());
    assert_eq!(all(&again).len(), 51);
    again
        .rebuild_offsets(None, QueueOffsets::default())
        .expect("rebuilds");
    assert_eq!(again.next_queue_offset("T", 0), before[0] + 1);
    assert_eq!(again.next_queue_offset("T", 1), before[1]);
    again.close();
    log.close();
}

#[test]
fn writes_of_the_caller_and_of_the_thread_keep_their_order() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    let (tx, told) = std::sync::mpsc::channel();
    let mut expected = Vec::new();
    let mut index = 0;
    // Nobody waits in between: some find an empty queue and write themselves, some do not.
    for round in 0..300u64 {
        let body = format!("{round}");
        let mut draft = Draft::new(0);
        draft
            .push_message(&message("T", 0, body.as_bytes()))
            .expect("fits");
        let mut batch = log.append();
        batch
            .push_draft(EntryId { term: round, index }, draft, 1_000)
            .expect("appends");
        let tell = tx.clone();
        let done = Box::new(move |result| tell.send((round, result)).expect("heard"));
        match round % 3 {
            0 => batch.submit_to_thread(done),
            _ => batch.submit(done),
        }
        expected.push((round, index, body));
        index += 1;
        if round % 7 == 0 {
            expected.pop();
            index -= 1;
            let gone = log.truncate_after(index.checked_sub(1), Box::new(|r| r.expect("done")));
            gone.expect("truncates");
        }
        if round % 11 == 0 {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    }
    drop(tx);
    let order: Vec<u64> = told
        .iter()
        .map(|(round, result)| result.map(|()| round).expect("written"))
        .collect();
    assert!(order.is_sorted() && order.len() == 300, "{order:?}");
    log.close();
    drop(log);
    let log = open(dir.path());
    assert_eq!(all(&log), expected);
    log.close();
}

#[test]
fn a_follower_takes_the_leaders_bytes_or_stops() {
    let (one, two) = (
        tempfile::tempdir().expect("temp dir"),
        tempfile::tempdir().expect("temp dir"),
    );
    let (leader, follower) = (open(one.path()), open(two.path()));
    for index in 0..60 {
        append(&leader, 1, index, &message("T", 0, &[index as u8; 2500]));
    }
    let entries = leader.read_entries(0, 60, usize::MAX).expect("reads");
    for entry in &entries[..59] {
        let mut batch = follower.append();
        batch
            .push_encoded(
                EntryId {
                    term: 1,
                    index: entry.header.index,
                },
                entry.clone(),
            )
            .expect("fits");
        wait(|done| batch.submit(done));
    }
    let last = &entries[59];
    let mut damaged = last.bytes.to_vec();
    damaged[100] ^= 1;
    let id = EntryId { term: 1, index: 59 };
    assert!(check_entry(&damaged).is_err(), "a flipped bit");
    wait(|done| follower.truncate_after(Some(57), done).expect("truncates"));
    append(&follower, 1, 58, &message("T", 0, b"another history"));
    assert!(
        follower.append().push_encoded(id, last.clone()).is_err(),
        "does not chain"
    );
    leader.close();
    follower.close();
}

#[test]
fn a_failed_write_or_fsync_poisons_the_log_for_good() {
    for fault in [Fault::Write { after: 0 }, Fault::Sync { after: 0 }] {
        let dir = tempfile::tempdir().expect("temp dir");
        let fs = Arc::new(FaultyFs::new(Arc::new(RealFs)));
        let log = open_on(fs.clone(), dir.path(), FlushPolicy::Sync).expect("opens");
        append(&log, 1, 0, &message("T", 0, b"good"));
        fs.arm(fault);
        let failed = try_append(&log, 1, 1, &message("T", 0, b"bad"));
        assert!(failed.is_err(), "{fault:?}");
        let after = try_append(&log, 1, 2, &message("T", 0, b"never"));
        assert!(
            after.is_err_and(|e| e.contains("poisoned")),
            "{fault:?}: nothing is written afterwards"
        );
        assert!(log.progress().poisoned().is_some());
        log.close();
    }
}

#[test]
fn other_constants_are_refused() {
    let dir = tempfile::tempdir().expect("temp dir");
    open(dir.path()).close();
    let options = LogOptions::new(SEGMENT * 2, FlushPolicy::Async);
    let refused = CommitLog::open(Arc::new(RealFs), dir.path().to_path_buf(), &options, None);
    assert!(matches!(refused, Err(StoreError::Refused(_))));
}

#[test]
fn purged_entries_are_gone_and_the_rest_survives_a_restart() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    for index in 0..100 {
        append(&log, 1, index, &message("T", 0, &[3; 3000]));
    }
    wait(|done| {
        log.purge(EntryId { term: 1, index: 60 }, None, done)
            .expect("purges")
    });
    assert!(log.start() > 0);
    assert_eq!(all(&log).first().map(|e| e.1), Some(61));
    log.close();
    let again = open(dir.path());
    assert_eq!(again.bounds().0, Some(EntryId { term: 1, index: 60 }));
    assert_eq!(all(&again).len(), 39);
    again.close();
}
