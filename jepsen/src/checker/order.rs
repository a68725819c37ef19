//! What one sender sent to a queue one after the other arrives in that order. A message that was sent again, because nobody knew
//! what became of it, may arrive again; what counts is where it is for the first time.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::final_log::{FinalLog, NOTHING};
use super::verdict::{Anomalies, Verdict};
use crate::ops::Ops;
use crate::workload::value;

/// Follows the senders of one sequence of messages.
#[derive(Default)]
struct Follower {
    highest: HashMap<u32, u64>,
    seen: HashSet<u64>,
}

impl Follower {
    /// The number it should not come after, when it comes out of order.
    fn take(&mut self, message: u64) -> Option<u64> {
        if !self.seen.insert(message) {
            return None;
        }
        let highest = self.highest.entry(value::sender(message)).or_default();
        let out = (*highest > value::number(message)).then_some(*highest);
        *highest = value::number(message).max(*highest);
        out
    }
}

/// See the module.
pub fn check(ops: &Ops, log: &FinalLog) -> Verdict {
    let mut found = Anomalies::default();
    let mut first: HashMap<(u32, u64), i64> = HashMap::new();
    for (q, queue) in &log.queues {
        let mut follower = Follower::default();
        for (offset, value) in (queue.log.min..).zip(&queue.log.values) {
            first.entry((*q, *value)).or_insert(offset);
            if *value != NOTHING
                && let Some(after) = follower.take(*value)
            {
                found.add(
                    "out-of-order",
                    || json!({"q": q, "offset": offset, "v": value, "after-number": after}),
                );
            }
        }
    }
    let mut consumers: HashMap<(u32, u32), Follower> = HashMap::new();
    for poll in ops.polls.iter().filter(|p| !p.last) {
        let follower = consumers.entry((poll.process, poll.queue)).or_default();
        if !poll.follows {
            // It went back on purpose.
            *follower = Follower::default();
        }
        for (offset, value) in ops.found(poll) {
            // Who went back may have missed the first copy.
            let again = first
                .get(&(poll.queue, *value))
                .is_some_and(|at| at < offset);
            if !again && let Some(after) = follower.take(*value) {
                found.add("consumed-out-of-order", || {
                    json!({"q": poll.queue, "offset": offset, "v": value, "after-number": after,
                        "process": poll.process})
                });
            }
        }
    }
    found.verdict(&[])
}
