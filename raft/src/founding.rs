//! How a set comes into being from a peer list: only when every listed replica answers and is new. The lowest name
//! alone founds; it tells all others the random cluster id and the list of incarnations, and initialises Raft when
//! everyone has accepted. A list with a silent or a used replica in it founds nothing: that could be a second set
//! with the old one's name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use raftmq_proto::raft as pb;

use crate::about::About;
use crate::dial::dial;
use crate::ground::{Net, Peer as Client};
use crate::identity::{Belongs, Identity, new_id};
use crate::options::{Node, Peer};
use crate::peer_server::PeerState;

/// Pause between two rounds.
const ROUND: Duration = Duration::from_millis(100);
/// Rounds after which the log says again what is missing.
const REMIND_ROUNDS: u32 = 100;
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Raft members by node id.
pub type Members = BTreeMap<u64, Node>;

async fn connect(net: &Net, peer: &Peer) -> Result<Client, String> {
    let client = dial(net, &peer.addr, ANSWER).await;
    client.map_err(|_| "does not answer".to_owned())
}

async fn hello(state: &PeerState, peer: &Peer) -> Result<pb::HelloResponse, String> {
    let identity = state.identity.lock().clone();
    if peer.name == state.name {
        return Ok(pb::HelloResponse {
            name: state.name.clone(),
            incarnation: identity.incarnation,
            cluster_id: identity
                .membership
                .map(|m| m.cluster_id)
                .unwrap_or_default(),
            client_addr: state.client_addr.clone(),
            about: Some(state.about.message()),
        });
    }
    let request = pb::HelloRequest {
        set: identity.set,
        name: state.name.clone(),
        incarnation: identity.incarnation,
        about: Some(state.about.message()),
    };
    let answer = connect(&state.ground.net, peer)
        .await?
        .hello(request)
        .await
        .map_err(|s| s.message().to_owned())?
        .into_inner();
    if answer.name != peer.name {
        return Err(format!("calls itself {}", answer.name));
    }
    let about = About::told(answer.about.clone());
    if let Some(why) = state.about.misfit(&state.name, (&peer.name, &about), 0) {
        return Err(why);
    }
    Ok(answer)
}

async fn hello_all(state: &PeerState, peers: &[Peer]) -> Result<Vec<pb::HelloResponse>, String> {
    let mut answers = Vec::with_capacity(peers.len());
    for peer in peers {
        let answer = hello(state, peer).await;
        answers.push(answer.map_err(|why| format!("{} at {}: {why}", peer.name, peer.addr))?);
    }
    Ok(answers)
}

/// The peers in the order of their names: node ids are given in it.
fn by_name(peers: &[Peer]) -> Vec<Peer> {
    let mut peers = peers.to_vec();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    peers
}

/// Waits until this directory belongs to a set: founds it when this is the lowest name, accepts otherwise.
pub async fn until_founded(state: &Arc<PeerState>, peers: &[Peer]) -> Belongs {
    let peers = by_name(peers);
    let founds = peers.first().is_some_and(|p| p.name == state.name);
    let mut round = 0u32;
    if peers.is_empty() {
        return std::future::pending().await;
    }
    loop {
        if let Some(membership) = state.identity.lock().membership.clone() {
            return membership;
        }
        let missing = match hello_all(state, &peers).await {
            Ok(answers) => match answers.iter().find(|a| !a.cluster_id.is_empty()) {
                // A founder that has gone ahead will tell us; a set that has data has to take us in, which `join` asks for.
                Some(_) => None,
                None if founds => match plan(state, &answers) {
                    Ok(()) => continue,
                    Err(why) => Some(why),
                },
                None => None,
            },
            Err(why) => Some(why),
        };
        if let Some(why) = missing
            && round.is_multiple_of(REMIND_ROUNDS)
        {
            tracing::info!(
                why,
                "the set is not founded yet: every listed replica has to answer and be new"
            );
        }
        round += 1;
        tokio::select! {
            () = state.founded.notified() => {}
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

/// Writes down the set to be founded, before anyone else hears of it.
fn plan(state: &PeerState, answers: &[pb::HelloResponse]) -> Result<(), String> {
    let founders: Vec<(u64, String, String)> = (1..)
        .zip(answers)
        .map(|(id, a)| (id, a.name.clone(), a.incarnation.clone()))
        .collect();
    let node_id = founders
        .iter()
        .find(|(_, name, _)| *name == state.name)
        .map_or(1, |(id, ..)| *id);
    // A set that nobody older belongs to begins with the newest version that all know.
    let newest = answers.iter().map(|a| About::told(a.about.clone()).newest);
    let version = newest.min().unwrap_or(0);
    let mut identity = state.identity.lock();
    let founded = Identity {
        membership: Some(Belongs {
            cluster_id: new_id(),
            node_id,
            founders,
            name: state.name.clone(),
            version,
            ..Belongs::default()
        }),
        ..identity.clone()
    };
    founded
        .save(state.ground.env.fs.as_ref(), &state.dir)
        .map_err(|e| e.to_string())?;
    *identity = founded;
    Ok(())
}

/// Brings every founder to accept, and returns the first membership. Repeats until all have: it is safe to be
/// killed anywhere in between.
pub async fn convince_all(state: &PeerState, peers: &[Peer], belongs: &Belongs) -> Members {
    let mut round = 0u32;
    loop {
        match convince_once(state, peers, belongs).await {
            Ok(members) => return members,
            Err(why) if round.is_multiple_of(REMIND_ROUNDS) => {
                tracing::info!(why, "the founding waits")
            }
            Err(_) => {}
        }
        round += 1;
        tokio::time::sleep(ROUND).await;
    }
}

async fn convince_once(
    state: &PeerState,
    peers: &[Peer],
    belongs: &Belongs,
) -> Result<Members, String> {
    let peers = by_name(peers);
    let founders = belongs
        .founders
        .iter()
        .map(|(node_id, name, incarnation)| pb::Founder {
            node_id: *node_id,
            name: name.clone(),
            incarnation: incarnation.clone(),
        });
    let request = pb::FoundRequest {
        set: state.identity.lock().set.clone(),
        cluster_id: belongs.cluster_id.clone(),
        founders: founders.collect(),
        about: Some(state.about.message()),
        version: belongs.version,
    };
    let answers = hello_all(state, &peers).await?;
    let mut members = Members::new();
    for (peer, answer) in peers.iter().zip(answers) {
        let Some((node_id, _, incarnation)) = belongs
            .founders
            .iter()
            .find(|(_, name, _)| *name == peer.name)
        else {
            return Err(format!("{} is not among the founders", peer.name));
        };
        if *incarnation != answer.incarnation {
            return Err(format!(
                "{} has another directory than when the set was planned",
                peer.name
            ));
        }
        if peer.name != state.name {
            let mut client = connect(&state.ground.net, peer)
                .await
                .map_err(|why| format!("{}: {why}", peer.name))?;
            let answer = client
                .found(request.clone())
                .await
                .map_err(|s| s.message().to_owned())?
                .into_inner();
            if !answer.refused.is_empty() {
                return Err(format!("{} refuses: {}", peer.name, answer.refused));
            }
        }
        members.insert(
            *node_id,
            Node {
                name: peer.name.clone(),
                peer_addr: peer.addr.clone(),
                client_addr: answer.client_addr,
                broker_id: *node_id,
                incarnation: answer.incarnation,
            },
        );
    }
    Ok(members)
}
