//! The set about itself, and changes of its leader and members: RAFT_STATUS, RAFT_TRANSFER_LEADER, RAFT_ADD_REPLICA,
//! RAFT_REMOVE_REPLICA, RAFT_FINALIZE_UPGRADE (7001 to 7005), RaftMQ's own requests. Any replica takes them; the leader executes them.

use std::sync::Arc;
use std::time::Duration;

use raftmq_raft::{ChangeError, Member, ReplicaRole, ReplicaStatus, SetStatus};
use raftmq_remoting::body::{RaftReplica, RaftRole, RaftStatus};
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{
    RaftAddReplicaRequestHeader, RaftRemoveReplicaRequestHeader, RaftTransferLeaderRequestHeader,
};
use raftmq_remoting::json;

use crate::broker::Broker;
use crate::call::Call;
use crate::forward;

/// Longest time a change may take, on whichever replica it is executed.
const CHANGE_TIME: Duration = Duration::from_secs(20);
/// A change that moves the leadership itself is passed on so often.
const MAX_MOVES: u8 = 2;

/// RAFT_STATUS: as this replica sees the set.
pub fn status(broker: &Arc<Broker>, call: Call) {
    let shared = broker.clone();
    broker.runtime.spawn(async move {
        // However many ask, the members are asked twice a second.
        let set = shared.standing.get(&shared).await;
        call.reply(described(&shared, &set));
    });
}

fn described(broker: &Broker, set: &SetStatus) -> RemotingCommand {
    let status = shape_of(broker, set);
    RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&status))
}

/// What is asked of the set.
enum Change {
    Transfer(Option<String>),
    Add(String),
    Remove(String, bool),
    Finalize,
}

/// RAFT_TRANSFER_LEADER.
pub fn transfer(broker: &Arc<Broker>, call: Call) {
    match call.cmd.header::<RaftTransferLeaderRequestHeader>() {
        Ok(header) => {
            let to = Some(header.replica).filter(|name| !name.is_empty());
            execute(broker, call, Change::Transfer(to))
        }
        Err(e) => call.bad_header(e),
    }
}

/// RAFT_ADD_REPLICA.
pub fn add(broker: &Arc<Broker>, call: Call) {
    match call.cmd.header::<RaftAddReplicaRequestHeader>() {
        Ok(header) => execute(broker, call, Change::Add(header.replica)),
        Err(e) => call.bad_header(e),
    }
}

/// RAFT_REMOVE_REPLICA.
pub fn remove(broker: &Arc<Broker>, call: Call) {
    match call.cmd.header::<RaftRemoveReplicaRequestHeader>() {
        Ok(header) => execute(broker, call, Change::Remove(header.replica, header.force)),
        Err(e) => call.bad_header(e),
    }
}

/// RAFT_FINALIZE_UPGRADE.
pub fn finalize(broker: &Arc<Broker>, call: Call) {
    execute(broker, call, Change::Finalize);
}

fn execute(broker: &Arc<Broker>, mut call: Call, change: Change) {
    if !broker.leads() {
        return forward::to_leader_within(broker, call, CHANGE_TIME);
    }
    let broker = broker.clone();
    broker.runtime.clone().spawn(async move {
        let replica = &broker.replica;
        let done = match &change {
            Change::Transfer(to) => replica.transfer_leader(to.as_deref()).await.map(|_| ()),
            Change::Add(name) => replica.add_voter(name).await,
            Change::Remove(name, force) => replica.remove_replica(name, *force).await,
            Change::Finalize => replica.finalize_upgrade().await,
        };
        match done {
            Ok(()) => {
                let set = broker.replica.set_status().await;
                call.reply(described(&broker, &set));
            }
            // Nothing was changed here: the new leader does it.
            Err(ChangeError::NotLeader(_))
                if call.restarts < MAX_MOVES && call.hop_term.is_none() =>
            {
                call.restarts += 1;
                forward::to_leader_within(&broker, call, CHANGE_TIME);
            }
            Err(ChangeError::NotLeader(_) | ChangeError::NoLeader) => {
                call.refuse(crate::room::NO_LEADER);
            }
            Err(error) => call.error(response::SYSTEM_ERROR, error.to_string()),
        }
    });
}

/// The set's state in the wire's shape.
fn shape_of(broker: &Broker, status: &SetStatus) -> RaftStatus {
    let config = broker.config();
    let ids = |which: fn(&ReplicaStatus) -> bool| {
        let chosen = status.replicas.iter().filter(|r| which(r));
        chosen.map(|r| r.member.node_id).collect()
    };
    let leader = status.leader.as_ref();
    RaftStatus {
        set: config.name.clone(),
        cluster: config.cluster.clone(),
        cluster_id: status.cluster_id.clone(),
        term: status.term,
        leader_id: leader.map_or(0, |l| l.node_id),
        leader_name: leader.map_or(String::new(), |l| l.name.clone()),
        answered_by: broker.replica.role().me.name.clone(),
        voters: ids(|r| r.voter),
        in_sync: ids(|r| r.in_sync),
        replicas: status.replicas.iter().map(shape).collect(),
        set_version: status.set_version,
    }
}

fn shape(replica: &ReplicaStatus) -> RaftReplica {
    let Member {
        node_id,
        broker_id,
        name,
        client_addr,
        peer_addr,
    } = replica.member.clone();
    let known = |value: Option<u64>| value.map_or(-1, |v| i64::try_from(v).unwrap_or(i64::MAX));
    RaftReplica {
        node_id,
        name,
        broker_id: known(Some(broker_id)),
        client_addr,
        peer_addr,
        role: match replica.role {
            ReplicaRole::Leader => RaftRole::Leader,
            ReplicaRole::Follower => RaftRole::Follower,
            ReplicaRole::Candidate => RaftRole::Candidate,
            ReplicaRole::Learner => RaftRole::Learner,
            ReplicaRole::Unreachable => RaftRole::Unreachable,
        },
        reachable: replica.role != ReplicaRole::Unreachable,
        voter: replica.voter,
        in_sync: replica.in_sync,
        term: replica.term,
        last_index: known(replica.last),
        committed_index: known(replica.committed),
        applied_index: known(replica.applied),
        last_position: known(replica.last_position),
        applied_position: known(replica.applied_position),
        lag_messages: known(replica.lag_messages),
        lag_ms: known(replica.lag_ms),
        last_contact_ms: known(replica.last_contact_ms),
        restriction: replica.restriction.clone().unwrap_or_default(),
        set_version: replica.set_version.map_or(-1, i64::from),
        newest_version: replica.newest_version.map_or(-1, i64::from),
    }
}
