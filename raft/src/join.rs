//! The side of a replica that belongs to no set, or may have moved, or was removed: it looks for the set and asks.
//!
//! An empty directory asks everybody it has heard of (its peer list, and what the broker learned from the name servers)
//! until the set's leader has made it a learner. A member tells the leader when its addresses are not those in the
//! membership. A member that nobody talks to asks whether it still is one.

use std::sync::Arc;
use std::time::Duration;

use raftmq_proto::raft as pb;
use tonic::Status;

use crate::about::About;
use crate::dial::{dial, standing};
use crate::ground::Net;
use crate::identity::Belongs;
use crate::options::{Member, Node};
use crate::replica::Inner;
use crate::types::Raft;
use crate::wire::{Call, check_bounds};

/// Pause between two rounds.
const ROUND: Duration = Duration::from_millis(500);
/// Rounds without a word: the name servers have to be asked, or the other founders to start.
const PATIENT_ROUNDS: u32 = 6;
/// Rounds after which the log says again what is missing.
const REMIND_ROUNDS: u32 = 30;
const NOBODY_KNOWN: &str =
    "no replica of the set is known: neither a peer list nor a name server tells of one";
/// Longest wait for an answer: the leader connects back and commits meanwhile.
const ANSWER: Duration = Duration::from_secs(12);
/// Longest wait of a member for another one's.
const SHORT_ANSWER: Duration = Duration::from_millis(500);
/// Addresses asked in a round at most.
const MAX_ADDRESSES: usize = 32;
/// Longest name and id that are taken from a leader, bytes.
const MAX_TEXT: usize = 255;
/// A member looks this often whether it is where the membership says, and whether somebody leads.
const LOOK: Duration = Duration::from_secs(1);

/// Asks `addr`, and the leader it names, to be taken in or noted.
async fn ask(
    net: &Net,
    addr: &str,
    request: &pb::JoinRequest,
) -> Result<(String, pb::JoinResponse), Status> {
    let mut addr = addr.to_owned();
    for _ in 0..3 {
        let answer = dial(net, &addr, ANSWER)
            .await?
            .join(request.clone())
            .await?
            .into_inner();
        if answer.leader_addr.is_empty() {
            return Ok((addr, answer));
        }
        addr = answer.leader_addr;
    }
    Err(Status::unavailable("the leader moves"))
}

fn request(inner: &Inner, cluster_id: String, incarnation: String) -> pb::JoinRequest {
    let options = &inner.options;
    pb::JoinRequest {
        set: options.set.clone(),
        name: options.self_name.clone(),
        incarnation,
        peer_addr: options.peer_advertise.clone(),
        client_addr: options.client_advertise.clone(),
        cluster_id,
        about: Some(inner.peers.about.message()),
    }
}

/// Waits until a set has taken this directory in.
///
/// # Errors
/// The directory's identity cannot be written.
pub async fn until_joined(inner: &Arc<Inner>) -> raftmq_store::Result<Belongs> {
    let incarnation = inner.peers.identity.lock().incarnation.clone();
    let request = request(inner, String::new(), incarnation);
    let mut round = 0u32;
    let mut told = String::new();
    loop {
        let configured = inner.options.peers.iter().map(|p| p.addr.clone());
        let heard: Vec<String> = inner.hints.borrow().clone();
        let own = &inner.options.peer_advertise;
        let (mut refused, mut why) = (None, NOBODY_KNOWN.to_owned());
        for addr in configured
            .chain(heard)
            .filter(|a| a != own)
            .take(MAX_ADDRESSES)
        {
            match ask(&inner.peers.ground.net, &addr, &request).await {
                Ok((leader, answer)) if answer.refused.is_empty() => {
                    match malformed(&answer).or_else(|| misfit(inner, &leader, &answer)) {
                        None => return accept(inner, leader, answer),
                        why => refused = why,
                    }
                }
                Ok((leader, answer)) => {
                    refused = Some(format!("{leader} refuses: {}", answer.refused))
                }
                Err(status) => why = format!("{addr}: {}", status.message()),
            }
        }
        if let Some(why) = refused {
            if why != told {
                tracing::warn!(set = inner.options.set, why, "not taken into the set");
                told = why;
            }
        } else if round >= PATIENT_ROUNDS && round.is_multiple_of(REMIND_ROUNDS) {
            tracing::info!(set = inner.options.set, why, "not a member of the set yet");
        }
        round += 1;
        tokio::time::sleep(ROUND).await;
    }
}

/// Why an answer cannot be one of a leader.
fn malformed(answer: &pb::JoinResponse) -> Option<String> {
    let longest = answer.cluster_id.len().max(answer.name.len());
    let plain = answer.cluster_id.bytes().all(|b| b.is_ascii_alphanumeric());
    let ids = check_bounds(answer.node_id, answer.leader_id).is_ok() && answer.node_id > 0;
    let good = plain && ids && longest <= MAX_TEXT && !answer.cluster_id.is_empty();
    (!good).then(|| "an answer that makes no sense".to_owned())
}

/// Why this replica cannot belong to the leader's set.
fn misfit(inner: &Inner, leader: &str, answer: &pb::JoinResponse) -> Option<String> {
    let (own, about) = (&inner.peers.about, About::told(answer.about.clone()));
    let me = match inner.options.self_name.as_str() {
        "" => "this replica",
        name => name,
    };
    own.misfit(me, (leader, &about), 0)
        .or_else(|| about.misfit(leader, (me, own), answer.set_version))
}

