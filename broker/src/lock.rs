//! Queue locks of orderly consumers: LOCK_BATCH_MQ (41) and UNLOCK_BATCH_MQ (42).
//!
//! Soft state of the master: a client renews every 20 s what lives [`LOCK_LIFE`]. A new master knows no locks and grants
//! them anew, as RocketMQ's does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftmq_remoting::body::{LockBatchRequestBody, LockBatchResponseBody, MessageQueue};
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::json::{self, Limits};

use crate::broker::Broker;
use crate::call::Call;
use crate::names;

/// Life of a lock that is not renewed, as in RocketMQ.
pub const LOCK_LIFE: Duration = Duration::from_secs(60);

/// Locks kept at once; far more than the queues of any set.
const MAX_LOCKS: usize = 200_000;
/// Bytes that locks may take, roughly.
const MAX_BYTES: usize = 32 << 20;
/// Of a lock beyond the name of its topic.
const LOCK_BYTES: usize = 160;

struct Owner {
    /// Shared by all locks of one request.
    client_id: Arc<str>,
    renewed: Instant,
}

impl Owner {
    fn expired(&self, now: Instant) -> bool {
        now.duration_since(self.renewed) > LOCK_LIFE
    }
}

#[derive(Default)]
struct Table {
    groups: HashMap<String, HashMap<(String, i32), Owner>>,
    locks: usize,
    bytes: usize,
}

fn bytes_of(topic: &str) -> usize {
    LOCK_BYTES + topic.len()
}

/// All locks of this master.
#[derive(Default)]
pub struct QueueLocks {
    table: Mutex<Table>,
}

impl QueueLocks {
    /// Grants what nobody else holds; returns the granted queues.
    fn lock(
        &self,
        group: &str,
        client_id: &str,
        queues: Vec<MessageQueue>,
        now: Instant,
    ) -> Vec<MessageQueue> {
        let client_id: Arc<str> = client_id.into();
        let mut table = self.table.lock();
        let Table {
            groups,
            locks,
            bytes,
        } = &mut *table;
        let owners = groups.entry(group.to_owned()).or_default();
        let granted = queues.into_iter().filter(|queue| {
            let key = (queue.topic.clone(), queue.queue_id);
            match owners.get_mut(&key) {
                Some(owner) if owner.client_id == client_id || owner.expired(now) => {
                    *owner = Owner {
                        client_id: client_id.clone(),
                        renewed: now,
                    };
                    true
                }
                Some(_) => false,
                None if *locks >= MAX_LOCKS || *bytes >= MAX_BYTES => false,
                None => {
                    *bytes += bytes_of(&key.0);
                    owners.insert(
                        key,
                        Owner {
                            client_id: client_id.clone(),
                            renewed: now,
                        },
                    );
                    *locks += 1;
                    true
                }
            }
        });
        granted.collect()
    }

    fn unlock(&self, group: &str, client_id: &str, queues: &[MessageQueue]) {
        let mut table = self.table.lock();
        let Table {
            groups,
            locks,
            bytes,
        } = &mut *table;
        let Some(owners) = groups.get_mut(group) else {
            return;
        };
        for queue in queues {
            let key = (queue.topic.clone(), queue.queue_id);
            if owners
                .get(&key)
                .is_some_and(|owner| *owner.client_id == *client_id)
            {
                owners.remove(&key);
                *locks -= 1;
                *bytes -= bytes_of(&key.0);
            }
        }
        if owners.is_empty() {
            groups.remove(group);
        }
    }

    /// Whether anybody of the group holds a queue: its messages are consumed in order.
    pub fn any_held(&self, group: &str, now: Instant) -> bool {
        let table = self.table.lock();
        let owners = table.groups.get(group);
        owners.is_some_and(|owners| owners.values().any(|owner| !owner.expired(now)))
    }

    /// Forgets expired locks.
    pub fn expire(&self, now: Instant) {
        let mut table = self.table.lock();
        table.groups.retain(|_, owners| {
            owners.retain(|_, owner| !owner.expired(now));
            !owners.is_empty()
        });
        table.locks = table.groups.values().map(HashMap::len).sum();
        let keys = table.groups.values().flat_map(HashMap::keys);
        table.bytes = keys.map(|(topic, _)| bytes_of(topic)).sum();
    }

    /// Forgets all locks: this replica stopped leading, and clients renew with the new master.
    pub fn clear(&self) {
        *self.table.lock() = Table::default();
    }
}

