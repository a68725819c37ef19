//! From a directory to a running replica: the store, the housekeeping, the peer port, and the Raft core once the replica belongs to a
//! set.

use std::sync::Arc;

use raftmq_proto::raft::peer_server::PeerServer;
use raftmq_store::commitlog::writer::FlushPolicy;
use raftmq_store::commitlog::{Drive, LogOptions};
use raftmq_store::directory::DirectoryLock;
use raftmq_store::housekeeping::{self, Housekeeper};
use raftmq_store::{Store, StoreError};
use tokio::runtime::Runtime;
use tonic::codegen::Service;

use crate::error::RaftError;
use crate::ground::{Ground, Net};
use crate::identity::{Belongs, Identity, new_id};
use crate::network::{KEEP_ALIVE, MAX_MESSAGE};
use crate::options::{FlushMode, Node, Peer, ReplicaOptions};
use crate::peer_server::PeerService;
use crate::quarantine::Guard;
use crate::types::{Raft, decode_stored};
use crate::{clock, core, founding, join, repair};

use super::Inner;

/// Bytes of an HTTP/2 frame: entries come in few reads. The default of 16 KiB is a system call for each on both sides.
const MAX_FRAME: u32 = 1024 * 1024;
/// Threads of the Raft runtime. On a small machine tasks that wake each other on one thread cost a fifth less than on two.
fn raft_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| (n.get() / 4).clamp(1, 2))
}

/// The Raft runtime of a broker.
pub(super) fn raft_runtime() -> Result<Runtime, RaftError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(raft_threads())
        .thread_name("raft")
        .enable_all()
        .build()
        .map_err(|e| RaftError::Fatal(format!("runtime: {e}")))
}

pub(super) fn end(runtime: Option<Runtime>) {
    if let Some(runtime) = runtime {
        runtime.shutdown_background();
    }
}

pub(super) type Opened = (Store, Option<DirectoryLock>, Identity);

/// How the log of this replica is opened.
pub(super) fn log_options(ground: &Ground, options: &ReplicaOptions) -> LogOptions {
    let flush = match options.flush {
        FlushMode::Sync => FlushPolicy::Sync,
        FlushMode::Async => FlushPolicy::Async,
    };
    let mut log = LogOptions::new(options.segment_size, flush);
    log.every = options.flush_every;
    log.warm = options.warm_segments;
    log.drive = ground.drive;
    log.boot = ground.boot.clone();
    log
}

pub(super) fn open_store(ground: &Ground, options: &ReplicaOptions) -> Result<Opened, RaftError> {
    let log = log_options(ground, options);
    let lock = match ground.drive {
        Drive::Threads => Some(DirectoryLock::take(&options.store_dir)?),
        Drive::Caller => None,
    };
    let (env, fs) = (&ground.env, ground.env.fs.as_ref());
    let store = match Store::open_on(env, &options.store_dir, &log) {
        // Damaged where a start has to read: the other replicas may have it.
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::error!(%error, "the store cannot be opened as it is");
            repair::before_start(ground, options, &log, error)?;
            Store::open_on(env, &options.store_dir, &log)?
        }
        opened => opened?,
    };
    // The founding entry alone may be there before the first vote.
    if store.log.bounds().1.is_some_and(|last| last.index > 0) && store.log.vote().is_none() {
        store.log.close();
        return Err(RaftError::Store(StoreError::corrupt(
            options.store_dir.display().to_string(),
            "there is a log and no vote: a replica that forgot its vote must not vote; set this directory aside; a new replica has to take its place",
        )));
    }
    if store.log.bounds().1.is_some() && !Identity::exists(fs, &options.store_dir) {
        store.log.close();
        return Err(RaftError::Store(StoreError::corrupt(
            options.store_dir.display().to_string(),
            "there is a log and no identity: nobody knows which replica of which set this is; set this directory aside; a new replica has to take its place",
        )));
    }
    let identity = Identity::load_or_create(fs, &options.store_dir, &options.set)?;
    Ok((store, lock, identity))
}

/// Members as last heard of; 0 when nothing was noted.
pub(crate) fn known_members(identity: &Identity) -> usize {
    identity.membership.as_ref().map_or(0, |m| m.members.len())
}

/// Whether acknowledged messages may be missing, and who would know.
pub(super) fn open_guard(
    ground: &Ground,
    store: &Store,
    identity: &Identity,
    options: &ReplicaOptions,
) -> Result<Arc<Guard>, StoreError> {
    let membership = store
        .machine
        .lock()
        .membership()
        .map(decode_stored)
        .transpose()?;
    let founders = identity.membership.as_ref().map(|m| m.founders.len());
    let voters = membership.map(|m| m.voter_ids().count()).or(founders);
    // What holds no log and never voted has nothing to lose, unless something says that it did.
    let used = store.log.bounds().1.is_some() || store.log.vote().is_some();
    let lost = store.lost_end || (store.unsynced && used);
    Guard::open(
        ground.env.fs.clone(),
        options.store_dir.clone(),
        store.log.clone(),
        // The metadata may have gone back to a time before the set grew; the list of members is as new as can be.
        match known_members(identity) {
            0 | 1 => voters.map_or(options.bootstrap, |count| count == 1),
            _ => false,
        },
        lost,
        options.accept_data_loss,
    )
}

