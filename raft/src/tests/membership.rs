//! Sets that change: replicas that join, come back empty, move, are removed or replaced, and leadership that is handed over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::oneshot;

use super::support::{
    Counter, bodies, free_port, message, open, open_all, options, peers, send, serving,
};
use crate::options::{AckLevel, Node, Peer, Policy, ReplicaOptions};
use crate::propose::Proposal;
use crate::replica::Replica;
use crate::types::Membership;
use crate::{ChangeError, ProposeError, Short, Stored};

/// Waits for something to become true.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn start(options: ReplicaOptions) -> Replica {
    Replica::open(options, Arc::new(Counter::default()))
        .await
        .expect("opens")
}

/// Opens all replicas of a set with these settings.
async fn open_under(dir: &Path, peers: &[Peer], policy: &Policy) -> Vec<Option<Replica>> {
    let mut replicas = Vec::new();
    for nth in 0..peers.len() {
        let options = ReplicaOptions {
            policy: policy.clone(),
            ..options(dir, peers, nth)
        };
        replicas.push(Some(start(options).await));
    }
    replicas
}

/// Options of a replica that joins, knowing nothing but the set's name.
fn newcomer(dir: &Path, nth: usize) -> ReplicaOptions {
    let own = Peer {
        name: format!("dir{nth}"),
        addr: format!("127.0.0.1:{}", free_port()),
    };
    ReplicaOptions {
        peers: Vec::new(),
        bootstrap: false,
        self_name: String::new(),
        client_advertise: format!("127.0.0.1:{}", 21_000 + nth),
        ..options(dir, &[own], 0)
    }
}

