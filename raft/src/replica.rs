//! The facade: one replica of one broker set, as the broker uses it. Owns the store, the Raft core and a tokio
//! runtime of its own, so that neither a backlog read nor a storm of clients delays a heartbeat.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::{Mutex, RwLock};
use raftmq_proto::raft::peer_server::PeerServer;
use raftmq_remoting::message::StoredRecord;
use raftmq_store::commitlog::marks::Mark;
use raftmq_store::commitlog::writer::FlushPolicy;
use raftmq_store::commitlog::{Drive, LogOptions};
use raftmq_store::consume_queue::QueueEntry;
use raftmq_store::directory::DirectoryLock;
use raftmq_store::housekeeping::{self, Housekeeper};
use raftmq_store::state::State;
use raftmq_store::time_index::{self, Boundary};
use raftmq_store::vfs::Space;
use raftmq_store::{Command, Stop, Store, StoreError, key_query};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Notify, oneshot, watch};
use tonic::codegen::Service;

use crate::blocking;
use crate::clock;
use crate::core;
use crate::error::{ChangeError, ProposeError, RaftError};
use crate::founding;
use crate::ground::{Ground, Net};
use crate::identity::{Belongs, Identity, new_id};
use crate::in_sync;
use crate::join;
use crate::lag::LagClock;
use crate::lease::Lease;
use crate::membership;
use crate::network::{AddressBook, KEEP_ALIVE, MAX_MESSAGE};
use crate::options::{AckLevel, FlushMode, Member, Node, Peer, Policy, ReplicaOptions};
use crate::peer_server::{PeerService, PeerState};
use crate::propose::{Limits, Proposal, Proposer};
use crate::quarantine::Guard;
use crate::repair;
use crate::role::Role;
use crate::state_machine::{AppliedView, Observer};
use crate::ticket::Stored;
use crate::types::{Raft, decode_stored};
use crate::wire::Call;

/// Bytes of an HTTP/2 frame: entries come in few reads. The default of 16 KiB is a system call for each on both sides.
const MAX_FRAME: u32 = 1024 * 1024;
/// Threads of the Raft runtime. On a small machine tasks that wake each other on one thread cost a fifth less than on two.
fn raft_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| (n.get() / 4).clamp(1, 2))
}

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

/// A place at which the log could begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrimPoint {
    /// Byte position.
    pub position: u64,
    /// The last entry before it.
    pub index: u64,
    /// Time of the last message before it, milliseconds since the epoch.
    pub store_timestamp: i64,
}

pub(crate) struct Inner {
    pub(crate) options: ReplicaOptions,
    pub(crate) store: Store,
    pub(crate) lease: Arc<Lease>,
    pub(crate) proposer: Arc<Proposer>,
    pub(crate) peers: Arc<PeerState>,
    pub(crate) role: watch::Sender<Arc<Role>>,
    pub(crate) stopped: watch::Sender<Option<String>>,
    pub(crate) observer: Arc<dyn Observer>,
    /// Whether the directory held log or vote when it was opened.
    pub(crate) used_before: bool,
    /// Woken when damage of the log was found.
    pub(crate) damaged: Notify,
    /// What the set's settings say.
    pub(crate) policy: RwLock<Policy>,
    /// How far the others are behind, while this replica leads.
    pub(crate) lag: LagClock,
    /// The term this replica leads in, and since when.
    pub(crate) led_since: Mutex<Option<(u64, Instant)>>,
    /// When this replica led last.
    pub(crate) last_led: Mutex<Option<Instant>>,
    /// Held while leadership or the membership is changed.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Newcomers under examination.
    pub(crate) joins: tokio::sync::Semaphore,
    /// What is applied.
    pub(crate) applied: Arc<AppliedView>,
    /// Where the members are.
    pub(crate) book: Arc<AddressBook>,
    /// Peer addresses at which the set may be found, for a replica that belongs to none yet.
    pub(crate) hints: watch::Sender<Vec<String>>,
    /// `asyncMaxUncommittedBytes`.
    pub(crate) async_max_uncommitted: Arc<AtomicU64>,
    /// The Raft runtime.
    pub(crate) handle: Handle,
    /// Woken when the base snapshot has moved: the log may be purged up to it.
    pub(crate) base_moved: Notify,
    /// New messages are refused: the disk is too full.
    full: AtomicBool,
    pub(crate) housekeeping: Arc<Housekeeping>,
    _lock: Option<DirectoryLock>,
    runtime: Mutex<Option<Runtime>>,
    closed: OnceLock<()>,
}

