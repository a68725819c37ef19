//! Handing leadership over without a gap that clients notice.
//!
//! ```text
//! ask the target        it answers, may lead, and lags by little: otherwise refused, nothing has changed
//! pause proposals       what is not yet appended waits; what is appended is committed and answered
//! wait                  until the target has persisted our last entry
//! give the lease away   from here on nothing is answered under it
//! tell the target       it campaigns at once, with leave to overrule the others' lease
//! resume                what waited is handed to the new leader
//! ```
//!
//! openraft's own transfer is not used on this side: it marks the leader as "transferring" and never takes the mark back, so
//! that a target which dies at that moment could leave the set without writes. Here the leader just goes on when nothing
//! came of it. But it must not go on in the same term: the target may wake up late and be elected while we trust a lease
//! that the other voters were told to ignore. So it closes the term first, and is elected anew.

use std::sync::Arc;
use std::time::Duration;

use openraft::raft::VoteRequest;
use raftmq_proto::raft as pb;

use crate::clock;
use crate::dial::{dial, standing};
use crate::error::ChangeError;
use crate::ground::Net;
use crate::options::Member;
use crate::replica::Inner;
use crate::types::{LeaderId, Raft, TypeConfig, Vote, log_id};
use crate::wire::{self, Call};

/// Longest wait for another replica's answer.
const ANSWER: Duration = Duration::from_millis(300);
/// A target that lags by more is refused: catching up would be a gap in the writes.
const MOST_LAG: Duration = Duration::from_millis(500);
/// Longest time in which what is under way is finished and the target catches up.
const FINISH: Duration = Duration::from_millis(1500);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Lets proposals go on and the lease count again, whatever way it went.
struct Paused<'a>(&'a Inner);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.lease.suspend(false);
        self.0.proposer.pause(false);
    }
}