/// Sends bodies until told to stop; returns those that were acknowledged, and the longest time between two.
fn load(
    replicas: Vec<Replica>,
    stop: Arc<AtomicBool>,
) -> tokio::task::JoinHandle<(Vec<String>, usize, Duration)> {
    tokio::spawn(async move {
        let (mut sent, mut failed, mut gap) = (Vec::new(), 0, Duration::ZERO);
        let (mut at, mut last, mut n) = (0, Instant::now(), 0);
        while !stop.load(Ordering::Relaxed) {
            let body = format!("load-{n}");
            n += 1;
            // As a broker does: what another replica leads is passed on, once it is known.
            loop {
                match send(&replicas[at], vec![message(0, &body)], None).await {
                    Ok(_) => {
                        gap = gap.max(last.elapsed());
                        last = Instant::now();
                        sent.push(body);
                        break;
                    }
                    Err(ProposeError::NotLeader(leader)) => {
                        at = replicas
                            .iter()
                            .position(|r| r.role().me.node_id == leader.node_id)
                            .expect("a member");
                    }
                    Err(_) => {
                        failed += 1;
                        break;
                    }
                }
            }
        }
        (sent, failed, gap)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_one_grows_by_empty_replicas_that_know_its_name() {
    let dir = tempfile::tempdir().expect("temp dir");
    let first = peers(1);
    let mut founder = options(dir.path(), &first, 0);
    founder.policy.voters = 3;
    let founder = start(founder).await;
    let mut replicas = vec![Some(founder.clone())];
    serving(&replicas).await;
    for i in 0..50 {
        let body = format!("before-{i}");
        send(&founder, vec![message(0, &body)], None)
            .await
            .expect("acknowledged");
    }
    for nth in 1..3 {
        let joins = start(newcomer(dir.path(), nth)).await;
        assert_eq!(joins.role().me.node_id, 0, "a member of nothing");
        joins.suggest_peers(vec![first[0].addr.clone()]);
        until("joined", || joins.role().me.node_id == nth as u64 + 1).await;
        replicas.push(Some(joins));
        if nth == 1 {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            assert_eq!(
                founder.role().voters,
                [1],
                "two voters survive no more than one"
            );
        }
    }
    until("three voters", || {
        let role = founder.role();
        role.voters == [1, 2, 3] && role.settled
    })
    .await;
    let names: Vec<String> = founder
        .role()
        .members
        .iter()
        .map(|m| m.name.clone())
        .collect();
    assert_eq!(names, ["n0", "n1", "n2"]);

    founder.shutdown().await.expect("closes");
    replicas[0] = None;
    drop(founder);
    let leader = serving(&replicas).await;
    let leader = replicas[leader].clone().expect("runs");
    send(&leader, vec![message(0, "after")], None)
        .await
        .expect("acknowledged");
    assert_eq!(bodies(&leader, 0).len(), 51);

    // Without a peer list and without a flag: the directory knows where it belongs.
    let mut again = options(dir.path(), &first, 0);
    again.bootstrap = false;
    again.peers.clear();
    again.self_name.clear();
    let again = start(again).await;
    until("follows", || bodies(&again, 0).len() == 51).await;
    assert_eq!(again.role().me.name, "n0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_directory_comes_back_under_a_new_id_and_takes_its_place() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = open_all(dir.path(), &peers).await;
    let leader = serving(&replicas).await;
    let other = (leader + 1) % 3;
    let led = replicas[leader].clone().expect("runs");
    send(&led, vec![message(0, "one")], None)
        .await
        .expect("acknowledged");

    // Another directory under the name of one that is alive is refused.
    let mut twin = newcomer(dir.path(), 7);
    twin.self_name = peers[other].name.clone();
    let twin = start(twin).await;
    twin.suggest_peers(peers.iter().map(|p| p.addr.clone()).collect());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(twin.role().me.node_id, 0);
    twin.shutdown().await.expect("closes");

    let gone = replicas[other].take().expect("runs");
    let old_id = gone.role().me.node_id;
    gone.shutdown().await.expect("closes");
    drop(gone);
    std::fs::remove_dir_all(dir.path().join(&peers[other].name)).expect("wiped");
    let back = open(dir.path(), &peers, other).await;
    until("a voter again", || {
        let role = led.role();
        role.voters.contains(&4) && !role.members.iter().any(|m| m.node_id == old_id)
    })
    .await;
    until("everything is there", || bodies(&back, 0) == ["one"]).await;
    assert_eq!(led.role().voters.len(), 3);
    assert_eq!(
        led.role().member(&peers[other].name).map(|m| m.node_id),
        Some(4)
    );
    send(&led, vec![message(0, "two")], None)
        .await
        .expect("acknowledged");

    // A start that meets damage asks the members, not only the founders.
    back.shutdown().await.expect("closes");
    drop(back);
    let back = open(dir.path(), &peers, other).await;
    until("follows", || bodies(&back, 0) == ["one", "two"]).await;
    assert_eq!(back.role().me.node_id, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_under_load_without_an_error() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let some = open_all(dir.path(), &peers).await;
    let replicas: Vec<Replica> = some.iter().flatten().cloned().collect();
    let stop = Arc::new(AtomicBool::new(false));
    serving(&some).await;
    let loads = load(replicas.clone(), stop.clone());
    for round in 0..6 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let leader = serving(&some).await;
        let to = (leader + 1 + round % 2) % 3;
        let next = replicas[leader]
            .transfer_leader(Some(&peers[to].name))
            .await;
        assert_eq!(next.map(|m| m.name), Ok(peers[to].name.clone()));
        assert_eq!(serving(&some).await, to);
    }
    let leader = serving(&some).await;
    let same = replicas[leader]
        .transfer_leader(Some(&peers[leader].name))
        .await;
    assert!(same.is_ok(), "it leads already");
    let other = &replicas[(leader + 1) % 3];
    assert!(matches!(
        other.transfer_leader(None).await,
        Err(ChangeError::NotLeader(_))
    ));
    let unknown = replicas[leader].transfer_leader(Some("n9")).await;
    assert!(matches!(unknown, Err(ChangeError::Refused(_))));
    stop.store(true, Ordering::Relaxed);
    let (sent, failed, gap) = loads.await.expect("ends");
    assert_eq!(failed, 0, "of {} sends", sent.len());
    assert!(gap < Duration::from_secs(2), "{gap:?}");
    until("all there", || {
        replicas.iter().all(|r| bodies(r, 0) == sent)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_target_is_refused_and_an_unfinished_transfer_leaves_a_set_that_serves() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = open_all(dir.path(), &peers).await;
    let leader = serving(&replicas).await;
    let led = replicas[leader].clone().expect("runs");
    let dead = (leader + 1) % 3;
    replicas[dead]
        .take()
        .expect("runs")
        .shutdown()
        .await
        .expect("closes");
    let refused = led.transfer_leader(Some(&peers[dead].name)).await;
    assert!(
        matches!(refused, Err(ChangeError::Refused(_))),
        "{refused:?}"
    );
    assert!(led.is_serving(), "nothing has changed");
    send(&led, vec![message(0, "a")], None)
        .await
        .expect("acknowledged");
    let other = led.transfer_leader(None).await.expect("the one that lives");
    assert_eq!(other.name, peers[(leader + 2) % 3].name);

    // As if the target had died in the middle, or is so slow that it campaigns while the term is closed, and again after
    // that: a leader serves soon, in a later term, and nothing is lost.
    replicas[dead] = Some(open(dir.path(), &peers, dead).await);
    let mut expected = vec!["a".to_owned()];
    for round in 0..6 {
        let led = replicas[serving(&replicas).await].clone().expect("runs");
        let role = led.role();
        let late = role.members.iter().find(|m| m.node_id != role.me.node_id);
        let late = late.filter(|_| round > 0);
        crate::transfer::abandon(led.inner(), late).await;
        let led = replicas[serving(&replicas).await].clone().expect("runs");
        assert!(led.role().term > role.term);
        let body = format!("round {round}");
        send(&led, vec![message(0, &body)], None)
            .await
            .expect("acknowledged");
        expected.push(body);
        assert_eq!(bodies(&led, 0), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_about_to_stop_does_not_take_the_leadership_back() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = open_all(dir.path(), &peers).await;
    let leader = serving(&replicas).await;
    let leaves = replicas[leader].clone().expect("runs");
    leaves.leave_leading();
    leaves.transfer_leader(None).await.expect("handed over");
    let next = replicas[serving(&replicas).await].clone().expect("runs");
    let back = next.transfer_leader(Some(&peers[leader].name)).await;
    assert!(matches!(back, Err(ChangeError::Refused(_))), "{back:?}");
    // It votes all the same: the other two are not needed both.
    let next_name = next.role().me.name.clone();
    let nth = peers
        .iter()
        .position(|p| p.name == next_name)
        .expect("a peer");
    replicas[nth]
        .take()
        .expect("runs")
        .shutdown()
        .await
        .expect("closes");
    let last = replicas[serving(&replicas).await].clone().expect("runs");
    assert_ne!(last.role().me.name, peers[leader].name);
    send(&last, vec![message(0, "x")], None)
        .await
        .expect("acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_replicas_know_it_and_ids_are_not_used_again() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = open_all(dir.path(), &peers).await;
    let leader = serving(&replicas).await;
    let led = replicas[leader].clone().expect("runs");
    let own = led.role().me.name.clone();
    // The leader hands over before it goes.
    let error = led
        .remove_replica(&own, false)
        .await
        .expect_err("another decides");
    assert!(matches!(error, ChangeError::NotLeader(_)), "{error:?}");
    let next = serving(&replicas).await;
    let next = replicas[next].clone().expect("runs");
    next.remove_replica(&own, false).await.expect("removed");
    until("it knows", || led.role().removed).await;
    assert_eq!(next.role().voters.len(), 2);
    assert_eq!(next.role().members.len(), 2);
    send(&next, vec![message(0, "two left")], None)
        .await
        .expect("acknowledged");

    led.shutdown().await.expect("closes");
    replicas[leader] = None;
    drop(led);
    let again = Replica::open(
        options(dir.path(), &peers, leader),
        Arc::new(Counter::default()),
    )
    .await;
    assert!(again.is_err(), "its directory was removed");

    let joins = start(newcomer(dir.path(), 5)).await;
    joins.suggest_peers(peers.iter().map(|p| p.addr.clone()).collect());
    until("joined", || joins.role().me.node_id != 0).await;
    assert_eq!(joins.role().me.node_id, 4, "three was the highest ever");
    until("caught up", || bodies(&joins, 0) == ["two left"]).await;
    let leader = serving(&replicas).await;
    let led = replicas[leader].clone().expect("runs");
    led.add_voter("4").await.expect("promoted");
    assert_eq!(led.role().voters.len(), 3);
    led.remove_replica("4", false).await.expect("removed");
    let last = replicas
        .iter()
        .flatten()
        .find(|r| !r.is_serving())
        .expect("the other")
        .role()
        .me
        .name
        .clone();
    led.remove_replica(&last, false).await.expect("removed");
    until("alone", || led.role().voters.len() == 1).await;
    assert!(matches!(
        led.remove_replica(&led.role().me.name, false).await,
        Err(ChangeError::Refused(_))
    ));
    send(&led, vec![message(0, "one left")], None)
        .await
        .expect("acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_replica_that_is_removed_does_not_come_back_by_itself() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let replicas = open_all(dir.path(), &peers).await;
    let leader = serving(&replicas).await;
    let led = replicas[leader].clone().expect("runs");
    let gone = replicas[(leader + 1) % 3].clone().expect("runs");
    led.remove_replica(&gone.role().me.name, false)
        .await
        .expect("removed");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let members: Vec<u64> = led.role().members.iter().map(|m| m.node_id).collect();
    assert_eq!(members.len(), 2, "{members:?}");
    assert!(members.iter().all(|id| *id <= 3), "{members:?}");
    assert!(gone.role().removed);
    // Nor when it asks in words of its own.
    let incarnation = gone.inner().peers.identity.lock().incarnation.clone();
    let request = raftmq_proto::raft::JoinRequest {
        set: "broker-t".into(),
        name: gone.role().me.name.clone(),
        incarnation,
        peer_addr: gone.role().me.peer_addr.clone(),
        client_addr: gone.role().me.client_addr.clone(),
        cluster_id: gone.cluster_id().expect("founded"),
        about: Some(gone.inner().peers.about.message()),
    };
    let answer = crate::membership::join(led.inner(), request).await;
    assert!(answer.expect("answered").removed);
    assert_eq!(led.role().members.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_was_cut_off_is_finished_and_the_removed_one_does_not_stay() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let replicas = open_all(dir.path(), &peers).await;
    let led = replicas[serving(&replicas).await].clone().expect("runs");
    let own = led.role().me.node_id;
    let goes = led
        .role()
        .voters
        .iter()
        .copied()
        .find(|id| *id != own)
        .expect("another");
    // As far as a leader gets that ends between the two entries of a removal.
    let (raft, _) = led.inner().leading().expect("leads");
    let nodes: BTreeMap<u64, Node> = {
        let metrics = raft.metrics();
        let seen = metrics.borrow_watched();
        let nodes = seen.membership_config.membership().nodes();
        nodes.map(|(id, node)| (*id, node.clone())).collect()
    };
    let before: BTreeSet<u64> = nodes.keys().copied().collect();
    let after = before.iter().copied().filter(|id| *id != goes).collect();
    let joint = Membership::new(vec![before, after], nodes).expect("a membership");
    raft.append_membership(joint, openraft::EntryPayload::Blank, [])
        .await
        .expect("committed");
    until("one member less", || {
        let role = led.role();
        role.voters.len() == 2 && role.members.iter().all(|m| m.node_id != goes)
    })
    .await;
    let mut all = replicas.iter().flatten();
    let gone = all.find(|r| r.role().me.node_id == goes).expect("it runs");
    until("it knows", || gone.role().removed).await;
    send(&led, vec![message(0, "x")], None)
        .await
        .expect("acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_voter_is_replaced_by_a_standby_and_becomes_one() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let policy = Policy {
        evict_after: Some(Duration::from_secs(4)),
        ..Policy::default()
    };
    let mut replicas = open_under(dir.path(), &peers, &policy).await;
    let leader = serving(&replicas).await;
    let led = replicas[leader].clone().expect("runs");
    let standby = start(newcomer(dir.path(), 9)).await;
    standby.suggest_peers(peers.iter().map(|p| p.addr.clone()).collect());
    until("joined", || standby.role().me.node_id == 4).await;
    let dead = (leader + 1) % 3;
    let gone = replicas[dead].take().expect("runs");
    let dead_id = gone.role().me.node_id;
    gone.shutdown().await.expect("closes");
    drop(gone);
    until("replaced", || {
        let voters = led.role().voters.clone();
        voters.contains(&4) && !voters.contains(&dead_id) && voters.len() == 3
    })
    .await;
    let back = open(dir.path(), &peers, dead).await;
    send(&led, vec![message(0, "x")], None)
        .await
        .expect("acknowledged");
    until("it follows as a standby", || bodies(&back, 0) == ["x"]).await;
    assert!(!back.role().removed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_moved_is_found_again() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = open_all(dir.path(), &peers).await;
    let leader = serving(&replicas).await;
    let led = replicas[leader].clone().expect("runs");
    let moves = (leader + 1) % 3;
    replicas[moves]
        .take()
        .expect("runs")
        .shutdown()
        .await
        .expect("closes");
    let mut moved = options(dir.path(), &peers, moves);
    let addr = format!("127.0.0.1:{}", free_port());
    moved.peer_bind = addr.parse().expect("an address");
    moved.peer_advertise.clone_from(&addr);
    moved.client_advertise = "127.0.0.1:29999".into();
    let moved = start(moved).await;
    until("known", || {
        let role = led.role();
        role.member(&peers[moves].name)
            .is_some_and(|m| m.peer_addr == addr && m.client_addr == "127.0.0.1:29999")
    })
    .await;
    send(&led, vec![message(0, "x")], None)
        .await
        .expect("acknowledged");
    until("it follows", || bodies(&moved, 0) == ["x"]).await;
    led.transfer_leader(Some(&peers[moves].name))
        .await
        .expect("it leads");

    // A copy of a directory that is in use elsewhere does not take its place.
    let leader = &peers[moves].name;
    let mut others = replicas.iter().flatten();
    let original = others
        .find(|r| r.role().me.name != *leader)
        .expect("a follower");
    let name = original.role().me.name.clone();
    let nth = peers.iter().position(|p| p.name == name).expect("a peer");
    copy_dir(&dir.path().join(&name), &dir.path().join("copy"));
    let mut copy = options(dir.path(), &peers, nth);
    copy.store_dir = dir.path().join("copy");
    let addr = format!("127.0.0.1:{}", free_port());
    copy.peer_bind = addr.parse().expect("an address");
    copy.peer_advertise.clone_from(&addr);
    // Files come and go while a replica runs: a copy may be none.
    if let Ok(copy) = Replica::open(copy, Arc::new(Counter::default())).await {
        tokio::time::sleep(Duration::from_secs(4)).await;
        copy.shutdown().await.expect("closes");
    }
    let known = moved.role().member(&name).map(|m| m.peer_addr.clone());
    assert_eq!(known, Some(peers[nth].addr.clone()));
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            copy_dir(&entry.path(), &target);
        } else if entry.file_name() != "lock" {
            let _ = std::fs::copy(entry.path(), target);
        }
    }
}

/// Sends one message; how it was stored, and how long that took.
async fn stored(replica: &Replica, body: &str) -> (Result<Stored, ProposeError>, Duration) {
    let (tx, rx) = oneshot::channel();
    let began = Instant::now();
    let proposal = Proposal {
        messages: vec![message(0, body)],
        commands: Vec::new(),
        ack: None,
        only_term: None,
        deadline: began + Duration::from_secs(3),
    };
    replica.propose(proposal, move |result| drop(tx.send(result)));
    (rx.await.expect("an answer"), began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_means_every_in_sync_voter() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let policy = Policy {
        ack: AckLevel::All,
        in_sync_timeout: Duration::from_millis(700),
        min_in_sync: 2,
        ..Policy::default()
    };
    let mut replicas = open_under(dir.path(), &peers, &policy).await;
    let leader = serving(&replicas).await;
    let led = replicas[leader].clone().expect("runs");
    until("everyone keeps up", || led.in_sync() == (3, 3)).await;
    let (result, _) = stored(&led, "all").await;
    assert_eq!(result.map(|s| s.short), Ok(None));

    let dead = (leader + 1) % 3;
    replicas[dead]
        .take()
        .expect("runs")
        .shutdown()
        .await
        .expect("closes");
    let (result, took) = stored(&led, "two").await;
    assert_eq!(result.map(|s| s.short), Ok(Some(Short::SlaveNotAvailable)));
    assert!(
        took >= Duration::from_millis(300),
        "it waited for the third: {took:?}"
    );
    assert_eq!(led.in_sync(), (2, 3));
    let (result, took) = stored(&led, "at once").await;
    assert_eq!(result.map(|s| s.short), Ok(Some(Short::SlaveNotAvailable)));
    assert!(took < Duration::from_millis(500), "{took:?}");

    led.set_policy(Policy {
        min_in_sync: 3,
        ..policy.clone()
    });
    // Looked at now and then, not for every send.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (result, _) = stored(&led, "refused").await;
    assert_eq!(result, Err(ProposeError::NotEnoughInSync));
    led.set_policy(policy);
    tokio::time::sleep(Duration::from_millis(200)).await;

    replicas[dead] = Some(open(dir.path(), &peers, dead).await);
    until("in sync again", || led.in_sync() == (3, 3)).await;
    let (result, _) = stored(&led, "three").await;
    assert_eq!(result.map(|s| s.short), Ok(None));
    assert_eq!(bodies(&led, 0), ["all", "two", "at once", "three"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leaders_own_word_is_bounded() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = Vec::new();
    for nth in 0..3 {
        let mut options = options(dir.path(), &peers, nth);
        options.policy.ack = AckLevel::Leader;
        // The lease outlives the others for long enough to see the difference.
        options.election_min = Duration::from_secs(4);
        options.election_max = Duration::from_secs(5);
        replicas.push(start(options).await);
    }
    let some: Vec<_> = replicas.iter().cloned().map(Some).collect();
    let leader = serving(&some).await;
    let led = replicas[leader].clone();
    drop(some);
    for (nth, replica) in replicas.iter().enumerate() {
        if nth != leader {
            replica.shutdown().await.expect("closes");
        }
    }
    let (result, _) = stored(&led, "nobody else has it").await;
    assert!(result.is_ok(), "{result:?}");
    let strict = Policy {
        ack: AckLevel::Leader,
        async_max_uncommitted: 1,
        ..Policy::default()
    };
    led.set_policy(strict);
    let (result, _) = stored(&led, "too much waits").await;
    assert_eq!(result, Err(ProposeError::Unknown));
}
