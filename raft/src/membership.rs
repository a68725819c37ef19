//! Who belongs to the set: taking in, promoting and removing replicas, one change at a time, on the leader.
//!
//! A replica comes as a learner under a node id that was never used before, catches up, and becomes a voter through joint
//! consensus. One that lost its directory comes back under its old name with a new id; its old self is replaced by it, and
//! never votes again, because nobody has its incarnation any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::Precondition;
use raftmq_proto::raft as pb;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::about::About;
use crate::clock;
use crate::dial::dial;
use crate::error::ChangeError;
use crate::lag::Reach;
use crate::options::{Member, Node};
use crate::replica::Inner;
use crate::role::Role;
use crate::types::{Membership, Raft};

/// Members of a set at most, learners included.
const MAX_MEMBERS: usize = 15;
/// Longest wait for a change to be committed.
const COMMIT: Duration = Duration::from_secs(10);
/// Longest wait for a newcomer's answer.
const ANSWER: Duration = Duration::from_secs(1);
/// A member that was silent for so long may be replaced under its name.
const SILENT: Duration = Duration::from_secs(3);
/// A learner that lags by less has caught up.
const CAUGHT_UP: Duration = Duration::from_secs(1);

/// Longest name, address and incarnation that is taken from a newcomer, bytes.
const MAX_TEXT: usize = 255;
/// Newcomers that are looked at at once.
const MAX_JOINS: usize = 4;

type Change = ChangeMembers<u64, Node>;

/// The membership in effect, all of it committed and applied here.
struct Settled {
    membership: Membership,
    /// The next node id.
    next_id: u64,
    preconditions: Vec<Precondition<crate::types::TypeConfig>>,
}

fn settled(inner: &Inner, raft: &Raft) -> Result<Settled, ChangeError> {
    let metrics = raft.metrics();
    let seen = metrics.borrow_watched();
    let stored = &seen.membership_config;
    let (at, applied) = (*stored.log_id(), seen.last_applied);
    if at > applied {
        return Err(ChangeError::Busy);
    }
    let membership = stored.membership().clone();
    drop(seen);
    let own = membership.nodes().map(|(id, _)| *id).max().unwrap_or(0);
    let ever = inner.applied.member(0).map_or(0, |(ever, _)| ever);
    Ok(Settled {
        membership,
        next_id: own.max(ever) + 1,
        preconditions: vec![Precondition::LastMembershipLogId {
            last_membership_log_id: at,
        }],
    })
}

/// As [`settled`], for changes that must not flatten a joint membership in passing.
fn settled_and_simple(inner: &Inner, raft: &Raft) -> Result<Settled, ChangeError> {
    let settled = settled(inner, raft)?;
    match settled.membership.get_joint_config().len() {
        0 | 1 => Ok(settled),
        _ => Err(ChangeError::Busy),
    }
}

/// Whether a role shows the membership in effect, final and applied here.
pub fn is_settled(inner: &Inner, raft: &Raft, role: &Role) -> bool {
    settled_and_simple(inner, raft).is_ok_and(|settled| {
        let ids: Vec<u64> = settled.membership.nodes().map(|(id, _)| *id).collect();
        ids.into_iter().eq(role.members.iter().map(|m| m.node_id))
    })
}

/// Commits a change. With `retain`, voters that are removed stay as learners.
async fn change(
    raft: &Raft,
    settled: Settled,
    change: Change,
    retain: bool,
) -> Result<(), ChangeError> {
    let changed = raft.change_membership_if(change, retain, settled.preconditions);
    match tokio::time::timeout(COMMIT, changed).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(ChangeError::Unknown(format!(
            "the membership did not change: {error}"
        ))),
        Err(_) => Err(ChangeError::Unknown(
            "the change of the membership is not committed yet".to_owned(),
        )),
    }
}