/// What the store finds out by itself.
pub(super) fn listen_to_store(inner: &Arc<Inner>) {
    let told = Arc::downgrade(inner);
    inner.store.log.on_poison(move |reason| {
        if let Some(inner) = told.upgrade() {
            inner.lease.drop_now();
            inner.stopped.send_replace(Some(reason.to_owned()));
        }
    });
    let told = Arc::downgrade(inner);
    inner.store.log.on_damage(move || {
        if let Some(inner) = told.upgrade() {
            inner.damaged.notify_one();
        }
    });
}

/// Starts the thread that keeps the store in order.
pub(super) fn start_housekeeping(inner: &Arc<Inner>) -> Result<(), RaftError> {
    let mut keeper = Housekeeper::new(&inner.store, inner.options.scrub_rate, clock::now());
    let _ = inner.housekeeping.progress.set(keeper.progress());
    let _ = inner.housekeeping.own_trim.set(keeper.own_trim());
    if inner.peers.ground.drive == Drive::Caller {
        *inner.housekeeping.by_hand.lock() = Some(keeper);
        return Ok(());
    }
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let told = Arc::downgrade(inner);
    let thread = std::thread::Builder::new()
        .name("housekeeping".into())
        .spawn(move || {
            let timeout = std::sync::mpsc::RecvTimeoutError::Timeout;
            while stopped.recv_timeout(housekeeping::TICK) == Err(timeout) {
                if keeper.tick(clock::now())
                    && let Some(inner) = told.upgrade()
                {
                    inner.base_moved.notify_one();
                }
            }
        })
        .map_err(|e| RaftError::Fatal(format!("housekeeping thread: {e}")))?;
    *inner.housekeeping.thread.lock() = Some((stop, thread));
    Ok(())
}

/// Tells openraft of a new base snapshot: it purges the log up to it.
pub(crate) async fn purge_up_to_base(inner: Arc<Inner>, raft: Raft) {
    loop {
        inner.base_moved.notified().await;
        if let Err(error) = raft.trigger().snapshot().await {
            tracing::debug!(%error, "the core has ended");
            return;
        }
    }
}

/// Everything that runs on the Raft runtime.
pub(super) async fn start(inner: Arc<Inner>) -> Result<(), RaftError> {
    listen(&inner).await?;
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
            tokio::spawn(found_or_join(inner));
            Ok(())
        }
    }
}

/// Opens the peer port.
async fn listen(inner: &Arc<Inner>) -> Result<(), RaftError> {
    let service = PeerServer::new(PeerService(inner.peers.clone()))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    if let Net::Simulated(wire) = &inner.peers.ground.net {
        wire.listen(Arc::new(move |request| {
            let answer = service.clone().call(request);
            Box::pin(async { answer.await.map_err(Into::into) })
        }));
        return Ok(());
    }
    let failed = |source| RaftError::Listen {
        addr: inner.options.peer_bind.to_string(),
        source,
    };
    let listener = tokio::net::TcpListener::bind(inner.options.peer_bind)
        .await
        .map_err(failed)?;
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(Some(16 * 1024 * 1024))
        .initial_connection_window_size(Some(32 * 1024 * 1024))
        .max_frame_size(Some(MAX_FRAME))
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
    Ok(())
}

/// The wait of a replica that belongs to no set yet.
async fn found_or_join(inner: Arc<Inner>) {
    let belongs = tokio::select! {
        belongs = founding::until_founded(&inner.peers, &inner.options.peers) => Ok(belongs),
        joined = join::until_joined(&inner) => joined,
    };
    let belongs = match belongs {
        Ok(belongs) => belongs,
        Err(error) => {
            inner.stopped.send_replace(Some(error.to_string()));
            return;
        }
    };
    tracing::info!(
        cluster_id = belongs.cluster_id,
        node_id = belongs.node_id,
        founder = !belongs.founders.is_empty(),
        "this replica belongs to the set"
    );
    match core::start(&inner, &belongs).await {
        Ok(raft) => finish_founding(&inner, raft, belongs),
        Err(error) => {
            inner.stopped.send_replace(Some(error.to_string()));
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
            name: inner.options.self_name.clone(),
            version: inner.peers.about.newest,
            ..Belongs::default()
        };
        let mut founded = identity.clone();
        founded.membership = Some(belongs.clone());
        founded.save(inner.peers.ground.env.fs.as_ref(), &inner.options.store_dir)?;
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
