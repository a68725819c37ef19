//! Messages that consumers give back come again, and after the last try they lie in the group's dead-letter queue: every acknowledged
//! message is there in the end, none before it was given back often enough, none more often than it was given back at last.

use std::collections::HashMap;

use serde_json::json;

use super::final_log::FinalLog;
use super::verdict::{Anomalies, Verdict};
use crate::ops::{Ops, Outcome};
use crate::settings::Settings;
use crate::workload::retry::{MOST_TIMES, dead_queue};

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
    // How often each was given back, and how often as its last try, refusals not counted.
    let mut given: HashMap<u64, (u32, u32)> = HashMap::new();
    for back in ops.send_backs.iter().filter(|b| b.outcome != Outcome::Fail) {
        let (all, last) = given.entry(back.value).or_default();
        *all += 1;
        *last += u32::from(back.times >= MOST_TIMES);
    }
    let mut found = Anomalies::default();
    for send in ops.sends.iter().filter(|s| s.outcome == Outcome::Ok) {
        if !copies.contains_key(&send.value) {
            found.add(
                "lost-retry",
                || json!({"v": send.value, "q": send.queue, "offset": send.offset}),
            );
        }
    }
    for (value, copies) in &copies {
        let (all, last) = given.get(value).copied().unwrap_or_default();
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
    found
        .verdict(allowed)
        .with("dead-count", copies.len())
        .with("send-back-count", ops.send_backs.len())
}