/// A directory asks to be taken in, or a member says where it is now.
///
/// # Errors
/// gRPC statuses: another set, no leader, not now. A refusal for good stands in the answer.
pub async fn join(
    inner: &Arc<Inner>,
    request: pb::JoinRequest,
) -> Result<pb::JoinResponse, Status> {
    let belongs = inner.peers.identity.lock().membership.clone();
    let belongs = belongs.ok_or_else(|| Status::unavailable("belongs to no set yet"))?;
    let another = !request.cluster_id.is_empty() && request.cluster_id != belongs.cluster_id;
    if request.set != inner.options.set || another {
        return Err(Status::permission_denied("another broker set"));
    }
    let texts = [
        &request.name,
        &request.incarnation,
        &request.peer_addr,
        &request.client_addr,
    ];
    if texts.iter().any(|text| text.len() > MAX_TEXT) || request.incarnation.is_empty() {
        return Err(Status::invalid_argument(
            "a name or an address that is none",
        ));
    }
    let raft = match inner.leading() {
        Ok((raft, _)) => raft,
        Err(ChangeError::NotLeader(leader)) => {
            return Ok(pb::JoinResponse {
                leader_addr: leader.peer_addr,
                ..Default::default()
            });
        }
        Err(error) => return Err(Status::unavailable(error.to_string())),
    };
    let busy = |_| Status::unavailable("others are being taken in");
    let _slot = inner.joins.try_acquire().map_err(busy)?;
    let mut removed = false;
    let (refused, node_id, name) = match take_in(inner, &raft, &request).await {
        Ok(Taken::Member(node_id, name)) => (String::new(), node_id, name),
        Ok(Taken::Removed) => {
            removed = true;
            let why = "it was removed from the set: to join again it needs an empty directory";
            (why.to_owned(), 0, String::new())
        }
        Err(ChangeError::Refused(why)) => (why, 0, String::new()),
        Err(error) => return Err(Status::unavailable(error.to_string())),
    };
    Ok(pb::JoinResponse {
        refused,
        leader_addr: String::new(),
        cluster_id: belongs.cluster_id,
        node_id,
        name,
        leader_id: belongs.node_id,
        removed,
        about: Some(inner.peers.about.message()),
        set_version: inner.store.state.set_version(),
    })
}

/// Slots of [`join`].
pub fn join_slots() -> Semaphore {
    Semaphore::new(MAX_JOINS)
}

/// Whose directory stands at a peer address.
async fn incarnation_at(inner: &Inner, addr: &str) -> Result<String, String> {
    let hello = pb::HelloRequest {
        set: inner.options.set.clone(),
        name: inner.options.self_name.clone(),
        incarnation: inner.peers.identity.lock().incarnation.clone(),
        about: Some(inner.peers.about.message()),
    };
    let answer = match dial(&inner.peers.ground.net, addr, ANSWER).await {
        Ok(mut client) => client.hello(hello).await,
        Err(status) => Err(status),
    };
    let answer = answer.map_err(|status| status.message().to_owned())?;
    Ok(answer.into_inner().incarnation)
}

/// What a [`pb::JoinRequest`] comes to.
enum Taken {
    /// A member, with this node id and name.
    Member(u64, String),
    /// It was a member: a removal is final, and a replica that does not know of its own yet must not undo it.
    Removed,
}

/// Why a replica that asks to be a member cannot be one.
fn misfit(inner: &Inner, request: &pb::JoinRequest) -> Option<String> {
    let name = match request.name.as_str() {
        "" => request.peer_addr.as_str(),
        name => name,
    };
    let me = inner.role.borrow().me.name.clone();
    let about = About::told(request.about.clone());
    let version = inner.raising.load(Ordering::SeqCst);
    let version = version.max(inner.store.state.set_version());
    inner.peers.about.misfit(&me, (name, &about), version)
}

