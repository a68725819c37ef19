//! Linearizability of a register, after Wing, Gong and Lowe: looks for an order of the operations that each could have had,
//! undoing what led nowhere, and never tries the same set of operations with the same outcome twice.

use std::collections::HashSet;

/// Operations on one register, at most.
pub const MOST_OPS: usize = 256;
/// Tries until it is given up.
const MOST_TRIES: u64 = 20_000_000;

/// An operation on a register. A write of unknown outcome returns at the end of time; reads and refused writes without a known
/// outcome are left out.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub write: bool,
    pub value: i64,
    pub invoked: u64,
    /// [`crate::ops::NEVER`] when unknown.
    pub returned: u64,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Linearizable,
    /// No order explains more operations than this.
    Not {
        explained: usize,
    },
    GivenUp,
}

/// The operations already in an order, as bits.
type Done = [u64; MOST_OPS / 64];

/// Calls and returns in the order of time, as a list from which operations can be taken and put back.
struct List {
    next: Vec<usize>,
    before: Vec<usize>,
    /// Operation of an event; the head has none.
    op: Vec<usize>,
    /// The return of a call; 0 for a return.
    returns: Vec<usize>,
}

impl List {
    fn new(ops: &[Op]) -> Self {
        // At the same time calls come first: then the two overlap.
        let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * ops.len());
        for (n, op) in ops.iter().enumerate() {
            events.push((op.invoked, false, n));
            events.push((op.returned, true, n));
        }
        events.sort_unstable();
        let len = events.len() + 1;
        let mut returns = vec![0; len];
        let mut calls = vec![0; ops.len()];
        let mut op = vec![usize::MAX; len];
        for (at, (_, is_return, n)) in (1..).zip(events) {
            op[at] = n;
            if is_return {
                returns[calls[n]] = at;
            } else {
                calls[n] = at;
            }
        }
        Self {
            next: (1..=len).map(|n| n % len).collect(),
            before: (0..len).map(|n| (n + len - 1) % len).collect(),
            op,
            returns,
        }
    }

    fn remove(&mut self, at: usize) {
        let (before, next) = (self.before[at], self.next[at]);
        self.next[before] = next;
        self.before[next] = before;
    }

    fn put_back(&mut self, at: usize) {
        let (before, next) = (self.before[at], self.next[at]);
        self.next[before] = at;
        self.before[next] = at;
    }

    fn lift(&mut self, call: usize) {
        self.remove(call);
        self.remove(self.returns[call]);
    }

    fn unlift(&mut self, call: usize) {
        self.put_back(self.returns[call]);
        self.put_back(call);
    }
}

/// Whether a register that begins with `first` can have been seen like this.
pub fn check(ops: &[Op], first: i64) -> Answer {
    if ops.len() > MOST_OPS {
        return Answer::GivenUp;
    }
    let mut list = List::new(ops);
    let mut tried: HashSet<(Done, i64)> = HashSet::new();
    let mut order: Vec<(usize, i64)> = Vec::new();
    let (mut done, mut state, mut explained): (Done, i64, usize) = (Done::default(), first, 0);
    let mut at = list.next[0];
    for _ in 0..MOST_TRIES {
        if list.next[0] == 0 {
            return Answer::Linearizable;
        }
        // The head is met only behind the last return, which is never passed.
        let n = list.op[at];
        let is_call = list.returns[at] != 0;
        if is_call {
            let op = ops[n];
            let after = if op.write { op.value } else { state };
            let mut with = done;
            with[n / 64] |= 1 << (n % 64);
            if (op.write || op.value == state) && tried.insert((with, after)) {
                order.push((at, state));
                explained = explained.max(order.len());
                (done, state) = (with, after);
                list.lift(at);
                at = list.next[0];
            } else {
                at = list.next[at];
            }
        } else {
            let Some((call, before)) = order.pop() else {
                return Answer::Not { explained };
            };
            state = before;
            let n = list.op[call];
            done[n / 64] &= !(1 << (n % 64));
            list.unlift(call);
            at = list.next[call];
        }
    }
    Answer::GivenUp
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::NEVER;

    fn op(write: bool, value: i64, invoked: u64, returned: u64) -> Op {
        Op {
            write,
            value,
            invoked,
            returned,
        }
    }

    #[test]
    fn what_can_be_ordered_is_linearizable() {
        assert_eq!(check(&[], -1), Answer::Linearizable);
        let ops = [
            op(false, -1, 0, 1),
            op(true, 1, 2, 9),
            op(true, 2, 3, 4),
            op(false, 2, 5, 6),
            op(false, 1, 7, 8),
            // Unknown, and seen later.
            op(true, 3, 10, NEVER),
            op(false, 1, 11, 12),
            op(false, 3, 13, 14),
            // Unknown, and never seen.
            op(true, 4, 15, NEVER),
        ];
        assert_eq!(check(&ops, -1), Answer::Linearizable);
    }

    #[test]
    fn what_cannot_be_ordered_is_not() {
        let stale = [op(true, 1, 0, 1), op(true, 2, 2, 3), op(false, 1, 4, 5)];
        assert_eq!(check(&stale, -1), Answer::Not { explained: 2 });
        let torn = [
            op(true, 1, 0, NEVER),
            op(true, 2, 0, NEVER),
            op(false, 1, 1, 2),
            op(false, 2, 3, 4),
            op(false, 1, 5, 6),
        ];
        assert!(matches!(check(&torn, -1), Answer::Not { .. }));
        assert!(matches!(
            check(&[op(false, 5, 0, 1)], -1),
            Answer::Not { .. }
        ));
    }

    #[test]
    fn every_order_that_was_real_is_found() {
        // Eight writers and readers of a real register, whose operations take effect somewhere inside their time.
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..50 {
            let mut timed: Vec<(u64, Op)> = (0..120)
                .map(|n| {
                    let invoked = n * 10 + random(20);
                    let takes = random(80);
                    let effect = invoked + random(takes + 1);
                    let one = op(
                        random(2) == 0,
                        random(5) as i64,
                        invoked,
                        invoked + takes + 1,
                    );
                    (effect * 1000 + n, one)
                })
                .collect();
            timed.sort_unstable_by_key(|t| t.0);
            let mut state = -1;
            let mut ops: Vec<Op> = Vec::new();
            for (_, mut one) in timed {
                if one.write {
                    state = one.value;
                } else {
                    one.value = state;
                }
                ops.push(one);
            }
            assert_eq!(check(&ops, -1), Answer::Linearizable);
            // A value nobody wrote is never explained.
            let read = ops.iter_mut().find(|o| !o.write).unwrap();
            read.value = 77;
            assert!(matches!(check(&ops, -1), Answer::Not { .. }));
        }
    }
}
