//! Delayed messages outlive the log they were written to: before the log gives up a part, the pending timers in it are
//! written again at its end.
//!
//! The same stored message goes to its topic once more, with its time, and the old timer is removed, in one entry
//! and only in the master's own term, as a delivery is ([`crate::timer`]): one of the two pends at any moment. Consumers
//! see nothing of it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftmq_raft::ProposeError;
use raftmq_remoting::message::StoredRecord;
use raftmq_store::TimerKey;

use crate::broker::Broker;
use crate::timer::{self, Claims, Due, MAX_BATCH, blocking};

/// Deliveries wait while timers are moved: no longer than this at a time.
const HOLD: Duration = Duration::from_millis(40);

/// Moves every pending timer before `position`; false when some are left and have to be tried again later.
pub async fn move_all(broker: &Arc<Broker>, term: u64, position: u64) -> bool {
    loop {
        let Some(pending) = pending_before(broker, position).await else {
            return false;
        };
        if pending.is_empty() {
            return true;
        }
        let count = pending.len();
        let moved = move_these(broker, term, pending).await;
        if moved > 0 {
            tracing::info!(
                moved,
                position,
                "pending timers were moved to the log's end"
            );
        }
        if moved < count {
            return false;
        }
    }
}

/// Pending timers that hold the log before `position`, the first in the log first. Those before this replica's own start
/// count: another replica may hold their messages, and would give them up with the log.
pub async fn pending_before(broker: &Arc<Broker>, position: u64) -> Option<Vec<TimerKey>> {
    let state = broker.state().clone();
    let found = blocking(move || {
        let mut keys = state.timers().before(position)?;
        keys.sort_unstable_by_key(|key| key.physical_offset);
        Ok::<_, raftmq_store::StoreError>(keys)
    });
    match found.await? {
        Ok(keys) => Some(keys),
        Err(e) => {
            tracing::error!(error = %e, "pending timers cannot be read");
            None
        }
    }
}

/// How many of these are moved or not pending any more; it ends early when something goes wrong.
async fn move_these(broker: &Arc<Broker>, term: u64, timers: Vec<TimerKey>) -> usize {
    let mut left = VecDeque::from(timers);
    let mut moved = 0;
    while !left.is_empty() {
        let mut claims = broker.timers.lock().await;
        if !claims.enter(term) {
            return moved;
        }
        let Some(pending) = still_pending(broker, claims.all()).await else {
            return moved;
        };
        claims.settle(pending);
        let since = Instant::now();
        while !left.is_empty() && since.elapsed() < HOLD {
            let batch: Vec<_> = left.drain(..left.len().min(MAX_BATCH)).collect();
            let taken = batch.len();
            let Some(mut pending) = still_pending(broker, batch).await else {
                return moved;
            };
            let gone = taken - pending.len();
            pending.retain(|key| !claims.is_unknown(key));
            if pending.is_empty() {
                moved += gone;
                continue;
            }
            let Some(done) = move_batch(broker, term, pending.clone(), &mut claims).await else {
                return moved + gone;
            };
            moved += gone + done.len();
            // What did not fit into one proposal is next.
            let rest = pending.iter().rev().filter(|key| !done.contains(key));
            rest.for_each(|key| left.push_front(*key));
        }
    }
    moved
}

async fn still_pending(broker: &Arc<Broker>, keys: Vec<TimerKey>) -> Option<Vec<TimerKey>> {
    let state = broker.state().clone();
    blocking(move || state.timers().still_pending(keys).ok())
        .await
        .flatten()
}

/// Moves one proposal's worth; which ones. `None` when none could be.
async fn move_batch(
    broker: &Arc<Broker>,
    term: u64,
    timers: Vec<TimerKey>,
    claims: &mut Claims,
) -> Option<HashSet<TimerKey>> {
    let shared = broker.clone();
    let batch = blocking(move || timer::read_batch(&shared, timers, again)).await?;
    if batch.keys.is_empty() {
        return None;
    }
    let (keys, proposal) = batch.proposal(broker, term);
    match timer::propose_to_make_room(broker, proposal).await {
        Some(Ok(_)) => Some(keys.into_iter().collect()),
        Some(Err(ProposeError::Unknown)) | None => {
            claims.add_unknown(keys);
            None
        }
        Some(Err(e)) => {
            tracing::debug!(error = %e, "pending timers were not moved, trying again");
            None
        }
    }
}

/// The message as it is stored.
fn again(broker: &Broker, bytes: &Bytes, record: &StoredRecord<'_>) -> Due {
    let properties = bytes.slice_ref(record.properties());
    let target = (record.topic(), record.queue_id());
    Due::Deliver(Box::new(timer::copy(
        broker, bytes, record, target, properties,
    )))
}
