//! Whether this broker lives, and whether clients should be sent to it.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use raftmq_raft::SetStatus;

use crate::broker::Broker;

/// How far a replica may be behind its leader and still pass for one that serves.
const MAX_LAG_MS: u64 = 10_000;

/// Entries that are committed and not applied yet, with which the same is true.
const MAX_UNAPPLIED: u64 = 10_000;

/// The members are not asked more often than this.
const FRESH: Duration = Duration::from_millis(500);

/// How the set stands, asked for at most twice a second whoever asks.
#[derive(Default)]
pub struct Standing(tokio::sync::Mutex<Option<(Instant, Arc<SetStatus>)>>);

impl Standing {
    pub async fn get(&self, broker: &Broker) -> Arc<SetStatus> {
        let mut last = self.0.lock().await;
        match &*last {
            Some((at, set)) if at.elapsed() < FRESH => set.clone(),
            _ => {
                let set = Arc::new(broker.replica.set_status().await);
                *last = Some((Instant::now(), set.clone()));
                set
            }
        }
    }
}

/// Why the replica has stopped for good; `None`: it lives.
pub async fn failure(broker: &Broker) -> Option<String> {
    tokio::select! {
        biased;
        reason = broker.replica.stopped() => Some(reason.to_string()),
        () = ready(()) => None,
    }
}

/// What keeps this replica from serving clients, by itself or through its master; empty: nothing.
pub async fn hindrances(broker: &Broker) -> Vec<String> {
    let set = broker.standing.get(broker).await;
    let role = broker.replica.role();
    let me = role.me.node_id;
    let own = set.replicas.iter().find(|r| r.member.node_id == me);
    let mut all: Vec<String> = failure(broker).await.into_iter().collect();
    all.extend(broker.replica.outdated());
    let mut hindered = |by: bool, reason: &str| {
        if by {
            all.push(reason.to_owned());
        }
    };
    hindered(
        broker.draining.load(Ordering::Relaxed),
        "it is about to stop",
    );
    hindered(own.is_none(), "it is not a member of a set");
    let leader = set.leader.as_ref().map(|l| l.node_id);
    hindered(leader.is_none(), "no leader is known");
    let idle = leader == Some(me) && !broker.replica.is_serving();
    hindered(
        idle,
        "it leads and does not serve yet, or its lease is over",
    );
    let servers = broker.config().name_servers().len();
    let unknown = servers > 0 && broker.shown.is_nowhere();
    hindered(unknown, "it is not registered at any name server");
    if let Some(ms) = own.and_then(|r| r.lag_ms).filter(|ms| *ms > MAX_LAG_MS) {
        all.push(format!("it is {ms} ms behind the leader"));
    }
    let unapplied = own.and_then(|r| r.committed?.checked_sub(r.applied?));
    if let Some(entries) = unapplied.filter(|n| *n > MAX_UNAPPLIED) {
        all.push(format!("{entries} committed entries are not applied yet"));
    }
    all
}
