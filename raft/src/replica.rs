//! The facade: one replica of one broker set, as the broker uses it. Owns the store, the Raft core and a tokio
//! runtime of its own, so that neither a backlog read nor a storm of clients delays a heartbeat.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use raftmq_proto::raft::peer_server::PeerServer;
use raftmq_store::commitlog::draft::Placed;
use raftmq_store::commitlog::writer::FlushPolicy;
use raftmq_store::commitlog::{CommitLog, LogOptions};
use raftmq_store::consume_queue::{QueueEntry, QueueTable};
use raftmq_store::state::State;
use raftmq_store::store::DirectoryLock;
use raftmq_store::time_index::{self, Boundary};
use raftmq_store::{Command, Machine, Store, StoreError};
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

use crate::core;
use crate::error::{ProposeError, RaftError};
use crate::founding;
use crate::identity::{Belongs, Identity, new_id};
use crate::lease::Lease;
use crate::network::{KEEP_ALIVE, MAX_MESSAGE};
use crate::options::{AckLevel, FlushMode, Member, Node, Peer, ReplicaOptions};
use crate::peer_server::{PeerService, PeerState};
use crate::propose::{Limits, Proposal, Proposer};
use crate::role::Role;
use crate::state_machine::Observer;
use crate::types::Raft;

/// Threads of the Raft runtime: the core and replication, and one for what comes in.
const RAFT_THREADS: usize = 2;

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    /// This replica, and it serves.
    Me {
        /// Its term.
        term: u64,
    },
    /// Another.
    Other(Member),
}

pub(crate) struct Inner {
    pub(crate) options: ReplicaOptions,
    pub(crate) log: CommitLog,
    pub(crate) machine: Arc<Mutex<Machine>>,
    pub(crate) state: Arc<State>,
    pub(crate) queues: Arc<QueueTable>,
    pub(crate) lease: Arc<Lease>,
    pub(crate) proposer: Arc<Proposer>,
    pub(crate) peers: Arc<PeerState>,
    pub(crate) role: watch::Sender<Arc<Role>>,
    pub(crate) stopped: watch::Sender<Option<String>>,
    pub(crate) observer: Arc<dyn Observer>,
    /// Whether the directory held log or vote when it was opened.
    pub(crate) used_before: bool,
    lock: Mutex<Option<DirectoryLock>>,
    runtime: Mutex<Option<Runtime>>,
    closed: OnceLock<()>,
}

/// Handle of a replica; cheap to clone.
#[derive(Clone)]
pub struct Replica {
    inner: Arc<Inner>,
}

impl Replica {
    /// Opens the store, listens on the peer port and starts the Raft core, or the wait for the set's founding.
    /// Returns before there is a leader.
    ///
    /// # Errors
    /// Configuration, disk, or a peer port in use.
    pub async fn open(
        options: ReplicaOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Replica, RaftError> {
        options.check().map_err(RaftError::Config)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RAFT_THREADS)
            .thread_name("raft")
            .enable_all()
            .build()
            .map_err(|e| RaftError::Fatal(format!("runtime: {e}")))?;
        let handle = runtime.handle().clone();
        let opened = {
            let options = options.clone();
            let open = handle.spawn_blocking(move || open_store(&options));
            open.await.map_err(|e| RaftError::Fatal(e.to_string()))?
        };
        let (store, identity) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let used_before = store.log.bounds().1.is_some() || store.log.vote().is_some();
        if identity.membership.is_none() && options.peers.is_empty() && !options.bootstrap {
            runtime.shutdown_background();
            return Err(RaftError::Config(
                "an empty directory and no raftPeers: give the peer list of the set, or --bootstrap for a set of one"
                    .to_owned(),
            ));
        }
        let limits = Limits {
            waiting_bytes: options.waiting_room_bytes,
            waiting_room: options.waiting_room,
            ack_timeout: options.ack_timeout,
            max_entry: options.segment_size as usize,
        };
        let me = Member {
            name: options.self_name.clone(),
            client_addr: options.client_advertise.clone(),
            peer_addr: options.peer_advertise.clone(),
            ..Member::default()
        };
        let role = Role {
            me,
            ..Role::default()
        };
        let lease = Arc::new(Lease::new(options.election_max));
        let inner = Arc::new(Inner {
            proposer: Proposer::new(options.ack, limits, lease.clone()),
            lease,
            peers: Arc::new(PeerState {
                dir: options.store_dir.clone(),
                name: options.self_name.clone(),
                client_addr: options.client_advertise.clone(),
                identity: Mutex::new(identity),
                core: OnceLock::new(),
                no_votes_before: OnceLock::new(),
                founded: tokio::sync::Notify::new(),
            }),
            log: store.log,
            machine: Arc::new(Mutex::new(store.machine)),
            state: store.state,
            queues: store.queues,
            role: watch::Sender::new(Arc::new(role)),
            stopped: watch::Sender::new(None),
            observer,
            used_before,
            lock: Mutex::new(Some(store.lock)),
            runtime: Mutex::new(None),
            closed: OnceLock::new(),
            options,
        });
        let started = {
            let inner = inner.clone();
            let start = handle.spawn(async move { start(inner).await });
            start
                .await
                .map_err(|e| RaftError::Fatal(e.to_string()))
                .and_then(|r| r)
        };
        if let Err(error) = started {
            inner.log.close();
            runtime.shutdown_background();
            return Err(error);
        }
        *inner.runtime.lock() = Some(runtime);
        Ok(Replica { inner })
    }

