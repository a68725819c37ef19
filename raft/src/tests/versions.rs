//! Replicas of different programs and constants in one set: what is told at the first contact, what is refused by name, and
//! the raise of the set's version.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq_store::version::NEWEST;

use super::support::{Counter, bodies, message, options, peers, send, serving};
use crate::ground::Ground;
use crate::options::{Peer, ReplicaOptions};
use crate::replica::Replica;
use crate::{ChangeError, RaftError};

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Opens a replica whose program knows set versions up to `newest`.
async fn open_as(newest: u32, options: ReplicaOptions) -> Result<Replica, RaftError> {
    let ground = Ground {
        newest_version: newest,
        ..Ground::real()
    };
    Replica::open_on(ground, options, Arc::new(Counter::default())).await
}

async fn set_of(dir: &Path, peers: &[Peer], newest: [u32; 3]) -> Vec<Option<Replica>> {
    let mut replicas = Vec::new();
    for (nth, newest) in newest.into_iter().enumerate() {
        let opened = open_as(newest, options(dir, peers, nth)).await;
        replicas.push(Some(opened.expect("opens")));
    }
    replicas
}

fn version(replica: &Replica) -> u32 {
    replica.state().set_version()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_set_begins_with_the_newest_version() {
    let dir = tempfile::tempdir().expect("temp dir");
    let alone = peers(1);
    let one = open_as(NEWEST, options(dir.path(), &alone, 0)).await;
    let one = one.expect("opens");
    until("raised", || version(&one) == NEWEST).await;

    let peers = peers(3);
    let all = set_of(&dir.path().join("three"), &peers, [NEWEST; 3]).await;
    until("raised everywhere", || {
        all.iter().flatten().all(|r| version(r) == NEWEST)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_is_raised_when_every_member_knows_it_and_no_older_program_comes_back() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = set_of(dir.path(), &peers, [NEWEST, NEWEST, 0]).await;
    let led = replicas[serving(&replicas).await].clone().expect("runs");
    if led.role().me.name == "n2" {
        led.transfer_leader(Some("n0")).await.expect("handed over");
    }
    let led = replicas[serving(&replicas).await].clone().expect("runs");
    let refused = led.finalize_upgrade().await;
    assert!(
        matches!(&refused, Err(ChangeError::Refused(why)) if why.contains("n2 knows versions up to 0")),
        "{refused:?}"
    );
    replicas[2]
        .take()
        .expect("runs")
        .shutdown()
        .await
        .expect("closes");
    let silent = led.finalize_upgrade().await;
    assert!(
        matches!(&silent, Err(ChangeError::Refused(why)) if why.contains("n2 does not answer")),
        "{silent:?}"
    );
    assert_eq!(version(&led), 0);

    let n2 = open_as(NEWEST, options(dir.path(), &peers, 2))
        .await
        .expect("opens");
    until("raised", || version(&n2) == 0 && n2.role().leader.is_some()).await;
    let led = loop {
        let led = replicas[serving(&replicas).await].clone().expect("runs");
        match led.finalize_upgrade().await {
            Ok(()) => break led,
            Err(error) => tracing::info!(%error, "again"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    until("raised everywhere", || {
        version(&led) == NEWEST && version(&n2) == NEWEST
    })
    .await;
    let status = led.set_status().await;
    assert_eq!(status.set_version, NEWEST);
    assert!(
        status
            .replicas
            .iter()
            .all(|r| r.newest_version == Some(NEWEST))
    );

    n2.shutdown().await.expect("closes");
    drop(n2);
    let older = open_as(0, options(dir.path(), &peers, 2)).await;
    let error = older.err().expect("an older program does not start");
    assert!(
        matches!(&error, RaftError::Hopeless(why) if why.contains("this program knows versions up to 0")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_raise_neither_a_newcomer_nor_a_wiped_member_with_the_older_program_is_taken_in()
{
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    // A newcomer with the older program.
    let mut replicas = set_of(dir.path(), &peers, [NEWEST, NEWEST, NEWEST]).await;
    until("raised", || {
        replicas.iter().flatten().all(|r| version(r) == NEWEST)
    })
    .await;
    let leader = serving(&replicas).await;
    let led = replicas[leader].clone().expect("runs");
    let own = Peer {
        name: "n7".into(),
        addr: format!("127.0.0.1:{}", super::support::free_port()),
    };
    let joins = ReplicaOptions {
        peers: Vec::new(),
        bootstrap: false,
        ..options(dir.path(), &[own], 0)
    };
    let old = open_as(0, joins).await.expect("opens");
    old.suggest_peers(peers.iter().map(|p| p.addr.clone()).collect());
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(old.role().me.node_id, 0, "not taken in");
    assert_eq!(led.role().members.len(), 3);
    old.shutdown().await.expect("closes");

    // A wiped member under its old name, with the older program: the same.
    let other = (leader + 1) % 3;
    replicas[other]
        .take()
        .expect("runs")
        .shutdown()
        .await
        .expect("closes");
    std::fs::remove_dir_all(dir.path().join(&peers[other].name)).expect("wiped");
    let old = open_as(0, options(dir.path(), &peers, other))
        .await
        .expect("opens");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(old.role().me.node_id, 0, "not taken in");
    send(&led, vec![message(0, "x")], None)
        .await
        .expect("acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_size_that_is_not_the_sets_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut all = Vec::new();
    for nth in 0..3 {
        let mut options = options(dir.path(), &peers, nth);
        options.segment_size <<= u32::from(nth == 1);
        all.push(open_as(NEWEST, options).await.expect("opens"));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        all.iter().all(|r| r.cluster_id().is_none()),
        "nothing is founded"
    );
    all.remove(1).shutdown().await.expect("closes");
    std::fs::remove_dir_all(dir.path().join("n1")).expect("wiped");
    all.push(
        open_as(NEWEST, options(dir.path(), &peers, 1))
            .await
            .expect("opens"),
    );
    let all: Vec<_> = all.into_iter().map(Some).collect();
    let led = all[serving(&all).await].clone().expect("runs");
    let own = Peer {
        name: "n9".into(),
        addr: format!("127.0.0.1:{}", super::support::free_port()),
    };
    let joins = ReplicaOptions {
        peers: Vec::new(),
        bootstrap: false,
        segment_size: 2 << 20,
        ..options(dir.path(), &[own], 0)
    };
    let joins = open_as(NEWEST, joins).await.expect("opens");
    joins.suggest_peers(peers.iter().map(|p| p.addr.clone()).collect());
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(joins.role().me.node_id, 0, "not taken in");
    assert_eq!(led.role().members.len(), 3);
    send(&led, vec![message(0, "x")], None)
        .await
        .expect("acknowledged");
    assert_eq!(bodies(&led, 0), ["x"]);
}
