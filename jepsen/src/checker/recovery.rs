//! How long the set took after a fault was healed until it served again everywhere: a send of every queue (where nothing is sent, an
//! operation on a register) that was asked for afterwards and acknowledged. Every heal after which no fault is left is timed, from the
//! moment it was done; what the runner waits for after that counts as time of the set. The last one is judged: later than the
//! limit leaves the run undecided, for a machine may have been busy; never is invalid. Where the next fault began first nothing is
//! known of the heal before.

use std::collections::{BTreeMap, BTreeSet};

use super::verdict::{Valid, Verdict};
use crate::ops::{NEVER, Ops, Outcome};
use crate::settings::Settings;

/// What the runner notes when no fault is left.
pub const HEALED: &str = "healed";
/// What the runner notes when it stops the clients.
pub const STOPPED: &str = "stopped";
/// Of a heal: by the name of what is healed.
const HEAL: &str = "heal-";
/// What else is noted about faults.
const REMARKS: [&str; 7] = [
    "then-",
    "no-",
    "problem",
    "refused",
    "nemesis-failure",
    HEALED,
    STOPPED,
];

/// A time without faults: from a heal to the next fault.
struct Calm {
    name: String,
    from: u64,
    until: u64,
}

/// All of them after the first fault.
fn calms(ops: &Ops) -> Vec<Calm> {
    let mut open: BTreeSet<&str> = BTreeSet::new();
    let mut calms: Vec<Calm> = Vec::new();
    for fault in &ops.faults {
        let before = open.len();
        let healed = fault.f.strip_prefix(HEAL);
        if let Some(name) = healed {
            open.remove(name);
        } else if fault.f == HEALED {
            open.clear();
        } else if let Some(name) = fault.f.strip_prefix("no-") {
            // It never was one.
            open.remove(name);
        } else if !REMARKS.iter().any(|r| fault.f.starts_with(r)) {
            open.insert(&fault.f);
            if let Some(calm) = calms.last_mut().filter(|c| c.until == NEVER) {
                calm.until = fault.time;
            }
        }
        if open.is_empty() && before > 0 {
            calms.push(Calm {
                name: healed.unwrap_or(HEALED).to_owned(),
                from: fault.time,
                until: NEVER,
            });
        }
    }
    calms
}

/// When each queue was served for the first time in this time, and those that were not.
fn served(ops: &Ops, calm: &Calm, queues: &BTreeSet<u32>) -> (BTreeMap<u32, u64>, Vec<u32>) {
    let mut first: BTreeMap<u32, u64> = BTreeMap::new();
    let done = |invoked: u64, completed: u64, outcome| {
        outcome == Outcome::Ok && invoked >= calm.from && completed < calm.until
    };
    for send in &ops.sends {
        if done(send.span.invoked, send.span.completed, send.outcome) {
            let at = first.entry(send.queue).or_insert(send.span.completed);
            *at = send.span.completed.min(*at);
        }
    }
    if ops.sends.is_empty() {
        let served = ops.registers.iter().filter(|op| !op.oneway);
        let served = served.filter(|op| done(op.span.invoked, op.span.completed, op.outcome));
        if let Some(at) = served.map(|op| op.span.completed).min() {
            first.insert(0, at);
        }
    }
    let missing = queues.iter().filter(|q| !first.contains_key(q));
    let missing = missing.copied().collect();
    (first, missing)
}

/// See the module.
pub fn check(ops: &Ops, settings: &Settings) -> Verdict {
    let mut queues: BTreeSet<u32> = ops.sends.iter().map(|s| s.queue).collect();
    if queues.is_empty() {
        queues.insert(0);
    }
    let calms = calms(ops);
    // Without faults the run is not about recovery.
    let Some(last) = calms.last() else {
        return Verdict::new(Valid::True).with("why", "no fault");
    };
    let ms = |calm: &Calm, first: &BTreeMap<u32, u64>| {
        let slowest = first.values().max().copied().unwrap_or(calm.from);
        (slowest - calm.from) / 1_000_000
    };
    let mut slowest: Option<(u64, &str)> = None;
    let mut timed = 0_u64;
    for calm in &calms {
        let (first, missing) = served(ops, calm, &queues);
        if missing.is_empty() {
            timed += 1;
            slowest = slowest.max(Some((ms(calm, &first), calm.name.as_str())));
        }
    }
    let (first, missing) = served(ops, last, &queues);
    let last_ms = ms(last, &first);
    let valid = if !missing.is_empty() || settings.not_whole.is_some() {
        Valid::False
    } else if last_ms > settings.recovery_limit_ms {
        Valid::Unknown
    } else {
        Valid::True
    };
    Verdict::new(valid)
        .with("healed-ms", last.from / 1_000_000)
        .with("healed", &last.name)
        .with("first-ack-ms", last_ms)
        .with("slowest-ms", slowest.map(|s| s.0))
        .with("slowest-after", slowest.map(|s| s.1))
        .with("heals-timed", timed)
        .with("heals", calms.len())
        .with("limit-ms", settings.recovery_limit_ms)
        .with("queues-without-ack", missing)
        .with("whole-ms", settings.whole_ms)
        .with("not-whole", &settings.not_whole)
}
