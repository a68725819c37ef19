//! Delivering delayed messages: the master's timer task.
//!
//! Delayed messages lie in SCHEDULE_TOPIC_XXXX and are in the applied state as timers. When one is due, the master
//! proposes the real message together with the timer's removal, in one entry and only in its own term: either both
//! happen or neither, and a new master starts from applied state. A timer whose proposal has no known outcome is not
//! proposed again in the same term. Bounded batches, one proposal under way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftmq_raft::{AckLevel, Placed, Proposal, ProposeError};
use raftmq_remoting::ByteStr;
use raftmq_remoting::message::{NewMessage, StoredRecord, properties as prop};
use raftmq_store::{Command, TimerKey};

use crate::broker::{Broker, now_ms};
use crate::names;
use crate::stored_properties;

/// Timers in one proposal.
const MAX_BATCH: usize = 256;

/// Bytes of messages in one proposal.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Longest sleep: the clock may be set, and a wake-up is not worth relying on for longer.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// Pause after something went wrong.
const PAUSE: Duration = Duration::from_millis(200);

/// A due timer's fate.
enum Due {
    Deliver(Box<NewMessage>),
    /// Its topic is gone, or it says no topic: nothing to deliver.
    Drop,
    /// Not now; tried again.
    Unreadable,
}

/// Delivers due timers while this replica leads; for the life of the broker.
pub async fn run(broker: Arc<Broker>) {
    let mut role = broker.replica.watch_role();
    loop {
        let (serving, term) = {
            let role = role.borrow_and_update();
            (role.serving, role.term)
        };
        if serving {
            lead(&broker, term).await;
        } else if role.changed().await.is_err() {
            return;
        }
    }
}

fn leads_in(broker: &Broker, term: u64) -> bool {
    let role = broker.replica.role();
    role.serving && role.term == term
}

/// One term of leadership.
async fn lead(broker: &Arc<Broker>, term: u64) {
    // Timers proposed in this term whose outcome is not known. The next term knows.
    let mut unknown: BTreeSet<TimerKey> = BTreeSet::new();
    while leads_in(broker, term) {
        let limit = MAX_BATCH + unknown.len();
        let state = broker.state().clone();
        let due = blocking(move || state.due_timers(now_ms(), limit)).await;
        let mut due = match due {
            Some(Ok(due)) => due,
            Some(Err(e)) => {
                tracing::error!(error = %e, "due timers cannot be read");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            None => return,
        };
        unknown.retain(|key| due.contains(key));
        due.retain(|key| !unknown.contains(key));
        due.truncate(MAX_BATCH);
        if due.is_empty() {
            sleep(broker).await;
            continue;
        }
        if !deliver(broker, term, due, &mut unknown).await {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Delivers a batch; false when a pause is due.
async fn deliver(
    broker: &Arc<Broker>,
    term: u64,
    due: Vec<TimerKey>,
    unknown: &mut BTreeSet<TimerKey>,
) -> bool {
    let shared = broker.clone();
    let Some((keys, messages, unreadable)) = blocking(move || read_batch(&shared, due)).await
    else {
        return false;
    };
    if keys.is_empty() {
        return false;
    }
    let count = messages.len() as u64;
    let proposal = Proposal {
        messages,
        commands: vec![Command::TimerDone { keys: keys.clone() }],
        ack: Some(AckLevel::Majority),
        only_term: Some(term),
        deadline: Instant::now() + broker.config.ack_timeout(),
    };
    match propose(broker, proposal).await {
        Some(Ok(_)) => {
            broker.stats.timers_delivered.increment(count);
            unreadable == 0
        }
        Some(Err(ProposeError::Unknown)) | None => {
            unknown.extend(keys);
            false
        }
        Some(Err(e)) => {
            tracing::debug!(error = %e, "due timers were not delivered, trying again");
            false
        }
    }
}

async fn propose(broker: &Broker, proposal: Proposal) -> Option<Result<Vec<Placed>, ProposeError>> {
    let (tx, rx) = tokio::sync::oneshot::channel();
    broker
        .replica
        .propose(proposal, move |result| drop(tx.send(result)));
    rx.await.ok()
}

/// Runs `work` on a blocking thread; None: it panicked or the runtime stops.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

fn read_batch(broker: &Broker, due: Vec<TimerKey>) -> (Vec<TimerKey>, Vec<NewMessage>, usize) {
    let (mut keys, mut messages) = (Vec::with_capacity(due.len()), Vec::with_capacity(due.len()));
    let (mut bytes, mut unreadable) = (0, 0);
    for key in due {
        match read(broker, &key) {
            Due::Deliver(message) => {
                let size = message.encoded_len();
                if !messages.is_empty() && bytes + size > MAX_BATCH_BYTES {
                    break;
                }
                bytes += size;
                messages.push(*message);
                keys.push(key);
            }
            Due::Drop => keys.push(key),
            Due::Unreadable => unreadable += 1,
        }
    }
    (keys, messages, unreadable)
}

fn read(broker: &Broker, key: &TimerKey) -> Due {
    let position = key.physical_offset;
    let bytes = match broker.replica.read_record_at(position) {
        Ok(bytes) => bytes,
        Err(e) => {
            tracing::error!(position, error = %e, "a delayed message cannot be read");
            return Due::Unreadable;
        }
    };
    match StoredRecord::parse(&bytes) {
        Ok(record) => restore(broker, &bytes, &record),
        Err(e) => {
            tracing::error!(position, error = %e, "a delayed message cannot be decoded");
            Due::Unreadable
        }
    }
}

/// The message as its sender meant it.
fn restore(broker: &Broker, bytes: &Bytes, record: &StoredRecord<'_>) -> Due {
    let queue: Option<i32> = record.property(prop::REAL_QID).and_then(|q| q.parse().ok());
    let (Some(topic), Some(queue_id)) = (record.property(prop::REAL_TOPIC), queue) else {
        tracing::error!(
            position = record.physical_offset(),
            "a delayed message names no topic or queue; dropped"
        );
        return Due::Drop;
    };
    if broker.state().topic(topic).is_none() || topic == names::SCHEDULE {
        tracing::warn!(
            topic,
            position = record.physical_offset(),
            "the topic of a delayed message is gone; dropped"
        );
        return Due::Drop;
    }
    Due::Deliver(Box::new(NewMessage {
        topic: ByteStr::from(topic),
        queue_id: queue_id.max(0),
        flag: record.flag(),
        sys_flag: record.sys_flag(),
        born_timestamp: record.born_timestamp(),
        born_host: record.born_host(),
        store_host: broker.store_host,
        reconsume_times: record.reconsume_times(),
        prepared_transaction_offset: record.prepared_transaction_offset(),
        body_crc: record.body_crc(),
        body: bytes.slice_ref(record.body()),
        properties: stored_properties::rebuild(
            record.properties(),
            &[prop::DELAY, prop::TIMER_OUT_MS],
            &[],
        ),
    }))
}

/// Sleeps until the next timer is due or the timers change.
async fn sleep(broker: &Arc<Broker>) {
    let changed = broker.signals.timers.notified();
    let state = broker.state().clone();
    let next = blocking(move || state.next_timer_ms()).await;
    let wait = match next {
        Some(Ok(Some(at))) => {
            Duration::from_millis(at.saturating_sub(now_ms()).max(1) as u64).min(MAX_SLEEP)
        }
        _ => MAX_SLEEP,
    };
    tokio::select! {
        () = changed => {}
        () = tokio::time::sleep(wait) => {}
    }
}
