//! After everything was healed and stopped the replicas' files are compared: all commitlogs hold the same bytes (where one begins may
//! differ, and after the last message each may have entries of Raft's own, for stopping changes the leader), none of them ends in
//! anything but zeros, and every consume queue is what its log implies, all twenty bytes of an entry, and nothing more.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use raftmq_remoting::message::{StoredRecord, properties, sysflag, tags_code};
use raftmq_remoting::validate::{SCHEDULE_TOPIC, TIMER_TOPIC};
use raftmq_store::Command;
use raftmq_store::command::Reading;
use raftmq_store::commitlog::format::{EntryKind, Header, Record, records};
use raftmq_store::consume_queue::{ENTRIES_PER_FILE, ENTRY_LEN};
use serde_json::json;

use super::log_files::{End, Walk};
use super::verdict::{Anomalies, Valid, Verdict};

/// Longer topics have directories that are not called as they are; they are not looked into.
const LONGEST_DIRECTORY: usize = 255;

/// See the module. `stores` are the replicas' `storePathRootDir`, none of them in use. Where what was not flushed may be gone from a
/// log, queues may still know of it.
pub fn check(stores: &[PathBuf], unflushed_may_be_lost: bool) -> Verdict {
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
    let allowed: &[&str] = if unflushed_may_be_lost {
        &["queue-beyond-log"]
    } else {
        &[]
    };
    match checked.and_then(|entries| derived().map(|()| entries)) {
        Ok(entries) => {
            let verdict = found
                .verdict(allowed)
                .with("entries-compared", entries)
                .with("log-ends", ends)
                .with("queue-entries-compared", messages);
            match entries {
                // There is always an entry of the first leader.
                0 => verdict.at_least(Valid::Unknown),
                _ => verdict,
            }
        }
        Err(error) => Verdict::unknown(format!("the replicas' files cannot be read: {error}")),
    }
}

/// Whether an entry has no message.
fn is_housekeeping(header: &Header, bytes: &[u8]) -> bool {
    let is_command = |record| matches!(record, Ok(Record::Command(_)));
    header.kind != EntryKind::Normal || records(bytes).all(is_command)
}

/// Compares the logs from where all of them are. Returns how many entries they have in common, and their ends.
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
    // Whether all were equal so far; then each may only have entries without messages.
    let mut same = true;
    while same {
        let mut all = Vec::with_capacity(walks.len());
        for walk in &mut walks {
            all.push(walk.next()?);
        }
        let first = all.first().copied().flatten();
        same = first.is_some() && all.iter().all(|e| e.map(|e| e.1) == first.map(|e| e.1));
        compared += u64::from(same);
        if !same {
            for (replica, entry) in all.into_iter().enumerate() {
                beyond(replica, entry, found);
            }
        }
    }
    for (replica, walk) in walks.iter_mut().enumerate() {
        while let Some(entry) = walk.next()? {
            beyond(replica, Some(entry), found);
        }
        ends.push(walk.position());
        if let End::Bad(why) = walk.end()? {
            found.add("bad-entry", || json!({"replica": replica, "why": why}));
        }
    }
    Ok(compared)
}

/// An entry that not every replica has.
fn beyond(replica: usize, entry: Option<(Header, &[u8])>, found: &mut Anomalies) {
    if let Some((header, bytes)) = entry
        && !is_housekeeping(&header, bytes)
    {
        found.add("divergent-log", || {
            json!({"position": header.position, "replica": replica,
                "index": header.index, "term": header.term})
        });
    }
}

/// Position, size and tags code of a message in its queue.
type Slot = (i64, u32, i64);

/// A queue's files, read as they are asked for.
struct QueueFiles {
    dir: PathBuf,
    files: HashMap<(String, i32, u64), Vec<u8>>,
}

impl QueueFiles {
    /// What is at an offset; None where nothing was ever written.
    fn entry(&mut self, topic: &str, queue: i32, offset: u64) -> Option<Slot> {
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
        let slot = (
            i64::from_be_bytes(bytes[..8].try_into().ok()?),
            u32::from_be_bytes(bytes[8..12].try_into().ok()?),
            i64::from_be_bytes(bytes[12..].try_into().ok()?),
        );
        (slot != (0, 0, 0)).then_some(slot)
    }
}

/// The tags code that a queue has for a message: when it is due, where it waits for that.
fn code(view: &StoredRecord<'_>) -> i64 {
    let waits = matches!(view.topic(), SCHEDULE_TOPIC | TIMER_TOPIC);
    let due = view.property(properties::TIMER_OUT_MS).filter(|_| waits);
    let due = due.and_then(|due| due.parse().ok());
    due.unwrap_or_else(|| tags_code(view.property(properties::TAGS)))
}

/// Topics by where in the log they were deleted for the last time: what lies before is in no queue.
fn deletions(store: &Path) -> std::io::Result<HashMap<String, u64>> {
    let mut deleted = HashMap::new();
    let mut walk = Walk::new(store)?;
    while let Some((header, bytes)) = walk.next()? {
        if header.kind != EntryKind::Normal {
            continue;
        }
        // Within an entry a deletion stands alone, or before what follows it.
        for record in records(bytes).map_while(Result::ok) {
            if let Record::Command(bytes) = record
                && let Reading::Known(Command::DeleteTopic { topic, .. }) = Command::read(bytes)
            {
                deleted.insert(topic, header.position + u64::from(header.size));
            }
        }
    }
    Ok(deleted)
}

/// Compares what a log implies with the consume queues beside it. Returns how many entries.
fn queues(replica: usize, store: &Path, found: &mut Anomalies) -> std::io::Result<u64> {
    let deleted = deletions(store)?;
    let mut walk = Walk::new(store)?;
    let mut files = QueueFiles {
        dir: store.join("consumequeue"),
        files: HashMap::new(),
    };
    let clean = !store.join("abort").exists();
    let mut compared = 0;
    let mut ends: BTreeMap<(String, i32), u64> = BTreeMap::new();
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
            let (topic, queue) = (view.topic().to_owned(), view.queue_id());
            let position = header.position + at as u64;
            let gone = deleted.get(&topic).is_some_and(|at| position < *at);
            if gone || topic.len() > LONGEST_DIRECTORY {
                continue;
            }
            let is = files.entry(&topic, queue, offset);
            let wanted = (position as i64, message.len() as u32, code(&view));
            compared += 1;
            // Files are written behind: a killed replica makes what is missing again from the log.
            let behind = is.is_none() && !clean;
            if (is != Some(wanted) && !behind) || view.physical_offset() != wanted.0 {
                found.add("queue-differs", || {
                    json!({"replica": replica, "topic": topic, "queue": queue, "offset": offset,
                        "log": wanted, "file": is})
                });
            }
            let end = ends.entry((topic, queue)).or_default();
            *end = (offset + 1).max(*end);
        }
    }
    for ((topic, queue), end) in ends {
        if let Some(is) = files.entry(&topic, queue, end) {
            found.add("queue-beyond-log", || {
                json!({"replica": replica, "topic": topic, "queue": queue, "offset": end, "file": is})
            });
        }
    }
    Ok(compared)
}

#[cfg(test)]
mod tests;
