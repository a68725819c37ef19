//! What the queues held at the end: the reads after everything was healed, one of each queue from each replica.

use std::collections::{BTreeMap, HashMap};

use crate::ops::{Ops, Poll};

/// No message was seen at an offset.
pub const NOTHING: u64 = u64::MAX;

/// A queue as one replica gave it.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    /// First offset that is kept.
    pub min: i64,
    /// By offset above `min`; [`NOTHING`] for a gap.
    pub values: Vec<u64>,
    /// It was read to its end.
    pub complete: bool,
}

impl Copy {
    /// The message at an offset.
    pub fn at(&self, offset: i64) -> Option<u64> {
        let index = usize::try_from(offset.checked_sub(self.min)?).ok()?;
        self.values.get(index).copied().filter(|v| *v != NOTHING)
    }

    /// The offset after the last message.
    pub fn end(&self) -> i64 {
        self.min + self.values.len() as i64
    }

    fn take(&mut self, poll: &Poll, messages: &[(i64, u64)]) {
        if self.values.is_empty() {
            self.min = poll.from.max(poll.min);
        }
        for (offset, value) in messages {
            // An offset below the start, or absurdly far, is another checker's to complain about.
            let Ok(index) = usize::try_from(offset - self.min) else {
                continue;
            };
            if index > self.values.len() + MOST_GAP {
                continue;
            }
            if index >= self.values.len() {
                self.values.resize(index + 1, NOTHING);
            }
            self.values[index] = *value;
        }
        self.complete = messages.is_empty() && poll.next <= poll.from.max(self.min);
    }
}

/// Offsets that are left out at once, at most.
const MOST_GAP: usize = 1 << 20;

/// A queue as all replicas gave it.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// By replica.
    pub copies: BTreeMap<u8, Copy>,
    /// What most of them agree on is not asked: this is the longest copy, and before it what the one has that begins first. Where
    /// copies differ, [`Self::copies`] tells.
    pub log: Copy,
}

impl Queue {
    fn join(&mut self) {
        let longest = self.copies.values().max_by_key(|c| c.end());
        let Some(mut log) = longest.cloned() else {
            return;
        };
        let first = self.copies.values().min_by_key(|c| c.min);
        if let Some(first) = first.filter(|first| first.min < log.min) {
            let before = (first.min..log.min).map(|at| first.at(at).unwrap_or(NOTHING));
            log.values.splice(0..0, before);
            log.min = first.min;
        }
        self.log = log;
    }
}

/// All queues.
#[derive(Clone, Debug, Default)]
pub struct FinalLog {
    pub queues: BTreeMap<u32, Queue>,
}

impl FinalLog {
    /// Of the final reads of a run.
    pub fn of(ops: &Ops) -> Self {
        let mut queues: BTreeMap<u32, Queue> = BTreeMap::new();
        for poll in ops.polls.iter().filter(|p| p.last) {
            let queue = queues.entry(poll.queue).or_default();
            let copy = queue.copies.entry(poll.via).or_default();
            copy.take(poll, ops.found(poll));
        }
        queues.values_mut().for_each(Queue::join);
        Self { queues }
    }

    /// The first `queues` alone.
    pub fn up_to(&self, queues: u32) -> Self {
        let first = self.queues.range(..queues);
        Self {
            queues: first.map(|(q, queue)| (*q, queue.clone())).collect(),
        }
    }

    /// Whether each of these queues was read to its end from somewhere.
    pub fn is_complete(&self, queues: &[u32]) -> bool {
        let read = |q: &u32| {
            let queue = self.queues.get(q);
            queue.is_some_and(|q| q.copies.values().any(|c| c.complete) && q.log.complete)
        };
        !queues.is_empty() && queues.iter().all(read)
    }

    /// The message at an offset.
    pub fn at(&self, queue: u32, offset: i64) -> Option<u64> {
        self.queues.get(&queue)?.log.at(offset)
    }

    /// Whether an offset is below what every replica kept.
    pub fn is_trimmed(&self, queue: u32, offset: i64) -> bool {
        self.queues.get(&queue).is_some_and(|q| offset < q.log.min)
    }

    /// How often each message is there.
    pub fn copies(&self) -> HashMap<u64, u32> {
        let mut all = HashMap::new();
        for queue in self.queues.values() {
            for value in queue.log.values.iter().filter(|v| **v != NOTHING) {
                *all.entry(*value).or_default() += 1;
            }
        }
        all
    }
}