    /// Stops proposing, ends the core, writes everything out.
    ///
    /// # Errors
    /// When the state could not be written; nothing acknowledged is lost by that.
    pub async fn shutdown(&self) -> Result<(), RaftError> {
        if self.inner.closed.set(()).is_err() {
            return Ok(());
        }
        self.inner.proposer.stop();
        if let Some((raft, _)) = self.inner.peers.core.get()
            && let Err(error) = raft.shutdown().await
        {
            tracing::warn!(%error, "the Raft core did not end cleanly");
        }
        let runtime = self.inner.runtime.lock().take();
        let inner = self.inner.clone();
        let closed = tokio::task::spawn_blocking(move || {
            let saved = {
                let mut machine = inner.machine.lock();
                machine.save().and_then(|()| machine.flush())
            };
            inner.log.close();
            if let Some(runtime) = runtime {
                runtime.shutdown_timeout(std::time::Duration::from_secs(2));
            }
            if let Some(lock) = inner.lock.lock().take()
                && saved.is_ok()
                && inner.log.progress().poisoned().is_none()
            {
                lock.clean_stop();
            }
            saved
        });
        closed
            .await
            .map_err(|e| RaftError::Fatal(e.to_string()))??;
        Ok(())
    }

    /// Resolves when the replica has ended for good: the process must exit non-zero.
    pub async fn stopped(&self) -> RaftError {
        let mut stopped = self.inner.stopped.subscribe();
        let reason = match stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the replica has ended".to_owned(),
        };
        RaftError::Fatal(reason)
    }

    /// Present role.
    pub fn role(&self) -> Arc<Role> {
        self.inner.role.borrow().clone()
    }

    /// Role, and its changes.
    pub fn watch_role(&self) -> watch::Receiver<Arc<Role>> {
        self.inner.role.subscribe()
    }

    /// This replica leads, the first entry of its term is applied, and its lease is valid at this moment.
    pub fn is_serving(&self) -> bool {
        self.inner.role.borrow().serving && self.inner.lease.is_valid()
    }

    /// Waits until this replica serves or knows another leader; `None` at the deadline.
    pub async fn wait_leader(&self, deadline: Instant) -> Option<Leadership> {
        let mut role = self.watch_role();
        loop {
            {
                let present = role.borrow_and_update();
                if present.serving && self.inner.lease.is_valid() {
                    return Some(Leadership::Me { term: present.term });
                }
                let other = present
                    .leader
                    .as_ref()
                    .filter(|l| l.node_id != present.me.node_id);
                if let Some(leader) = other {
                    return Some(Leadership::Other(leader.clone()));
                }
            }
            let now = Instant::now();
            if now >= deadline {
                return None;
            }
            // A lease is renewed without a change of role: look again soon.
            let look_again = (now + self.inner.options.heartbeat).min(deadline);
            if let Ok(Err(_)) = tokio::time::timeout_at(look_again.into(), role.changed()).await {
                return None;
            }
        }
    }

    /// Changes the configured acknowledgement level.
    pub fn set_ack_level(&self, level: AckLevel) {
        self.inner.proposer.set_ack_level(level);
    }

    /// Queues a proposal. `done` is called once, on a raft thread, and must not block.
    pub fn propose(
        &self,
        proposal: Proposal,
        done: impl FnOnce(Result<Vec<Placed>, ProposeError>) + Send + 'static,
    ) {
        self.inner.proposer.propose(proposal, Box::new(done));
    }

    /// Proposes state changes and waits until they are applied.
    ///
    /// # Errors
    /// As [`ProposeError`] says.
    pub async fn propose_commands(&self, commands: Vec<Command>) -> Result<(), ProposeError> {
        let (tx, rx) = oneshot::channel();
        let proposal = Proposal {
            messages: Vec::new(),
            commands,
            ack: Some(AckLevel::Majority),
            only_term: None,
            deadline: Instant::now() + self.inner.options.waiting_room,
        };
        self.propose(proposal, move |result| {
            let _ = tx.send(result);
        });
        rx.await.map_err(|_| ProposeError::Stopped)?.map(|_| ())
    }

    /// Applied state.
    pub fn state(&self) -> &Arc<State> {
        &self.inner.state
    }

    /// First and next offset of a queue; `None` before its first message.
    pub fn queue_range(&self, topic: &str, queue_id: i32) -> Option<(i64, i64)> {
        self.inner
            .queues
            .get(topic, queue_id)
            .map(|queue| (queue.min(), queue.max()))
    }

    /// Entries of a queue.
    ///
    /// # Errors
    /// I/O.
    pub fn read_queue(
        &self,
        topic: &str,
        queue_id: i32,
        from: i64,
        max: usize,
    ) -> Result<Vec<QueueEntry>, StoreError> {
        match self.inner.queues.get(topic, queue_id) {
            Some(queue) => queue.read(from, max),
            None => Ok(Vec::new()),
        }
    }

    /// A stored message, without a copy.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] for what is not committed or no longer kept.
    pub fn read_record(&self, physical_offset: i64, size: u32) -> Result<Bytes, StoreError> {
        self.inner.log.read_record(physical_offset as u64, size)
    }

    /// The stored message that starts at a position.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`], or [`StoreError::Corrupt`] when none starts there.
    pub fn read_record_at(&self, physical_offset: i64) -> Result<Bytes, StoreError> {
        self.inner.log.read_record_at(physical_offset as u64)
    }

    /// Whether a record is surely in memory.
    pub fn is_hot(&self, physical_offset: i64) -> bool {
        self.inner.log.is_hot(physical_offset as u64)
    }

    /// Queue offset by store time. Reads messages: not for async threads.
    ///
    /// # Errors
    /// I/O or damage.
    pub fn offset_at(
        &self,
        topic: &str,
        queue_id: i32,
        timestamp_ms: i64,
        boundary: Boundary,
    ) -> Result<i64, StoreError> {
        match self.inner.queues.get(topic, queue_id) {
            Some(queue) => time_index::offset_at(&self.inner.log, &queue, timestamp_ms, boundary),
            None => Ok(0),
        }
    }

    /// First physical offset kept, and the one after the last applied entry.
    pub fn log_range(&self) -> (i64, i64) {
        let applied = self
            .inner
            .machine
            .try_lock()
            .and_then(|m| m.applied())
            .map(|a| a.position);
        let end = applied.unwrap_or_else(|| self.inner.log.end());
        (self.inner.log.start() as i64, end as i64)
    }
}

