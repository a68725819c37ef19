//! Messages by key and by unique id.

use raftmq_remoting::codes::request;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::QueryMessageResponseHeader;

use crate::harness::{Client, Message, Send, TestBroker, header, records, remark};
use crate::replicas::Cluster;

async fn ask(
    client: &Client,
    key: &str,
    max: &str,
    range: (i64, i64),
    id: bool,
) -> RemotingCommand {
    let (begin, end) = (range.0.to_string(), range.1.to_string());
    let mut ext = vec![
        ("topic", "T"),
        ("key", key),
        ("maxNum", max),
        ("beginTimestamp", begin.as_str()),
        ("endTimestamp", end.as_str()),
    ];
    if id {
        ext.push(("_UNIQUE_KEY_QUERY", "true"));
    }
    client.ask(request::QUERY_MESSAGE, &ext).await
}

async fn by_key(client: &Client, key: &str) -> RemotingCommand {
    ask(client, key, "32", (0, i64::MAX), false).await
}

fn bodies(answer: &RemotingCommand) -> Vec<String> {
    assert_eq!(answer.code, 0, "{}", remark(answer));
    records(answer)
        .into_iter()
        .map(|m: Message| m.body)
        .collect()
}

async fn send(client: &Client, n: usize) {
    let (id, keys) = (format!("UID{n}"), format!("shared own{n}"));
    let send = Send::to("T")
        .properties(&[("UNIQ_KEY", id.as_str()), ("KEYS", keys.as_str())])
        .body(format!("body{n}"));
    let answer = client.invoke(send.command()).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
}

async fn finds_three(client: &Client) {
    assert_eq!(
        bodies(&by_key(client, "shared").await),
        ["body0", "body1", "body2"],
        "in the order they were stored"
    );
    for n in 0..3 {
        let body = [format!("body{n}")];
        assert_eq!(bodies(&by_key(client, &format!("own{n}")).await), body);
        let answer = ask(client, &format!("UID{n}"), "1", (0, i64::MAX), true).await;
        assert_eq!(bodies(&answer), body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_found_by_key_and_unique_id() {
    let mut broker = TestBroker::start().await;
    for n in 0..3 {
        send(&broker.client, n).await;
    }
    let client = &broker.client;
    finds_three(client).await;
    let answer = by_key(client, "shared").await;
    let found = records(&answer);
    let head: QueryMessageResponseHeader = header(&answer);
    assert_eq!(head.index_last_update_phyoffset, found[2].physical_offset);
    let stored = head.index_last_update_timestamp;
    assert!(stored > 1_700_000_000_000, "{stored}");

    // The newest are told when not all are wanted, and never more than the settings allow.
    let answer = ask(client, "shared", "2", (0, i64::MAX), false).await;
    assert_eq!(bodies(&answer), ["body1", "body2"]);
    let answer = ask(client, "shared", "1", (0, i64::MAX), true).await;
    assert_eq!(
        bodies(&answer).len(),
        3,
        "by id, maxNum is defaultQueryMaxNum"
    );
    let answer = ask(client, "shared", "1000000", (0, i64::MAX), false).await;
    assert_eq!(bodies(&answer).len(), 3);

    // A time range holds its ends; what lies outside of it, another topic, or an unknown key is not found.
    let answer = ask(client, "own2", "32", (stored, stored), false).await;
    assert_eq!(bodies(&answer), ["body2"]);
    for answer in [
        ask(client, "own2", "32", (stored + 1, i64::MAX), false).await,
        ask(client, "own2", "32", (0, 1), false).await,
        ask(client, "own2", "0", (0, i64::MAX), false).await,
        ask(client, "own2", "-1", (0, i64::MAX), false).await,
        by_key(client, "own").await,
        by_key(client, "").await,
        by_key(client, "UID").await,
    ] {
        assert_eq!(
            (answer.code, remark(&answer)),
            (22, "can not find message, maybe time range not correct")
        );
        assert!(answer.body.is_empty());
    }
    let answer = client.ask(request::QUERY_MESSAGE, &[("topic", "T")]).await;
    assert_eq!(answer.code, 1, "{}", remark(&answer));

    broker.restart().await;
    finds_three(&broker.client).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_bounded_by_the_settings() {
    let broker = TestBroker::start_with(|c| {
        c.max_query = 2;
        c.default_query = 1;
    })
    .await;
    for n in 0..3 {
        send(&broker.client, n).await;
    }
    let answer = by_key(&broker.client, "shared").await;
    assert_eq!(bodies(&answer), ["body1", "body2"], "maxMsgsNumBatch");
    let answer = ask(&broker.client, "shared", "32", (0, i64::MAX), true).await;
    assert_eq!(bodies(&answer), ["body2"], "defaultQueryMaxNum");
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_answered_by_every_master_and_through_followers() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.wait_for_leader().await;
    let client = cluster.client((leader + 1) % 3);
    for n in 0..3 {
        send(&client, n).await;
    }
    finds_three(&client).await;
    finds_three(&cluster.client(leader)).await;
    cluster.stop_one(leader).await;
    cluster.wait_for_leader().await;
    finds_three(&client).await;
    // One that was away has them too.
    let next = cluster.wait_for_leader().await;
    cluster.start_one(leader).await;
    cluster.stop_one(next).await;
    cluster.wait_for_leader().await;
    finds_three(&cluster.client(leader)).await;
    cluster.stop().await;
}

/// The index split keys at blanks, as RocketMQ does, and the query at all white space: what it had indexed it did not know again.
#[tokio::test(flavor = "multi_thread")]
async fn white_space_that_is_no_blank_belongs_to_a_key() {
    let broker = TestBroker::start().await;
    let keys = ["{\"id\":1,\n\"x\":2}", "a\tb", "c\r\u{c}d"];
    let all = keys.join(" ");
    let send = Send::to("T").properties(&[("UNIQ_KEY", "U1"), ("KEYS", &all)]);
    let answer = broker.client.invoke(send.body("found").command()).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    for key in keys {
        assert_eq!(
            bodies(&by_key(&broker.client, key).await),
            ["found"],
            "{key:?}"
        );
    }
    for part in ["b", "\"x\":2}", "d"] {
        assert_ne!(by_key(&broker.client, part).await.code, 0, "{part:?}");
    }
}
