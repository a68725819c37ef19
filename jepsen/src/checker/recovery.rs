//! How long the set took after the last fault was healed until it served again everywhere: a send of every queue (where nothing is
//! sent, an operation on a register) that was asked for afterwards and acknowledged. Later than the limit leaves the run
//! undecided, for a machine may have been busy; never is invalid.

use std::collections::BTreeMap;

use super::verdict::{Valid, Verdict};
use crate::ops::{Ops, Outcome};
use crate::settings::Settings;

/// What the runner notes when no fault is left.
pub const HEALED: &str = "healed";
/// What the runner notes when it stops the clients.
pub const STOPPED: &str = "stopped";

/// See the module.
pub fn check(ops: &Ops, settings: &Settings) -> Verdict {
    // Without faults the run is not about recovery.
    let faults = ops.faults.iter();
    let heals = faults.filter(|f| f.f.starts_with("heal-") || f.f == HEALED);
    let Some(healed) = heals.map(|f| f.time).max() else {
        return Verdict::new(Valid::True).with("why", "no fault");
    };
    let mut first: BTreeMap<u32, u64> = BTreeMap::new();
    let mut all: Vec<u32> = ops.sends.iter().map(|s| s.queue).collect();
    let done = |invoked: u64, outcome| outcome == Outcome::Ok && invoked >= healed;
    for send in &ops.sends {
        if done(send.span.invoked, send.outcome) {
            let at = first.entry(send.queue).or_insert(send.span.completed);
            *at = send.span.completed.min(*at);
        }
    }
    if all.is_empty() {
        all.push(0);
        let served = ops.registers.iter();
        let served = served.filter(|op| !op.oneway && done(op.span.invoked, op.outcome));
        if let Some(at) = served.map(|op| op.span.completed).min() {
            first.insert(0, at);
        }
    }
    all.sort_unstable();
    all.dedup();
    let missing: Vec<_> = all.iter().filter(|q| !first.contains_key(q)).collect();
    let slowest = first.values().max().copied().unwrap_or(healed);
    let ms = (slowest - healed) / 1_000_000;
    let valid = if !missing.is_empty() || settings.not_whole.is_some() {
        Valid::False
    } else if ms > settings.recovery_limit_ms {
        Valid::Unknown
    } else {
        Valid::True
    };
    Verdict::new(valid)
        .with("healed-ms", healed / 1_000_000)
        .with("first-ack-ms", ms)
        .with("limit-ms", settings.recovery_limit_ms)
        .with("queues-without-ack", missing)
        .with("whole-ms", settings.whole_ms)
        .with("not-whole", &settings.not_whole)
}
