//! Delayed messages outlive the log they were written to: before the log gives up a part, the pending timers in it are
//! written again at its end.
//!
//! The same stored message goes to its topic once more, with its time, and the old timer is removed, in one entry
//! and only in the master's own term, as a delivery is ([`crate::timer`]): one of the two pends at any moment. Consumers
//! see nothing of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftmq_raft::ProposeError;
use raftmq_remoting::message::StoredRecord;
use raftmq_store::TimerKey;

use crate::broker::Broker;
use crate::timer::{self, Claims, Due, MAX_BATCH, blocking};

/// Deliveries wait while timers are moved: no longer than this at a time.
const HOLD: Duration = Duration::from_millis(300);

/// How a round of moving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// No timer is left below.
    All,
    /// Some were moved, more are left.
    Some,
    /// Nothing can be moved now.
    Nothing,
}

/// Moves every pending timer before `position`; false when some are left and have to be tried again later.
pub async fn move_all(broker: &Arc<Broker>, term: u64, position: u64) -> bool {
    loop {
        match move_some(broker, term, position).await {
            Moved::All => return true,
            Moved::Some => tokio::task::yield_now().await,
            Moved::Nothing => return false,
        }
    }
}

/// Pending timers that hold the log before `position`: those whose message is still there.
pub async fn pending_before(broker: &Arc<Broker>, position: u64) -> Option<BTreeSet<TimerKey>> {
    let state = broker.state().clone();
    let start = broker.replica.log_range().0;
    let found = blocking(move || state.timers_before(position)).await?;
    match found {
        Ok(keys) => Some(
            keys.into_iter()
                .filter(|key| key.physical_offset >= start)
                .collect(),
        ),
        Err(e) => {
            tracing::error!(error = %e, "pending timers cannot be read");
            None
        }
    }
}

async fn move_some(broker: &Arc<Broker>, term: u64, position: u64) -> Moved {
    let mut claims = broker.timers.lock().await;
    claims.enter(term);
    let Some(pending) = pending_before(broker, position).await else {
        return Moved::Nothing;
    };
    claims.settle_before(position, &pending);
    if pending.is_empty() {
        return Moved::All;
    }
    let mut left: Vec<TimerKey> = pending
        .into_iter()
        .filter(|key| !claims.is_unknown(key))
        .collect();
    let since = Instant::now();
    let mut moved = 0;
    while !left.is_empty() && since.elapsed() < HOLD {
        let batch: Vec<TimerKey> = left.iter().take(MAX_BATCH).copied().collect();
        let Some(done) = move_batch(broker, term, batch, &mut claims).await else {
            break;
        };
        moved += done.len();
        left.retain(|key| !done.contains(key));
    }
    match moved {
        0 => Moved::Nothing,
        count => {
            tracing::info!(
                count,
                position,
                "pending timers were moved to the log's end"
            );
            Moved::Some
        }
    }
}

/// Moves one proposal's worth; which ones. `None` when none could be.
async fn move_batch(
    broker: &Arc<Broker>,
    term: u64,
    timers: Vec<TimerKey>,
    claims: &mut Claims,
) -> Option<BTreeSet<TimerKey>> {
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
