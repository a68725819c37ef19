//! Broker sets: their state, their leader, their members. RaftMQ's own requests; a RocketMQ broker answers code 3.

use std::time::Duration;

use raftmq_remoting::body::RaftStatus;
use raftmq_remoting::header::{
    Header, RaftAddReplicaRequestHeader, RaftRemoveReplicaRequestHeader,
    RaftTransferLeaderRequestHeader,
};
use raftmq_remoting::{RemotingCommand, json, request_code};

use super::Admin;
use crate::error::ClientError;

/// Limit of a change: a new leader has to be elected, or a membership to be committed twice.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);

impl Admin {
    /// A broker set as the replica at `addr` sees it.
    pub async fn raft_status(&self, addr: &str) -> Result<RaftStatus, ClientError> {
        let cmd = RemotingCommand::request(request_code::RAFT_STATUS);
        status_in(addr, self.call(addr, cmd).await?)
    }

    /// Has a replica (name or node id; empty: the one that can best lead) become the leader of the set of `addr`. Answers the
    /// state afterwards, as [`Self::add_replica`] and [`Self::remove_replica`] do.
    pub async fn transfer_leader(
        &self,
        addr: &str,
        replica: &str,
    ) -> Result<RaftStatus, ClientError> {
        let header = RaftTransferLeaderRequestHeader {
            replica: replica.to_owned(),
        };
        self.change_set(addr, request_code::RAFT_TRANSFER_LEADER, &header)
            .await
    }

    /// Makes a learner (name or node id) of the set of `addr` a voter.
    pub async fn add_replica(&self, addr: &str, replica: &str) -> Result<RaftStatus, ClientError> {
        let header = RaftAddReplicaRequestHeader {
            replica: replica.to_owned(),
        };
        self.change_set(addr, request_code::RAFT_ADD_REPLICA, &header)
            .await
    }

    /// Removes a replica (name or node id) from the set of `addr`. Without `force` the set may refuse.
    pub async fn remove_replica(
        &self,
        addr: &str,
        replica: &str,
        force: bool,
    ) -> Result<RaftStatus, ClientError> {
        let header = RaftRemoveReplicaRequestHeader {
            replica: replica.to_owned(),
            force,
        };
        self.change_set(addr, request_code::RAFT_REMOVE_REPLICA, &header)
            .await
    }

    /// Raises the version of the set of `addr` to the newest that all of its members know. After it no older program can be a
    /// member. Refused while a member is silent or older.
    pub async fn finalize_upgrade(&self, addr: &str) -> Result<RaftStatus, ClientError> {
        let cmd = RemotingCommand::request(request_code::RAFT_FINALIZE_UPGRADE);
        status_in(
            addr,
            self.instance.call_within(addr, cmd, CHANGE_TIMEOUT).await?,
        )
    }

    async fn change_set(
        &self,
        addr: &str,
        code: i32,
        header: &impl Header,
    ) -> Result<RaftStatus, ClientError> {
        let cmd = RemotingCommand::request_with(code, header);
        status_in(
            addr,
            self.instance.call_within(addr, cmd, CHANGE_TIMEOUT).await?,
        )
    }
}

fn status_in(addr: &str, answer: RemotingCommand) -> Result<RaftStatus, ClientError> {
    json::from_slice(&answer.body.to_bytes()).map_err(ClientError::json(addr))
}
