//! Delivering delayed messages: the master's timer task.
//!
//! Delayed messages lie in SCHEDULE_TOPIC_XXXX, those of arbitrary times in rmq_sys_wheel_timer, and are in the applied state as timers. When one is due, the master
//! proposes the real message together with the timer's removal, in one entry and only in its own term: either both
//! happen or neither, and a new master starts from applied state. A timer whose proposal has no known outcome is not
//! proposed again in the same term. Bounded batches, one proposal under way: who takes timers, to deliver them or to move
//! them ([`crate::timer_moves`]), holds [`Claims`] meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftmq_raft::{AckLevel, Proposal, ProposeError, Stored};
use raftmq_remoting::ByteStr;
use raftmq_remoting::message::{NewMessage, StoredRecord, properties as prop};
use raftmq_store::{Command, TimerKey, storable};

use crate::broker::{Broker, now_ms};
use crate::names;
use crate::stored_properties;

/// Timers in one proposal.
pub const MAX_BATCH: usize = 256;

/// Bytes of messages in one proposal.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Longest sleep: the clock may be set, and a wake-up is not worth relying on for longer.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// Pause after something went wrong.
const PAUSE: Duration = Duration::from_millis(200);

/// So long a timer whose message could not be read is stepped over: others are due behind it.
const STEP_OVER: Duration = Duration::from_secs(5);

/// Timers stepped over at most; more of them wait in front of the others.
const MAX_STEPPED_OVER: usize = 100_000;

/// Pause when all that is due is claimed: others may be due soon.
const CLAIMED_PAUSE: Duration = Duration::from_millis(20);

/// Timers whose proposal in this term has no known outcome (the next term knows), and those that are being taken back. Its lock is held from the
/// moment timers are read until the outcome of their proposal, so that none is taken twice.
#[derive(Default)]
pub struct Claims {
    term: u64,
    unknown: BTreeSet<TimerKey>,
    /// Timers whose message could not be read, and when that was.
    unreadable: BTreeMap<TimerKey, Instant>,
}

impl Claims {
    /// To be called first, with the lock just taken. False: a later term has begun.
    #[must_use]
    pub fn enter(&mut self, term: u64) -> bool {
        if self.term < term {
            self.term = term;
            self.unknown.clear();
            self.unreadable.clear();
        }
        self.term == term
    }

    pub fn is_unknown(&self, key: &TimerKey) -> bool {
        self.unknown.contains(key)
    }

    /// Steps over timers that could not be read, for a while.
    fn step_over(&mut self, keys: Vec<TimerKey>) {
        let room = MAX_STEPPED_OVER.saturating_sub(self.unreadable.len());
        let now = Instant::now();
        self.unreadable
            .extend(keys.into_iter().take(room).map(|key| (key, now)));
    }

    /// Those stepped over, without the ones to be tried again now.
    fn stepped_over(&mut self) -> usize {
        self.unreadable.retain(|_, at| at.elapsed() < STEP_OVER);
        self.unreadable.len()
    }

    pub fn add_unknown(&mut self, keys: Vec<TimerKey>) {
        self.unknown.extend(keys);
    }

