//! How a set stands, for people and metrics: every member is asked how far it is, the leader also how far the others are.

use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use raftmq_proto::raft as pb;

use crate::about::About;
use crate::dial::standing;
use crate::in_sync::left_out;
use crate::options::{AckLevel, Member};
use crate::replica::{Inner, Replica};
use crate::types::Raft;
use crate::wire;

/// Longest wait for a member's answer.
const ANSWER: Duration = Duration::from_millis(500);

/// What a member is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaRole {
    /// It leads.
    Leader,
    /// A voter that follows.
    Follower,
    /// A voter that knows no leader.
    Candidate,
    /// It has no vote.
    Learner,
    /// It does not answer.
    Unreachable,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Who it is.
    pub member: Member,
    /// What it is.
    pub role: ReplicaRole,
    /// It votes.
    pub voter: bool,
    /// It keeps up: a send with `ackQuorum=all` waits for it.
    pub in_sync: bool,
    /// Its term.
    pub term: u64,
    /// Index of its last entry, of the last it knows committed, of the last applied; `None` when it does not answer.
    pub last: Option<u64>,
    /// See `last`.
    pub committed: Option<u64>,
    /// See `last`.
    pub applied: Option<u64>,
    /// Byte position behind its last entry.
    pub last_position: Option<u64>,
    /// Byte position behind the last applied one.
    pub applied_position: Option<u64>,
    /// Messages behind the leader; `None` without a leader.
    pub lag_messages: Option<u64>,
    /// Milliseconds behind the leader.
    pub lag_ms: Option<u64>,
    /// Milliseconds since the leader last heard of it.
    pub last_contact_ms: Option<u64>,
    /// Why it may neither vote nor lead.
    pub restriction: Option<String>,
    /// The set's version as it has applied it; `None` when it does not answer.
    pub set_version: Option<u32>,
    /// The newest set version its program knows; 0 for a program that does not say. `None` when it does not answer.
    pub newest_version: Option<u32>,
}

/// The set, as one replica sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetStatus {
    /// Random id of the set; empty before its founding.
    pub cluster_id: String,
    /// Highest term that any member answered.
    pub term: u64,
    /// Who leads in it.
    pub leader: Option<Member>,
    /// All members.
    pub replicas: Vec<ReplicaStatus>,
    /// The set's version, as far as any member has applied it.
    pub set_version: u32,
}

/// How this replica itself stands; `caller` is the node id of who asks.
pub fn own_standing(inner: &Inner, raft: &Raft, caller: u64) -> pb::StandingResponse {
    let log = &inner.store.log;
    let (last, role) = (log.bounds().1, inner.role.borrow().clone());
    let guard = &inner.peers.guard;
    let (committed, own) = {
        let metrics = raft.metrics();
        let seen = metrics.borrow_watched();
        (seen.local_committed, seen.id)
    };
    let applied = inner.applied.applied();
    // Ids rise and a removal is final: whoever is missing in an applied membership that could know it was removed.
    let caller_removed = caller != 0
        && inner
            .applied
            .member(caller)
            .is_some_and(|(ever, is_member)| caller <= ever && !is_member);
    let reach = inner.lag.reach(raft, own);
    let millis = |time: Duration| time.as_millis() as u64;
    let follower = |(id, reach): (&u64, &crate::lag::Reach)| pb::Follower {
        node_id: *id,
        matched: reach.matched,
        lag_messages: reach.lag_messages,
        lag_ms: millis(reach.lag),
        last_contact_ms: reach.contact.map(millis),
    };
    // openraft's idea of the leader outlives it.
    let heard = role.leads() || guard.has_heard(inner.options.election_max * 2);
    let leader = role
        .leader
        .as_ref()
        .filter(|_| heard)
        .map_or(0, |l| l.node_id);
    pb::StandingResponse {
        last: last.map(|id| pb::LogId {
            term: id.term,
            index: id.index,
        }),
        waits: guard.waits(),
        has_leader: heard,
        term: role.term,
        leader,
        serving: role.serving && inner.lease.is_valid(),
        committed: committed.as_ref().map(wire::id_to),
        applied: applied.map(|a| pb::LogId {
            term: a.term,
            index: a.index,
        }),
        last_position: log.end(),
        applied_position: applied.map_or(0, |a| a.position),
        restriction: guard.hindrance().unwrap_or_default(),
        followers: reach.iter().map(follower).collect(),
        caller_removed,
        about: Some(inner.peers.about.message()),
        set_version: inner.store.state.set_version(),
    }
}