async fn take_in(
    inner: &Arc<Inner>,
    raft: &Raft,
    request: &pb::JoinRequest,
) -> Result<Taken, ChangeError> {
    let refuse = |why: String| Err(ChangeError::Refused(why));
    if let Some(why) = misfit(inner, request) {
        return refuse(why);
    }
    let of_request = |membership: &Membership| {
        let mut nodes = membership.nodes();
        let own = nodes.find(|(_, n)| n.incarnation == request.incarnation);
        own.map(|(id, node)| (*id, node.clone()))
    };
    let known = of_request(&settled(inner, raft)?.membership);
    let is_there = |node: &Node| {
        node.peer_addr == request.peer_addr && node.client_addr == request.client_addr
    };
    if let Some((id, node)) = known.as_ref().filter(|(_, node)| is_there(node)) {
        return Ok(Taken::Member(*id, node.name.clone()));
    }
    // Whoever carries the set's id belonged to it.
    let belonged = !request.cluster_id.is_empty();
    if belonged && known.is_none() {
        return Ok(Taken::Removed);
    }
    // Whoever stands at that address from now on gets the log and votes: it has to be the one that asks.
    match incarnation_at(inner, &request.peer_addr).await {
        Ok(incarnation) if incarnation == request.incarnation => {}
        Ok(_) => return refuse(format!("another replica answers at {}", request.peer_addr)),
        Err(why) => {
            return refuse(format!(
                "its peer port cannot be reached at {}: {why}",
                request.peer_addr
            ));
        }
    }
    if let Some((_, node)) = known
        .as_ref()
        .filter(|(_, n)| n.peer_addr != request.peer_addr)
    {
        let there = incarnation_at(inner, &node.peer_addr).await;
        if there.is_ok_and(|incarnation| incarnation == request.incarnation) {
            return refuse(format!(
                "the same directory answers at {}, too: one of them is a copy",
                node.peer_addr
            ));
        }
    }

    let _one_at_a_time = inner.changing.lock().await;
    let settled = settled_and_simple(inner, raft)?;
    if let Some((id, mut node)) = of_request(&settled.membership) {
        let name = node.name.clone();
        node.peer_addr.clone_from(&request.peer_addr);
        node.client_addr.clone_from(&request.client_addr);
        tracing::info!(
            name,
            peer = node.peer_addr,
            client = node.client_addr,
            "a member has moved"
        );
        change(raft, settled, Change::SetNodes([(id, node)].into()), true).await?;
        return Ok(Taken::Member(id, name));
    }
    if belonged {
        return Ok(Taken::Removed);
    }
    // The set's version may have been raised meanwhile.
    if let Some(why) = misfit(inner, request) {
        return refuse(why);
    }
    if settled.membership.nodes().count() >= MAX_MEMBERS {
        return refuse(format!("the set has {MAX_MEMBERS} members already"));
    }
    let mut nodes = settled.membership.nodes();
    let own = inner.role.borrow().me.node_id;
    let reach = inner.lag.reach(raft, own);
    let named =
        nodes.find(|(id, n)| n.name == request.name && (**id == own || answers(&reach, id)));
    if let Some((_, node)) = named {
        return refuse(format!(
            "{} at {} is alive; another raftSelfId is needed",
            node.name, node.peer_addr
        ));
    }
    drop(nodes);
    if inner.led_for() < SILENT {
        // A leader of a moment has not heard of everybody yet.
        return Err(ChangeError::Busy);
    }
    let id = settled.next_id;
    let name = match request.name.as_str() {
        "" => free_name(&settled.membership, id),
        name => name.to_owned(),
    };
    let node = Node {
        name: name.clone(),
        peer_addr: request.peer_addr.clone(),
        client_addr: request.client_addr.clone(),
        broker_id: id,
        incarnation: request.incarnation.clone(),
    };
    tracing::info!(
        name,
        id,
        peer = node.peer_addr,
        "a replica joins as a learner"
    );
    change(raft, settled, Change::AddNodes([(id, node)].into()), true).await?;
    Ok(Taken::Member(id, name))
}

/// A name for a replica that has none.
fn free_name(membership: &Membership, id: u64) -> String {
    let taken: BTreeSet<&str> = membership.nodes().map(|(_, n)| n.name.as_str()).collect();
    let mut names = (id.saturating_sub(1)..).map(|n| format!("n{n}"));
    names
        .find(|name| !taken.contains(name.as_str()))
        .unwrap_or_else(|| format!("n{id}"))
}

/// Makes a learner, by name or id, a voter.
///
/// # Errors
/// As [`ChangeError`] says.
pub async fn promote(inner: &Arc<Inner>, replica: &str) -> Result<(), ChangeError> {
    let _one_at_a_time = inner.changing.lock().await;
    let (raft, _) = inner.leading()?;
    let role = inner.role.borrow().clone();
    let member = role.find(replica)?;
    if role.voters.contains(&member.node_id) {
        return Ok(());
    }
    let reach = inner.lag.reach(&raft, role.me.node_id);
    match reach.get(&member.node_id) {
        Some(reach) if is_ready(reach) => {}
        Some(reach) if reach.silent_for() > SILENT => {
            return Err(ChangeError::Refused(format!(
                "{} does not answer",
                member.name
            )));
        }
        _ => {
            return Err(ChangeError::Refused(format!(
                "{} has not caught up yet",
                member.name
            )));
        }
    }
    let settled = settled_and_simple(inner, &raft)?;
    tracing::info!(name = member.name, "a learner becomes a voter");
    change(
        &raft,
        settled,
        Change::AddVoterIds([member.node_id].into()),
        true,
    )
    .await
}

