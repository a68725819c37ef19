//! A group's offset that was read, or acknowledged, never goes back, unless a commit that was still under way explains it: one
//! whose outcome is unknown, or that nobody waited for, may take effect later, but only once.

use std::collections::{BTreeMap, HashSet};

use serde_json::json;

use super::verdict::{Anomalies, Verdict};
use crate::ops::{NEVER, Ops, Outcome, RegisterOp};

/// What is known of an offset: the operation that showed it.
#[derive(Clone, Copy)]
struct Known {
    value: i64,
    invoked: u64,
}

/// See the module.
pub fn check(ops: &Ops) -> Verdict {
    let mut found = Anomalies::default();
    let mut keys: BTreeMap<u32, Vec<&RegisterOp>> = BTreeMap::new();
    for op in &ops.registers {
        keys.entry(op.key).or_default().push(op);
    }
    let mut explained = 0_u64;
    for (k, ops) in &keys {
        let firm = |op: &&&RegisterOp| op.outcome == Outcome::Ok && !op.oneway && op.value >= 0;
        let mut known: Vec<_> = ops.iter().filter(firm).collect();
        known.sort_unstable_by_key(|op| op.span.completed);
        let mut known = known.into_iter().peekable();
        let mut reads: Vec<_> = ops
            .iter()
            .filter(|op| !op.write && op.outcome == Outcome::Ok)
            .collect();
        reads.sort_unstable_by_key(|op| op.span.invoked);
        let mut highest: Option<Known> = None;
        // How often an offset came to be: reads of it with another one between them are of different commits.
        let mut became: BTreeMap<i64, usize> = BTreeMap::new();
        let mut last: Option<&RegisterOp> = None;
        for read in reads {
            while let Some(op) = known.next_if(|op| op.span.completed < read.span.invoked) {
                if highest.is_none_or(|h| h.value < op.value) {
                    highest = Some(Known {
                        value: op.value,
                        invoked: op.span.invoked,
                    });
                }
            }
            let again = last
                .is_some_and(|l| l.value == read.value || l.span.completed >= read.span.invoked);
            let times = became.entry(read.value).or_default();
            *times += usize::from(!again || *times == 0);
            let times = *times;
            last = Some(read);
            let Some(high) = highest.filter(|h| read.value < h.value) else {
                continue;
            };
            let explains = |op: &&&RegisterOp| {
                let end = if op.oneway { NEVER } else { op.span.completed };
                op.write
                    && op.outcome != Outcome::Fail
                    && op.value == read.value
                    && op.span.invoked < read.span.completed
                    && end > high.invoked
            };
            let writes = ops.iter().filter(|op| {
                let may = op.write && op.outcome != Outcome::Fail && op.value == read.value;
                may && op.span.invoked < read.span.completed
            });
            if times <= writes.count() && ops.iter().any(|op| explains(&op)) {
                explained += 1;
            } else {
                found.add("offset-regression", || {
                    json!({"k": k, "read": read.value, "known": high.value,
                        "ms": read.span.invoked / 1_000_000})
                });
            }
        }
    }
    let delivered = redelivered(ops);
    found
        .verdict(&[])
        .with("explained-regressions", explained)
        .with("redelivered-count", delivered)
        .with("op-count", ops.registers.len())
}

/// Messages that were polled more than once by the one consumer of their queue.
fn redelivered(ops: &Ops) -> u64 {
    let mut seen = HashSet::new();
    let polls = ops.polls.iter().filter(|p| !p.last);
    let all = polls.flat_map(|p| ops.found(p).iter().map(|(offset, _)| (p.queue, *offset)));
    all.filter(|at| !seen.insert(*at)).count() as u64
}
