//! `ackQuorum=all`: a send is answered when its entry is committed *and* every in-sync voter has persisted it.
//!
//! A voter that lags by more than `inSyncTimeoutMs` is left out, and taken in again when it has caught up; who is left out
//! is written in the log, before the first send that is answered without it. So of the voters that are not left out, any
//! single one holds everything that was acknowledged. Kafka calls this the ISR, RocketMQ's controller the SyncStateSet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use raftmq_store::Command;
use raftmq_store::state::State;
use tokio::sync::Notify;

use crate::clock;
use crate::lag::Reach;
use crate::options::AckLevel;
use crate::replica::Inner;
use crate::ticket::{Done, Short, Stored};
use crate::types::Raft;

/// Where the log's decisions about the set are kept among the KV configs.
pub const NAMESPACE: &str = "raftmq.set";
const LEFT_OUT: &str = "leftOut";

/// How often the followers' progress is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// The same while nobody asks for all replicas.
const LOOK_NOW_AND_THEN: Duration = Duration::from_millis(500);
/// Longest wait for a decision to be committed.
const DECISION: Duration = Duration::from_secs(2);

struct Waiter {
    index: u64,
    deadline: Instant,
    stored: Stored,
    done: Done,
}

/// Committed entries that wait for the in-sync voters, oldest first. Bounded by what may be in flight: the proposer's
/// waiting room and `ackTimeoutMs`.
#[derive(Default)]
pub struct InSync {
    waiting: Mutex<VecDeque<Waiter>>,
    entered: Notify,
    /// This replica leads and fewer voters are in sync than `minInSyncReplicas`; as of the last look.
    too_few: AtomicBool,
}

impl InSync {
    /// Lets a committed entry wait for the in-sync voters until `deadline`.
    pub fn wait(&self, index: u64, deadline: Instant, stored: Stored, done: Done) {
        self.waiting.lock().push_back(Waiter {
            index,
            deadline,
            stored,
            done,
        });
        self.entered.notify_one();
    }

    /// Whether new messages have to be refused.
    pub fn are_too_few(&self) -> bool {
        self.too_few.load(Ordering::Relaxed)
    }

    /// Answers everything up to `index`, what is due, or all when leadership is lost.
    fn answer(&self, held: Option<u64>, own: u64, left_out: bool, now: Instant) {
        let mut ready = Vec::new();
        {
            let mut waiting = self.waiting.lock();
            while let Some(first) = waiting.front() {
                let short = match held {
                    Some(held) if first.index <= held => {
                        left_out.then_some(Short::SlaveNotAvailable)
                    }
                    Some(_) if first.deadline > now => break,
                    Some(_) if own < first.index => Some(Short::FlushDiskTimeout),
                    _ => Some(Short::FlushSlaveTimeout),
                };
                ready.extend(waiting.pop_front().map(|waiter| (waiter, short)));
            }
        }
        for (waiter, short) in ready {
            (waiter.done)(Ok(Stored {
                short,
                ..waiter.stored
            }));
        }
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }
}

