//! Repair of a damaged log: its ranges are read from the other replicas and written back in place. Below openraft, beside
//! it: what is committed never changes, every replica has the same bytes at the same positions, and what comes is
//! checked link by link. Until then the damaged entries are not served, and this replica neither votes nor leads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftmq_proto::raft as pb;
use raftmq_store::commitlog::damage::Damage;
use raftmq_store::commitlog::format::Header;
use raftmq_store::commitlog::{CommitLog, LogOptions};
use raftmq_store::version::NEWEST;
use raftmq_store::{Store, StoreError};

use crate::about::About;
use crate::dial::dial;
use crate::error::RaftError;
use crate::ground::{Ground, Net};
use crate::identity::{Belongs, Identity};
use crate::options::ReplicaOptions;
use crate::replica::Inner;
use crate::wire::Call;

/// Bytes asked for at once.
const PIECE: u32 = 4 * 1024 * 1024;
/// Pause after a round in which nothing could be repaired.
const AGAIN: Duration = Duration::from_secs(2);
/// Rounds after which the log says again what is missing.
const REMIND_ROUNDS: u32 = 15;
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Repairs what is found damaged, for the life of the replica.
pub async fn run(inner: Arc<Inner>, call: Call) {
    loop {
        while let Some(range) = inner.store.log.damage().first().copied() {
            if !repair_piece(&inner, &call, range).await {
                tokio::time::sleep(AGAIN).await;
            }
        }
        inner.damaged.notified().await;
    }
}

/// Repairs the beginning of a range from whichever replica has it.
async fn repair_piece(inner: &Arc<Inner>, call: &Call, range: Damage) -> bool {
    let role = inner.role.borrow().clone();
    for member in role.members.iter().filter(|m| m.node_id != call.from) {
        let fetched = fetch(
            &inner.peers.ground.net,
            &member.peer_addr,
            member.node_id,
            call,
            range,
        )
        .await;
        let entries = match fetched {
            Ok(entries) => entries,
            Err(status) => {
                tracing::debug!(%status, from = %member.name, "no help for a damaged log");
                continue;
            }
        };
        let log = inner.store.log.clone();
        let written = crate::blocking::run(move || write(&log, range, entries)).await;
        match written {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => {
                tracing::warn!(%error, from = %member.name, "a repair did not fit")
            }
            Err(error) => tracing::warn!(%error, "a repair failed"),
        }
    }
    false
}

fn write(log: &CommitLog, range: Damage, entries: Vec<Bytes>) -> raftmq_store::Result<()> {
    let mut kept = Vec::new();
    let mut end = range.from;
    let mut whole = false;
    for bytes in entries {
        let header =
            Header::decode(&bytes).ok_or_else(|| StoreError::corrupt("repair", "no entry"))?;
        if header.position >= range.to {
            whole = true;
            break;
        }
        end = header.position + u64::from(header.size);
        kept.push(bytes);
    }
    let to = if whole || end >= range.to {
        range.to
    } else {
        end
    };
    log.repair(Damage::new(range.from, to), &kept)
}

/// Repairs the log of a store that cannot be opened because of its damage; waits for the other replicas as long as it
/// takes. Blocking thread.
///
/// # Errors
/// The log is not damaged, or there is no other replica.
pub fn before_start(
    ground: &Ground,
    options: &ReplicaOptions,
    log: &LogOptions,
    found: StoreError,
) -> Result<(), RaftError> {
    let identity =
        Identity::load_or_create(ground.env.fs.as_ref(), &options.store_dir, &options.set)?;
    let log = Store::open_log(&ground.env, &options.store_dir, log)?;
    let repaired = match log.damage().is_empty() {
        // Something else is damaged.
        true => Err(found.into()),
        false => repair_whole(&ground.net, options, &identity, &log),
    };
    log.close();
    repaired
}

/// Node id, name and peer address of the others: the members as last heard of, or the founders in the peer list.
fn others(options: &ReplicaOptions, belongs: &Belongs) -> Vec<(u64, String, String)> {
    let members = belongs.members.iter();
    let mut others: Vec<_> = members
        .map(|(id, node)| (*id, node.name.clone(), node.peer_addr.clone()))
        .collect();
    if others.is_empty() {
        let addr = |name: &String| options.peers.iter().find(|p| p.name == *name);
        let founders = belongs.founders.iter();
        others = founders
            .filter_map(|(id, name, _)| Some((*id, name.clone(), addr(name)?.addr.clone())))
            .collect();
    }
    // They may have moved: the configuration may know better than what was last heard.
    let names: Vec<(u64, String)> = others
        .iter()
        .map(|(id, name, _)| (*id, name.clone()))
        .collect();
    for (id, name) in names {
        if let Some(peer) = options.peers.iter().find(|p| p.name == name) {
            others.push((id, name, peer.addr.clone()));
        }
    }
    others.sort();
    others.dedup();
    others.retain(|(id, ..)| *id != belongs.node_id);
    others
}

/// Repairs everything that is known to be damaged, from the other members. Blocking thread.
///
/// # Errors
/// The log is not damaged, or there is no other replica.
pub fn repair_whole(
    net: &Net,
    options: &ReplicaOptions,
    identity: &Identity,
    log: &CommitLog,
) -> Result<(), RaftError> {
    let damage = log.damage();
    let belongs = identity.membership.as_ref();
    let others = belongs.map_or(Vec::new(), |belongs| others(options, belongs));
    let Some(belongs) = belongs.filter(|_| !damage.is_empty() && !others.is_empty()) else {
        return Err(RaftError::Store(StoreError::corrupt(
            options.store_dir.display().to_string(),
            "damaged, and there is no other replica to repair it from",
        )));
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| RaftError::Fatal(format!("runtime: {e}")))?;
    let call = Call {
        set: options.set.clone(),
        cluster_id: belongs.cluster_id.clone(),
        from: belongs.node_id,
        to: 0,
        about: Arc::new(About::own(options.segment_size, NEWEST)),
    };
    let mut rounds = 0u32;
    while let Some(range) = log.damage().first().copied() {
        let mut repaired = false;
        for (node_id, name, addr) in &others {
            let fetched = runtime.block_on(fetch(net, addr, *node_id, &call, range));
            match fetched.map(|entries| write(log, range, entries)) {
                Ok(Ok(())) => {
                    repaired = true;
                    break;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, from = %name, "a repair did not fit");
                }
                Err(status) => tracing::debug!(%status, from = %name, "no help yet"),
            }
        }
        if !repaired {
            if rounds.is_multiple_of(REMIND_ROUNDS) {
                tracing::error!(
                    from = range.from,
                    to = range.to,
                    "the log is damaged: this replica starts when another one has sent what is missing"
                );
            }
            rounds += 1;
            std::thread::sleep(AGAIN);
        }
    }
    Ok(())
}

async fn fetch(
    net: &Net,
    addr: &str,
    to: u64,
    call: &Call,
    range: Damage,
) -> Result<Vec<Bytes>, tonic::Status> {
    let call = Call { to, ..call.clone() };
    let request = pb::ReadLogRequest {
        position: range.from,
        max_bytes: PIECE,
    };
    let mut client = dial(net, addr, ANSWER).await?;
    let answer = client.read_log(call.sign(request)?).await?;
    Ok(answer.into_inner().entries)
}
