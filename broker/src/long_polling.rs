//! Held pulls: RocketMQ's long polling.
//!
//! A pull that finds nothing waits here, keyed by topic and queue, until a message arrives that its tag filter may match
//! (told by the apply path), its time is over, or this replica stops leading. A look-up on the apply path costs one atomic
//! read when nothing is held. Woken pulls are run by one task, never on the apply path. Every [`RECHECK`] a held pull
//! whose queue has grown is run again, which moves its offset over messages its filter does not want.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ahash::RandomState;
use parking_lot::Mutex;
use raftmq_raft::Arrived;
use raftmq_remoting::ByteStr;
use raftmq_remoting::codes::response;
use tokio::sync::Notify;

use crate::broker::Broker;
use crate::call::Call;
use crate::pull::{self, Pull};

/// Pulls held at once. A refused one comes again after a second.
const MAX_HELD: usize = 200_000;
/// Bytes that held pulls may take; each is about a KiB.
const MAX_HELD_BYTES: usize = 64 << 20;

/// Locks the held pulls are spread over, so that applying and pulling rarely meet.
const SHARDS: usize = 64;

/// How often time-outs are looked for: the error of a hold's length.
const TICK: Duration = Duration::from_millis(50);
/// The same while no pull is held; below [`LEASE_GRACE`].
const IDLE_TICK: Duration = Duration::from_millis(100);

/// How often all held pulls are compared with their queues, as in RocketMQ.
pub const RECHECK: Duration = Duration::from_secs(5);

/// How long the lease may be away before held pulls are released: longer than a busy moment, shorter than an election.
const LEASE_GRACE: Duration = Duration::from_millis(200);

/// A waiting pull.
pub struct Held {
    pub call: Call,
    pub pull: Pull,
    pub until: Instant,
}

impl Held {
    fn bytes(&self) -> usize {
        std::mem::size_of::<Self>() + self.call.charged()
    }
}

struct Woken {
    held: Held,
    /// Its time is over: answer whatever there is.
    last: bool,
}

type Key = (ByteStr, i32);

/// All held pulls of this replica.
pub struct HeldPulls {
    shards: Vec<Mutex<HashMap<Key, Vec<Held>, RandomState>>>,
    hasher: RandomState,
    count: AtomicUsize,
    bytes: AtomicUsize,
    woken: Mutex<Vec<Woken>>,
    wake: Notify,
}

impl Default for HeldPulls {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            woken: Mutex::default(),
            wake: Notify::new(),
        }
    }
}

impl HeldPulls {
    fn shard(&self, key: &Key) -> &Mutex<HashMap<Key, Vec<Held>, RandomState>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// Number of held pulls.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Holds a pull. A message that arrives between its read and this call wakes it at once.
    pub fn hold(&self, broker: &Arc<Broker>, held: Held) {
        let bytes = held.bytes();
        let count = self.count.fetch_add(1, Ordering::AcqRel);
        let all = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        if count >= MAX_HELD || all + bytes > MAX_HELD_BYTES {
            self.let_go(1, bytes);
            return held.call.error(
                response::SYSTEM_BUSY,
                "[OVERLOAD]too many pulls are held, start flow control",
            );
        }
        let key: Key = (held.pull.header.topic.clone(), held.pull.header.queue_id);
        let offset = held.pull.header.queue_offset;
        self.shard(&key)
            .lock()
            .entry(key.clone())
            .or_default()
            .push(held);
        let arrived = broker
            .replica
            .queue_range(&key.0, key.1)
            .is_some_and(|(_, max)| max > offset);
        if arrived || !broker.leads() {
            self.wake_where(&key, |_| true);
        }
    }

