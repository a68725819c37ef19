//! Sets of one and of three replicas: founding, sends, failover, restart, byte-identical logs.

use std::time::{Duration, Instant};

use super::support::{bodies, message, open, open_all, peers, send, serving};
use crate::options::AckLevel;
use crate::replica::Replica;
use crate::{Command, ProposeError, TopicConfig};

async fn close_all(replicas: Vec<Option<Replica>>) {
    for replica in replicas.into_iter().flatten() {
        replica.shutdown().await.expect("closes");
    }
}

/// Sends until it is acknowledged, wherever the leader is.
async fn send_somewhere(replicas: &[Option<Replica>], body: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let leader = serving(replicas).await;
        let replica = replicas[leader].as_ref().expect("runs");
        match send(replica, vec![message(0, body)], None).await {
            Ok(_) => return,
            Err(error) => assert!(Instant::now() < deadline, "{body}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_serves_and_keeps_everything_over_restarts() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(1);
    let mut expected = Vec::new();
    for round in 0..3 {
        let replicas = open_all(dir.path(), &peers).await;
        serving(&replicas).await;
        let replica = replicas[0].as_ref().expect("runs");
        for i in 0..50 {
            let body = format!("{round}-{i}");
            let placed = send(replica, vec![message(0, &body)], None)
                .await
                .expect("acknowledged");
            assert_eq!(placed[0].queue_offset, expected.len() as i64);
            expected.push(body);
        }
        assert_eq!(bodies(replica, 0), expected);
        close_all(replicas).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = open_all(dir.path(), &peers).await;
    let mut sent = Vec::new();
    for round in 0..3 {
        for i in 0..30 {
            let body = format!("{round}-{i}");
            send_somewhere(&replicas, &body).await;
            sent.push(body);
        }
        let leader = serving(&replicas).await;
        let gone = replicas[leader].take().expect("runs");
        gone.shutdown().await.expect("closes");
        drop(gone);
        send_somewhere(&replicas, &format!("{round}-after")).await;
        sent.push(format!("{round}-after"));
        replicas[leader] = Some(open(dir.path(), &peers, leader).await);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    for replica in replicas.iter().flatten() {
        loop {
            let found = bodies(replica, 0);
            if sent.iter().all(|body| found.contains(body)) {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "a replica did not catch up: {} of {}",
                found.len(),
                sent.len()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    close_all(replicas).await;

    let log = |nth: usize| {
        let path = dir
            .path()
            .join(&peers[nth].name)
            .join("commitlog/segments")
            .join(format!("{:020}", 0));
        std::fs::read(path).expect("a segment")
    };
    assert!(
        log(0) == log(1) && log(1) == log(2),
        "replicas with the same log have byte-identical segments"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_acknowledges_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = open_all(dir.path(), &peers).await;
    send_somewhere(&replicas, "before").await;
    let leader = serving(&replicas).await;
    for nth in (0..3).filter(|n| *n != leader) {
        let gone = replicas[nth].take().expect("runs");
        gone.shutdown().await.expect("closes");
    }
    let replica = replicas[leader].as_ref().expect("runs");
    for ack in [AckLevel::Majority, AckLevel::Leader] {
        let started = Instant::now();
        // With the leader's level the lease may still run for a moment.
        tokio::time::sleep(Duration::from_millis(600)).await;
        let result = send(replica, vec![message(0, "alone")], Some(ack)).await;
        assert!(
            matches!(result, Err(ProposeError::Unknown | ProposeError::NoLeader)),
            "{result:?}"
        );
        assert!(
            started.elapsed() < Duration::from_secs(4),
            "answered before the client gives up"
        );
    }
    assert!(!replica.is_serving());
    assert_eq!(
        bodies(replica, 0),
        ["before"],
        "what is not committed is not shown"
    );
    close_all(replicas).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_hand_sends_back_for_forwarding() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let replicas = open_all(dir.path(), &peers).await;
    let leader = serving(&replicas).await;
    let follower = replicas[(leader + 1) % 3].as_ref().expect("runs");
    match send(follower, vec![message(0, "x")], None).await {
        Err(ProposeError::NotLeader(to)) => assert_eq!(to.name, peers[leader].name),
        other => panic!("{other:?}"),
    }
    close_all(replicas).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_messages_of_one_proposal_reach_every_replica() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let replicas = open_all(dir.path(), &peers).await;
    let leader = serving(&replicas).await;
    let replica = replicas[leader].as_ref().expect("runs");
    let config = TopicConfig {
        topic_name: "T".into(),
        ..TopicConfig::default()
    };
    replica
        .propose_commands(vec![Command::PutTopic { config, now_ms: 7 }])
        .await
        .expect("applied");
    assert!(replica.state().topic("T").is_some());
    send(replica, vec![message(0, "a"), message(3, "b")], None)
        .await
        .expect("acknowledged");
    replica
        .propose_commands(vec![Command::DeleteTopic {
            topic: "T".into(),
            now_ms: 8,
        }])
        .await
        .expect("applied");
    let placed = send(replica, vec![message(0, "again")], None)
        .await
        .expect("acknowledged");
    assert_eq!(
        placed[0].queue_offset, 0,
        "a topic made again starts at offset 0"
    );
    let deadline = Instant::now() + Duration::from_secs(5);
    for replica in replicas.iter().flatten() {
        while bodies(replica, 0) != ["again"] {
            assert!(Instant::now() < deadline, "applied everywhere");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(replica.state().topic_version().counter, 2);
        assert!(replica.queue_range("T", 3).is_none());
    }
    close_all(replicas).await;
}