impl Replica {
    /// Asks all members how they stand. Takes as long as the slowest answer, half a second at most.
    pub async fn set_status(&self) -> SetStatus {
        let inner = self.inner().clone();
        let asked = self
            .inner()
            .handle
            .spawn(async move { ask_all(&inner).await });
        asked.await.unwrap_or_else(|_| nothing(self.inner()))
    }
}

/// As long as this replica belongs to no set.
fn nothing(inner: &Inner) -> SetStatus {
    let identity = inner.peers.identity.lock();
    let membership = identity.membership.as_ref();
    SetStatus {
        cluster_id: membership.map(|m| m.cluster_id.clone()).unwrap_or_default(),
        term: inner.role.borrow().term,
        leader: None,
        replicas: Vec::new(),
        set_version: inner.store.state.set_version(),
    }
}

async fn ask_all(inner: &Inner) -> SetStatus {
    let role = inner.role.borrow().clone();
    let Some((raft, call)) = inner.peers.core.get() else {
        return nothing(inner);
    };
    let asked = role.members.iter().map(|member| async {
        if member.node_id == call.from {
            return Some(own_standing(inner, raft, call.from));
        }
        standing(
            &inner.peers.ground.net,
            &member.peer_addr,
            member.node_id,
            call,
            ANSWER,
        )
        .await
        .ok()
    });
    let answers = join_all(asked).await;
    let leads = |a: &pb::StandingResponse, m: &Member| a.leader == m.node_id;
    let leading = answers
        .iter()
        .zip(&role.members)
        .filter_map(|(answer, member)| {
            Some((answer.as_ref().filter(|a| leads(a, member))?, member))
        })
        .max_by_key(|(answer, _)| answer.term);
    let term = answers
        .iter()
        .flatten()
        .map(|a| a.term)
        .max()
        .unwrap_or(role.term);
    let versions = answers.iter().flatten().map(|a| a.set_version);
    let set_version = versions.max().unwrap_or(0);
    let policy = inner.policy.read().clone();
    let left_out = left_out(&inner.store.state);
    let replicas = answers.iter().zip(&role.members).map(|(answer, member)| {
        let id = member.node_id;
        let voter = role.voters.contains(&id);
        let is_leader = leading.is_some_and(|(_, leader)| leader.node_id == id);
        let seen = leading.and_then(|(a, _)| a.followers.iter().find(|f| f.node_id == id));
        let timely = policy.in_sync_timeout.as_millis() as u64;
        let keeps_up = seen
            .is_some_and(|f| f.lag_ms < timely && f.last_contact_ms.is_some_and(|ms| ms < timely));
        let in_sync = voter && (is_leader || keeps_up);
        let of_leader = |value: fn(&pb::Follower) -> u64| match is_leader {
            true => Some(0),
            false => seen.map(value),
        };
        let answer = answer.as_ref();
        let about = answer.map(|a| About::told(a.about.clone()));
        let misfit = about.as_ref().and_then(|about| {
            let own = &inner.peers.about;
            own.misfit(&role.me.name, (&member.name, about), set_version)
        });
        let index = |id: &Option<pb::LogId>| Some(id.as_ref().map_or(0, |id| id.index));
        ReplicaStatus {
            role: match answer {
                None => ReplicaRole::Unreachable,
                Some(_) if is_leader => ReplicaRole::Leader,
                Some(_) if !voter => ReplicaRole::Learner,
                Some(a) if !a.has_leader => ReplicaRole::Candidate,
                Some(_) => ReplicaRole::Follower,
            },
            voter,
            in_sync: match policy.ack {
                AckLevel::All => voter && leading.is_some() && !left_out.contains(&id),
                _ => in_sync,
            },
            term: answer.map_or(0, |a| a.term),
            last: answer.and_then(|a| index(&a.last)),
            committed: answer.and_then(|a| index(&a.committed)),
            applied: answer.and_then(|a| index(&a.applied)),
            last_position: answer.map(|a| a.last_position),
            applied_position: answer.map(|a| a.applied_position),
            lag_messages: of_leader(|f| f.lag_messages),
            lag_ms: of_leader(|f| f.lag_ms),
            last_contact_ms: match is_leader {
                true => Some(0),
                false => seen.and_then(|f| f.last_contact_ms),
            },
            restriction: answer
                .map(|a| a.restriction.clone())
                .filter(|r| !r.is_empty())
                .or(misfit),
            set_version: answer.map(|a| a.set_version),
            newest_version: about.map(|about| about.newest),
            member: member.clone(),
        }
    });
    SetStatus {
        cluster_id: call.cluster_id.clone(),
        term,
        leader: leading.map(|(_, leader)| leader.clone()),
        replicas: replicas.collect(),
        set_version,
    }
}
