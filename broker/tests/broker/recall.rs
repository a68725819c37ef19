//! Timer messages that are taken back before their time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use raftmq_broker::Config;
use raftmq_remoting::codes::request;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::SendMessageResponseHeader;

use crate::harness::{Client, Pull, Send, TestBroker, header, records, remark};
use crate::replicas::Cluster;

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as i64
}

fn recalls(config: &mut Config) {
    config.recall = true;
}

fn timer(id: &str, at_ms: i64) -> Send {
    let at = at_ms.to_string();
    Send::to("T")
        .properties(&[("UNIQ_KEY", id), ("TIMER_DELIVER_MS", &at)])
        .body(id)
}

fn handle_of(answer: &RemotingCommand) -> String {
    assert_eq!(answer.code, 0, "{}", remark(answer));
    let sent: SendMessageResponseHeader = header(answer);
    sent.recall_handle.expect("a handle")
}

async fn recall(client: &Client, topic: &str, handle: &str) -> RemotingCommand {
    let fields = [
        ("producerGroup", "PG"),
        ("topic", topic),
        ("recallHandle", handle),
    ];
    client.ask(request::RECALL_MESSAGE, &fields).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_is_never_delivered() {
    let mut broker = TestBroker::start_with(recalls).await;
    broker.send("T", "now").await;
    let at = now_ms() + 1_500;
    let mut handles = Vec::new();
    for n in 0..20 {
        let send = timer(&format!("m{n}"), at + n % 3);
        handles.push(handle_of(&broker.client.invoke(send.command()).await));
    }
    let text = String::from_utf8(URL_SAFE.decode(&handles[4]).unwrap()).unwrap();
    assert_eq!(text, format!("v1 T broker-a {} m4", at + 1));
    for handle in handles.iter().step_by(2) {
        let answer = recall(&broker.client, "T", handle).await;
        assert_eq!(answer.code, 0, "{}", remark(&answer));
        assert_eq!(answer.ext.get("MSG_REGION"), Some("DefaultRegion"));
    }
    let again = recall(&broker.client, "T", &handles[4]).await;
    assert_eq!((again.code, again.ext.get("msgId")), (0, Some("m4")));
    // The set keeps to it.
    broker.restart().await;
    let mut bodies = broker.bodies("T", 1, 10).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    bodies = match records(&broker.pull("T", 1).await).len() {
        10 => bodies,
        more => panic!("{more} delivered, one of them taken back"),
    };
    bodies.sort();
    let want: BTreeSet<String> = (1..20).step_by(2).map(|n| format!("m{n}")).collect();
    assert!(want.iter().eq(&bodies), "{bodies:?}");
    // Their time is over.
    let late = recall(&broker.client, "T", &handles[0]).await;
    assert_eq!(
        (late.code, remark(&late)),
        (604, "recall failed, timestamp invalid")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_recalls_are_refused_with_rocketmqs_codes() {
    let broker = TestBroker::start_with(recalls).await;
    broker.send("T", "x").await;
    broker.send("U", "x").await;
    let soon = now_ms() + 60_000;
    let far = now_ms() + 259_200_000 + 60_000;
    let handle = |text: String| URL_SAFE.encode(text);
    let good = handle(format!("v1 T broker-a {soon} id"));
    let cases = [
        (
            "no such topic",
            "None",
            good.clone(),
            17,
            "recall failed, the topic[None] not exist",
        ),
        ("empty", "T", String::new(), 604, "recall handle is invalid"),
        (
            "not base64",
            "T",
            "~~".to_owned(),
            604,
            "recall handle is invalid",
        ),
        (
            "another version",
            "T",
            handle(format!("v2 T broker-a {soon} id")),
            604,
            "recall handle is invalid",
        ),
        (
            "too short",
            "T",
            handle(format!("v1 T broker-a {soon}")),
            604,
            "recall handle is invalid",
        ),
        (
            "another topic",
            "U",
            good.clone(),
            604,
            "recall failed, topic not match",
        ),
        (
            "another broker",
            "T",
            handle(format!("v1 T other {soon} id")),
            604,
            "recall failed, broker service not available",
        ),
        (
            "over",
            "T",
            handle("v1 T broker-a 1000 id".to_owned()),
            604,
            "recall failed, timestamp invalid",
        ),
        (
            "no number",
            "T",
            handle("v1 T broker-a soon id".to_owned()),
            604,
            "recall failed, timestamp invalid",
        ),
        (
            "too far",
            "T",
            handle(format!("v1 T broker-a {far} id")),
            604,
            "recall failed, timestamp invalid",
        ),
    ];
    for (name, topic, handle, code, text) in cases {
        let answer = recall(&broker.client, topic, &handle).await;
        assert_eq!((answer.code, remark(&answer)), (code, text), "{name}");
    }
    // What is not there is taken back without a word, as with RocketMQ.
    let answer = recall(&broker.client, "T", &good).await;
    assert_eq!((answer.code, answer.ext.get("msgId")), (0, Some("id")));
    let answer = broker
        .client
        .ask(request::RECALL_MESSAGE, &[("topic", "T")])
        .await;
    assert_eq!(answer.code, 1);
    assert!(
        remark(&answer).contains("recallHandle"),
        "{}",
        remark(&answer)
    );
    assert_eq!(records(&broker.pull("T", 0).await).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn recalls_are_off_unless_they_are_wanted() {
    let broker = TestBroker::start().await;
    broker.send("T", "x").await;
    let handle = handle_of(
        &broker
            .client
            .invoke(timer("id", now_ms() + 600).command())
            .await,
    );
    let answer = recall(&broker.client, "T", &handle).await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (
            16,
            "recall failed, operation is forbidden: recallMessageEnable=false"
        )
    );
    assert_eq!(broker.bodies("T", 1, 1).await, ["id"]);
    let answer = recall(&broker.client, "None", "").await;
    assert_eq!(answer.code, 16, "the first thing that is checked");
}

#[tokio::test(flavor = "multi_thread")]
async fn recalls_of_a_broker_that_may_not_be_written_to() {
    let at = now_ms() + 60_000;
    let handle = URL_SAFE.encode(format!("v1 SELF_TEST_TOPIC broker-a {at} id"));
    let allowed = TestBroker::start_with(|c| (c.recall, c.permission) = (true, 4)).await;
    let answer = recall(&allowed.client, "SELF_TEST_TOPIC", &handle).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    let forbidden = TestBroker::start_with(|c| {
        (c.recall, c.permission, c.recall_when_not_writable) = (true, 4, false);
    })
    .await;
    let answer = recall(&forbidden.client, "SELF_TEST_TOPIC", &handle).await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (14, "recall failed, broker service not available")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_timers_have_handles() {
    let broker = TestBroker::start_with(recalls).await;
    let delay = [("TIMER_DELAY_MS", "60000")];
    let now = [("TIMER_DELIVER_MS", "1000")];
    for (name, send) in [
        ("ordinary", Send::to("T")),
        ("due already", Send::to("T").properties(&now)),
        ("a level", Send::to("T").properties(&[("DELAY", "5")])),
        ("a retry", Send::to("%RETRY%G").properties(&delay)),
    ] {
        let answer = broker.client.invoke(send.command()).await;
        assert_eq!(answer.code, 0, "{name}: {}", remark(&answer));
        let sent: SendMessageResponseHeader = header(&answer);
        assert_eq!(sent.recall_handle, None, "{name}");
    }
    handle_of(
        &broker
            .client
            .invoke(Send::to("T").properties(&delay).command())
            .await,
    );
}

/// The older way: a message for the same time that names the other one.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_takes_another_one_back() {
    let broker = TestBroker::start().await;
    broker.send("T", "now").await;
    let at = now_ms() + 1_500;
    for id in ["a", "b", "c"] {
        handle_of(&broker.client.invoke(timer(id, at).command()).await);
    }
    let delete = |value: &str, at: i64| {
        let at = at.to_string();
        let properties = [("TIMER_DEL_UNIQKEY", value), ("TIMER_DELIVER_MS", &at)];
        Send::to("T")
            .properties(&properties)
            .body("delete")
            .command()
    };
    // Any time of the same second will do; another topic's, and what names none, is stored and does nothing.
    let second = (at - 1) / 1000 * 1000;
    for (value, at) in [("T+a", second + 1), ("U+b", at), ("c", at)] {
        let answer = broker.client.invoke(delete(value, at)).await;
        assert_eq!(answer.code, 0, "{value}: {}", remark(&answer));
        assert!(answer.ext.get("msgId").is_some() && answer.ext.get("recallHandle").is_none());
    }
    for (what, at) in [("over", 1_000), ("too far", now_ms() + 260_000_000)] {
        let answer = broker.client.invoke(delete("T+b", at)).await;
        assert_eq!(answer.code, 13, "{what}");
        assert!(remark(&answer).starts_with("timer message illegal"));
    }
    // Without a time it is a message like others.
    let plain = Send::to("T").properties(&[("TIMER_DEL_UNIQKEY", "T+b")]);
    let answer = broker.client.invoke(plain.body("plain").command()).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    let mut bodies = broker.bodies("T", 0, 4).await;
    bodies.sort();
    assert_eq!(bodies, ["b", "c", "now", "plain"]);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(records(&broker.pull("T", 0).await).len(), 4);
}

/// A producer whose first answer was lost made two timers of one message.
#[tokio::test(flavor = "multi_thread")]
async fn all_copies_go() {
    let broker = TestBroker::start_with(recalls).await;
    broker.send("T", "now").await;
    let at = now_ms() + 4_500;
    broker.client.invoke(timer("a", at - 3_000).command()).await;
    let handle = handle_of(&broker.client.invoke(timer("a", at).command()).await);
    assert_eq!(recall(&broker.client, "T", &handle).await.code, 0);
    tokio::time::sleep(Duration::from_millis(4_800)).await;
    assert_eq!(records(&broker.pull("T", 0).await).len(), 1);
}

/// Recalls race with deliveries: what was acknowledged is not delivered, everything else is, once.
#[tokio::test(flavor = "multi_thread")]
async fn recalls_and_deliveries_do_not_cross() {
    let broker = TestBroker::start_with(recalls).await;
    broker.send("T", "now").await;
    let start = now_ms() + 800;
    let mut handles = Vec::new();
    for n in 0..400 {
        let send = timer(&format!("m{n}"), start + n * 2);
        handles.push(handle_of(&broker.client.invoke(send.command()).await));
    }
    let mut tasks = Vec::new();
    for (n, handle) in handles.into_iter().enumerate() {
        let client = broker.another_client();
        tasks.push(tokio::spawn(async move {
            // Each within some milliseconds of its time.
            let when = start + n as i64 * 2 + (n as i64 % 9) * 3 - 14;
            let wait = (when - now_ms()).max(0) as u64;
            tokio::time::sleep(Duration::from_millis(wait)).await;
            (format!("m{n}"), recall(&client, "T", &handle).await.code)
        }));
    }
    let mut gone = BTreeSet::new();
    let mut kept = BTreeSet::new();
    for task in tasks {
        match task.await.unwrap() {
            (id, 0) => gone.insert(id),
            (id, 604 | 1) => kept.insert(id),
            (id, code) => panic!("{id}: {code}"),
        };
    }
    assert!(!gone.is_empty() && !kept.is_empty(), "no race");
    let mut bodies = Vec::new();
    let end = Instant::now() + Duration::from_secs(20);
    while bodies.len() < kept.len() {
        assert!(Instant::now() < end, "{} of {}", bodies.len(), kept.len());
        let answer = broker.pull("T", 1 + bodies.len() as i64).await;
        bodies.extend(records(&answer).into_iter().map(|m| m.body));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let more = records(&broker.pull("T", 1 + bodies.len() as i64).await);
    assert!(more.is_empty(), "{more:?}");
    let delivered: BTreeSet<String> = bodies.iter().cloned().collect();
    assert_eq!(delivered.len(), bodies.len(), "nothing twice");
    assert_eq!(delivered, kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_master_keeps_to_what_was_taken_back() {
    let mut cluster = Cluster::start_with(recalls).await;
    let leader = cluster.wait_for_leader().await;
    let client = cluster.client((leader + 1) % 3);
    client.invoke(Send::to("T").body("now").command()).await;
    let at = now_ms() + 4_000;
    for n in 0..20 {
        let send = timer(&format!("m{n:02}"), at + n).command();
        let handle = handle_of(&client.invoke(send).await);
        if n % 2 == 0 {
            let answer = recall(&client, "T", &handle).await;
            assert_eq!(answer.code, 0, "{}", remark(&answer));
        }
    }
    cluster.stop_one(leader).await;
    cluster.wait_for_leader().await;
    let end = Instant::now() + Duration::from_secs(20);
    let mut bodies = Vec::new();
    while bodies.len() < 10 || now_ms() < at + 1_500 {
        assert!(Instant::now() < end, "{bodies:?}");
        let pull = Pull::of("T").offset(1 + bodies.len() as i64);
        let answer = client.invoke(pull.command()).await;
        bodies.extend(records(&answer).into_iter().map(|m| m.body));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let want: Vec<String> = (1..20).step_by(2).map(|n| format!("m{n:02}")).collect();
    assert_eq!(bodies, want);
    cluster.stop().await;
}