fn accept(
    inner: &Inner,
    leader: String,
    answer: pb::JoinResponse,
) -> raftmq_store::Result<Belongs> {
    let node = Node {
        peer_addr: leader,
        ..Node::default()
    };
    let belongs = Belongs {
        cluster_id: answer.cluster_id,
        node_id: answer.node_id,
        name: answer.name,
        // Somebody to ask before the first membership has come.
        members: vec![(answer.leader_id, node)],
        ..Belongs::default()
    };
    let mut identity = inner.peers.identity.lock();
    if let Some(founded) = &identity.membership {
        // It has become a founder meanwhile.
        return Ok(founded.clone());
    }
    let mut joined = identity.clone();
    joined.membership = Some(belongs.clone());
    joined.save(inner.peers.ground.env.fs.as_ref(), &inner.options.store_dir)?;
    *identity = joined;
    Ok(belongs)
}

/// Keeps the membership true about this replica, and this replica about the membership; for its life.
pub async fn stay(inner: Arc<Inner>, raft: Raft, call: Call) {
    loop {
        tokio::time::sleep(LOOK).await;
        let role = inner.role.borrow().clone();
        let moved = role.me.node_id == call.from
            && role.members.iter().any(|m| m.node_id == call.from)
            && (role.me.peer_addr != inner.options.peer_advertise
                || role.me.client_addr != inner.options.client_advertise);
        let lonely = !role.leads() && !inner.peers.guard.has_heard(inner.options.election_max * 3);
        // The leader may look for it at an address that was wrong, which a lonely replica does not hear of.
        let removed = lonely && was_removed(&inner, &call).await;
        if removed || (moved || lonely) && tell_where(&inner, &call).await == Told::Removed {
            leave(&inner, &raft);
            return;
        }
    }
}

/// Peer addresses of the other members, as far as this replica knows.
fn others(inner: &Inner, call: &Call) -> Vec<(u64, String)> {
    let role = inner.role.borrow().clone();
    let members = role
        .members
        .iter()
        .map(|m| (m.node_id, m.peer_addr.clone()));
    let mut all: Vec<(u64, String)> = members.collect();
    if let Some(belongs) = &inner.peers.identity.lock().membership {
        all.extend(
            belongs
                .members
                .iter()
                .map(|(id, node)| (*id, node.peer_addr.clone())),
        );
    }
    all.retain(|(id, _)| *id != call.from);
    all.sort();
    all.dedup();
    all
}

/// What the leader thinks of a member that says where it is.
#[derive(PartialEq, Eq)]
enum Told {
    /// Noted, or not now.
    Heard,
    /// It is no member any more.
    Removed,
}

async fn tell_where(inner: &Arc<Inner>, call: &Call) -> Told {
    let incarnation = inner.peers.identity.lock().incarnation.clone();
    let request = request(inner, call.cluster_id.clone(), incarnation);
    if inner.role.borrow().leads() {
        if let Err(status) = crate::membership::join(inner, request).await {
            tracing::warn!(%status, "the new address is not noted yet");
        }
        return Told::Heard;
    }
    let configured = inner.options.peers.iter().map(|p| (0, p.addr.clone()));
    for (_, addr) in others(inner, call).into_iter().chain(configured) {
        match ask(&inner.peers.ground.net, &addr, &request).await {
            Ok((_, answer)) if answer.removed => return Told::Removed,
            Ok((_, answer)) if !answer.refused.is_empty() => {
                tracing::warn!(
                    why = answer.refused,
                    "the leader does not look for this replica here"
                );
                return Told::Heard;
            }
            Ok(_) => return Told::Heard,
            Err(status) => tracing::debug!(%status, addr, "no leader there"),
        }
    }
    Told::Heard
}

/// Whether another member says that this one is none any more.
async fn was_removed(inner: &Arc<Inner>, call: &Call) -> bool {
    for (id, addr) in others(inner, call) {
        let answer = standing(&inner.peers.ground.net, &addr, id, call, SHORT_ANSWER).await;
        if answer.is_ok_and(|answer| answer.caller_removed) {
            return true;
        }
    }
    false
}

/// Ends the membership for good: the directory remembers it.
fn leave(inner: &Inner, raft: &Raft) {
    tracing::error!(
        "this replica was removed from the set: it serves nothing of its own any more; to join again it needs an empty directory"
    );
    raft.runtime_config().elect(false);
    inner
        .role
        .send_modify(|role| Arc::make_mut(role).removed = true);
    let mut identity = inner.peers.identity.lock();
    if let Some(belongs) = &mut identity.membership {
        belongs.removed = true;
    }
    if let Err(error) = identity.save(inner.peers.ground.env.fs.as_ref(), &inner.options.store_dir)
    {
        tracing::warn!(%error, "the removal is not noted in the directory");
    }
}

/// Notes the members in the directory: a start that has no state to read yet finds the others there.
pub fn note_members(inner: &Arc<Inner>) {
    let inner = inner.clone();
    tokio::spawn(crate::blocking::run(move || {
        // As they are now: whoever comes last writes the newest.
        let role = inner.role.borrow().clone();
        let node = |m: &Member| Node {
            name: m.name.clone(),
            peer_addr: m.peer_addr.clone(),
            client_addr: m.client_addr.clone(),
            broker_id: m.broker_id,
            incarnation: String::new(),
        };
        let members: Vec<_> = role.members.iter().map(|m| (m.node_id, node(m))).collect();
        if members.is_empty() {
            return;
        }
        let mut identity = inner.peers.identity.lock();
        match &mut identity.membership {
            Some(belongs) if belongs.members != members => belongs.members = members,
            _ => return,
        }
        if let Err(error) =
            identity.save(inner.peers.ground.env.fs.as_ref(), &inner.options.store_dir)
        {
            tracing::warn!(%error, "the members are not noted in the directory");
        }
    }));
}
