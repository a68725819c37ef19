//! Starting the Raft core with the settings that keep it safe on this storage.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};
use raftmq_store::sabotage::{self, Sabotage};

use crate::clock;
use crate::error::RaftError;
use crate::identity::Belongs;
use crate::log_storage::LogStorage;
use crate::network::Network;
use crate::options::{Member, ReplicaOptions};
use crate::replica::Inner;
use crate::role::{self, Role};
use crate::state_machine::StateMachine;
use crate::types::{Raft, decode_stored};
use crate::wire::Call;
use crate::{in_sync, join, quarantine, tend};

/// Entries in one replication request; the limit in bytes binds first.
pub const MAX_REQUEST_ENTRIES: u64 = 4096;

/// openraft's configuration.
///
/// # Errors
/// Election and heartbeat times that cannot work together.
pub fn config(options: &ReplicaOptions) -> Result<Config, RaftError> {
    let config = Config {
        cluster_name: options.set.clone(),
        heartbeat_interval: options.heartbeat.as_millis() as u64,
        election_timeout_min: options.election_min.as_millis() as u64,
        election_timeout_max: options.election_max.as_millis() as u64,
        // A leader back within the election timeout would reuse log ids that its unsynced log may no longer hold.
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(true),
        // Campaigning is switched on by `start`, after the time in which an old lease may still run.
        enable_elect: false,
        max_payload_entries: MAX_REQUEST_ENTRIES,
        max_append_entries: Some(MAX_REQUEST_ENTRIES),
        // Messages live in the log: no snapshot may swallow them, and a follower far behind gets entries.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        // A replica that lost its unsynced end in a power cut gets it again, instead of being taken for up to date.
        allow_log_reversion: Some(true),
        replication_lag_threshold: u64::MAX,
        backoff: "10ms 20ms 40ms ..500ms".to_owned(),
        ..Config::default()
    };
    config
        .validate()
        .map_err(|e| RaftError::Config(e.to_string()))
}

/// Starts the core of a replica that belongs to a set.
///
/// # Errors
/// Configuration, or a store that openraft does not accept.
pub async fn start(inner: &Arc<Inner>, belongs: &Belongs) -> Result<Raft, RaftError> {
    let options = &inner.options;
    let call = Call {
        set: options.set.clone(),
        cluster_id: belongs.cluster_id.clone(),
        from: belongs.node_id,
        to: belongs.node_id,
        about: inner.peers.about.clone(),
    };
    let membership = inner
        .store
        .machine
        .lock()
        .membership()
        .map(decode_stored)
        .transpose()?;
    let voters = membership.map_or(belongs.founders.len(), |m| m.voter_ids().count());
    let alone = voters == 1 && belongs.members.len() <= 1;

    let own_name = match belongs.name.as_str() {
        "" => options.self_name.clone(),
        name => name.to_owned(),
    };
    let quiet = if inner.used_before && !alone && !sabotage::on(Sabotage::ForgetVote) {
        options.election_max
    } else {
        Duration::ZERO
    };
    let _ = inner.peers.no_votes_before.set(clock::now() + quiet);
    let config = Arc::new(config(options)?);
    let raft = loop {
        let log = LogStorage::new(
            inner.store.log.clone(),
            inner.store.snapshots.clone(),
            inner.lease.clone(),
            options.catch_up_rate,
            inner.lag.stamped(),
            inner.async_max_uncommitted.clone(),
            inner.peers.ground.now_ms.clone(),
        );
        let network = Network {
            net: inner.peers.ground.net.clone(),
            call: call.clone(),
            connect_timeout: options.election_min,
            book: inner.book.clone(),
            appended: log.appended(),
            state: inner.store.state.clone(),
            name: own_name.clone(),
        };
        let machine = StateMachine::new(
            inner.store.machine.clone(),
            inner.store.log.clone(),
            inner.store.snapshots.clone(),
            inner.observer.clone(),
            inner.applied.clone(),
        );
        let raft = Raft::new(belongs.node_id, config.clone(), network, log, machine).await;
        match raft {
            Ok(raft) => break raft,
            // It looks for the beginnings of terms in the log, and met what cannot be read.
            Err(error) if !inner.store.log.damage().is_empty() && !alone => {
                tracing::error!(%error, "the core cannot start before the log is repaired");
                repair_first(inner).await?;
            }
            Err(error) => return Err(RaftError::Fatal(error.to_string())),
        }
    };
    if inner.peers.core.set((raft.clone(), call.clone())).is_err() {
        return Err(RaftError::Fatal("the core was started twice".to_owned()));
    }

    let me = Member {
        node_id: belongs.node_id,
        broker_id: belongs.node_id,
        name: own_name,
        client_addr: options.client_advertise.clone(),
        peer_addr: options.peer_advertise.clone(),
    };
    let members_of = Arc::downgrade(inner);
    let follow = role::follow(
        raft.clone(),
        me,
        inner.lease.clone(),
        inner.store.log.clone(),
        inner.applied.clone(),
        inner.role.clone(),
        move |role| {
            if let Some(inner) = members_of.upgrade() {
                members_changed(&inner, role);
            }
        },
    );
    let stopped = inner.clone();
    tokio::spawn(async move {
        let reason = follow.await;
        let poisoned = stopped.store.log.progress().poisoned();
        stopped
            .stopped
            .send_replace(Some(poisoned.unwrap_or(reason)));
    });

    tokio::spawn(crate::repair::run(inner.clone(), call.clone()));
    tokio::spawn(crate::replica::start::purge_up_to_base(
        inner.clone(),
        raft.clone(),
    ));
    tokio::spawn(join::stay(inner.clone(), raft.clone(), call.clone()));
    tokio::spawn(in_sync::run(inner.clone(), raft.clone()));
    tokio::spawn(tend::take_notes(inner.clone()));
    tokio::spawn(tend::run(inner.clone(), raft.clone(), call.from));
    tokio::spawn(quarantine::watch(inner.clone(), raft.clone(), call, quiet));
    if alone && inner.used_before {
        // Nobody else can lead: no reason to wait for a timeout.
        if let Err(error) = raft.trigger().elect(false).await {
            tracing::warn!(%error, "the core ended before the first election");
        }
    }
    Ok(raft)
}

/// Those that speak to other members learn where they are.
fn members_changed(inner: &Arc<Inner>, role: &Role) {
    for member in &role.members {
        inner.book.note(member.node_id, &member.peer_addr);
    }
    inner
        .peers
        .guard
        .set_alone(role.voters == [role.me.node_id]);
    join::note_members(inner);
}

/// Waits for the other replicas to repair the log.
async fn repair_first(inner: &Arc<Inner>) -> Result<(), RaftError> {
    let identity = inner.peers.identity.lock().clone();
    let inner = inner.clone();
    let repaired = crate::blocking::run(move || {
        crate::repair::repair_whole(
            &inner.peers.ground.net,
            &inner.options,
            &identity,
            &inner.store.log,
        )
    });
    repaired
        .await
        .map_err(|e| RaftError::Fatal(e.to_string()))?
}
