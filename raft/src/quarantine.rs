//! Whether this replica may vote and lead.
//!
//! A replica that lost the end of its log (a power cut with `ASYNC_FLUSH`, or damage there) may have forgotten what it
//! acknowledged. Its vote could elect a leader without an acknowledged message, so it neither votes nor campaigns until a
//! live leader has brought it up to what that leader committed in its own term: by then it has everything again. When so
//! many are in that state that nobody can be elected, all voters must be there; then the most complete log is elected, and
//! what may be missing is said aloud. An operator can end the wait (`--accept-data-loss`).
//!
//! A replica with damage in the middle of its log does not vote or lead either, until the damage is repaired.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use raftmq_store::StoreError;
use raftmq_store::commitlog::CommitLog;
use raftmq_store::vfs::FileSystem;

use crate::clock;
use crate::dial::standing;
use crate::log_storage::decode_vote;
use crate::replica::Inner;
use crate::transfer;
use crate::types::{LogId, Raft, Vote};
use crate::wire::Call;

/// Term and index, as logs are compared.
type Last = Option<(u64, u64)>;

/// How often a restricted replica looks whether it still is.
const LOOK: Duration = Duration::from_millis(100);
/// Longest wait for another replica's answer.
const ANSWER: Duration = Duration::from_millis(500);
/// How often the log says that the replica still waits.
const REMIND: Duration = Duration::from_secs(30);

/// See the module's text.
pub struct Guard {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    log: CommitLog,
    /// One voter has nobody to wait for.
    alone: AtomicBool,
    /// About to stop: it votes and does not lead.
    leaving: AtomicBool,
    /// A committed entry is newer than this program: it votes and does not lead.
    newer: Mutex<Option<String>>,
    state: Mutex<State>,
    /// The end of the log was in doubt at this start.
    doubted: bool,
}

#[derive(Default)]
struct State {
    /// The end of the log may be missing.
    lost: bool,
    /// With all voters in sight: votes go to logs at least so complete.
    floor: Option<Last>,
    /// What a leader said it has committed in its own term.
    committed: Option<LogId>,
    /// When a leader was last heard of. openraft's own idea of the leader outlives both of them.
    heard: Option<Instant>,
}

impl Guard {
    /// For a store directory; `lost` says that this start found the end of the log in doubt. The doubt survives restarts.
    ///
    /// # Errors
    /// I/O.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        dir: PathBuf,
        log: CommitLog,
        alone: bool,
        lost: bool,
        accept: bool,
    ) -> Result<Arc<Self>, StoreError> {
        let path = dir.join("quarantine");
        let failed = |e| StoreError::io(format!("write {}", path.display()), e);
        let mut lost = lost || fs.exists(&path);
        let doubted = lost;
        if lost && (alone || accept) {
            tracing::error!(
                "messages acknowledged before the last stop may be missing at the end of the log; nothing is waited for"
            );
            lost = false;
            if fs.exists(&path) {
                fs.remove_file(&path).map_err(failed)?;
            }
        }
        if lost {
            fs.replace(&path, b"the end of the log may be missing\n")
                .map_err(failed)?;
            tracing::warn!(
                "the end of the log may be missing: this replica neither votes nor leads until it has caught up with a leader"
            );
        }
        Ok(Arc::new(Self {
            fs,
            path,
            log,
            alone: AtomicBool::new(alone),
            leaving: AtomicBool::new(false),
            newer: Mutex::default(),
            doubted,
            state: Mutex::new(State {
                lost,
                ..State::default()
            }),
        }))
    }

    /// This start found the end of the log in doubt, whatever was made of that.
    pub fn doubted(&self) -> bool {
        self.doubted
    }

    /// The set has become one of this voter alone, or no more so.
    pub fn set_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Relaxed);
    }

    /// This replica is about to stop: it does not campaign, and takes no leadership that is handed to it.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Why leadership may not be handed to this replica; `None` when it may.
    pub fn hindrance(&self) -> Option<String> {
        let leaves = self.leaving.load(Ordering::Relaxed);
        let leaves = leaves.then(|| "it is about to stop".to_owned());
        let newer = || self.newer.lock().clone().map(outdated);
        leaves.or_else(newer).or_else(|| self.restriction())
    }

    /// It waits for a leader, or for all voters.
    pub fn waits(&self) -> bool {
        self.state.lock().lost
    }

    /// Why this replica may not lead; `None` when it may.
    pub fn restriction(&self) -> Option<String> {
        if self.alone.load(Ordering::Relaxed) {
            return None;
        }
        if self.state.lock().lost {
            return Some("the end of its log may be missing".to_owned());
        }
        let damage = self.log.damage();
        (!damage.is_empty()).then(|| format!("its log is damaged in {} places", damage.len()))
    }

    /// Whether a candidate whose log ends with `last` may have this replica's vote.
    ///
    /// # Errors
    /// Why not.
    pub fn may_vote(&self, last: Last) -> Result<(), String> {
        let Some(reason) = self.restriction() else {
            return Ok(());
        };
        let floor = self.state.lock().floor;
        match floor {
            Some(floor) if last >= floor => Ok(()),
            _ => Err(reason),
        }
    }

    /// Told with every request of a leader.
    pub fn leader_commits(&self, vote: &Vote, commit: Option<&LogId>) {
        let mut state = self.state.lock();
        state.heard = Some(clock::now());
        if !state.lost || !vote.committed {
            return;
        }
        // Not of a leader that is deposed and does not know it yet.
        let promised = self.log.vote().and_then(|bytes| decode_vote(&bytes).ok());
        let deposed = promised.is_some_and(|v| v.leader_id.term > vote.leader_id.term);
        let own_term = commit.filter(|c| c.leader_id.term == vote.leader_id.term);
        if let Some(commit) = own_term.filter(|_| !deposed) {
            state.committed = Some(*commit);
        }
    }

    /// Whether a leader was heard of within `time`.
    pub fn has_heard(&self, time: Duration) -> bool {
        let heard = self.state.lock().heard;
        heard.is_some_and(|at| clock::since(at) < time)
    }

    /// Nothing may be missing any more.
    fn lift(&self) {
        let mut state = self.state.lock();
        if let Err(error) = self.fs.remove_file(&self.path) {
            tracing::warn!(%error, "the quarantine file could not be removed");
            return;
        }
        *state = State::default();
        tracing::info!("caught up with the leader: this replica votes again");
    }
}

