//! The state of a broker set, RaftMQ's own: the answer to RAFT_STATUS (7001) and, after a change, to 7002-7004.

use super::{named, shapes};

named! {
    /// What a replica is at the moment.
    pub enum RaftRole {
        /// It does not answer the replica that tells this.
        #[default]
        Unreachable = "unreachable",
        Leader = "leader",
        Follower = "follower",
        /// Gets the log and does not vote.
        Learner = "learner",
        Candidate = "candidate",
    }
}

shapes! {
    /// A broker set as one of its replicas sees it.
    #[derive(Default)]
    pub struct RaftStatus {
        /// Broker name.
        set: String,
        cluster: String,
        /// Made when the set was founded; empty before.
        cluster_id: String,
        term: u64,
        /// Node id; 0: no leader is known.
        leader_id: u64,
        /// Empty: no leader is known.
        leader_name: String,
        /// Name of the replica that tells this.
        answered_by: String,
        /// Node ids.
        voters: Vec<u64>,
        /// Node ids of the voters that have what the leader has, or nearly; only a leader knows.
        in_sync: Vec<u64>,
        replicas: Vec<RaftReplica>,
        /// The set's version: what its members may write. Raised by RAFT_FINALIZE_UPGRADE.
        set_version: u32,
    }

    /// One replica. Indexes count log entries, positions bytes of the log; -1 stands for what is not known.
    pub struct RaftReplica {
        node_id: u64,
        name: String,
        /// Its id at the name servers while it is a follower, from 1 on.
        broker_id: i64,
        client_addr: String,
        peer_addr: String,
        role: RaftRole,
        reachable: bool,
        voter: bool,
        in_sync: bool,
        term: u64,
        last_index: i64,
        committed_index: i64,
        applied_index: i64,
        last_position: i64,
        applied_position: i64,
        /// Messages of the leader it has not got.
        lag_messages: i64,
        lag_ms: i64,
        /// Since the leader last heard of it.
        last_contact_ms: i64,
        /// Why it may not vote or lead; empty: it may.
        restriction: String,
        /// The set's version as it has applied it.
        set_version: i64,
        /// The newest set version its program knows; 0: it is older than set versions.
        newest_version: i64,
    }
}

/// Unreachable, and nothing known of it.
impl Default for RaftReplica {
    fn default() -> Self {
        Self {
            node_id: 0,
            name: String::new(),
            broker_id: -1,
            client_addr: String::new(),
            peer_addr: String::new(),
            role: RaftRole::Unreachable,
            reachable: false,
            voter: false,
            in_sync: false,
            term: 0,
            last_index: -1,
            committed_index: -1,
            applied_index: -1,
            last_position: -1,
            applied_position: -1,
            lag_messages: -1,
            lag_ms: -1,
            last_contact_ms: -1,
            restriction: String::new(),
            set_version: -1,
            newest_version: -1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn what_is_missing_is_unknown() {
        let text = br#"{"set":"a","leaderId":7,"inSync":[7],"replicas":[{"nodeId":7,"role":"leader","inSync":true,"lagMs":0}]}"#;
        let status: RaftStatus = json::from_slice(text).unwrap();
        let leader = RaftReplica {
            node_id: 7,
            role: RaftRole::Leader,
            in_sync: true,
            lag_ms: 0,
            ..Default::default()
        };
        assert_eq!((leader.last_index, leader.lag_messages), (-1, -1));
        assert_eq!((status.leader_id, &status.replicas[..]), (7, &[leader][..]));
        let again = json::to_bytes(&status);
        assert_eq!(json::from_slice::<RaftStatus>(&again).unwrap(), status);
    }
}
