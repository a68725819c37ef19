//! The final reads: every queue, whole, from every replica that answers for itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::client::{Shared, Thread};
use super::requests::Shape;
use crate::settings::Whose;

/// For whatever else is under way after the last message is due.
pub const GRACE: Duration = Duration::from_secs(3);
/// Longest time for all of it.
const LIMIT: Duration = Duration::from_secs(120);
/// A queue is at its end when so many polls in a row say so: a follower asks the master, which may just have changed.
const ENDS: usize = 2;

/// Reads everything. Says what could not be read.
pub async fn all(shared: &Arc<Shared>) -> Result<(), String> {
    let replicas: Vec<u8> = match shared.settings.servers {
        Whose::Raftmq => (0..).take(shared.place.addrs.len()).collect(),
        // Their slaves serve what they like.
        Whose::JavaDledger | Whose::JavaMaster => vec![shared.master()],
    };
    let deadline = Instant::now() + LIMIT;
    let mut reads = JoinSet::new();
    for (number, replica) in (shared.settings.concurrency.max(super::MIN_THREADS)..).zip(replicas) {
        let thread = shared.thread(number);
        reads.spawn(replica_queues(thread, replica, deadline));
    }
    let mut missing = Vec::new();
    while let Some(read) = reads.join_next().await {
        missing.extend(read.map_err(|e| e.to_string())?);
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "could not be read to the end: {}",
        missing.join(", ")
    ))
}

async fn replica_queues(mut thread: Thread, replica: u8, deadline: Instant) -> Vec<String> {
    let mut missing = Vec::new();
    for queue in (0..).take(thread.shared.queues.len()) {
        if !whole(&mut thread, queue, replica, deadline).await {
            missing.push(format!("queue {queue} of replica {replica}"));
        }
    }
    missing
}

async fn whole(thread: &mut Thread, queue: u32, replica: u8, deadline: Instant) -> bool {
    let (mut at, mut ends) = (0, 0);
    while Instant::now() < deadline {
        let Some(polled) = thread.poll(queue, replica, at, Shape::Last).await else {
            continue;
        };
        if !polled.messages.is_empty() || polled.next != at {
            (at, ends) = (polled.next, 0);
        } else {
            ends += 1;
            if ends == ENDS {
                return true;
            }
        }
    }
    false
}
