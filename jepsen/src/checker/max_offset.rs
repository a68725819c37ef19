//! Reads of a queue's end are linearizable: not below what was acknowledged or read before, not above what was sent.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::final_log::{FinalLog, NOTHING};
use super::verdict::{Anomalies, Verdict};
use crate::ops::{MaxRead, Ops, Outcome};
use crate::settings::Settings;

/// See the module.
pub fn check(ops: &Ops, log: &FinalLog, settings: &Settings) -> Verdict {
    let mut found = Anomalies::default();
    let mut queues: BTreeMap<u32, Vec<MaxRead>> = BTreeMap::new();
    for read in &ops.max_reads {
        queues.entry(read.queue).or_default().push(*read);
    }
    let mut invoked: HashMap<u64, u64> = HashMap::with_capacity(ops.sends.len());
    for send in &ops.sends {
        let first = invoked.entry(send.value).or_insert(send.span.invoked);
        *first = send.span.invoked.min(*first);
    }
    for (q, mut reads) in queues {
        // What is known to be reached, and from when on.
        let mut known: Vec<(u64, i64)> =
            reads.iter().map(|r| (r.span.completed, r.offset)).collect();
        if settings.acked_is_visible() {
            let acked = ops
                .sends
                .iter()
                .filter(|s| s.queue == q && s.outcome == Outcome::Ok && s.offset >= 0);
            known.extend(acked.map(|s| (s.span.completed, s.offset + 1)));
        }
        known.sort_unstable();
        reads.sort_unstable_by_key(|r| r.span.invoked);
        let mut known = known.into_iter().peekable();
        let mut reached = 0;
        let latest = latest(log, q, &invoked);
        for read in reads {
            while let Some((_, end)) = known.next_if(|k| k.0 < read.span.invoked) {
                reached = reached.max(end);
            }
            let at = || {
                json!({"q": q, "offset": read.offset, "via": read.via,
                    "invoked-ms": read.span.invoked / 1_000_000})
            };
            if read.offset < reached {
                found.add(
                    "stale-max-offset",
                    || json!({"read": at(), "known": reached}),
                );
            }
            beyond(&read, log, &latest, &mut found, at);
        }
    }
    let allowed: &[&str] = if settings.committed_may_be_lost() {
        // Offsets that were lost are given again: what a read promised then looks as if it came from the future.
        &[
            "stale-max-offset",
            "max-offset-lost",
            "max-offset-from-the-future",
        ]
    } else {
        &[]
    };
    found
        .verdict(allowed)
        .with("read-count", ops.max_reads.len())
}

/// For every offset the latest time at which a message up to it was sent.
fn latest(log: &FinalLog, q: u32, invoked: &HashMap<u64, u64>) -> Vec<u64> {
    let Some(queue) = log.queues.get(&q) else {
        return Vec::new();
    };
    let mut latest = 0;
    let times = queue.log.values.iter().map(|value| {
        if *value != NOTHING {
            latest = latest.max(invoked.get(value).copied().unwrap_or(0));
        }
        latest
    });
    times.collect()
}

fn beyond(
    read: &MaxRead,
    log: &FinalLog,
    latest: &[u64],
    found: &mut Anomalies,
    at: impl Fn() -> serde_json::Value,
) {
    let Some(queue) = log.queues.get(&read.queue).map(|q| &q.log) else {
        return;
    };
    if queue.complete && read.offset > queue.end() {
        found.add(
            "max-offset-lost",
            || json!({"read": at(), "end": queue.end()}),
        );
    }
    let last = usize::try_from(read.offset - queue.min - 1).ok();
    if let Some(sent) = last.and_then(|last| latest.get(last))
        && *sent > read.span.completed
    {
        found.add("max-offset-from-the-future", at);
    }
}
