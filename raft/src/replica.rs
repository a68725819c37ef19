//! The facade: one replica of one broker set, as the broker uses it. Owns the store, the Raft core and a tokio
//! runtime of its own, so that neither a backlog read nor a storm of clients delays a heartbeat.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use raftmq_store::commitlog::Drive;
use raftmq_store::directory::DirectoryLock;
use raftmq_store::housekeeping::{self, Housekeeper};
use raftmq_store::{Command, Store};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Notify, oneshot, watch};

use crate::about::About;
use crate::error::{ChangeError, ProposeError, RaftError};
use crate::ground::Ground;
use crate::lag::LagClock;
use crate::lease::Lease;
use crate::network::AddressBook;
use crate::options::{AckLevel, Member, Policy, ReplicaOptions};
use crate::peer_server::PeerState;
use crate::propose::{Limits, Proposal, Proposer};
use crate::role::Role;
use crate::state_machine::{AppliedView, Observer};
use crate::ticket::Stored;
use crate::types::Raft;
use crate::wire::Call;
use crate::{blocking, clock, in_sync, membership, peer_server, quarantine, upgrade};

mod reads;
pub(crate) mod start;

use start::{
    end, listen_to_store, open_guard, open_store, raft_runtime, start, start_housekeeping,
};

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
    /// The highest set version this replica has proposed.
    pub(crate) raising: AtomicU32,
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
            return Err(RaftError::Hopeless(format!(
                "{} was removed from the set {}: to join again this replica needs an empty directory",
                options.store_dir.display(),
                options.set
            )));
        }
        let version = store.state.set_version();
        if version > ground.newest_version {
            store.log.close();
            end(runtime);
            return Err(RaftError::Hopeless(format!(
                "{} belongs to a set at version {version}; this program knows versions up to {}: start a newer one",
                options.store_dir.display(),
                ground.newest_version
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
            let log = start::log_options(&ground, &options);
            Store::settle(&ground.env, &options.store_dir, &log).map(|()| guard)
        });
        let guard = match guard {
            Ok(guard) => guard,
            Err(error) => {
                store.log.close();
                end(runtime);
                return Err(error.into());
            }
        };
        if options.accept_data_loss && !guard.doubted() {
            store.log.close();
            end(runtime);
            return Err(RaftError::NothingToAccept);
        }
        let state = store.machine.lock().state().clone();
        let about = Arc::new(About::own(options.segment_size, ground.newest_version));
        let inner = Arc::new(Inner {
            proposer: Proposer::new(options.policy.ack, limits, lease.clone(), state),
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
                about,
                misfits: Mutex::default(),
                receiving: peer_server::receiving_slots(),
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
            raising: AtomicU32::new(0),
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

    /// Raises the set's version to the newest that every member knows: this program's. After it no older program can be a
    /// member of the set.
    ///
    /// # Errors
    /// [`ChangeError`]; refused while a member, learners too, is silent or has an older program.
    pub async fn finalize_upgrade(&self) -> Result<(), ChangeError> {
        let inner = self.inner.clone();
        self.on_raft(async move { upgrade::finalize(&inner).await })
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

    /// Why this replica applies nothing more, and neither leads nor serves: the set has a command that its program does not
    /// know.
    pub fn outdated(&self) -> Option<String> {
        self.inner.applied.newer().map(quarantine::outdated)
    }

    /// Records of the log that had no effect: no version could read or queue them. Alike on every replica.
    pub fn left_out(&self) -> u64 {
        self.inner.applied.left_out()
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

    /// Runs what calls [`Replica::propose`] many times: the propose loop is woken once, for all of it.
    pub fn together(&self, run: &mut dyn FnMut()) {
        self.inner.proposer.together(run);
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