/// Hands leadership to a voter, by node id or name, or to the best one. Returns the new leader.
///
/// # Errors
/// [`ChangeError::Refused`] with the reason: nothing has changed. [`ChangeError::Unknown`]: the target was told to campaign and
/// was not seen elected; the term is over, and whoever has the longest log leads soon.
pub async fn transfer(inner: &Arc<Inner>, to: Option<&str>) -> Result<Member, ChangeError> {
    let _one_at_a_time = inner.changing.lock().await;
    let (raft, call) = inner.leading()?;
    let role = inner.role.borrow().clone();
    let others = role.members.iter().filter(|m| m.node_id != role.me.node_id);
    let mut candidates: Vec<Member> = match to {
        Some(wanted) => {
            let found = role.find(wanted)?;
            if found.node_id == role.me.node_id {
                return Ok(found.clone());
            }
            if !role.voters.contains(&found.node_id) {
                return Err(ChangeError::Refused(format!(
                    "{} is not a voter",
                    found.name
                )));
            }
            vec![found.clone()]
        }
        None => others
            .filter(|m| role.voters.contains(&m.node_id))
            .cloned()
            .collect(),
    };
    let reach = inner.lag.reach(&raft, role.me.node_id);
    candidates.sort_by_key(|m| {
        let reach = reach.get(&m.node_id);
        reach.map_or((Duration::MAX, 0), |r| (r.lag, u64::MAX - r.matched))
    });
    let mut refused = ChangeError::Refused("there is no other voter".to_owned());
    for target in candidates {
        match to_one(inner, &raft, &call, &target).await {
            Ok(()) => return Ok(target),
            Err(error @ ChangeError::Refused(_)) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

async fn to_one(
    inner: &Arc<Inner>,
    raft: &Raft,
    call: &Call,
    target: &Member,
) -> Result<(), ChangeError> {
    let refuse = |why: String| ChangeError::Refused(format!("{}: {why}", target.name));
    let stands = standing(
        &inner.peers.ground.net,
        &target.peer_addr,
        target.node_id,
        call,
        ANSWER,
    )
    .await;
    let stands = stands.map_err(|s| refuse(format!("does not answer ({})", s.message())))?;
    if !stands.restriction.is_empty() {
        return Err(refuse(format!("may not lead: {}", stands.restriction)));
    }
    let lag = || {
        let reach = inner.lag.reach(raft, call.from);
        reach.get(&target.node_id).map(|r| (r.lag, r.matched))
    };
    match lag() {
        Some((lag, _)) if lag <= MOST_LAG => {}
        Some((lag, _)) => return Err(refuse(format!("lags by {} ms", lag.as_millis()))),
        None => return Err(refuse("is not replicated to".to_owned())),
    }

    let began = clock::now();
    inner.proposer.pause(true);
    let _resumes = Paused(inner);
    let deadline = began + FINISH;
    let last = loop {
        let last = inner.store.log.bounds().1;
        let has_it = lag().is_some_and(|(_, matched)| last.is_none_or(|l| matched >= l.index));
        if has_it && inner.proposer.is_quiet() && inner.proposer.in_sync.is_empty() {
            break last;
        }
        if clock::now() >= deadline {
            return Err(refuse("did not catch up in time".to_owned()));
        }
        tokio::time::sleep(LOOK).await;
    };

    let vote = raft.with_raft_state(|state| *state.vote_ref()).await;
    let vote = vote.map_err(|e| ChangeError::Unknown(e.to_string()))?;
    if !vote.committed || vote.leader_id.voted_for != call.from {
        return Err(ChangeError::NoLeader);
    }
    inner.lease.suspend(true);
    // From here on the term ends, one way or the other.
    let told = tell(
        &inner.peers.ground.net,
        target,
        call,
        &vote,
        last.map(|l| log_id(l.term, l.index)),
    )
    .await;
    let mut role = inner.role.subscribe();
    let elected = role.wait_for(|role| {
        let leader = role.leader.as_ref().map(|l| l.node_id);
        role.term > vote.leader_id.term && leader.is_some_and(|id| id != call.from)
    });
    let patience = inner.options.election_max * 2;
    if told.is_ok() && matches!(tokio::time::timeout(patience, elected).await, Ok(Ok(_))) {
        tracing::info!(
            to = target.name,
            paused_ms = clock::since(began).as_millis() as u64,
            "leadership is handed over"
        );
        return Ok(());
    }
    close_term(inner, raft, vote.leader_id.term).await;
    let why = told
        .err()
        .unwrap_or_else(|| "it was not elected".to_owned());
    tracing::warn!(to = target.name, why, "leadership was not handed over");
    Err(ChangeError::Unknown(format!("{}: {why}", target.name)))
}

/// Tells the target to campaign now.
async fn tell(
    net: &Net,
    target: &Member,
    call: &Call,
    vote: &Vote,
    last: Option<crate::types::LogId>,
) -> Result<(), String> {
    let call = Call {
        to: target.node_id,
        ..call.clone()
    };
    let message = pb::TransferRequest {
        from: Some(wire::vote_to(vote)),
        to: target.node_id,
        last: last.as_ref().map(wire::id_to),
    };
    let said = |s: tonic::Status| s.message().to_owned();
    let message = call.sign(message).map_err(said)?;
    let mut client = dial(net, &target.peer_addr, ANSWER).await.map_err(said)?;
    let answer = client.transfer_leader(message).await.map_err(said)?;
    match answer.into_inner().refused {
        refused if refused.is_empty() => Ok(()),
        refused => Err(refused),
    }
}

/// Leaves the term in which others may overrule our lease, and returns when this replica knows that it does not lead in it
/// any more. It votes for nobody in a term that is beyond the one the target may have begun, which deposes it; when its
/// timeout comes it campaigns in the next. The vote is in nobody's name: openraft takes a vote for a replica as that
/// replica's own.
async fn close_term(inner: &Inner, raft: &Raft, term: u64) {
    const NOBODY: u64 = 0;
    let beyond = Vote {
        leader_id: LeaderId {
            term: term + 2,
            voted_for: NOBODY,
        },
        committed: false,
    };
    let mut role = inner.role.subscribe();
    loop {
        // An entry may be appended between the look and the vote: then it is refused, and tried again.
        let last = inner.store.log.bounds().1;
        let last = last.map(|l| log_id(l.term, l.index));
        let mut request = VoteRequest::<TypeConfig>::new(beyond, last);
        request.leadership_transfer = true;
        if let Err(error) = raft.vote(request).await {
            tracing::warn!(%error, "the core has ended");
            return;
        }
        let deposed = role.wait_for(|role| role.term > term || !role.leads());
        match tokio::time::timeout(inner.options.heartbeat, deposed).await {
            Ok(_) => return,
            Err(_) => continue,
        }
    }
}

/// As after a transfer that came to nothing, with a target that wakes up late when there is one.
#[cfg(test)]
pub async fn abandon(inner: &Arc<Inner>, late: Option<&Member>) {
    let Ok((raft, call)) = inner.leading() else {
        return;
    };
    let Ok(vote) = raft.with_raft_state(|state| *state.vote_ref()).await else {
        return;
    };
    let last = inner.store.log.bounds().1.map(|l| log_id(l.term, l.index));
    if let Some(target) = late {
        let _ = tell(&inner.peers.ground.net, target, &call, &vote, last).await;
    }
    close_term(inner, &raft, vote.leader_id.term).await;
    if let Some(target) = late {
        let _ = tell(&inner.peers.ground.net, target, &call, &vote, last).await;
    }
}
