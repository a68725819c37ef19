//! After everything was healed and stopped the replicas' files are compared: all commitlogs hold the same bytes as far as they reach
//! (where one begins may differ), and every consume queue is what its log implies.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use raftmq_remoting::message::{StoredRecord, sysflag};
use raftmq_store::commitlog::format::{EntryKind, Header, Record, records};
use raftmq_store::consume_queue::{ENTRIES_PER_FILE, ENTRY_LEN};
use serde_json::json;

use super::log_files::Walk;
use super::verdict::{Anomalies, Verdict};

/// See the module. `stores` are the replicas' `storePathRootDir`, none of them in use.
pub fn check(stores: &[PathBuf]) -> Verdict {
    let mut found = Anomalies::default();
    let mut ends = Vec::new();
    let checked = compare(stores, &mut found, &mut ends);
    let mut messages = Vec::new();
    let mut derived = || {
        for (replica, store) in stores.iter().enumerate() {
            messages.push(queues(replica, store, &mut found)?);
        }
        Ok::<(), std::io::Error>(())
    };
    match checked.and_then(|entries| derived().map(|()| entries)) {
        Ok(entries) => found
            .verdict(&[])
            .with("entries-compared", entries)
            .with("log-ends", ends)
            .with("queue-entries-compared", messages),
        Err(error) => Verdict::unknown(format!("the replicas' files cannot be read: {error}")),
    }
}

/// Whether an entry is Raft's own: after the last message replicas may differ in those, for stopping changes the leader.
fn is_housekeeping(header: &Header) -> bool {
    header.kind != EntryKind::Normal
}

/// Compares the logs where all of them are. Returns how many entries, and their ends.
fn compare(stores: &[PathBuf], found: &mut Anomalies, ends: &mut Vec<u64>) -> std::io::Result<u64> {
    let mut walks = Vec::new();
    for store in stores {
        walks.push(Walk::new(store)?);
    }
    let start = walks.iter().map(Walk::start).max().unwrap_or(0);
    for walk in &mut walks {
        while walk.position() < start && walk.next()?.is_some() {}
    }
    let mut compared = 0;
    'entries: loop {
        let mut all = Vec::with_capacity(walks.len());
        for walk in &mut walks {
            match walk.next()? {
                Some(entry) => all.push(entry),
                None => break 'entries,
            }
        }
        let Some(((first, bytes), others)) = all.split_first() else {
            break;
        };
        let differs = (1..).zip(others).find(|(_, (_, b))| b != bytes);
        if let Some((replica, (header, _))) = differs {
            if !is_housekeeping(first) || !is_housekeeping(header) {
                found.add("divergent-log", || {
                    json!({"position": first.position, "replica": replica,
                        "index": first.index, "term": first.term,
                        "other-index": header.index, "other-term": header.term})
                });
            }
            break;
        }
        compared += 1;
    }
    for walk in &mut walks {
        while walk.next()?.is_some() {}
        ends.push(walk.position());
    }
    Ok(compared)
}

/// A queue's files, read as they are asked for.
struct QueueFiles {
    dir: PathBuf,
    files: HashMap<(String, i32, u64), Vec<u8>>,
}

impl QueueFiles {
    /// Position and size of the message at an offset; None where nothing was ever written.
    fn entry(&mut self, topic: &str, queue: i32, offset: u64) -> Option<(i64, u32)> {
        let first_byte = offset / ENTRIES_PER_FILE * ENTRIES_PER_FILE * ENTRY_LEN as u64;
        let dir = &self.dir;
        let file = self
            .files
            .entry((topic.to_owned(), queue, first_byte))
            .or_insert_with(|| {
                let name = format!("{topic}/{queue}/{first_byte:020}");
                std::fs::read(dir.join(name)).unwrap_or_default()
            });
        let at = usize::try_from(offset % ENTRIES_PER_FILE).ok()? * ENTRY_LEN;
        let bytes = file.get(at..at + ENTRY_LEN)?;
        let position = i64::from_be_bytes(bytes[..8].try_into().ok()?);
        let size = u32::from_be_bytes(bytes[8..12].try_into().ok()?);
        (size > 0).then_some((position, size))
    }
}

/// Compares what a log implies with the consume queues beside it. Returns how many entries.
fn queues(replica: usize, store: &Path, found: &mut Anomalies) -> std::io::Result<u64> {
    let mut walk = Walk::new(store)?;
    let mut files = QueueFiles {
        dir: store.join("consumequeue"),
        files: HashMap::new(),
    };
    let clean = !store.join("abort").exists();
    let mut compared = 0;
    while let Some((header, bytes)) = walk.next()? {
        if header.kind != EntryKind::Normal {
            continue;
        }
        for record in records(bytes) {
            let (at, message) = match record {
                Ok(Record::Message { at, bytes }) => (at, bytes),
                Ok(Record::Command(_)) => continue,
                Err(error) => {
                    let why = error.to_string();
                    found.add("bad-record", || json!({"replica": replica, "why": why}));
                    break;
                }
            };
            let Ok(view) = StoredRecord::parse(message) else {
                found.add(
                    "bad-record",
                    || json!({"replica": replica, "position": header.position}),
                );
                continue;
            };
            let transaction = sysflag::transaction_type(view.sys_flag());
            if transaction == sysflag::TRANSACTION_PREPARED
                || transaction == sysflag::TRANSACTION_ROLLBACK
            {
                continue;
            }
            let Ok(offset) = u64::try_from(view.queue_offset()) else {
                continue;
            };
            let is = files.entry(view.topic(), view.queue_id(), offset);
            let position = header.position + at as u64;
            let wanted = (position as i64, message.len() as u32);
            compared += 1;
            // Files are written behind: a killed replica makes what is missing again from the log.
            let behind = is.is_none() && !clean;
            if (is != Some(wanted) && !behind) || view.physical_offset() != wanted.0 {
                let (topic, queue) = (view.topic().to_owned(), view.queue_id());
                found.add("queue-differs", || {
                    json!({"replica": replica, "topic": topic, "queue": queue, "offset": offset,
                        "log": wanted, "file": is})
                });
            }
        }
    }
    Ok(compared)
}