    /// So many are not held any more.
    fn let_go(&self, count: usize, bytes: usize) {
        self.count.fetch_sub(count, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Wakes whoever waits for one of these messages. Runs on a raft thread.
    pub fn arrived(&self, messages: &[Arrived]) {
        if self.is_empty() {
            return;
        }
        for message in messages {
            let key = (message.topic.clone(), message.queue_id);
            self.wake_where(&key, |held| held.pull.filter.may_match(message.tags_code));
        }
    }

    /// Wakes what a group waits for in a queue whose offset was reset.
    pub fn wake_group(&self, topic: &str, queue_id: i32, group: &str) {
        if !self.is_empty() {
            let key = (ByteStr::from(topic), queue_id);
            self.wake_where(&key, |h| h.pull.header.consumer_group.as_str() == group);
        }
    }

    fn wake_where(&self, key: &Key, wanted: impl Fn(&Held) -> bool) {
        let mut shard = self.shard(key).lock();
        let Some(waiting) = shard.get_mut(key) else {
            return;
        };
        let woken: Vec<Held> = waiting.extract_if(.., |held| wanted(held)).collect();
        if waiting.is_empty() {
            shard.remove(key);
        }
        drop(shard);
        self.run_later(
            woken
                .into_iter()
                .map(|held| Woken { held, last: false })
                .collect(),
        );
    }

    fn run_later(&self, woken: Vec<Woken>) {
        if woken.is_empty() {
            return;
        }
        self.let_go(woken.len(), woken.iter().map(|w| w.held.bytes()).sum());
        self.woken.lock().extend(woken);
        self.wake.notify_one();
    }

    /// Takes out what `take` says; None keeps a pull, `Some(last)` runs it.
    fn sweep(&self, take: impl Fn(&Key, &Held) -> Option<bool>) {
        for shard in &self.shards {
            let mut woken = Vec::new();
            let (mut gone, mut gone_bytes) = (0, 0);
            shard.lock().retain(|key, waiting| {
                let mut kept = Vec::with_capacity(waiting.len());
                for held in waiting.drain(..) {
                    if held.call.channel().is_closed() {
                        gone += 1;
                        gone_bytes += held.bytes();
                        continue;
                    }
                    match take(key, &held) {
                        None => kept.push(held),
                        Some(last) => woken.push(Woken { held, last }),
                    }
                }
                *waiting = kept;
                !waiting.is_empty()
            });
            self.let_go(gone, gone_bytes);
            self.run_later(woken);
        }
    }

    /// Answers every held pull: this replica does not lead any more.
    fn release_all(&self, broker: &Broker) {
        for shard in &self.shards {
            let waiting: Vec<Held> = shard
                .lock()
                .drain()
                .flat_map(|(_, waiting)| waiting)
                .collect();
            self.let_go(waiting.len(), waiting.iter().map(Held::bytes).sum());
            for held in waiting {
                let h = &held.pull.header;
                let range = broker
                    .replica
                    .queue_range(&h.topic, h.queue_id)
                    .unwrap_or((0, 0));
                pull::release(held.call, &held.pull, range);
            }
        }
    }
}

/// Runs woken pulls; for the life of the broker.
pub async fn run_woken(broker: Arc<Broker>) {
    let held = &broker.signals.held;
    loop {
        held.wake.notified().await;
        let woken = std::mem::take(&mut *held.woken.lock());
        for Woken { held, last } in woken {
            if held.call.channel().is_closed() {
                continue;
            }
            let may_hold = !last && Instant::now() < held.until;
            rerun(&broker, held, may_hold);
        }
    }
}

/// Runs a pull again; it keeps the end of its hold.
fn rerun(broker: &Arc<Broker>, held: Held, may_hold: bool) {
    let Held {
        call,
        mut pull,
        until,
    } = held;
    if !broker.leads() {
        let h = &pull.header;
        let range = broker
            .replica
            .queue_range(&h.topic, h.queue_id)
            .unwrap_or((0, 0));
        return pull::release(call, &pull, range);
    }
    // What is left of the hold, so that a spurious wake does not make it longer.
    let left = until.saturating_duration_since(Instant::now());
    pull.header.suspend_timeout_millis = left.as_millis() as i64;
    pull::run(broker, call, pull, may_hold);
}

/// Looks for time-outs, grown queues and lost leadership; for the life of the broker.
pub async fn watch(broker: Arc<Broker>) {
    let held = &broker.signals.held;
    let mut role = broker.replica.watch_role();
    let mut last_check = Instant::now();
    let mut last_lease = Instant::now();
    loop {
        // With nothing held, only that the lease was there is noted.
        let tick = if held.is_empty() { IDLE_TICK } else { TICK };
        tokio::select! {
            changed = role.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(tick) => {}
        }
        let now = Instant::now();
        if broker.replica.is_serving() {
            last_lease = now;
        }
        if held.is_empty() {
            continue;
        }
        // Without its lease a master may have been replaced by one it cannot hear of.
        if !role.borrow_and_update().serving || now.duration_since(last_lease) > LEASE_GRACE {
            held.release_all(&broker);
            continue;
        }
        let check = now.duration_since(last_check) >= RECHECK;
        if check {
            last_check = now;
        }
        held.sweep(|(topic, queue), held| {
            if now >= held.until {
                return Some(true);
            }
            let grown = || {
                let max = broker
                    .replica
                    .queue_range(topic, *queue)
                    .map_or(0, |(_, max)| max);
                max > held.pull.header.queue_offset
            };
            (check && grown()).then_some(false)
        });
    }
}
