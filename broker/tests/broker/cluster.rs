//! Three replicas in one process: what a replica that does not lead does with requests.

use std::time::{Duration, Instant};

use raftmq_remoting::codes::request;

use crate::harness::{Pull, Send, records, remark};
use crate::replicas::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn followers_pass_requests_on_and_outlive_their_master() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.wait_for_leader().await;
    let follower = (leader + 1) % 3;
    let client = cluster.client(follower);

    // A send, with its topic's creation.
    let answer = client
        .invoke(Send::to("T").body("via follower").command())
        .await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(answer.ext.get("TRACE_ON"), Some("true"));
    // A pull, which finds it at the master.
    let answer = client.invoke(Pull::of("T").command()).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(records(&answer)[0].body, "via follower");
    let answer = client
        .invoke(Pull::of("T").offset(1).held(500).command())
        .await;
    assert_eq!(answer.code, 19, "held by the master");
    // Offsets and administration.
    let group = r#"{"groupName":"G"}"#;
    assert_eq!(
        client
            .ask_with(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], group)
            .await
            .code,
        0
    );
    let commit = [
        ("consumerGroup", "G"),
        ("topic", "T"),
        ("queueId", "0"),
        ("commitOffset", "1"),
    ];
    assert_eq!(
        client
            .ask(request::UPDATE_CONSUMER_OFFSET, &commit)
            .await
            .code,
        0
    );
    let query = [("consumerGroup", "G"), ("topic", "T"), ("queueId", "0")];
    assert_eq!(
        client
            .ask(request::QUERY_CONSUMER_OFFSET, &query)
            .await
            .ext
            .get("offset"),
        Some("1")
    );
    // Many at once share one connection.
    let mut tasks = Vec::new();
    for n in 0..50 {
        let client = cluster.client(follower);
        tasks.push(tokio::spawn(async move {
            client
                .invoke(Send::to("T").body(format!("{n}")).command())
                .await
                .code
        }));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), 0);
    }
    // A request that was passed on once is not passed on again.
    let marked = Send::to("T")
        .command()
        .with_ext("__RAFTMQ_HOP", "1")
        .with_ext("__RAFTMQ_LEFT_MS", "500");
    let answer = client.invoke(marked).await;
    assert_eq!(answer.code, 14, "{}", remark(&answer));
    assert!(answer.ext.get("__RAFTMQ_REFUSED").is_some());

    // The master goes; what was acknowledged stays, and sends go on.
    let gone = cluster.services[leader].take().unwrap();
    gone.stop().await.unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = client.invoke(Send::to("T").body("after").command()).await;
        if answer.code == 0 {
            break;
        }
        assert!(
            matches!(answer.code, 1 | 14),
            "{}: {}",
            answer.code,
            remark(&answer)
        );
        assert!(
            Instant::now() < end,
            "sends do not recover: {}",
            remark(&answer)
        );
    }
    cluster.wait_for_leader().await;
    let mut offset = 0;
    let mut bodies = Vec::new();
    while bodies.len() < 52 && Instant::now() < end {
        let answer = client.invoke(Pull::of("T").offset(offset).command()).await;
        bodies.extend(records(&answer).into_iter().map(|m| m.body));
        offset = bodies.len() as i64;
    }
    assert_eq!(bodies[0], "via follower");
    assert!(
        bodies.len() >= 52 && bodies.iter().any(|b| b == "after"),
        "{}",
        bodies.len()
    );
    assert_eq!(
        client
            .ask(request::QUERY_CONSUMER_OFFSET, &query)
            .await
            .ext
            .get("offset"),
        Some("1")
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_pull_is_released_when_its_master_stops_leading() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.wait_for_leader().await;
    let client = cluster.client(leader);
    assert_eq!(client.invoke(Send::to("T").command()).await.code, 0);
    let pull = tokio::spawn(async move {
        client
            .invoke(Pull::of("T").offset(1).held(30_000).command())
            .await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Alone, it cannot keep its lease.
    for n in (0..3).filter(|n| *n != leader) {
        cluster.services[n].take().unwrap().stop().await.unwrap();
    }
    let answer = tokio::time::timeout(Duration::from_secs(10), pull)
        .await
        .expect("released")
        .unwrap();
    assert!(
        matches!(answer.code, 14 | 20),
        "{}: {}",
        answer.code,
        remark(&answer)
    );
    cluster.stop().await;
}

/// Topics and groups that a follower has not applied yet are not missing: it had answered from its own older state.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_refuses_no_pull_by_itself() {
    let mut cluster = Cluster::start_with(|config| config.slave_read = true).await;
    let leader = cluster.wait_for_leader().await;
    let follower = (leader + 1) % 3;
    let (at_leader, at_follower) = (cluster.client(leader), cluster.client(follower));
    for n in 0..40 {
        let topic = format!("T{n}");
        let answer = at_leader.invoke(Send::to(&topic).command()).await;
        assert_eq!(answer.code, 0, "{}", remark(&answer));
        let answer = at_follower.invoke(Pull::of(&topic).command()).await;
        assert_eq!(answer.code, 0, "{}", remark(&answer));
    }
    // What does not exist at all is the master's to say; without one nobody knows.
    let answer = at_follower.invoke(Pull::of("nowhere").command()).await;
    assert_eq!(answer.code, 17, "{}", remark(&answer));
    for n in (0..3).filter(|n| *n != follower) {
        cluster.stop_one(n).await;
    }
    let answer = at_follower.invoke(Pull::of("nowhere").command()).await;
    assert_eq!(answer.code, 14, "{}", remark(&answer));
    cluster.stop().await;
}
