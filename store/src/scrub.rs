//! The scrubber: reads the log from end to end, slowly, for ever. Every entry's checksum is looked at, every message's
//! consume queue entry is compared with what the log implies, and the key index of every segment is verified. What is
//! derived and wrong is written again from the log; damage of the log itself is noted, and repaired by the Raft layer
//! from the other replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raftmq_remoting::message::{StoredRecord, properties, sysflag};

use crate::commitlog::CommitLog;
use crate::commitlog::damage::Damage;
use crate::commitlog::format::{EntryKind, Record, records};
use crate::commitlog::tail::RawEntry;
use crate::consume_queue::{QueueEntry, QueueTable};
use crate::error::{Result, StoreError};
use crate::housekeeping::Progress;
use crate::key_index::KeyIndex;
use crate::machine::{queue_entry, queued_view, walk};

/// Bytes looked at in one go.
const CHUNK: usize = 1024 * 1024;
/// Seconds whose budget is saved up at most.
const MAX_ELAPSED: f64 = 5.0;
/// Entries of one queue written at once by a repair.
const REPAIR_BATCH: usize = 4096;

/// Where the scrubber is.
pub struct Scrubber {
    rate: u64,
    /// Position of the next entry to look at; `None` at the beginning of a pass.
    at: Option<u64>,
    budget: f64,
}

impl Scrubber {
    /// Looks at `rate` bytes a second.
    pub fn new(rate: u64) -> Self {
        Self {
            rate,
            at: None,
            budget: 0.0,
        }
    }

