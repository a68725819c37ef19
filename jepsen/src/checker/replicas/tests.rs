use std::fs;

use bytes::{Bytes, BytesMut};
use raftmq_remoting::ByteStr;
use raftmq_remoting::message::{NewMessage, body_crc};
use raftmq_store::commitlog::format::{HEADER_LEN, segment_name};

use super::*;

const REPLICAS: usize = 3;
const SEGMENT: usize = 1024;
const MESSAGES: i64 = 30;

/// A log and the queue of its messages, as a replica would write them.
#[derive(Default)]
struct Files {
    log: Vec<u8>,
    queue: Vec<u8>,
    before: Option<Header>,
}

impl Files {
    fn entry(&mut self, kind: EntryKind, term: u64, records: &[u8]) {
        let mut bytes = vec![0; HEADER_LEN];
        bytes.extend_from_slice(records);
        let left = SEGMENT - self.log.len() % SEGMENT;
        if bytes.len() > left {
            let pad = self.log.len();
            self.log.resize(pad + left, 0);
            self.log[pad..pad + 4].copy_from_slice(&0x5041_4431_u32.to_be_bytes());
        }
        let position = self.log.len() as u64;
        let header = Header {
            size: bytes.len() as u32,
            index: self.before.map_or(0, |h| h.index + 1),
            term,
            position,
            previous: self.before.map_or(position, |h| h.position),
            previous_crc: self.before.map_or(0, |h| h.crc),
            crc: 0,
            records: u32::from(!records.is_empty()),
            kind,
        };
        self.before = Some(header.seal(&mut bytes));
        self.log.extend_from_slice(&bytes);
    }

    fn message(&mut self, term: u64) {
        let offset = (self.queue.len() / ENTRY_LEN) as i64;
        let body = Bytes::from(offset.to_string());
        let message = NewMessage {
            topic: ByteStr::from("T"),
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: ([127, 0, 0, 1], 1).into(),
            store_host: ([127, 0, 0, 1], 2).into(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body_crc: body_crc(&body),
            body,
            properties: Bytes::from_static(b"TAGS\x01a\x02"),
        };
        let mut record = BytesMut::new();
        message.encode_into(&mut record);
        let size = HEADER_LEN + record.len();
        let left = SEGMENT - self.log.len() % SEGMENT;
        let skipped = if size > left { left } else { 0 };
        let position = (self.log.len() + skipped + HEADER_LEN) as i64;
        record[20..28].copy_from_slice(&offset.to_be_bytes());
        record[28..36].copy_from_slice(&position.to_be_bytes());
        self.entry(EntryKind::Normal, term, &record);
        self.queue.extend_from_slice(&position.to_be_bytes());
        self.queue
            .extend_from_slice(&(record.len() as u32).to_be_bytes());
        self.queue
            .extend_from_slice(&tags_code(Some("a")).to_be_bytes());
    }

    fn whole() -> Self {
        let mut files = Self::default();
        files.entry(EntryKind::Blank, 1, &[]);
        (0..MESSAGES).for_each(|_| files.message(1));
        files
    }

    fn write(&self, store: &Path) {
        let segments = store.join("commitlog").join("segments");
        fs::create_dir_all(&segments).unwrap();
        let mut log = self.log.clone();
        // One more segment, made for later.
        log.resize((log.len() / SEGMENT + 2) * SEGMENT, 0);
        for (number, bytes) in log.chunks(SEGMENT).enumerate() {
            let name = segment_name((number * SEGMENT) as u64);
            fs::write(segments.join(name), bytes).unwrap();
        }
        let queue = store.join("consumequeue/T/0");
        fs::create_dir_all(&queue).unwrap();
        let mut slots = self.queue.clone();
        slots.resize(slots.len() + 100 * ENTRY_LEN, 0);
        fs::write(queue.join(format!("{:020}", 0)), slots).unwrap();
    }
}

/// The verdict on three replicas, of which the last was damaged.
fn damaged(damage: impl FnOnce(&mut Files, &Path)) -> Verdict {
    let dir = tempfile::tempdir().unwrap();
    let stores: Vec<_> = (0..REPLICAS)
        .map(|r| dir.path().join(r.to_string()))
        .collect();
    stores.iter().for_each(|s| Files::whole().write(s));
    let last = stores.last().unwrap();
    let mut files = Files::whole();
    damage(&mut files, last);
    files.write(last);
    check(&stores, false)
}

fn finds(anomaly: &str, damage: impl FnOnce(&mut Files, &Path)) {
    let verdict = damaged(damage);
    assert_eq!(verdict.valid, Valid::False, "{anomaly} was missed");
    let types = verdict.fields["anomaly-types"].as_array().unwrap();
    assert!(types.contains(&anomaly.into()), "{}", verdict.json());
}

#[test]
fn equal_replicas_are_valid_and_counted() {
    let verdict = damaged(|_, _| {});
    assert_eq!(verdict.valid, Valid::True, "{}", verdict.json());
    assert_eq!(verdict.fields["entries-compared"], MESSAGES + 1);
    assert_eq!(
        verdict.fields["queue-entries-compared"],
        json!([MESSAGES, MESSAGES, MESSAGES])
    );
}

#[test]
fn a_leader_s_own_entries_may_follow_and_messages_may_not() {
    let verdict = damaged(|files, _| files.entry(EntryKind::Blank, 2, &[]));
    assert_eq!(verdict.valid, Valid::True, "{}", verdict.json());
    finds("divergent-log", |files, _| files.message(2));
    finds("divergent-log", |files, _| {
        files.entry(EntryKind::Blank, 2, &[]);
        files.message(2);
    });
}

#[test]
fn a_log_that_ends_early_is_not_taken_for_a_shorter_one() {
    finds("divergent-log", |files, _| {
        let at = files.before.unwrap().position as usize;
        files.log.truncate(at);
        files.queue.truncate(files.queue.len() - ENTRY_LEN);
    });
    // In the middle, so that nothing after it is read.
    finds("bad-entry", |files, _| {
        let middle = files.log.len() / 2;
        files.log[middle] ^= 1;
    });
    finds("bad-entry", |files, _| {
        let at = files.before.unwrap().position as usize;
        files.log[at + HEADER_LEN + 50] ^= 1;
    });
    // A segment in the middle is gone.
    finds("bad-entry", |files, _| {
        files.log[SEGMENT..2 * SEGMENT].fill(0);
    });
}

#[test]
fn nothing_compared_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let stores: Vec<_> = (0..REPLICAS)
        .map(|r| dir.path().join(r.to_string()))
        .collect();
    stores.iter().for_each(|s| Files::default().write(s));
    assert_eq!(check(&stores, false).valid, Valid::Unknown);
}

#[test]
fn every_byte_of_a_queue_counts_and_what_follows_it() {
    for byte in [7, 11, 12, 19] {
        finds("queue-differs", |files, _| {
            files.queue[3 * ENTRY_LEN + byte] ^= 1;
        });
    }
    finds("queue-differs", |files, _| {
        files.queue.truncate(files.queue.len() - ENTRY_LEN);
    });
    finds("queue-beyond-log", |files, _| {
        let last = files.queue[files.queue.len() - ENTRY_LEN..].to_vec();
        files.queue.extend_from_slice(&last);
    });
}

#[test]
fn a_replica_that_was_killed_may_have_slots_to_write_again() {
    let missing = |files: &mut Files, store: &Path| {
        files.queue.truncate(files.queue.len() - ENTRY_LEN);
        fs::create_dir_all(store).unwrap();
        fs::write(store.join("abort"), "").unwrap();
    };
    assert_eq!(damaged(missing).valid, Valid::True);
}