/// Takes a replica, by id or name, out of the set for good. Never when the voters that would remain and answer are no
/// majority of them; with some of them silent only with `force`.
///
/// # Errors
/// As [`ChangeError`] says.
pub async fn remove(inner: &Arc<Inner>, replica: &str, force: bool) -> Result<(), ChangeError> {
    let role = inner.role.borrow().clone();
    let member = role.find(replica)?.clone();
    if role.leads() && member.node_id == role.me.node_id {
        // The others decide about this one.
        let next = crate::transfer::transfer(inner, None).await?;
        return Err(ChangeError::NotLeader(next));
    }
    let _one_at_a_time = inner.changing.lock().await;
    let (raft, _) = inner.leading()?;
    let role = inner.role.borrow().clone();
    let is_voter = role.voters.contains(&member.node_id);
    let left: Vec<u64> = role
        .voters
        .iter()
        .copied()
        .filter(|id| *id != member.node_id)
        .collect();
    if is_voter {
        if left.is_empty() {
            return Err(ChangeError::Refused("it is the only voter".to_owned()));
        }
        let own = role.me.node_id;
        let reach = inner.lag.reach(&raft, own);
        let alive = left
            .iter()
            .filter(|id| **id == own || answers(&reach, id))
            .count();
        if alive < left.len() / 2 + 1 {
            return Err(ChangeError::Refused(format!(
                "of the {} voters that would remain only {alive} answer: nothing could be written any more",
                left.len()
            )));
        }
        if alive < left.len() && !force {
            return Err(ChangeError::Refused(format!(
                "of the {} voters that would remain only {alive} answer; force does it all the same",
                left.len()
            )));
        }
    }
    let settled = settled_and_simple(inner, &raft)?;
    tracing::warn!(
        name = member.name,
        id = member.node_id,
        "a replica is removed"
    );
    let ids: BTreeSet<u64> = [member.node_id].into();
    let (change_to, retain) = match is_voter {
        true => (Change::RemoveVoters(ids), false),
        false => (Change::RemoveNodes(ids), true),
    };
    change(&raft, settled, change_to, retain).await
}

/// Whether a member was heard of lately.
fn answers(reach: &BTreeMap<u64, Reach>, id: &u64) -> bool {
    reach.get(id).is_some_and(|r| r.silent_for() < SILENT)
}

/// Whether a learner may become a voter.
fn is_ready(reach: &Reach) -> bool {
    reach.matched > 0 && reach.lag < CAUGHT_UP && reach.silent_for() < CAUGHT_UP
}

/// What the leader does about the membership by itself.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Leave a joint membership that a leader before us began.
    Finish,
    /// The same name came back with a new directory: it takes the voter's place.
    Replace { old: u64, new: u64 },
    /// A learner whose name came back.
    Forget(u64),
    /// Standbys become voters.
    Promote(BTreeSet<u64>),
    /// A voter was silent for too long: a standby takes its place, and it becomes one if it comes back.
    Evict { dead: u64, standby: u64 },
}

/// The next thing to do; the most urgent first, one at a time.
fn next_step(
    members: &BTreeMap<u64, String>,
    voters: &BTreeSet<u64>,
    joint: bool,
    own: u64,
    reach: &BTreeMap<u64, Reach>,
    wanted: usize,
    evict_after: Option<Duration>,
) -> Option<Step> {
    if joint {
        return Some(Step::Finish);
    }
    let silent = |id: &u64, time: Duration| {
        *id != own && reach.get(id).is_some_and(|r| r.silent_for() >= time)
    };
    let ready = |id: &u64| reach.get(id).is_some_and(is_ready);
    let successor = |id: &u64| {
        let name = members.get(id)?;
        let newer = members.range(id + 1..).filter(|(_, n)| *n == name);
        newer.map(|(id, _)| *id).max()
    };
    for old in members.keys().filter(|id| silent(id, SILENT)) {
        match successor(old) {
            Some(new) if voters.contains(old) && (ready(&new) || voters.contains(&new)) => {
                return Some(Step::Replace { old: *old, new });
            }
            Some(_) if !voters.contains(old) => return Some(Step::Forget(*old)),
            _ => {}
        }
    }
    let standbys: Vec<u64> = members
        .keys()
        .copied()
        .filter(|id| !voters.contains(id) && ready(id) && successor(id).is_none())
        // Those that come to replace their old selves are not free.
        .filter(|id| {
            let name = members.get(id);
            !voters.iter().any(|v| members.get(v) == name)
        })
        .collect();
    if wanted > voters.len() {
        let mut take = (wanted - voters.len()).min(standbys.len());
        // An even number of voters survives no more failures than one less.
        if (voters.len() + take).is_multiple_of(2) && voters.len() + take < wanted {
            take -= 1.min(take);
        }
        if take > 0 {
            return Some(Step::Promote(standbys.into_iter().take(take).collect()));
        }
    }
    let evict_after = evict_after?;
    let dead = voters.iter().find(|id| silent(id, evict_after))?;
    let alive = voters
        .iter()
        .filter(|id| **id == own || !silent(id, SILENT))
        .count();
    (alive > voters.len() / 2).then_some(())?;
    standbys.first().map(|standby| Step::Evict {
        dead: *dead,
        standby: *standby,
    })
}

