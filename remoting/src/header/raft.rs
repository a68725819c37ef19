//! RaftMQ's own requests about a broker set: leader and members. Replicas go by name (`n0`) or node id. RAFT_STATUS (7001)
//! and RAFT_FINALIZE_UPGRADE (7005) have no fields. Each is answered with a [`crate::body::RaftStatus`].

use crate::headers;

headers! {
    /// RAFT_TRANSFER_LEADER (7002).
    pub struct RaftTransferLeaderRequestHeader {
        /// Empty: the one that can best lead.
        replica: String = "replica",
    }

    /// RAFT_ADD_REPLICA (7003): makes a learner a voter.
    pub struct RaftAddReplicaRequestHeader {
        replica: String = "replica" required,
    }

    /// RAFT_REMOVE_REPLICA (7004).
    pub struct RaftRemoveReplicaRequestHeader {
        replica: String = "replica" required,
        /// Remove it although not all of the voters that remain answer; a majority of them must.
        force: bool = "force",
    }
}