/// What of a request is no name.
fn check_names(body: &LockBatchRequestBody) -> Result<(), String> {
    let bad = |what| Err(names::bad_text(what));
    if !names::is_text(&body.client_id) {
        return bad("clientId");
    }
    if !names::is_text(&body.consumer_group) {
        return bad("consumerGroup");
    }
    match body.mq_set.iter().all(|q| names::is_text(&q.topic)) {
        true => Ok(()),
        false => bad("topic"),
    }
}

/// LOCK_BATCH_MQ.
pub fn lock(broker: &Arc<Broker>, call: Call) {
    let bytes = call.cmd.body.to_bytes();
    let body: LockBatchRequestBody = match json::from_request(&bytes, Limits::REQUEST) {
        Ok(body) => body,
        Err(e) => {
            return call.error(
                response::SYSTEM_ERROR,
                format!("the lock request cannot be read: {e}"),
            );
        }
    };
    if !broker.replica.is_serving() {
        return broker.room.wait(broker, call);
    }
    if body.consumer_group.is_empty() || body.client_id.is_empty() {
        return call.error(
            response::SYSTEM_ERROR,
            "the lock request names no consumerGroup or no clientId",
        );
    }
    if let Err(remark) = check_names(&body) {
        return call.error(response::SYSTEM_ERROR, remark);
    }
    let granted = broker.locks.lock(
        &body.consumer_group,
        &body.client_id,
        body.mq_set,
        Instant::now(),
    );
    let body = LockBatchResponseBody {
        lock_ok_mq_set: granted,
    };
    call.reply(RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&body)));
}

/// UNLOCK_BATCH_MQ.
pub fn unlock(broker: &Arc<Broker>, call: Call) {
    let bytes = call.cmd.body.to_bytes();
    let body: LockBatchRequestBody = match json::from_request(&bytes, Limits::REQUEST) {
        Ok(body) => body,
        Err(e) => {
            return call.error(
                response::SYSTEM_ERROR,
                format!("the unlock request cannot be read: {e}"),
            );
        }
    };
    broker
        .locks
        .unlock(&body.consumer_group, &body.client_id, &body.mq_set);
    call.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(id: i32) -> MessageQueue {
        MessageQueue::new("T", "b", id)
    }

    #[test]
    fn one_owner_until_expiry() {
        let locks = QueueLocks::default();
        let t0 = Instant::now();
        assert_eq!(locks.lock("G", "c1", vec![queue(0), queue(1)], t0).len(), 2);
        assert_eq!(
            locks.lock("G", "c2", vec![queue(0), queue(2)], t0),
            vec![queue(2)]
        );
        assert_eq!(
            locks.lock("H", "c2", vec![queue(0)], t0).len(),
            1,
            "groups do not share locks"
        );
        assert_eq!(
            locks.lock("G", "c1", vec![queue(0)], t0).len(),
            1,
            "renewal"
        );
        let later = t0 + LOCK_LIFE + Duration::from_secs(1);
        assert_eq!(
            locks.lock("G", "c2", vec![queue(0)], later).len(),
            1,
            "expired"
        );
    }

    #[test]
    fn unlock_by_owner_only() {
        let locks = QueueLocks::default();
        let now = Instant::now();
        locks.lock("G", "c1", vec![queue(0)], now);
        locks.unlock("G", "c2", &[queue(0)]);
        assert!(locks.lock("G", "c2", vec![queue(0)], now).is_empty());
        locks.unlock("G", "c1", &[queue(0)]);
        assert_eq!(locks.lock("G", "c2", vec![queue(0)], now).len(), 1);
        locks.expire(now + LOCK_LIFE * 2);
        let table = locks.table.lock();
        assert_eq!((table.locks, table.bytes), (0, 0));
    }

    #[test]
    fn a_request_that_locks_everything_shares_its_client_id_and_meets_the_bound() {
        let locks = QueueLocks::default();
        let now = Instant::now();
        let long = "t".repeat(names::MAX_TEXT);
        let id = "c".repeat(names::MAX_TEXT);
        let ask = |from: i32| {
            let queues = (from..from + 50_000).map(|n| MessageQueue::new(&*long, "b", n));
            locks.lock("G", &id, queues.collect(), now).len()
        };
        let granted: usize = (0..10).map(|n| ask(n * 50_000)).sum();
        assert!(granted > 50_000 && granted < 100_000, "{granted}");
        let table = locks.table.lock();
        assert!(table.bytes < MAX_BYTES + 1024);
        let owners = &table.groups["G"];
        let first = owners[&(long.clone(), 0)].client_id.clone();
        assert!(Arc::ptr_eq(&first, &owners[&(long.clone(), 9)].client_id));
    }
}
