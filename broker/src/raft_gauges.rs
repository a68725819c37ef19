//! The set in figures. Every replica tells of itself; how far the others are is told by the leader alone, which knows.

use std::sync::Arc;

use metrics::gauge;
use raftmq_raft::{ReplicaRole, SetStatus};

use crate::broker::Broker;

/// Sets all of them in the recorder of this scrape.
pub fn observe(broker: &Broker, set: &SetStatus) {
    let role = broker.replica.role();
    let flag = |yes: bool| f64::from(u8::from(yes));
    gauge!("raftmq_raft_term").set(role.term as f64);
    gauge!("raftmq_raft_is_leader").set(flag(role.leads()));
    gauge!("raftmq_raft_serving").set(flag(broker.replica.is_serving()));
    gauge!("raftmq_raft_has_leader").set(flag(set.leader.is_some()));
    gauge!("raftmq_raft_voters").set(role.voters.len() as f64);
    let own = set
        .replicas
        .iter()
        .find(|r| r.member.node_id == role.me.node_id);
    if let Some(own) = own {
        gauge!("raftmq_raft_restricted").set(flag(own.restriction.is_some()));
        for (name, index) in [
            ("raftmq_raft_last_index", own.last),
            ("raftmq_raft_committed_index", own.committed),
            ("raftmq_raft_applied_index", own.applied),
        ] {
            if let Some(index) = index {
                gauge!(name).set(index as f64);
            }
        }
    }
    if !role.leads() {
        return;
    }
    for replica in &set.replicas {
        let labels = [("replica", replica.member.name.clone())];
        let reachable = replica.role != ReplicaRole::Unreachable;
        gauge!("raftmq_raft_replica_reachable", &labels).set(flag(reachable));
        gauge!("raftmq_raft_replica_voter", &labels).set(flag(replica.voter));
        gauge!("raftmq_raft_replica_in_sync", &labels).set(flag(replica.in_sync));
        for (name, value) in [
            ("raftmq_raft_replica_lag_messages", replica.lag_messages),
            ("raftmq_raft_replica_lag_ms", replica.lag_ms),
            (
                "raftmq_raft_replica_last_contact_ms",
                replica.last_contact_ms,
            ),
        ] {
            if let Some(value) = value {
                gauge!(name, &labels).set(value as f64);
            }
        }
    }
}

/// Counts elections won by this replica, and changes of the leader it knows; for the life of the broker.
pub async fn run(broker: Arc<Broker>) {
    let mut watched = broker.replica.watch_role();
    let (mut led_in, mut leader) = (None, None);
    loop {
        let role = watched.borrow_and_update().clone();
        if role.leads() && led_in != Some(role.term) {
            led_in = Some(role.term);
            broker.stats.elections_won.increment(1);
        }
        let now = role.leader.as_ref().map(|l| l.node_id);
        if now.is_some() && now != leader {
            // The first one is no change.
            broker
                .stats
                .leader_changes
                .increment(u64::from(leader.is_some()));
            leader = now;
        }
        if watched.changed().await.is_err() {
            return;
        }
    }
}
