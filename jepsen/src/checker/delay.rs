//! Delayed messages: none before its time, none lost. When it came is when a consumer had it, which is never earlier than the truth,
//! so who is early here was early.

use std::collections::HashMap;

use serde_json::json;

use super::final_log::FinalLog;
use super::verdict::{Anomalies, Valid, Verdict};
use crate::ops::{Ops, Outcome};
use crate::settings::Settings;

/// What clocks of one machine and their granularity explain, ms.
const SKEW_MS: u64 = 20;

/// See the module.
pub fn check(ops: &Ops, log: &FinalLog, settings: &Settings) -> Verdict {
    // When, and whether only the final reads had it, which come late to all of them.
    let mut arrived: HashMap<u64, (u64, bool)> = HashMap::new();
    for poll in &ops.polls {
        for (_, value) in ops.found(poll) {
            let this = (poll.span.completed, poll.last);
            let first = arrived.entry(*value).or_insert(this);
            *first = this.min(*first);
        }
    }
    let mut found = Anomalies::default();
    let (mut delivered, mut latest_ms, mut late) = (0_u64, 0_u64, Vec::new());
    for send in ops.sends.iter().filter(|s| s.delay_ms > 0) {
        let Some((arrived, at_last)) = arrived.get(&send.value) else {
            if send.outcome == Outcome::Ok {
                found.add(
                    "lost",
                    || json!({"v": send.value, "delay-ms": send.delay_ms}),
                );
            }
            continue;
        };
        delivered += 1;
        let waited = arrived.saturating_sub(send.span.invoked) / 1_000_000;
        if waited + SKEW_MS < u64::from(send.delay_ms) {
            found.add(
                "early",
                || json!({"v": send.value, "delay-ms": send.delay_ms, "waited-ms": waited}),
            );
        }
        if send.outcome == Outcome::Ok && !at_last {
            let due = send.span.completed / 1_000_000 + u64::from(send.delay_ms);
            let by = (arrived / 1_000_000).saturating_sub(due);
            latest_ms = latest_ms.max(by);
            late.push(by);
        }
    }
    late.sort_unstable();
    let median = late.get(late.len() / 2).copied().unwrap_or(0);
    let mut allowed = Vec::new();
    if settings.clocks_lie() {
        // A broker cannot know better than its clock.
        allowed.push("early");
    }
    if settings.acked_may_be_lost() {
        allowed.push("lost");
    }
    let verdict = found
        .verdict(&allowed)
        .with("delivered-count", delivered)
        .with("late-ms-median", median)
        .with("late-ms-max", latest_ms);
    if log.is_complete(&ops.queues()) {
        verdict
    } else {
        verdict.at_least(Valid::Unknown)
    }
}
