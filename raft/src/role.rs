//! Who leads, as this replica knows it. One task follows openraft's metrics and publishes a [`Role`]; everybody
//! else watches that and never touches the metrics (holding them blocks the core).

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftMetrics;
use openraft::{Instant as _, ServerState};
use tokio::sync::watch;

use crate::lease::Lease;
use crate::options::Member;
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
    /// Node ids of the voters.
    pub voters: Vec<u64>,
    pub(crate) state_is_leader: bool,
}

impl Role {
    /// Whether this replica is the leader (perhaps not serving yet).
    pub fn leads(&self) -> bool {
        self.state_is_leader
    }

    fn of(metrics: &RaftMetrics<TypeConfig>, me: &Member) -> Self {
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
            serving: leads && applied_term == Some(metrics.current_term),
            voters: membership.voter_ids().collect(),
            members,
            state_is_leader: leads,
        }
    }
}

/// How often the lease and the applied position are looked at. openraft's metrics change several times an entry: whoever
/// waits for each change costs more than the entry.
const LOOK: Duration = Duration::from_millis(20);
/// The same while a new leader waits for its first entry to be applied.
const LOOK_CLOSELY: Duration = Duration::from_millis(2);

/// Follows the core until it ends; returns the reason.
pub async fn follow(
    raft: Raft,
    me: Member,
    lease: Arc<Lease>,
    publish: watch::Sender<Arc<Role>>,
) -> String {
    let metrics = raft.metrics();
    // Changes with vote, leader and membership only.
    let mut server = raft.server_metrics();
    loop {
        let (role, acknowledged, running) = {
            let seen = metrics.borrow_watched();
            let acknowledged = seen.last_quorum_acked.map(|at| at.into_inner().elapsed());
            (
                Role::of(&seen, &me),
                acknowledged,
                seen.running_state.clone(),
            )
        };
        if let Err(fatal) = running {
            lease.drop_now();
            return fatal.to_string();
        }
        match acknowledged {
            _ if !role.leads() => lease.drop_now(),
            _ if role.voters == [me.node_id] => lease.alone(),
            Some(ago) => lease.renew(Instant::now().checked_sub(ago).unwrap_or_else(Instant::now)),
            None => lease.drop_now(),
        }
        let look = match role.leads() && !role.serving {
            true => LOOK_CLOSELY,
            false => LOOK,
        };
        let before = publish.borrow().clone();
        if *before != role {
            log_change(&before, &role);
            publish.send_replace(Arc::new(role));
        }
        tokio::select! {
            changed = server.changed() => if changed.is_err() {
                lease.drop_now();
                return "the Raft core has ended".to_owned();
            },
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
            tracing::info!(term = now.term, leader = name(now), "no longer the leader")
        }
        _ if name(before) != name(now) => {
            tracing::info!(term = now.term, leader = name(now), "leader changed")
        }
        _ => {}
    }
    if now.serving && !before.serving {
        tracing::info!(term = now.term, "serving");
    }
}