fn open_store(options: &ReplicaOptions) -> Result<(Store, Identity), RaftError> {
    let log = LogOptions {
        segment_size: options.segment_size,
        flush: match options.flush {
            FlushMode::Sync => FlushPolicy::Sync,
            FlushMode::Async { .. } => FlushPolicy::Async,
        },
        flush_interval: match options.flush {
            FlushMode::Async { interval } => interval,
            FlushMode::Sync => SYNC_MODE_FLUSHER,
        },
    };
    let store = Store::open(&options.store_dir, &log)?;
    let identity = Identity::load_or_create(&options.store_dir, &options.set)?;
    Ok((store, identity))
}

/// With SYNC_FLUSH the flusher only writes checkpoints.
const SYNC_MODE_FLUSHER: std::time::Duration = std::time::Duration::from_millis(500);

/// Everything that runs on the Raft runtime.
async fn start(inner: Arc<Inner>) -> Result<(), RaftError> {
    let failed = |source| RaftError::Listen {
        addr: inner.options.peer_bind.to_string(),
        source,
    };
    let listener = tokio::net::TcpListener::bind(inner.options.peer_bind)
        .await
        .map_err(failed)?;
    let service = PeerServer::new(PeerService(inner.peers.clone()))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(Some(16 * 1024 * 1024))
        .initial_connection_window_size(Some(32 * 1024 * 1024))
        .add_service(service)
        .serve_with_incoming(incoming);
    let served = inner.clone();
    tokio::spawn(async move {
        if let Err(error) = server.await {
            served
                .stopped
                .send_replace(Some(format!("peer port: {error}")));
        }
    });
    tokio::spawn(
        inner
            .proposer
            .clone()
            .run(inner.peers.clone(), inner.role.subscribe()),
    );

    let membership = inner.peers.identity.lock().membership.clone();
    match membership {
        Some(belongs) => core::start(&inner, &belongs)
            .await
            .map(|raft| finish_founding(&inner, raft, belongs)),
        None if inner.options.bootstrap => bootstrap(&inner).await,
        None => {
            tokio::spawn(async move {
                let belongs = founding::until_founded(&inner.peers, &inner.options.peers).await;
                tracing::info!(
                    cluster_id = belongs.cluster_id,
                    node_id = belongs.node_id,
                    "this replica is a founder"
                );
                match core::start(&inner, &belongs).await {
                    Ok(raft) => finish_founding(&inner, raft, belongs),
                    Err(error) => {
                        inner.stopped.send_replace(Some(error.to_string()));
                    }
                }
            });
            Ok(())
        }
    }
}

