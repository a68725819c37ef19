//! Who leads, as this replica knows it. One task follows openraft's metrics and publishes a [`Role`]; everybody
//! else watches that and never touches the metrics (holding them blocks the core).

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftMetrics;
use openraft::{Instant as _, ServerState};
use raftmq_store::commitlog::CommitLog;
use tokio::sync::watch;

use crate::clock;
use crate::lease::Lease;
use crate::options::Member;
use crate::state_machine::AppliedView;
use crate::types::{Raft, TypeConfig};

/// This replica's view of its set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Role {
    /// Present term.
    pub term: u64,
    /// This replica; its node id is 0 before the set is founded.
    pub me: Member,
    /// Known leader, perhaps this replica.
    pub leader: Option<Member>,
    /// This replica leads and the first entry of its term is applied: what it reads is up to date.
    pub serving: bool,
    /// All members, learners included, by node id.
    pub members: Vec<Member>,
    /// Node ids of the voters; while the membership changes, of those before and after.
    pub voters: Vec<u64>,
    /// The membership is final, committed, and applied here. Before, the set still needs a majority of the old voters, too:
    /// who goes by `voters` alone may take the last of them away.
    pub settled: bool,
    /// This replica was taken out of the set.
    pub removed: bool,
    pub(crate) state_is_leader: bool,
}

impl Role {
    /// Whether this replica is the leader (perhaps not serving yet).
    pub fn leads(&self) -> bool {
        self.state_is_leader
    }

    fn of(metrics: &RaftMetrics<TypeConfig>, me: &Member, may_serve: bool) -> Self {
        let membership = metrics.membership_config.membership();
        let members: Vec<Member> = membership
            .nodes()
            .map(|(id, node)| Member::new(*id, node))
            .collect();
        let leader = metrics
            .current_leader
            .and_then(|id| members.iter().find(|m| m.node_id == id).cloned());
        let leads = metrics.state == ServerState::Leader;
        let applied_term = metrics.last_applied.as_ref().map(|id| id.leader_id.term);
        let me = members
            .iter()
            .find(|m| m.node_id == me.node_id)
            .unwrap_or(me)
            .clone();
        Role {
            term: metrics.current_term,
            me,
            leader,
            serving: leads && may_serve && applied_term == Some(metrics.current_term),
            voters: membership.voter_ids().collect(),
            settled: membership.get_joint_config().len() <= 1
                && metrics.last_applied.as_ref() >= metrics.membership_config.log_id().as_ref(),
            members,
            removed: false,
            state_is_leader: leads,
        }
    }
}

/// How often the lease and the applied position are looked at. openraft's metrics change several times an entry: whoever
/// waits for each change costs more than the entry.
const LOOK: Duration = Duration::from_millis(30);
/// The same on a follower, whose role comes as a notice, and on the only voter, whose lease does not run out.
const LOOK_NOW_AND_THEN: Duration = Duration::from_millis(200);
/// The same while a new leader waits for its first entry to be applied.
const LOOK_CLOSELY: Duration = Duration::from_millis(2);

/// openraft's notice comes before the metrics that it is about: for so long they are looked at closely.
const SETTLES: Duration = Duration::from_millis(50);

/// Stops the leader's heartbeats while its disk hangs, so that another replica is elected.
struct DiskWatch {
    log: CommitLog,
    /// A write that takes longer costs the leadership.
    patience: Duration,
    given_up: bool,
}

impl DiskWatch {
    /// How long the present write has taken.
    fn look(&mut self, raft: &Raft, role: &Role) -> Duration {
        let stuck = self.log.progress().stuck_for();
        let give_up = stuck >= self.patience && role.leads() && role.voters != [role.me.node_id];
        if give_up && !self.given_up {
            tracing::error!(
                stuck_ms = stuck.as_millis() as u64,
                "the disk hangs: leadership is given up"
            );
            raft.runtime_config().heartbeat(false);
            self.given_up = true;
        } else if self.given_up && stuck < self.patience {
            tracing::info!("the disk answers again");
            raft.runtime_config().heartbeat(true);
            self.given_up = false;
        }
        stuck
    }
}

