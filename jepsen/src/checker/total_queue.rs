//! Every acknowledged message is in the queues at the end, and nothing else is: Jepsen's `total-queue`, with its names.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::final_log::FinalLog;
use super::verdict::{Valid, Verdict};
use crate::ops::{Ops, Outcome, Send};
use crate::settings::Settings;

/// Examples that are listed.
const EXAMPLES: usize = 20;

/// # Arguments
/// `queues` are those that messages are sent to or delivered into.
pub fn check(ops: &Ops, log: &FinalLog, settings: &Settings) -> Verdict {
    if !log.is_complete(&ops.queues()) {
        return Verdict::unknown("not every queue was read to its end");
    }
    let copies = log.copies();
    // A message that was sent several times is acknowledged if one of them was.
    let mut attempts: HashMap<u64, Outcome> = HashMap::with_capacity(ops.sends.len());
    for send in &ops.sends {
        let known = attempts.entry(send.value).or_insert(send.outcome);
        *known = match (*known, send.outcome) {
            (Outcome::Ok, _) | (_, Outcome::Ok) => Outcome::Ok,
            (Outcome::Fail, Outcome::Fail) => Outcome::Fail,
            _ => Outcome::Info,
        };
    }
    let acked = |outcome: &Outcome| *outcome == Outcome::Ok;
    let acknowledged = attempts.values().filter(|o| acked(o)).count();
    let (mut ok, mut recovered, mut duplicated, mut unexpected) = (0_u64, 0_u64, 0_u64, Vec::new());
    for (value, times) in &copies {
        match attempts.get(value) {
            None => unexpected.push(*value),
            Some(outcome) => {
                ok += 1;
                recovered += u64::from(!acked(outcome));
                duplicated += u64::from(times - 1);
            }
        }
    }
    let mut lost: Vec<&Send> = Vec::new();
    let mut trimmed = 0_u64;
    for send in ops.sends.iter().filter(|s| acked(&s.outcome)) {
        if copies.contains_key(&send.value) {
            continue;
        }
        if settings.trims && send.offset >= 0 && log.is_trimmed(send.queue, send.offset) {
            trimmed += 1;
        } else {
            lost.push(send);
        }
    }
    lost.sort_unstable_by_key(|s| (s.queue, s.offset, s.value));
    unexpected.sort_unstable();
    let allowed = settings.acked_may_be_lost();
    let parts = parts(&lost, log);
    // No mode gives up a queue's beginning.
    let prefix = parts["prefix"] > 0;
    let bad = !unexpected.is_empty() || prefix || (!lost.is_empty() && !allowed);
    let example = |s: &&Send| {
        json!({"q": s.queue, "offset": s.offset, "v": s.value, "via": "send",
        "acked-ms": s.span.completed / 1_000_000})
    };
    Verdict::new(if bad { Valid::False } else { Valid::True })
        .with("attempt-count", attempts.len())
        .with("acknowledged-count", acknowledged)
        .with("ok-count", ok)
        .with("unexpected-count", unexpected.len())
        .with("duplicated-count", duplicated)
        .with("lost-count", lost.len())
        .with("recovered-count", recovered)
        .with("trimmed-count", trimmed)
        .with("loss-allowed", allowed)
        .with("lost-parts", parts)
        .with(
            "lost",
            lost.iter().take(EXAMPLES).map(example).collect::<Vec<_>>(),
        )
        .with("unexpected", &unexpected[..unexpected.len().min(EXAMPLES)])
}

/// Where in their queues the lost ones were: before everything that is left, after it, or between.
fn parts(lost: &[&Send], log: &FinalLog) -> BTreeMap<&'static str, u64> {
    let mut parts = BTreeMap::from([("prefix", 0), ("middle", 0), ("postfix", 0)]);
    for send in lost {
        // Who never lost its place in the queue to another one was at the end.
        let part = match log.queues.get(&send.queue).map(|q| &q.log) {
            Some(left) if send.offset >= 0 && send.offset < left.min => "prefix",
            Some(left) if send.offset < left.end() => "middle",
            _ => "postfix",
        };
        *parts.entry(part).or_default() += 1;
    }
    parts
}