/// Whether the voter that a joint membership drops stays as a learner: one that is evicted does, one that is removed or
/// replaced does not. The leader that began it knew.
fn stays(
    membership: &Membership,
    reach: &BTreeMap<u64, Reach>,
    evict_after: Option<Duration>,
) -> bool {
    let configs = membership.get_joint_config();
    let (Some(before), Some(after)) = (configs.first(), configs.last()) else {
        return true;
    };
    let silent = |id: &u64| {
        let silence = reach.get(id).map_or(Duration::MAX, Reach::silent_for);
        evict_after.is_some_and(|limit| silence >= limit)
    };
    before.difference(after).all(silent)
}

/// Looks after the membership; called now and then on the leader.
pub async fn tend(inner: &Arc<Inner>) {
    let Ok(_one_at_a_time) = inner.changing.try_lock() else {
        return;
    };
    let Ok((raft, call)) = inner.leading() else {
        return;
    };
    let policy = inner.policy.read().clone();
    let Ok(settled) = settled(inner, &raft) else {
        return;
    };
    let members: BTreeMap<u64, String> = settled
        .membership
        .nodes()
        .map(|(id, n)| (*id, n.name.clone()))
        .collect();
    let voters: BTreeSet<u64> = settled.membership.voter_ids().collect();
    let joint = settled.membership.get_joint_config().len() > 1;
    let reach = inner.lag.reach(&raft, call.from);
    // A leader of a moment has heard of nobody yet.
    let evict_after = policy.evict_after.filter(|after| inner.led_for() >= *after);
    if inner.led_for() < SILENT && !joint {
        return;
    }
    let step = next_step(
        &members,
        &voters,
        joint,
        call.from,
        &reach,
        policy.voters,
        evict_after,
    );
    let Some(step) = step else { return };
    tracing::warn!(?step, members = ?members, "the membership changes by itself");
    let replace = |add: u64, drop: u64| {
        Change::Batch(vec![
            Change::AddVoterIds([add].into()),
            Change::RemoveVoters([drop].into()),
        ])
    };
    let began = clock::now();
    let done = match step {
        Step::Finish => {
            let retain = stays(&settled.membership, &reach, policy.evict_after);
            change(&raft, settled, Change::AddVoterIds(BTreeSet::new()), retain).await
        }
        Step::Replace { old, new } => change(&raft, settled, replace(new, old), false).await,
        Step::Forget(id) => change(&raft, settled, Change::RemoveNodes([id].into()), true).await,
        Step::Promote(ids) => change(&raft, settled, Change::AddVoterIds(ids), true).await,
        Step::Evict { dead, standby } => change(&raft, settled, replace(standby, dead), true).await,
    };
    match done {
        Ok(()) => tracing::info!(
            ms = clock::since(began).as_millis() as u64,
            "the membership has changed"
        ),
        Err(error) => tracing::warn!(%error, "the membership has not changed"),
    }
}

impl Role {
    /// A member by node id or name. Of two with one name, the newer one.
    pub fn member(&self, replica: &str) -> Option<&Member> {
        let id: Option<u64> = replica.parse().ok();
        let by_id = self.members.iter().find(|m| Some(m.node_id) == id);
        let named = self.members.iter().filter(|m| m.name == replica);
        by_id.or_else(|| named.max_by_key(|m| m.node_id))
    }

