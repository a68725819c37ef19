use std::time::Instant;

use raftmq_remoting::codes::request;
use raftmq_remoting::header::PullMessageResponseHeader;

use crate::harness::{Pull, Send, TestBroker, header, records, remark};
use crate::replicas::Cluster;

/// Code, status name, next offset, bounds.
async fn status(broker: &TestBroker, pull: Pull) -> (i32, String, i64, (i64, i64)) {
    let answer = broker.client.invoke(pull.command()).await;
    let h: PullMessageResponseHeader = header(&answer);
    assert_eq!(h.suggest_which_broker_id, 0);
    (
        answer.code,
        remark(&answer).to_owned(),
        h.next_begin_offset,
        (h.min_offset, h.max_offset),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_has_its_code() {
    let broker = TestBroker::start().await;
    for body in ["a", "b", "c"] {
        broker.send("T", body).await;
    }
    let of = |offset: i64| Pull::of("T").offset(offset);
    assert_eq!(status(&broker, of(0)).await, (0, "FOUND".into(), 3, (0, 3)));
    assert_eq!(status(&broker, of(2)).await, (0, "FOUND".into(), 3, (0, 3)));
    assert_eq!(
        status(&broker, of(3)).await,
        (19, "OFFSET_OVERFLOW_ONE".into(), 3, (0, 3))
    );
    assert_eq!(
        status(&broker, of(1000)).await,
        (21, "OFFSET_OVERFLOW_BADLY".into(), 3, (0, 3))
    );
    assert_eq!(
        status(&broker, of(-5)).await,
        (21, "OFFSET_TOO_SMALL".into(), 0, (0, 3))
    );
    let empty = |offset: i64| of(offset).with("queueId", "3");
    assert_eq!(
        status(&broker, empty(0)).await,
        (19, "NO_MESSAGE_IN_QUEUE".into(), 0, (0, 0))
    );
    assert_eq!(
        status(&broker, empty(5)).await,
        (21, "NO_MESSAGE_IN_QUEUE".into(), 0, (0, 0))
    );
    let other = of(1).with("subscription", "TagX");
    assert_eq!(
        status(&broker, other).await,
        (20, "NO_MATCHED_MESSAGE".into(), 3, (0, 3))
    );
    let lite = of(0).code(request::LITE_PULL_MESSAGE);
    assert_eq!(status(&broker, lite).await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_pulls_are_refused_with_rocketmqs_codes() {
    let broker = TestBroker::start().await;
    broker.send("T", "a").await;
    let cases: Vec<(&str, Pull, i32, &str)> = vec![
        (
            "group missing",
            Pull::of("T").without("consumerGroup"),
            1,
            "consumerGroup",
        ),
        (
            "offset mistyped",
            Pull::of("T").with("queueOffset", "x"),
            1,
            "queueOffset",
        ),
        (
            "no such topic",
            Pull::of("Nope"),
            17,
            "topic[Nope] not exist",
        ),
        (
            "queue too high",
            Pull::of("T").with("queueId", "50"),
            29,
            "queueId[50] is illegal",
        ),
        (
            "queue negative",
            Pull::of("T").with("queueId", "-1"),
            29,
            "queueId[-1] is illegal",
        ),
        (
            "illegal group",
            Pull::of("T").with("consumerGroup", "a b"),
            26,
            "subscription group [a b] does not exist",
        ),
        (
            "nobody online",
            Pull::of("T").with("sysFlag", "0"),
            24,
            "group info not exist",
        ),
        (
            "bad subscription",
            Pull::of("T").with("subscription", "||"),
            23,
            "parse the consumer's subscription failed",
        ),
        (
            "sql",
            Pull::of("T").with("expressionType", "SQL92"),
            1,
            "filter message by SQL92",
        ),
        (
            "unknown filter",
            Pull::of("T").with("expressionType", "FOO"),
            1,
            "filter message by FOO",
        ),
    ];
    for (name, pull, code, part) in cases {
        let answer = broker.client.invoke(pull.command()).await;
        assert_eq!(answer.code, code, "{name}: {}", remark(&answer));
        assert!(
            remark(&answer).contains(part),
            "{name}: {}",
            remark(&answer)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_filtered_by_their_hash() {
    let broker = TestBroker::start().await;
    for (tag, body) in [("A", "1"), ("B", "2"), ("A", "3"), ("C", "4")] {
        broker
            .client
            .invoke(
                Send::to("T")
                    .properties(&[("TAGS", tag)])
                    .body(body)
                    .command(),
            )
            .await;
    }
    broker.send("T", "untagged").await;
    let pull = |tags: &str| Pull::of("T").with("subscription", tags).command();
    let bodies = |answer| {
        records(&answer)
            .into_iter()
            .map(|m| m.body)
            .collect::<Vec<_>>()
    };
    assert_eq!(bodies(broker.client.invoke(pull("A")).await), ["1", "3"]);
    assert_eq!(
        bodies(broker.client.invoke(pull("B || C")).await),
        ["2", "4"]
    );
    assert_eq!(bodies(broker.client.invoke(pull("*")).await).len(), 5);
    let answer = broker.client.invoke(pull("A")).await;
    assert_eq!(
        header::<PullMessageResponseHeader>(&answer).next_begin_offset,
        5,
        "past what does not match"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_bounded_by_count_and_bytes() {
    let broker = TestBroker::start().await;
    for n in 0..40 {
        broker.send("T", &format!("m{n}")).await;
    }
    let count = |answer| records(&answer).len();
    assert_eq!(
        count(
            broker
                .client
                .invoke(Pull::of("T").with("maxMsgNums", "100").command())
                .await
        ),
        32
    );
    assert_eq!(
        count(
            broker
                .client
                .invoke(Pull::of("T").with("maxMsgNums", "5").command())
                .await
        ),
        5
    );
    assert_eq!(
        count(
            broker
                .client
                .invoke(Pull::of("T").with("maxMsgNums", "0").command())
                .await
        ),
        1
    );
    let big = "x".repeat(200 << 10);
    for _ in 0..3 {
        broker.send("Big", &big).await;
    }
    let answer = broker.client.invoke(Pull::of("Big").command()).await;
    assert_eq!(records(&answer).len(), 1, "256 KiB, but always one");
    assert_eq!(
        header::<PullMessageResponseHeader>(&answer).next_begin_offset,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_commits_the_offset_it_carries() {
    let broker = TestBroker::start().await;
    broker.send("T", "a").await;
    broker.send("T", "b").await;
    let pull = Pull::of("T")
        .offset(1)
        .with("sysFlag", "5")
        .with("commitOffset", "1");
    assert_eq!(broker.client.invoke(pull.command()).await.code, 0);
    let query = [
        ("consumerGroup", "CG"),
        ("topic", "T"),
        ("queueId", "0"),
        ("setZeroIfNotFound", "false"),
    ];
    let start = Instant::now();
    crate::harness::eventually("the offset is committed", || async {
        broker
            .client
            .ask(request::QUERY_CONSUMER_OFFSET, &query)
            .await
            .ext
            .get("offset")
            == Some("1")
    })
    .await;
    assert!(start.elapsed().as_millis() < 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn consumption_can_be_switched_off() {
    let broker = TestBroker::start().await;
    broker.send("T", "a").await;
    let group = r#"{"groupName":"CG","consumeEnable":false}"#;
    broker
        .client
        .ask_with(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], group)
        .await;
    let answer = broker.pull("T", 0).await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (16, "subscription group no permission, CG")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_far_behind_reads_from_a_follower() {
    let cluster = Cluster::start_with(|config| config.slave_read = true).await;
    let leader = cluster.wait_for_leader().await;
    let client = cluster.client(leader);
    for body in ["a", "b", "c"] {
        let send = Send::to("T").body(body).command();
        assert_eq!(client.invoke(send).await.code, 0);
    }
    let pull = async |n: usize, offset: i64| {
        let pull = Pull::of("T").offset(offset).command();
        let answer = cluster.client(n).invoke(pull).await;
        let told: PullMessageResponseHeader = header(&answer);
        let bodies = records(&answer).into_iter().map(|m| m.body);
        (told.suggest_which_broker_id, bodies.collect::<Vec<_>>())
    };
    assert_eq!(pull(leader, 0).await.0, 0, "its messages are in memory");

    for (_, service) in cluster.running() {
        service.broker().stats.set_memory_bytes(-1);
    }
    let id = |n: usize| cluster.service(n).broker().replica.role().me.broker_id as i64;
    let followers: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
    let (told, _) = pull(leader, 0).await;
    assert!(
        told > 0 && followers.iter().any(|n| id(*n) == told),
        "{told}"
    );
    for follower in followers {
        let state = cluster.service(follower).broker();
        crate::harness::eventually("the follower has them", async || {
            state.replica.queue_range("T", 0) == Some((0, 3))
        })
        .await;
        // The master names one of them, whoever asks: this answer is the follower's own.
        let served = pull(follower, 1).await;
        assert_eq!(served, (id(follower), vec!["b".into(), "c".into()]));
        assert_eq!(pull(follower, 3).await, (0, vec![]), "that the master says");
        state.stats.set_memory_bytes(i64::MAX);
        assert_eq!(pull(follower, 1).await.0, 0, "it has caught up");
    }
    cluster.stop().await;
}
