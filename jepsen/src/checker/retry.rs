//! Messages that consumers give back come again, and after the last try they lie in the group's dead-letter queue: every acknowledged
//! message is there in the end, none before it was given back often enough, none more often than it was given back at last.

use std::collections::HashMap;

use serde_json::json;

use super::final_log::FinalLog;
use super::verdict::{Anomalies, Valid, Verdict};
use crate::ops::{Ops, Outcome};
use crate::settings::Settings;
use crate::workload::retry::{MOST_TIMES, again_queue, dead_queue};

/// See the module.
pub fn check(ops: &Ops, log: &FinalLog, settings: &Settings) -> Verdict {
    let dead = dead_queue(settings.queues);
    let Some(dead) = log.queues.get(&dead).filter(|q| q.log.complete) else {
        return Verdict::unknown("the dead-letter queue was not read to its end");
    };
    let mut copies: HashMap<u64, u32> = HashMap::new();
    for value in &dead.log.values {
        *copies.entry(*value).or_default() += 1;
    }
    // How often each was given back for certain, perhaps, and perhaps as its last try.
    let mut given: HashMap<u64, (u32, u32, u32)> = HashMap::new();
    for back in ops.send_backs.iter().filter(|b| b.outcome != Outcome::Fail) {
        let (certain, all, last) = given.entry(back.value).or_default();
        *certain += u32::from(back.outcome == Outcome::Ok);
        *all += 1;
        *last += u32::from(back.times >= MOST_TIMES);
    }
    // How often each came again.
    let mut again: HashMap<u64, u32> = HashMap::new();
    let queue = log.queues.get(&again_queue(settings.queues));
    for value in queue.iter().flat_map(|q| &q.log.values) {
        *again.entry(*value).or_default() += 1;
    }
    let mut found = Anomalies::default();
    // Consumers that were not done with what there is for them.
    let mut unfinished = 0_u64;
    for send in ops.sends.iter().filter(|s| s.outcome == Outcome::Ok) {
        if copies.contains_key(&send.value) {
            continue;
        }
        let (certain, ..) = given.get(&send.value).copied().unwrap_or_default();
        if certain <= again.get(&send.value).copied().unwrap_or_default() {
            unfinished += 1;
        } else {
            found.add(
                "lost-retry",
                || json!({"v": send.value, "q": send.queue, "offset": send.offset}),
            );
        }
    }
    for (value, copies) in &copies {
        let (_, all, last) = given.get(value).copied().unwrap_or_default();
        if all <= MOST_TIMES {
            found.add("dead-too-early", || json!({"v": value, "given-back": all}));
        } else if *copies > last {
            found.add(
                "duplicate-dead",
                || json!({"v": value, "copies": copies, "given-back": last}),
            );
        }
    }
    let allowed: &[&str] = if settings.acked_may_be_lost() {
        &["lost-retry"]
    } else {
        &[]
    };
    let verdict = found
        .verdict(allowed)
        .with("dead-count", copies.len())
        .with("send-back-count", ops.send_backs.len())
        .with("unfinished-count", unfinished);
    match unfinished {
        0 => verdict,
        _ => verdict.at_least(Valid::Unknown),
    }
}