    /// Gives up timers that were added in this term: their proposal had an outcome.
    pub fn release(&mut self, term: u64, keys: &[TimerKey]) {
        if self.term == term {
            self.unknown.retain(|key| !keys.contains(key));
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<TimerKey> {
        self.unknown.iter().copied().collect()
    }

    /// Forgets those of [`Self::all`] that are not among `pending`.
    pub fn settle(&mut self, pending: Vec<TimerKey>) {
        self.unknown = pending.into_iter().collect();
    }

    /// Forgets what is no longer pending among those due: `due` are the first `limit` of them.
    fn settle_due(&mut self, due: &[TimerKey], now_ms: i64, limit: usize) {
        let last = due.last().copied();
        self.unknown.retain(|key| {
            let seen = due.len() < limit || last.is_some_and(|last| *key <= last);
            key.deliver_at_ms > now_ms || !seen || due.contains(key)
        });
    }
}

/// A due timer's fate.
pub enum Due {
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
    while leads_in(broker, term) {
        let mut claims = broker.timers.lock().await;
        if !claims.enter(term) {
            return;
        }
        let limit = MAX_BATCH + claims.unknown.len() + claims.stepped_over();
        let now = now_ms();
        let state = broker.state().clone();
        let due = blocking(move || state.timers().due(now, limit)).await;
        let mut due = match due {
            Some(Ok(due)) => due,
            Some(Err(e)) => {
                tracing::error!(error = %e, "due timers cannot be read");
                drop(claims);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            None => return,
        };
        claims.settle_due(&due, now, limit);
        let found = due.len();
        due.retain(|key| !claims.is_unknown(key) && !claims.unreadable.contains_key(key));
        due.truncate(MAX_BATCH);
        let delivered = match due.is_empty() {
            true => None,
            false => Some(deliver(broker, term, due, &mut claims).await),
        };
        let stepped_over = claims.unreadable.len();
        drop(claims);
        match delivered {
            Some(true) => {}
            None if found == 0 => sleep(broker).await,
            // Only what cannot be read is due.
            None if found <= stepped_over => tokio::time::sleep(PAUSE).await,
            // What is being taken back is gone in a moment.
            None => tokio::time::sleep(CLAIMED_PAUSE).await,
            Some(false) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Delivers a batch; false when a pause is due.
async fn deliver(broker: &Arc<Broker>, term: u64, due: Vec<TimerKey>, claims: &mut Claims) -> bool {
    let shared = broker.clone();
    let Some(mut batch) = blocking(move || read_batch(&shared, due, restore)).await else {
        return false;
    };
    let unreadable = std::mem::take(&mut batch.unreadable);
    let all_unreadable = batch.keys.is_empty() && !unreadable.is_empty();
    claims.step_over(unreadable);
    if batch.keys.is_empty() {
        // On with what is due behind them, at once.
        return all_unreadable;
    }
    let count = batch.messages.len() as u64;
    let (keys, proposal) = batch.proposal(broker, term);
    match propose(broker, proposal).await {
        Some(Ok(_)) => {
            broker.stats.timers_delivered(count);
            true
        }
        Some(Err(ProposeError::Unknown)) | None => {
            claims.add_unknown(keys);
            false
        }
        Some(Err(e)) => {
            tracing::debug!(error = %e, "due timers were not delivered, trying again");
            false
        }
    }
}

/// What is done with a proposal's outcome.
pub type Proposed = Box<dyn FnOnce(Result<Stored, ProposeError>) + Send>;

/// Proposes and waits for the outcome; None: the replica has ended.
pub async fn propose(broker: &Broker, proposal: Proposal) -> Option<Result<Stored, ProposeError>> {
    let (tx, rx) = tokio::sync::oneshot::channel();
    broker
        .replica
        .propose(proposal, move |result| drop(tx.send(result)));
    rx.await.ok()
}

/// As [`propose`], for timers that hold the log: also when the disk is too full for other messages.
pub async fn propose_to_make_room(
    broker: &Broker,
    proposal: Proposal,
) -> Option<Result<Stored, ProposeError>> {
    let (tx, rx) = tokio::sync::oneshot::channel();
    let done = Box::new(move |result| drop(tx.send(result)));
    broker
        .retention
        .propose_to_make_room(broker, proposal, done);
    rx.await.ok()
}

/// Runs `work` on a blocking thread; None: it panicked or the runtime stops.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// Timers that are taken together.
#[derive(Default)]
pub struct Batch {
    pub keys: Vec<TimerKey>,
    /// What is stored in their stead.
    pub messages: Vec<NewMessage>,
    /// Timers whose message cannot be read now.
    pub unreadable: Vec<TimerKey>,
}

impl Batch {
    /// The timers, and the one entry that ends them: in this term or not at all.
    pub fn proposal(self, broker: &Broker, term: u64) -> (Vec<TimerKey>, Proposal) {
        let keys = self.keys.clone();
        let proposal = Proposal {
            messages: self.messages,
            commands: vec![Command::TimerDone { keys: self.keys }],
            ack: Some(AckLevel::Majority),
            only_term: Some(term),
            deadline: Instant::now() + broker.config().ack_timeout(),
        };
        (keys, proposal)
    }
}

/// Reads the messages of as many of these timers as fit into one proposal; `make` says what becomes of each.
pub fn read_batch(
    broker: &Broker,
    timers: Vec<TimerKey>,
    make: impl Fn(&Broker, &Bytes, &StoredRecord<'_>) -> Due,
) -> Batch {
    // An entry lies within one segment.
    let most = MAX_BATCH_BYTES.min(broker.config().segment_size as usize / 2);
    let mut batch = Batch::default();
    let mut bytes = 0;
    for key in timers {
        match read(broker, &key, &make) {
            Due::Deliver(message) => {
                let size = message.encoded_len();
                if !batch.messages.is_empty() && bytes + size > most {
                    break;
                }
                bytes += size;
                batch.messages.push(*message);
                batch.keys.push(key);
            }
            Due::Drop => batch.keys.push(key),
            Due::Unreadable => batch.unreadable.push(key),
        }
    }
    batch
}

fn read(
    broker: &Broker,
    key: &TimerKey,
    make: impl Fn(&Broker, &Bytes, &StoredRecord<'_>) -> Due,
) -> Due {
    let position = key.physical_offset;
    let bytes = match broker.replica.read_record_at(position) {
        Ok(bytes) => bytes,
        Err(e) => {
            tracing::error!(position, error = %e, "a delayed message cannot be read");
            return Due::Unreadable;
        }
    };
    match StoredRecord::parse(&bytes) {
        Ok(record) => make(broker, &bytes, &record),
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
    if broker.state().topic(topic).is_none() || names::forbidden_to_send(topic) {
        tracing::warn!(
            topic,
            position = record.physical_offset(),
            "the topic of a delayed message is gone; dropped"
        );
        return Due::Drop;
    }
    let dropped = [prop::DELAY, prop::TIMER_OUT_MS];
    let properties = stored_properties::rebuild(record.properties(), &dropped, &[]);
    let target = (topic, queue_id.max(0));
    let message = copy(broker, bytes, record, target, properties);
    // One that is refused would hold up all that are proposed with it.
    match storable::message(&message, broker.state().set_version()) {
        Ok(()) => Due::Deliver(Box::new(message)),
        Err(error) => {
            tracing::error!(%error, "a delayed message waits");
            Due::Unreadable
        }
    }
}

/// A stored message once more, for another queue and with these properties.
pub fn copy(
    broker: &Broker,
    bytes: &Bytes,
    record: &StoredRecord<'_>,
    (topic, queue_id): (&str, i32),
    properties: Bytes,
) -> NewMessage {
    NewMessage {
        topic: ByteStr::from(topic),
        queue_id,
        flag: record.flag(),
        sys_flag: record.sys_flag(),
        born_timestamp: record.born_timestamp(),
        born_host: record.born_host(),
        store_host: broker.store_host,
        reconsume_times: record.reconsume_times(),
        prepared_transaction_offset: record.prepared_transaction_offset(),
        body_crc: record.body_crc(),
        body: bytes.slice_ref(record.body()),
        properties,
    }
}

/// Sleeps until the next timer is due or the timers change.
async fn sleep(broker: &Arc<Broker>) {
    let changed = broker.signals.timers.notified();
    let state = broker.state().clone();
    let next = blocking(move || state.timers().next_ms()).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn key(at: i64) -> TimerKey {
        TimerKey {
            deliver_at_ms: at,
            physical_offset: at * 10,
        }
    }

    #[test]
    fn an_unknown_outcome_is_kept_until_the_timer_is_seen_gone() {
        let mut claims = Claims::default();
        assert!(claims.enter(3));
        claims.add_unknown(vec![key(1), key(2), key(5), key(9)]);
        // 1 is gone, 2 pends, 5 is beyond what was looked at, 9 is not due.
        claims.settle_due(&[key(2), key(3)], 8, 2);
        assert_eq!(
            [1, 2, 5, 9].map(|n| claims.is_unknown(&key(n))),
            [false, true, true, true]
        );
        // With room left in the answer, all that is due was looked at.
        claims.settle_due(&[key(2), key(3)], 8, 4);
        assert!(!claims.is_unknown(&key(5)) && claims.is_unknown(&key(9)));
        assert_eq!(claims.all(), [key(2), key(9)]);
        claims.settle(vec![key(9)]);
        assert!(!claims.is_unknown(&key(2)) && claims.is_unknown(&key(9)));
        assert!(claims.enter(3) && claims.is_unknown(&key(9)));
        claims.add_unknown(vec![key(7)]);
        claims.release(3, &[key(7)]);
        assert!(!claims.is_unknown(&key(7)) && claims.is_unknown(&key(9)));
        assert!(claims.enter(4));
        assert!(!claims.is_unknown(&key(9)), "the next term knows");
        claims.add_unknown(vec![key(9)]);
        assert!(!claims.enter(3), "too late");
        claims.release(3, &[key(9)]);
        assert!(claims.is_unknown(&key(9)));
    }
}