/// Follows the core until it ends; returns the reason.
pub async fn follow(
    raft: Raft,
    me: Member,
    lease: Arc<Lease>,
    log: CommitLog,
    view: Arc<AppliedView>,
    publish: watch::Sender<Arc<Role>>,
    mut seen_members: impl FnMut(&Role),
) -> String {
    let metrics = raft.metrics();
    let mut disk = DiskWatch {
        log,
        patience: lease.length() * 2,
        given_up: false,
    };
    // Changes with vote, leader and membership only.
    let mut server = raft.server_metrics();
    let mut noticed = clock::now();
    loop {
        let (role, acknowledged, running) = {
            let seen = metrics.borrow_watched();
            // The moment, never later than it was: an age that is held against a later clock would be too young, as when
            // this process is stopped in between.
            let acknowledged = seen.last_quorum_acked.and_then(|at| {
                let now = clock::now();
                now.checked_sub(at.into_inner().elapsed())
            });
            (
                Role::of(&seen, &me, view.newer().is_none()),
                acknowledged,
                seen.running_state.clone(),
            )
        };
        if let Err(fatal) = running {
            lease.drop_now();
            return fatal.to_string();
        }
        let stuck = disk.look(&raft, &role);
        match acknowledged {
            _ if !role.leads() || stuck >= lease.length() => lease.drop_now(),
            _ if role.voters == [me.node_id] => lease.alone(),
            Some(at) => lease.renew(at),
            None => lease.drop_now(),
        }
        let look = match (role.leads(), role.serving) {
            (true, false) => LOOK_CLOSELY,
            _ if clock::since(noticed) < SETTLES => LOOK_CLOSELY,
            (true, true) if role.voters != [me.node_id] => LOOK,
            _ => LOOK_NOW_AND_THEN,
        };
        let before = publish.borrow().clone();
        let role = Role {
            removed: before.removed,
            ..role
        };
        if *before != role {
            log_change(&before, &role);
            let news = before.members != role.members || before.voters != role.voters;
            publish.send_modify(|published| {
                let removed = published.removed;
                *published = Arc::new(Role { removed, ..role });
            });
            if news {
                seen_members(&publish.borrow().clone());
            }
        }
        tokio::select! {
            changed = server.changed() => {
                if changed.is_err() {
                    lease.drop_now();
                    return "the Raft core has ended".to_owned();
                }
                noticed = clock::now();
            }
            () = tokio::time::sleep(look) => {}
        }
    }
}

/// One line an event.
fn log_change(before: &Role, now: &Role) {
    let name = |role: &Role| {
        role.leader
            .as_ref()
            .map_or("nobody".to_owned(), |l| l.name.clone())
    };
    match (before.leads(), now.leads()) {
        (false, true) => tracing::info!(term = now.term, "elected leader"),
        (true, false) => {
            let why = match now.term > before.term {
                true => "a newer term",
                false => "its own step",
            };
            tracing::warn!(
                term = now.term,
                leader = name(now),
                why,
                "no longer the leader"
            )
        }
        _ if name(before) != name(now) => {
            tracing::info!(term = now.term, leader = name(now), "leader changed")
        }
        _ => {}
    }
    if now.serving && !before.serving {
        tracing::info!(term = now.term, "serving");
    }
    let names = |role: &Role, voters: bool| -> Vec<String> {
        let of_kind = |m: &&Member| role.voters.contains(&m.node_id) == voters;
        role.members
            .iter()
            .filter(of_kind)
            .map(|m| format!("{}#{}", m.name, m.node_id))
            .collect()
    };
    if (&before.members, &before.voters) != (&now.members, &now.voters) {
        tracing::info!(voters = ?names(now, true), learners = ?names(now, false), "members of the set");
    }
}