    /// Goes on for as long as the elapsed time pays for.
    pub fn run(
        &mut self,
        elapsed: Duration,
        log: &CommitLog,
        queues: &QueueTable,
        keys: &KeyIndex,
        applied: u64,
        progress: &Progress,
    ) -> Result<()> {
        self.budget += elapsed.as_secs_f64().min(MAX_ELAPSED) * self.rate as f64;
        self.budget = self.budget.min(self.rate as f64 * MAX_ELAPSED);
        while self.budget > 0.0 {
            let at = self.at.unwrap_or(0).max(log.start());
            if at >= applied {
                self.at = None;
                if at > log.start() {
                    progress.scrub_passes.fetch_add(1, Ordering::Relaxed);
                }
                // A pass over little is not repeated at once.
                self.budget = 0.0;
                return Ok(());
            }
            let entries = match log.read_range(at, CHUNK) {
                Ok(entries) => entries,
                Err(error) => {
                    // Noted; on with what lies behind it. Between `at` and a segment's begin there is only padding.
                    let next_segment = (at / log.segment_size() + 1) * log.segment_size();
                    let is_here =
                        |d: &Damage| at < d.to && (d.from <= at || d.from == next_segment);
                    let behind = log.damage().into_iter().find(is_here);
                    self.at = behind.map(|d| d.to);
                    return match behind {
                        Some(_) => Ok(()),
                        None => Err(error),
                    };
                }
            };
            let mut end = at;
            let mut expected = Expected::new();
            for entry in entries.iter().take_while(|e| e.end() <= applied) {
                expect(entry, &mut expected);
                end = entry.end();
            }
            check_queues(&expected, log, queues)?;
            if end == at {
                // The last entries are committed and not yet applied.
                self.at = None;
                return Ok(());
            }
            let size = log.segment_size();
            for nth in at / size..end / size {
                keys.verify(nth * size)?;
            }
            self.at = Some(end);
            self.budget -= (end - at) as f64;
            progress
                .scrubbed_bytes
                .fetch_add(end - at, Ordering::Relaxed);
            progress.scrub_position.store(end, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What the messages of a chunk imply for their queues, in log order.
type Expected<'a> = BTreeMap<(&'a str, i32), Vec<QueueEntry>>;

fn expect<'a>(entry: &'a RawEntry, expected: &mut Expected<'a>) {
    if entry.header.kind != EntryKind::Normal {
        return;
    }
    for record in records(&entry.bytes) {
        let Ok(Record::Message { at, bytes }) = record else {
            continue;
        };
        let Some(view) = queued_view(bytes) else {
            continue;
        };
        let physical_offset = (entry.header.position + at as u64) as i64;
        let queue = (view.topic(), view.queue_id());
        let one = queue_entry(&view, physical_offset, bytes.len());
        expected.entry(queue).or_default().push(one);
    }
}

fn check_queues(expected: &Expected<'_>, log: &CommitLog, queues: &QueueTable) -> Result<()> {
    for (&(topic, id), expected) in expected {
        // The topic may have been deleted since, and made again with lower offsets.
        let Some(queue) = queues.get(topic, id) else {
            continue;
        };
        for run in expected.chunk_by(|a, b| a.queue_offset + 1 == b.queue_offset) {
            // What was trimmed, or is not there because the topic is another one now, is not read.
            let wrong = match queue.read(run[0].queue_offset, run.len()) {
                // Another entry may be of a later topic of that name.
                Ok(found) => found.into_iter().find(|found| {
                    let nth = usize::try_from(found.queue_offset - run[0].queue_offset);
                    let good = nth.ok().and_then(|nth| run.get(nth)) == Some(found);
                    !good && !is_backed(log, found)
                }),
                Err(StoreError::Corrupt { .. }) => Some(run[0]),
                Err(error) => return Err(error),
            };
            if let Some(wrong) = wrong {
                let offset = wrong.queue_offset;
                tracing::error!(
                    topic,
                    queue = id,
                    offset,
                    "a consume queue contradicts the log"
                );
                queues.mark_damaged(topic, id);
            }
        }
    }
    Ok(())
}

/// Whether the message that a queue entry speaks of implies this very entry.
fn is_backed(log: &CommitLog, entry: &QueueEntry) -> bool {
    let Ok(bytes) = log.read_record_at(entry.physical_offset as u64) else {
        return false;
    };
    StoredRecord::parse(&bytes)
        .is_ok_and(|view| queue_entry(&view, entry.physical_offset, bytes.len()) == *entry)
}

/// Writes damaged queues again from the log, up to the applied entry.
pub fn repair_queues(
    log: &CommitLog,
    queues: &QueueTable,
    damaged: &[(String, i32)],
    applied: u64,
) -> Result<()> {
    tracing::warn!(
        queues = damaged.len(),
        "consume queues are rebuilt from the log"
    );
    let wanted: BTreeSet<(&str, i32)> = damaged.iter().map(|(t, id)| (t.as_str(), *id)).collect();
    let mut found: BTreeMap<(String, i32), Vec<QueueEntry>> = BTreeMap::new();
    let log_start = log.start();
    let write = |key: &(String, i32), entries: &mut Vec<QueueEntry>| -> Result<()> {
        if let Some(queue) = queues.get(&key.0, key.1) {
            queue.repair(entries)?;
        }
        entries.clear();
        Ok(())
    };
    walk(log, 0, applied, |entry, record| {
        let Record::Message { at, bytes } = record else {
            return Ok(ControlFlow::Continue(()));
        };
        let view = queued_view(bytes);
        let view = view.filter(|view| wanted.contains(&(view.topic(), view.queue_id())));
        if let Some(view) = view {
            let physical_offset = (entry.header.position + at as u64) as i64;
            let key = (view.topic().to_owned(), view.queue_id());
            let entries = found.entry(key.clone()).or_default();
            // A topic made anew begins at 0 again: later entries count.
            entries.push(queue_entry(&view, physical_offset, bytes.len()));
            if entries.len() >= REPAIR_BATCH {
                write(&key, entries)?;
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for (key, entries) in &mut found {
        write(key, entries)?;
    }
    for (topic, id) in damaged {
        queues.mark_repaired(topic, *id, log_start);
    }
    Ok(())
}

/// Indexes the keys of a stretch of the log again.
pub fn repair_keys(
    log: &CommitLog,
    keys: &KeyIndex,
    from: u64,
    to: u64,
    applied: u64,
) -> Result<()> {
    tracing::warn!(from, to, "a part of the key index is rebuilt from the log");
    let mut builder = keys.rebuild(from, to);
    walk(log, log.index_at(from), applied, |entry, record| {
        let Record::Message { at, bytes } = record else {
            return Ok(ControlFlow::Continue(()));
        };
        let position = entry.header.position + at as u64;
        if position >= to {
            return Ok(ControlFlow::Break(()));
        }
        // What apply leaves out has no keys.
        let Ok(view) = StoredRecord::parse(bytes) else {
            return Ok(ControlFlow::Continue(()));
        };
        let rollback = view.sys_flag() & sysflag::TRANSACTION_MASK == sysflag::TRANSACTION_ROLLBACK;
        if position >= from && !rollback {
            builder.add(
                view.topic(),
                view.property(properties::UNIQ_KEY),
                view.property(properties::KEYS),
                position,
                view.store_timestamp(),
            )?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    builder.finish()
}