/// Voters that are left out, as the log says.
pub fn left_out(state: &State) -> BTreeSet<u64> {
    let text = state.kv(NAMESPACE, LEFT_OUT);
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

/// Answers those that wait, and decides who is left out; for the life of the replica.
pub async fn run(inner: Arc<Inner>, raft: Raft) {
    let mut metrics = raft.data_metrics();
    let waiting = &inner.proposer.in_sync;
    let mut looked = clock::now();
    loop {
        if waiting.is_empty() {
            let look = match inner.policy.read().ack {
                AckLevel::All => LOOK,
                _ => LOOK_NOW_AND_THEN,
            };
            tokio::select! {
                () = waiting.entered.notified() => {}
                () = tokio::time::sleep(look) => {}
            }
        } else {
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        let role = inner.role.borrow().clone();
        let own = role.me.node_id;
        let left_out = left_out(&inner.store.state);
        let matched: Option<BTreeMap<u64, u64>> = {
            let seen = metrics.borrow_watched();
            let index = |id: &Option<crate::types::LogId>| id.as_ref().map_or(0, |id| id.index);
            let all = seen.replication.as_ref();
            all.map(|all| all.iter().map(|(id, at)| (*id, index(at))).collect())
        };
        let held = matched.as_ref().filter(|_| role.leads()).map(|matched| {
            let in_sync = role.voters.iter().filter(|id| !left_out.contains(id));
            let held = in_sync.map(|id| matched.get(id).copied().unwrap_or(0));
            held.min().unwrap_or(0)
        });
        let own_index = matched.and_then(|m| m.get(&own).copied()).unwrap_or(0);
        let short = role.voters.iter().any(|id| left_out.contains(id));
        waiting.answer(held, own_index, short, clock::now());
        let policy = inner.policy.read().clone();
        let in_sync = role
            .voters
            .iter()
            .filter(|id| !left_out.contains(id))
            .count();
        let too_few = role.leads() && in_sync < policy.min_in_sync;
        waiting.too_few.store(too_few, Ordering::Relaxed);

        if role.serving && clock::since(looked) >= LOOK {
            looked = clock::now();
            if policy.ack == AckLevel::All {
                let reach = inner.lag.reach(&raft, own);
                if let Some(decision) =
                    decide(&role.voters, own, &left_out, &reach, policy.in_sync_timeout)
                {
                    propose(&inner, role.term, &left_out, decision).await;
                }
            }
        }
    }
}

/// Who is left out from now on; `None` when nothing changes.
fn decide(
    voters: &[u64],
    own: u64,
    left_out: &BTreeSet<u64>,
    reach: &BTreeMap<u64, Reach>,
    timeout: Duration,
) -> Option<BTreeSet<u64>> {
    let late = |id: &u64| match reach.get(id) {
        // Taken in again only when it lags by clearly less.
        Some(reach) if left_out.contains(id) => {
            reach.lag >= timeout / 4 || reach.silent_for() >= timeout / 2
        }
        Some(reach) => reach.lag >= timeout || reach.silent_for() >= timeout,
        None => true,
    };
    let next: BTreeSet<u64> = voters
        .iter()
        .copied()
        .filter(|id| *id != own && late(id))
        .collect();
    (next != *left_out).then_some(next)
}

async fn propose(inner: &Arc<Inner>, term: u64, before: &BTreeSet<u64>, next: BTreeSet<u64>) {
    let value = serde_json::to_string(&next).unwrap_or_default();
    let command = Command::PutKv {
        namespace: NAMESPACE.to_owned(),
        key: LEFT_OUT.to_owned(),
        value,
    };
    match inner.decide(command, term, DECISION).await {
        Ok(()) if next.len() > before.len() => {
            tracing::warn!(left_out = ?next, "a voter lags: sends are answered without it")
        }
        Ok(()) => {
            tracing::info!(left_out = ?next, "a voter has caught up: sends wait for it again")
        }
        Err(error) => tracing::debug!(%error, "the in-sync set did not change"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(lag_ms: u64, silent_ms: u64) -> Reach {
        Reach {
            matched: 1,
            lag_messages: 0,
            lag: Duration::from_millis(lag_ms),
            contact: Some(Duration::from_millis(silent_ms)),
        }
    }

    #[test]
    fn a_voter_is_left_out_late_and_taken_in_again_with_room() {
        let second = Duration::from_secs(1);
        let decide = |left_out: &[u64], two, three| {
            let left_out = left_out.iter().copied().collect();
            let reach = BTreeMap::from([(2, two), (3, three)]);
            super::decide(&[1, 2, 3], 1, &left_out, &reach, second)
        };
        assert_eq!(decide(&[], reach(0, 50), reach(900, 50)), None);
        assert_eq!(decide(&[], reach(0, 50), reach(1000, 50)), Some([3].into()));
        assert_eq!(decide(&[], reach(0, 1500), reach(0, 50)), Some([2].into()));
        assert_eq!(decide(&[3], reach(0, 50), reach(900, 50)), None, "not yet");
        assert_eq!(decide(&[3], reach(0, 50), reach(10, 50)), Some([].into()));
    }

    #[test]
    fn waiting_sends_are_told_how_far_they_got() {
        let waiting = InSync::default();
        let told = Arc::new(Mutex::new(Vec::new()));
        let now = Instant::now();
        let wait = |index, deadline| {
            let told = told.clone();
            let done: Done = Box::new(move |r| told.lock().push((index, r.map(|s| s.short))));
            waiting.wait(index, deadline, Stored::default(), done);
        };
        let later = now + Duration::from_secs(9);
        for (index, deadline) in [(1, later), (2, later), (3, now), (4, now), (5, later)] {
            wait(index, deadline);
        }
        let before = now - Duration::from_millis(1);
        waiting.answer(Some(1), 9, false, before);
        waiting.answer(Some(2), 9, true, before);
        waiting.answer(Some(2), 3, false, now);
        assert_eq!(told.lock().len(), 4, "the last one may wait");
        waiting.answer(None, 9, false, now);
        let shorts: Vec<_> = told
            .lock()
            .drain(..)
            .map(|(i, s)| (i, s.ok().flatten()))
            .collect();
        assert_eq!(
            shorts,
            [
                (1, None),
                (2, Some(Short::SlaveNotAvailable)),
                (3, Some(Short::FlushSlaveTimeout)),
                (4, Some(Short::FlushDiskTimeout)),
                (5, Some(Short::FlushSlaveTimeout)),
            ]
        );
    }
}