/// Why a replica neither leads nor serves that has met what its program does not know.
pub fn outdated(what: String) -> String {
    format!("its program is older than the set and has to be upgraded: {what}")
}

/// Holds the restrictions for the life of the replica: campaigns are switched off and on, leadership is given up.
pub async fn watch(inner: Arc<Inner>, raft: Raft, call: Call, quiet: Duration) {
    tokio::time::sleep(quiet).await;
    let guard = &inner.peers.guard;
    let mut electing = None;
    let mut reminded = clock::now();
    let mut leaderless = clock::now();
    loop {
        let restricted = guard.restriction().is_some();
        let leaves = guard.leaving.load(Ordering::Relaxed);
        let newer = inner.applied.newer();
        let outdated = newer.is_some();
        *guard.newer.lock() = newer;
        let campaign = !leaves && !outdated && (!restricted || floor_is_ours(guard));
        if electing != Some(campaign) {
            raft.runtime_config().elect(campaign);
            electing = Some(campaign);
        }
        if !restricted && !outdated {
            // Damage is rare and found while it is read: looking now and then is enough.
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let (applied, leads) = {
            let metrics = raft.metrics();
            let seen = metrics.borrow_watched();
            let leads = seen.state == openraft::ServerState::Leader;
            (seen.last_applied, leads)
        };
        if leads || guard.has_heard(inner.options.election_max) {
            leaderless = clock::now();
        }
        if guard.waits() {
            let committed = guard.state.lock().committed;
            if committed.is_some_and(|c| applied.is_some_and(|a| a.index >= c.index)) || leads {
                guard.lift();
                continue;
            }
            if clock::since(leaderless) >= inner.options.election_max * 2 {
                look_around(&inner, &raft, &call).await;
            }
            if clock::since(reminded) >= REMIND {
                reminded = clock::now();
                tracing::warn!(
                    "still waiting: the end of the log may be missing, and there is no leader to catch up with"
                );
            }
        } else if leads {
            match outdated {
                true => {
                    tracing::warn!("leadership is handed over: the program is older than the set")
                }
                false => tracing::warn!("leadership is handed over: the log is damaged here"),
            }
            if let Err(error) = transfer::transfer(&inner, None).await {
                tracing::warn!(%error, "nobody else can lead");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn floor_is_ours(guard: &Guard) -> bool {
    let last = guard.log.bounds().1.map(|id| (id.term, id.index));
    let floor = guard.state.lock().floor;
    floor.is_some_and(|floor| last >= floor)
}

/// Asks all voters how they stand. When every one answers, none knows a leader, and those that may vote are too few,
/// the most complete log is let through.
async fn look_around(inner: &Inner, raft: &Raft, call: &Call) {
    let voters: Vec<(u64, String)> = {
        let metrics = raft.metrics();
        let seen = metrics.borrow_watched();
        let membership = seen.membership_config.membership();
        let ids: Vec<u64> = membership.voter_ids().collect();
        membership
            .nodes()
            .filter(|(id, _)| ids.contains(id))
            .map(|(id, node)| (*id, node.peer_addr.clone()))
            .collect()
    };
    let guard = &inner.peers.guard;
    let own = guard.log.bounds().1.map(|id| (id.term, id.index));
    let mut floor = own;
    let mut may_vote = 0;
    for (id, addr) in voters.iter().filter(|(id, _)| *id != call.from) {
        let Ok(standing) = standing(&inner.peers.ground.net, addr, *id, call, ANSWER).await else {
            // Silence: its log may be the most complete one.
            guard.state.lock().floor = None;
            return;
        };
        if standing.has_leader {
            return;
        }
        may_vote += usize::from(!standing.waits);
        floor = floor.max(standing.last.map(|id| (id.term, id.index)));
    }
    let quorum = voters.len() / 2 + 1;
    if voters.is_empty() || may_vote >= quorum {
        return;
    }
    let mut state = guard.state.lock();
    if state.floor != Some(floor) {
        tracing::error!(
            ?floor,
            ?own,
            "too few replicas have kept the end of their log: all {} are here, the most complete log is elected; messages acknowledged just before the power cut may be lost",
            voters.len()
        );
        state.floor = Some(floor);
    }
}