    /// As [`Role::member`], for what an operator asked.
    pub(crate) fn find(&self, replica: &str) -> Result<&Member, ChangeError> {
        let missing = || ChangeError::Refused(format!("there is no replica {replica} in this set"));
        self.member(replica).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(lag_ms: u64, silent_ms: u64) -> Reach {
        Reach {
            matched: 7,
            lag_messages: 0,
            lag: Duration::from_millis(lag_ms),
            contact: Some(Duration::from_millis(silent_ms)),
        }
    }

    struct Set {
        members: BTreeMap<u64, String>,
        voters: BTreeSet<u64>,
        reach: BTreeMap<u64, Reach>,
    }

    /// Voters n0.. with ids 1..=voters, learners after them; all well.
    fn set(voters: u64, learners: u64) -> Set {
        let all = 1..=voters + learners;
        Set {
            members: all.clone().map(|id| (id, format!("n{}", id - 1))).collect(),
            voters: (1..=voters).collect(),
            reach: all.skip(1).map(|id| (id, reach(0, 50))).collect(),
        }
    }

    fn step(set: &Set, wanted: usize, evict_after: Option<u64>) -> Option<Step> {
        let after = evict_after.map(Duration::from_secs);
        next_step(
            &set.members,
            &set.voters,
            false,
            1,
            &set.reach,
            wanted,
            after,
        )
    }

    #[test]
    fn the_number_of_voters_stays_odd_when_it_grows_by_itself() {
        assert_eq!(
            step(&set(1, 1), 3, None),
            None,
            "two voters are worse than one"
        );
        assert_eq!(
            step(&set(1, 2), 3, None),
            Some(Step::Promote([2, 3].into()))
        );
        assert_eq!(step(&set(3, 1), 5, None), None);
        assert_eq!(
            step(&set(3, 2), 5, None),
            Some(Step::Promote([4, 5].into()))
        );
        assert_eq!(step(&set(2, 1), 3, None), Some(Step::Promote([3].into())));
        assert_eq!(
            step(&set(1, 1), 2, None),
            Some(Step::Promote([2].into())),
            "asked for"
        );
        assert_eq!(step(&set(3, 2), 0, None), None, "standbys");
        let mut late = set(1, 2);
        late.reach.insert(3, reach(5000, 50));
        assert_eq!(step(&late, 3, None), None, "not caught up");
    }

    #[test]
    fn a_wiped_directory_takes_its_old_place() {
        let mut set = set(3, 0);
        set.members.insert(4, "n2".into());
        set.reach.insert(3, reach(9000, 9000));
        set.reach.insert(4, reach(9000, 50));
        assert_eq!(step(&set, 0, None), None, "it catches up first");
        set.reach.insert(4, reach(0, 50));
        assert_eq!(step(&set, 0, None), Some(Step::Replace { old: 3, new: 4 }));
        assert_eq!(
            step(&set, 5, Some(5)),
            Some(Step::Replace { old: 3, new: 4 })
        );
        set.reach.insert(3, reach(0, 50));
        assert_eq!(step(&set, 0, None), None, "the old one is alive");
        set.reach.insert(3, reach(0, 9000));
        set.voters = [1, 2, 4].into();
        assert_eq!(step(&set, 0, None), Some(Step::Forget(3)));
    }

    #[test]
    fn a_dead_voter_is_replaced_by_a_standby_while_a_majority_lives() {
        let mut set = set(3, 1);
        set.reach.insert(2, reach(20_000, 20_000));
        assert_eq!(step(&set, 0, None), None, "not asked for");
        assert_eq!(step(&set, 0, Some(30)), None, "not yet");
        let evict = Some(Step::Evict {
            dead: 2,
            standby: 4,
        });
        assert_eq!(step(&set, 0, Some(10)), evict);
        set.reach.insert(3, reach(20_000, 20_000));
        assert_eq!(step(&set, 0, Some(10)), None, "no majority");
        set.reach.insert(3, reach(0, 50));
        set.members.remove(&4);
        assert_eq!(step(&set, 0, Some(10)), None, "no standby");
    }

    #[test]
    fn a_joint_membership_is_finished_first() {
        let set = set(3, 2);
        let step = next_step(&set.members, &set.voters, true, 1, &set.reach, 5, None);
        assert_eq!(step, Some(Step::Finish));
    }
}