/// A set of one replica.
async fn bootstrap(inner: &Arc<Inner>) -> Result<(), RaftError> {
    let belongs = {
        let mut identity = inner.peers.identity.lock();
        let belongs = Belongs {
            cluster_id: new_id(),
            node_id: 1,
            founders: vec![(
                1,
                inner.options.self_name.clone(),
                identity.incarnation.clone(),
            )],
        };
        let mut founded = identity.clone();
        founded.membership = Some(belongs.clone());
        founded.save(&inner.options.store_dir)?;
        *identity = founded;
        belongs
    };
    let raft = core::start(inner, &belongs).await?;
    finish_founding(inner, raft, belongs);
    Ok(())
}

/// The lowest founder initialises Raft, now or after a restart that came in between.
fn finish_founding(inner: &Arc<Inner>, raft: Raft, belongs: Belongs) {
    let lowest = belongs.founders.iter().map(|(id, ..)| *id).min();
    if lowest != Some(belongs.node_id) {
        return;
    }
    let inner = inner.clone();
    tokio::spawn(async move {
        match raft.is_initialized().await {
            Ok(false) => {}
            Ok(true) => return,
            Err(error) => {
                tracing::warn!(%error, "the Raft core ended before the set was founded");
                return;
            }
        }
        let peers = founding_peers(&inner, &belongs);
        let members = founding::convince_all(&inner.peers, &peers, &belongs).await;
        let names: Vec<&str> = members.values().map(|n: &Node| n.name.as_str()).collect();
        tracing::info!(members = ?names, cluster_id = belongs.cluster_id, "the set is founded");
        if let Err(error) = raft.initialize(members).await {
            tracing::warn!(%error, "the set could not be initialised");
        }
    });
}

fn founding_peers(inner: &Inner, belongs: &Belongs) -> Vec<Peer> {
    if belongs.founders.len() == 1 {
        return vec![Peer {
            name: inner.options.self_name.clone(),
            addr: inner.options.peer_advertise.clone(),
        }];
    }
    inner.options.peers.clone()
}
