use raftmq_remoting::codes::request;

use crate::harness::{Send, TestBroker, command, eventually, remark};

fn key<'a>(group: &'a str, topic: &'a str, queue: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("consumerGroup", group),
        ("topic", topic),
        ("queueId", queue),
    ]
}

async fn broker_with_group() -> TestBroker {
    let broker = TestBroker::start().await;
    let group = r#"{"groupName":"G"}"#;
    broker
        .client
        .ask_with(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], group)
        .await;
    for body in ["a", "b", "c"] {
        broker.send("T", body).await;
    }
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_is_told_where_it_may_begin() {
    let broker = broker_with_group().await;
    let query =
        async |ext: &[(&str, &str)]| broker.client.ask(request::QUERY_CONSUMER_OFFSET, ext).await;
    let answer = query(&key("New", "T", "0")).await;
    assert_eq!(
        (answer.code, answer.ext.get("offset")),
        (0, Some("0")),
        "the queue's first message is in memory"
    );
    let mut strict = key("New", "T", "0");
    strict.push(("setZeroIfNotFound", "false"));
    assert_eq!(query(&strict).await.code, 22);
    assert_eq!(
        query(&key("New", "T", "3")).await.code,
        22,
        "an empty queue"
    );
    assert_eq!(
        query(&key("New", "T", "77")).await.code,
        22,
        "no such queue"
    );
    assert_eq!(
        query(&key("New", "Nope", "0")).await.code,
        22,
        "no such topic"
    );
    assert_eq!(query(&[("consumerGroup", "New")]).await.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_somebody_waits_for_is_read_at_once() {
    let broker = broker_with_group().await;
    let commit = async |queue: &str, offset: &str| {
        let mut ext = key("G", "T", queue);
        ext.push(("commitOffset", offset));
        broker
            .client
            .ask(request::UPDATE_CONSUMER_OFFSET, &ext)
            .await
    };
    for offset in ["1", "3", "2"] {
        assert_eq!(commit("0", offset).await.code, 0);
        let answer = broker
            .client
            .ask(request::QUERY_CONSUMER_OFFSET, &key("G", "T", "0"))
            .await;
        assert_eq!(answer.ext.get("offset"), Some(offset));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn oneway_commits_arrive_in_order() {
    let broker = broker_with_group().await;
    let commit = |offset: &str| {
        let mut ext = key("G", "T", "0");
        ext.push(("commitOffset", offset));
        command(request::UPDATE_CONSUMER_OFFSET, &ext)
    };
    for offset in ["1", "2", "3"] {
        broker.client.oneway(commit(offset)).await;
    }
    eventually("the last commit is applied", || async {
        let answer = broker
            .client
            .ask(request::QUERY_CONSUMER_OFFSET, &key("G", "T", "0"))
            .await;
        answer.ext.get("offset") == Some("3")
    })
    .await;
    // A waited-for commit comes after the oneway before it.
    broker.client.oneway(commit("1")).await;
    assert_eq!(broker.client.invoke(commit("2")).await.code, 0);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let answer = broker
        .client
        .ask(request::QUERY_CONSUMER_OFFSET, &key("G", "T", "0"))
        .await;
    assert_eq!(answer.ext.get("offset"), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_commits_are_refused_with_rocketmqs_codes() {
    let broker = broker_with_group().await;
    let mut ext = key("Nobody", "T", "0");
    ext.push(("commitOffset", "1"));
    let answer = broker
        .client
        .ask(request::UPDATE_CONSUMER_OFFSET, &ext)
        .await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (26, "Group Nobody not exist!")
    );
    let mut ext = key("G", "Nope", "0");
    ext.push(("commitOffset", "1"));
    let answer = broker
        .client
        .ask(request::UPDATE_CONSUMER_OFFSET, &ext)
        .await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (17, "Topic Nope not exist!")
    );
    let answer = broker
        .client
        .ask(request::UPDATE_CONSUMER_OFFSET, &key("G", "T", "0"))
        .await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (29, "Offset is null, topic is T")
    );
    let mut ext = key("G", "T", "-1");
    ext.push(("commitOffset", "1"));
    assert_eq!(
        broker
            .client
            .ask(request::UPDATE_CONSUMER_OFFSET, &ext)
            .await
            .code,
        29
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_of_queues() {
    let broker = broker_with_group().await;
    let offset = async |code, topic: &str, queue: &str| {
        let answer = broker
            .client
            .ask(code, &[("topic", topic), ("queueId", queue)])
            .await;
        assert_eq!(answer.code, 0);
        answer.ext.get("offset").unwrap().parse::<i64>().unwrap()
    };
    assert_eq!(offset(request::GET_MAX_OFFSET, "T", "0").await, 3);
    assert_eq!(offset(request::GET_MIN_OFFSET, "T", "0").await, 0);
    for (topic, queue) in [("T", "3"), ("T", "99"), ("T", "-1"), ("Nope", "0")] {
        assert_eq!(offset(request::GET_MAX_OFFSET, topic, queue).await, 0);
        assert_eq!(offset(request::GET_MIN_OFFSET, topic, queue).await, 0);
    }
    let earliest = async |topic: &str, queue: &str| {
        let answer = broker
            .client
            .ask(
                request::GET_EARLIEST_MSG_STORETIME,
                &[("topic", topic), ("queueId", queue)],
            )
            .await;
        answer.ext.get("timestamp").unwrap().parse::<i64>().unwrap()
    };
    assert!(earliest("T", "0").await > 1_700_000_000_000);
    assert_eq!(earliest("T", "3").await, -1);
    assert_eq!(earliest("Nope", "0").await, -1);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_by_time() {
    let broker = TestBroker::start().await;
    broker.send("T", "a").await;
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    let answer = broker.client.invoke(Send::to("T").command()).await;
    assert_eq!(answer.code, 0);
    let bytes = broker.pull("T", 1).await.body.to_bytes();
    let second = raftmq_remoting::message::StoredRecord::parse(&bytes)
        .unwrap()
        .store_timestamp();
    let search = async |topic: &str, time: i64, boundary: &str| {
        let time = time.to_string();
        let ext = [
            ("topic", topic),
            ("queueId", "0"),
            ("timestamp", time.as_str()),
            ("boundaryType", boundary),
        ];
        let answer = broker
            .client
            .ask(request::SEARCH_OFFSET_BY_TIMESTAMP, &ext)
            .await;
        assert_eq!(answer.code, 0, "{}", remark(&answer));
        answer.ext.get("offset").unwrap().parse::<i64>().unwrap()
    };
    assert_eq!(search("T", 0, "lower").await, 0);
    assert_eq!(search("T", second, "LOWER").await, 1);
    assert_eq!(search("T", second - 1, "").await, 1);
    assert_eq!(search("T", second + 1_000_000, "lower").await, 2);
    assert_eq!(search("Nope", 0, "lower").await, 0);
    let mistyped = [("topic", "T"), ("queueId", "0"), ("timestamp", "x")];
    assert_eq!(
        broker
            .client
            .ask(request::SEARCH_OFFSET_BY_TIMESTAMP, &mistyped)
            .await
            .code,
        1
    );
}