/// The housekeeping thread and how it is spoken to.
#[derive(Default)]
pub(crate) struct Housekeeping {
    progress: OnceLock<Arc<housekeeping::Progress>>,
    own_trim: OnceLock<Arc<AtomicU64>>,
    thread: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
    /// Without a thread.
    pub(crate) by_hand: Mutex<Option<Housekeeper>>,
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
        Self::open_on(Ground::real(), options, observer).await
    }

    /// As [`Replica::open`], on any ground.
    ///
    /// # Errors
    /// As [`Replica::open`].
    pub async fn open_on(
        ground: Ground,
        options: ReplicaOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Replica, RaftError> {
        options.check().map_err(RaftError::Config)?;
        let runtime = match ground.drive {
            Drive::Threads => Some(raft_runtime()?),
            Drive::Caller => None,
        };
        let handle = runtime
            .as_ref()
            .map_or_else(Handle::current, |runtime| runtime.handle().clone());
        let opened = {
            let (ground, options) = (ground.clone(), options.clone());
            let open = handle.spawn(blocking::run(move || open_store(&ground, &options)));
            open.await.and_then(|opened| opened)
        };
        let opened = opened.map_err(|e| RaftError::Fatal(e.to_string()));
        let (store, lock, identity) = match opened.and_then(|opened| opened) {
            Ok(opened) => opened,
            Err(error) => {
                end(runtime);
                return Err(error);
            }
        };
        let used_before = store.log.bounds().1.is_some() || store.log.vote().is_some();
        if identity.membership.as_ref().is_some_and(|m| m.removed) {
            store.log.close();
            end(runtime);
            return Err(RaftError::Config(format!(
                "{} was removed from the set {}: to join again this replica needs an empty directory",
                options.store_dir.display(),
                options.set
            )));
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
        let guard = open_guard(&ground, &store, &identity, &options).and_then(|guard| {
            Store::settle(&ground.env, &options.store_dir, &ground.boot).map(|()| guard)
        });
        let guard = match guard {
            Ok(guard) => guard,
            Err(error) => {
                store.log.close();
                end(runtime);
                return Err(error.into());
            }
        };
        let inner = Arc::new(Inner {
            proposer: Proposer::new(options.policy.ack, limits, lease.clone()),
            lease,
            peers: Arc::new(PeerState {
                ground,
                dir: options.store_dir.clone(),
                name: options.self_name.clone(),
                client_addr: options.client_advertise.clone(),
                identity: Mutex::new(identity),
                guard,
                log: store.log.clone(),
                snapshots: store.snapshots.clone(),
                owner: OnceLock::new(),
                core: OnceLock::new(),
                no_votes_before: OnceLock::new(),
                founded: tokio::sync::Notify::new(),
            }),
            store,
            role: watch::Sender::new(Arc::new(role)),
            stopped: watch::Sender::new(None),
            observer,
            used_before,
            damaged: Notify::new(),
            policy: RwLock::new(options.policy.clone()),
            lag: LagClock::default(),
            led_since: Mutex::default(),
            last_led: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            joins: membership::join_slots(),
            applied: Arc::default(),
            book: Arc::default(),
            hints: watch::Sender::default(),
            async_max_uncommitted: Arc::new(AtomicU64::new(options.policy.async_max_uncommitted)),
            handle: handle.clone(),
            base_moved: Notify::new(),
            full: AtomicBool::new(false),
            housekeeping: Arc::default(),
            _lock: lock,
            runtime: Mutex::new(None),
            closed: OnceLock::new(),
            options,
        });
        let _ = inner.peers.owner.set(Arc::downgrade(&inner));
        listen_to_store(&inner);
        let started = {
            let inner = inner.clone();
            let start = handle.spawn(async move { start(inner).await });
            start
                .await
                .map_err(|e| RaftError::Fatal(e.to_string()))
                .and_then(|r| r)
        };
        if let Err(error) = started.and_then(|()| start_housekeeping(&inner)) {
            inner.store.log.close();
            end(runtime);
            return Err(error);
        }
        *inner.runtime.lock() = runtime;
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
        let closed = blocking::run(move || {
            if let Some((stop, thread)) = inner.housekeeping.thread.lock().take() {
                drop(stop);
                if thread.join().is_err() {
                    tracing::error!("the housekeeping thread panicked");
                }
            }
            if let Some(runtime) = runtime {
                runtime.shutdown_timeout(std::time::Duration::from_secs(2));
            }
            inner
                .store
                .close(&inner.peers.ground.env, &inner.options.store_dir)
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
            let now = clock::now();
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

    /// Changes what the set's settings say; entries appended from now on follow it.
    pub fn set_policy(&self, policy: Policy) {
        self.inner.proposer.set_ack_level(policy.ack);
        self.inner
            .async_max_uncommitted
            .store(policy.async_max_uncommitted, Ordering::Relaxed);
        *self.inner.policy.write() = policy;
    }

    /// Tells a replica that belongs to no set yet at which peer addresses it may be found.
    pub fn suggest_peers(&self, addrs: Vec<String>) {
        self.inner.hints.send_if_modified(|known| {
            let news = *known != addrs;
            *known = addrs;
            news
        });
    }

    /// Hands leadership to a voter, by name or node id; to the best one with `None`. Clients notice a pause of some ten
    /// milliseconds. Returns the new leader.
    ///
    /// # Errors
    /// [`ChangeError`]; refused up front for a target that is dead, lags, or may not lead.
    pub async fn transfer_leader(&self, to: Option<&str>) -> Result<Member, ChangeError> {
        let (inner, to) = (self.inner.clone(), to.map(str::to_owned));
        self.on_raft(async move { crate::transfer::transfer(&inner, to.as_deref()).await })
            .await
    }

    /// Makes a learner, by name or node id, a voter.
    ///
    /// # Errors
    /// [`ChangeError`]; refused when it has not caught up.
    pub async fn add_voter(&self, replica: &str) -> Result<(), ChangeError> {
        let (inner, replica) = (self.inner.clone(), replica.to_owned());
        self.on_raft(async move { membership::promote(&inner, &replica).await })
            .await
    }

    /// Takes a replica, by name or node id, out of the set for good; the leader hands over first when it is itself.
    ///
    /// # Errors
    /// [`ChangeError`]; refused when too few of the voters that remain answer.
    pub async fn remove_replica(&self, replica: &str, force: bool) -> Result<(), ChangeError> {
        let (inner, replica) = (self.inner.clone(), replica.to_owned());
        self.on_raft(async move { membership::remove(&inner, &replica, force).await })
            .await
    }

    /// Runs on the Raft runtime, where its connections live, and to its end even if the caller goes away.
    async fn on_raft<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ChangeError>> + Send + 'static,
    ) -> Result<T, ChangeError> {
        let done = self.inner.handle.spawn(work).await;
        done.unwrap_or_else(|e| Err(ChangeError::Unknown(e.to_string())))
    }

    /// Voters that are in sync, as the log says, of how many; for `ackQuorum=all`.
    pub fn in_sync(&self) -> (usize, usize) {
        let role = self.inner.role.borrow().clone();
        let left_out = in_sync::left_out(&self.inner.store.state);
        let out = role
            .voters
            .iter()
            .filter(|id| left_out.contains(id))
            .count();
        (role.voters.len() - out, role.voters.len())
    }

    /// This replica is about to stop: from now on it neither campaigns nor takes the leadership.
    pub fn leave_leading(&self) {
        self.inner.peers.guard.leave();
    }

    /// How long ago this process led; `None`: never.
    pub fn last_led(&self) -> Option<Duration> {
        self.inner.last_led.lock().map(clock::since)
    }

    /// Random id of the set; `None` before its founding.
    pub fn cluster_id(&self) -> Option<String> {
        let identity = self.inner.peers.identity.lock();
        identity.membership.as_ref().map(|m| m.cluster_id.clone())
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Queues a proposal. `done` is called once, on a raft thread, and must not block.
    pub fn propose(
        &self,
        proposal: Proposal,
        done: impl FnOnce(Result<Stored, ProposeError>) + Send + 'static,
    ) {
        if !proposal.messages.is_empty() {
            if self.is_full() {
                return done(Err(ProposeError::DiskFull));
            }
            let all = proposal.ack.is_none() && self.inner.proposer.ack_level() == AckLevel::All;
            if all && self.inner.proposer.in_sync.are_too_few() {
                return done(Err(ProposeError::NotEnoughInSync));
            }
        }
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
            deadline: clock::now() + self.inner.options.waiting_room,
        };
        self.propose(proposal, move |result| {
            let _ = tx.send(result);
        });
        rx.await.map_err(|_| ProposeError::Stopped)?.map(|_| ())
    }

    /// Applied state.
    pub fn state(&self) -> &Arc<State> {
        &self.inner.store.state
    }

    /// First and next offset of a queue; `None` before its first message.
    pub fn queue_range(&self, topic: &str, queue_id: i32) -> Option<(i64, i64)> {
        self.inner
            .store
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
        match self.inner.store.queues.get(topic, queue_id) {
            Some(queue) => queue.read(from, max),
            None => Ok(Vec::new()),
        }
    }

    /// A stored message, without a copy.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] for what is not committed or no longer kept.
    pub fn read_record(&self, physical_offset: i64, size: u32) -> Result<Bytes, StoreError> {
        self.inner
            .store
            .log
            .read_record(physical_offset as u64, size)
    }

    /// The message of a queue entry, without a copy. What the entry says of it must be true: a consume queue has no
    /// checksums of its own.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] for what is no longer kept; [`StoreError::Corrupt`] when the entry or the log is damaged:
    /// both are made good in the background.
    pub fn read_queued(
        &self,
        topic: &str,
        queue_id: i32,
        entry: &QueueEntry,
    ) -> Result<Bytes, StoreError> {
        let read = self
            .inner
            .store
            .log
            .read_record(entry.physical_offset as u64, entry.size);
        match &read {
            Ok(bytes) if is_of(bytes, topic, queue_id, entry) => return read,
            Err(StoreError::OutOfRange { min, .. }) if entry.physical_offset < *min => return read,
            _ => {}
        }
        if self.inner.store.log.damage().is_empty() {
            self.inner.store.queues.mark_damaged(topic, queue_id);
        }
        match read {
            Ok(_) => Err(StoreError::corrupt(
                format!("consume queue {topic}-{queue_id}"),
                format!("entry {} is not what the log says", entry.queue_offset),
            )),
            Err(error) => Err(error),
        }
    }

    /// The stored message that starts at a position.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`], or [`StoreError::Corrupt`] when none starts there.
    pub fn read_record_at(&self, physical_offset: i64) -> Result<Bytes, StoreError> {
        self.inner.store.log.read_record_at(physical_offset as u64)
    }

    /// Whether a record is surely in memory.
    pub fn is_hot(&self, physical_offset: i64) -> bool {
        self.inner.store.log.is_hot(physical_offset as u64)
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
        match self.inner.store.queues.get(topic, queue_id) {
            Some(queue) => {
                time_index::offset_at(&self.inner.store.log, &queue, timestamp_ms, boundary)
            }
            None => Ok(0),
        }
    }

    /// Whether new messages are refused because the disk is full.
    pub fn is_full(&self) -> bool {
        self.inner.full.load(Ordering::Relaxed) || self.inner.store.log.progress().no_space()
    }

    /// Refuses new messages, or takes them again; reads go on.
    pub fn set_full(&self, full: bool) {
        if self.inner.full.swap(full, Ordering::Relaxed) != full {
            match full {
                true => tracing::error!("the disk is too full: new messages are refused"),
                false => tracing::info!("the disk has room again: new messages are taken"),
            }
        }
    }

    /// How full the disk of the store is.
    ///
    /// # Errors
    /// I/O.
    pub fn space(&self) -> Result<Space, StoreError> {
        let dir = &self.inner.options.store_dir;
        let space = self.inner.peers.ground.env.fs.space(dir);
        space.map_err(|e| StoreError::io(format!("look at {}", dir.display()), e))
    }

    /// Places at which the log could begin, oldest first: each with the time of the last message before it.
    pub fn boundaries(&self) -> Vec<TrimPoint> {
        let marks = self.inner.store.snapshots.marks();
        let point = |m: Mark| TrimPoint {
            position: m.position,
            index: m.index,
            store_timestamp: m.store_timestamp,
        };
        marks.into_iter().map(point).collect()
    }

    /// On the leader: the last entry that every member has.
    pub fn replicated_everywhere(&self) -> Option<u64> {
        let (raft, _) = self.inner.peers.core.get()?;
        let metrics = raft.metrics();
        let seen = metrics.borrow_watched();
        let replication = seen.replication.as_ref()?;
        replication
            .values()
            .map(|matched| matched.as_ref().map_or(0, |id| id.index))
            .min()
    }

    /// Gives up the log before `position` on this replica alone.
    pub fn trim_alone(&self, position: u64) {
        if let Some(own) = self.inner.housekeeping.own_trim.get() {
            own.fetch_max(position, Ordering::AcqRel);
        }
    }

    /// Stored messages with a key or unique id, newest first, `max` at most. Reads files: not for async threads.
    ///
    /// # Errors
    /// I/O or damage.
    pub fn query_keys(
        &self,
        topic: &str,
        key: &str,
        (begin_ms, end_ms): (i64, i64),
        max: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let store = &self.inner.store;
        key_query::query(&store.keys, &store.log, topic, key, (begin_ms, end_ms), max)
    }

    /// Time and place of the last message in the key index.
    pub fn last_indexed(&self) -> (i64, u64) {
        self.inner.store.keys.last()
    }

    /// Counters of the housekeeping.
    pub fn housekeeping(&self) -> Option<Arc<housekeeping::Progress>> {
        self.inner.housekeeping.progress.get().cloned()
    }

    /// Ranges of the log that cannot be read now.
    pub fn damaged_ranges(&self) -> usize {
        self.inner.store.log.damage().len()
    }

    /// First physical offset kept, and the one after the last applied entry.
    pub fn log_range(&self) -> (i64, i64) {
        let applied = self
            .inner
            .store
            .machine
            .try_lock()
            .and_then(|m| m.applied())
            .map(|a| a.position);
        let end = applied.unwrap_or_else(|| self.inner.store.log.end());
        (self.inner.store.log.start() as i64, end as i64)
    }
}

impl Inner {
    /// The core, when this replica leads and serves.
    pub(crate) fn leading(&self) -> Result<(Raft, Call), ChangeError> {
        let role = self.role.borrow().clone();
        match (&role.leader, self.peers.core.get()) {
            (_, Some((raft, call))) if role.serving && self.lease.is_valid() => {
                Ok((raft.clone(), call.clone()))
            }
            (Some(leader), Some(_)) if leader.node_id != role.me.node_id => {
                Err(ChangeError::NotLeader(leader.clone()))
            }
            _ => Err(ChangeError::NoLeader),
        }
    }

    /// For how long this replica has led.
    pub(crate) fn led_for(&self) -> Duration {
        let since = *self.led_since.lock();
        since.map_or(Duration::ZERO, |(_, since)| clock::since(since))
    }

    /// Proposes a state change of the set itself, bound to a term, and waits until it is applied.
    pub(crate) async fn decide(
        &self,
        command: Command,
        term: u64,
        time: Duration,
    ) -> Result<(), ProposeError> {
        let (tx, rx) = oneshot::channel();
        let proposal = Proposal {
            messages: Vec::new(),
            commands: vec![command],
            ack: Some(AckLevel::Majority),
            only_term: Some(term),
            deadline: clock::now() + time,
        };
        self.proposer
            .propose(proposal, Box::new(move |result| drop(tx.send(result))));
        rx.await.map_err(|_| ProposeError::Stopped)?.map(|_| ())
    }
}

/// Whether a stored message is the one that a queue entry speaks of.
fn is_of(bytes: &[u8], topic: &str, queue_id: i32, entry: &QueueEntry) -> bool {
    let own_size = bytes.get(..4).map(|size| size == entry.size.to_be_bytes());
    own_size == Some(true)
        && StoredRecord::parse(bytes).is_ok_and(|view| {
            view.queue_offset() == entry.queue_offset
                && view.physical_offset() == entry.physical_offset
                && view.queue_id() == queue_id
                && view.topic() == topic
        })
}

/// The Raft runtime of a broker.
fn raft_runtime() -> Result<Runtime, RaftError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(raft_threads())
        .thread_name("raft")
        .enable_all()
        .build()
        .map_err(|e| RaftError::Fatal(format!("runtime: {e}")))
}

fn end(runtime: Option<Runtime>) {
    if let Some(runtime) = runtime {
        runtime.shutdown_background();
    }
}

type Opened = (Store, Option<DirectoryLock>, Identity);

fn open_store(ground: &Ground, options: &ReplicaOptions) -> Result<Opened, RaftError> {
    let flush = match options.flush {
        FlushMode::Sync => FlushPolicy::Sync,
        FlushMode::Async => FlushPolicy::Async,
    };
    let mut log = LogOptions::new(options.segment_size, flush);
    log.every = options.flush_every;
    log.warm = options.warm_segments;
    log.drive = ground.drive;
    log.boot = ground.boot.clone();
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
fn open_guard(
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
    let unsynced = store.stop == Stop::PowerLoss && options.flush == FlushMode::Async;
    // What holds no log and never voted has nothing to lose, unless something says that it did.
    let used = store.log.bounds().1.is_some() || store.log.vote().is_some();
    let lost = store.lost_end || (unsynced && used);
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
fn listen_to_store(inner: &Arc<Inner>) {
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
fn start_housekeeping(inner: &Arc<Inner>) -> Result<(), RaftError> {
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
async fn start(inner: Arc<Inner>) -> Result<(), RaftError> {
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
