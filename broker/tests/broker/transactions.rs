//! Half messages: their end, and what happens to those without one.

use std::time::{Duration, Instant};

use raftmq_broker::Config;
use raftmq_remoting::codes::request;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{CheckTransactionStateRequestHeader, SendMessageResponseHeader};
use raftmq_remoting::message::{StoredRecord, offset_msg_id, parse_offset_msg_id};

use crate::harness::{Client, Pull, Send, TestBroker, eventually, header, records, remark};
use crate::replicas::Cluster;

const COMMIT: &str = "8";
const ROLLBACK: &str = "12";

pub fn half(topic: &str, body: &str) -> Send {
    Send::to(topic)
        .with("e", "2")
        .with("f", "4")
        .properties(&[
            ("TRAN_MSG", "true"),
            ("PGROUP", "PG"),
            ("KEYS", "k"),
            ("TAGS", "t"),
        ])
        .body(body)
}

/// Queue offset and position of a half message that was sent.
pub async fn send_half(client: &Client, send: &Send) -> (i64, i64) {
    let answer = client.invoke(send.command()).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    let sent: SendMessageResponseHeader = header(&answer);
    assert_eq!(sent.queue_id, 2, "the queue it is for");
    let position = parse_offset_msg_id(&sent.msg_id).unwrap().1;
    (sent.queue_offset, position)
}

pub async fn end(client: &Client, what: (i64, i64), how: &str) -> RemotingCommand {
    end_with(client, what, how, &[("msgId", "M")]).await
}

/// As a producer does it that was asked.
async fn answer_check(client: &Client, what: (i64, i64), how: &str) -> RemotingCommand {
    let asked = [("msgId", "M"), ("fromTransactionCheck", "true")];
    end_with(client, what, how, &asked).await
}

async fn end_with(
    client: &Client,
    (offset, position): (i64, i64),
    how: &str,
    more: &[(&str, &str)],
) -> RemotingCommand {
    let (offset, position) = (offset.to_string(), position.to_string());
    let mut ext = vec![
        ("producerGroup", "PG"),
        ("tranStateTableOffset", offset.as_str()),
        ("commitLogOffset", position.as_str()),
        ("commitOrRollback", how),
    ];
    ext.extend(more);
    client.ask(request::END_TRANSACTION, &ext).await
}

async fn queue_2(client: &Client, topic: &str) -> Vec<crate::harness::Message> {
    records(
        &client
            .invoke(Pull::of(topic).with("queueId", "2").command())
            .await,
    )
}

async fn announce(client: &Client) {
    let body = r#"{"clientID":"c","producerDataSet":[{"groupName":"PG"}],"consumerDataSet":[],"heartbeatFingerprint":0}"#;
    assert_eq!(
        client.ask_with(request::HEART_BEAT, &[], body).await.code,
        0
    );
}

/// Transactions are asked about at once, three times.
fn impatient(config: &mut Config) {
    config.transaction_timeout_ms = 100;
    config.transaction_check_interval_ms = 200;
    config.transaction_check_max = 3;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_delivers_once_and_a_rollback_nothing() {
    let broker = TestBroker::start().await;
    broker.send("T", "before").await;
    let first = send_half(&broker.client, &half("T", "one")).await;
    let second = send_half(&broker.client, &half("T", "two")).await;
    assert_eq!(second.0, first.0 + 1, "queue offsets of the half messages");
    assert!(queue_2(&broker.client, "T").await.is_empty());
    let unknown = end(&broker.client, first, "0").await;
    assert_eq!(unknown.code, 0);
    assert!(queue_2(&broker.client, "T").await.is_empty());

    assert_eq!(end(&broker.client, first, COMMIT).await.code, 0);
    assert_eq!(end(&broker.client, second, ROLLBACK).await.code, 0);
    let found = queue_2(&broker.client, "T").await;
    assert_eq!(found.len(), 1);
    let message = &found[0];
    assert_eq!((message.body.as_str(), message.flag), ("one", 7));
    assert_eq!(message.property("TRAN_MSG"), None);
    assert_eq!(message.property("REAL_TOPIC"), None);
    assert_eq!(message.property("KEYS"), Some("k"));
    assert_eq!(message.property("PGROUP"), Some("PG"));
    assert_eq!(
        message.property("__transactionId__"),
        message.property("UNIQ_KEY")
    );

    for (what, how) in [(first, COMMIT), (second, COMMIT), (first, ROLLBACK)] {
        let again = end(&broker.client, what, how).await;
        assert_eq!(
            (again.code, remark(&again)),
            (1, "Find prepared transaction message failed")
        );
    }
    assert_eq!(queue_2(&broker.client, "T").await.len(), 1);
}

/// A check that had read a transaction before it ended, and counted itself after that, brought it back: it was delivered twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_ended_while_it_is_checked_stays_ended() {
    const MESSAGES: usize = 400;
    let broker = TestBroker::start_with(|config| {
        config.transaction_timeout_ms = 1;
        config.transaction_check_interval_ms = 1;
        config.transaction_check_max = 10_000;
    })
    .await;
    broker.send("T", "before").await;
    let mut halves = Vec::new();
    for n in 0..MESSAGES {
        halves.push(send_half(&broker.client, &half("T", &n.to_string())).await);
    }
    for what in &halves {
        let done = Instant::now() + Duration::from_secs(20);
        while end(&broker.client, *what, COMMIT).await.code != 0 {
            assert!(Instant::now() < done, "it is always being checked");
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    for what in &halves {
        let again = end(&broker.client, *what, COMMIT).await;
        assert_eq!(
            (again.code, remark(&again)),
            (1, "Find prepared transaction message failed")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_half_message_is_refused() {
    let broker = TestBroker::start().await;
    let (offset, position) = send_half(&broker.client, &half("T", "one")).await;
    let send = broker.send("T", "none").await;
    let plain: SendMessageResponseHeader = header(&send);
    let plain = parse_offset_msg_id(&plain.msg_id).unwrap().1;
    for (what, remarks) in [
        (
            (offset + 1, position),
            "The transaction state table offset wrong",
        ),
        ((offset, plain), "Find prepared transaction message failed"),
        (
            (offset, 1 << 40),
            "Find prepared transaction message failed",
        ),
        ((offset, -5), "Find prepared transaction message failed"),
    ] {
        let answer = end(&broker.client, what, COMMIT).await;
        assert_eq!((answer.code, remark(&answer)), (1, remarks), "{what:?}");
    }
    let (at, table) = (position.to_string(), offset.to_string());
    let ext = [
        ("producerGroup", "Other"),
        ("tranStateTableOffset", table.as_str()),
        ("commitLogOffset", at.as_str()),
        ("commitOrRollback", COMMIT),
        ("msgId", "M"),
    ];
    let answer = broker.client.ask(request::END_TRANSACTION, &ext).await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (1, "The producer group wrong")
    );
    assert_eq!(end(&broker.client, (offset, position), "7").await.code, 1);
    assert!(queue_2(&broker.client, "T").await.is_empty());
    assert_eq!(
        end(&broker.client, (offset, position), COMMIT).await.code,
        0
    );
    assert_eq!(queue_2(&broker.client, "T").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_is_asked_and_its_answer_counts() {
    let mut broker = TestBroker::start_with(impatient).await;
    announce(&broker.client).await;
    let sent = send_half(&broker.client, &half("T", "asked")).await;
    let pushed = tokio::time::timeout(Duration::from_secs(10), broker.client.pushes.recv());
    let question = pushed.await.expect("a question").unwrap();
    assert_eq!(question.code, request::CHECK_TRANSACTION_STATE);
    let head: CheckTransactionStateRequestHeader = header(&question);
    let told = (head.tran_state_table_offset, head.commit_log_offset);
    assert_eq!((told, head.topic.as_deref()), (sent, Some("T")));
    let body = question.body.to_bytes();
    let record = StoredRecord::parse(&body).unwrap();
    assert_eq!((record.topic(), record.queue_id()), ("T", 2));
    assert_eq!((record.queue_offset(), record.physical_offset()), sent);
    assert_eq!(record.body(), b"asked");
    assert_eq!(record.property("UNIQ_KEY"), head.transaction_id.as_deref());
    assert_eq!(end(&broker.client, told, COMMIT).await.code, 0);
    assert_eq!(queue_2(&broker.client, "T").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_ends_is_given_up_after_some_checks() {
    let mut broker = TestBroker::start_with(impatient).await;
    announce(&broker.client).await;
    let sent = send_half(&broker.client, &half("T", "never")).await;
    let immune = half("T", "later").properties(&[
        ("TRAN_MSG", "true"),
        ("PGROUP", "PG"),
        ("CHECK_IMMUNITY_TIME_IN_SECONDS", "600"),
    ]);
    let kept = send_half(&broker.client, &immune).await;
    let given_up = broker.bodies("TRANS_CHECK_MAX_TIME_TOPIC", 0, 1).await;
    assert_eq!(given_up, ["never"]);
    let mut questions = 0;
    while let Ok(question) = broker.client.pushes.try_recv() {
        questions += u32::from(question.code == request::CHECK_TRANSACTION_STATE);
    }
    assert_eq!(questions, 3);
    assert_eq!(end(&broker.client, sent, COMMIT).await.code, 1);
    assert_eq!(end(&broker.client, kept, COMMIT).await.code, 0);
    assert_eq!(queue_2(&broker.client, "T").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_transaction_survives_a_restart() {
    let mut broker = TestBroker::start().await;
    let sent = send_half(&broker.client, &half("T", "kept")).await;
    broker.restart().await;
    assert!(queue_2(&broker.client, "T").await.is_empty());
    assert_eq!(end(&broker.client, sent, COMMIT).await.code, 0);
    broker.restart().await;
    assert_eq!(queue_2(&broker.client, "T").await.len(), 1);
    assert_eq!(end(&broker.client, sent, COMMIT).await.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_master_goes_on_with_it() {
    let mut cluster = Cluster::start_with(impatient).await;
    let leader = cluster.wait_for_leader().await;
    let send = half("T", "moved").properties(&[
        ("TRAN_MSG", "true"),
        ("PGROUP", "PG"),
        ("CHECK_IMMUNITY_TIME_IN_SECONDS", "3"),
    ]);
    let sent = send_half(&cluster.client(leader), &send).await;
    cluster.stop_one(leader).await;
    let next = cluster.wait_for_leader().await;
    let mut client = cluster.client(next);
    announce(&client).await;
    let pushed = tokio::time::timeout(Duration::from_secs(20), client.pushes.recv());
    let question = pushed.await.expect("a question").unwrap();
    let head: CheckTransactionStateRequestHeader = header(&question);
    assert_eq!((head.tran_state_table_offset, head.commit_log_offset), sent);
    // Through a follower.
    let other = cluster.running().map(|(n, _)| n).find(|n| *n != next);
    let through = cluster.client(other.unwrap());
    assert_eq!(answer_check(&through, sent, COMMIT).await.code, 0);
    let found = queue_2(&client, "T").await;
    assert_eq!(
        found.iter().map(|m| m.body.as_str()).collect::<Vec<_>>(),
        ["moved"]
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_message_outlives_the_log_it_was_written_to() {
    let broker = TestBroker::start_with(|config| {
        crate::retention::small(config);
        config.transaction_timeout_ms = 3_600_000;
    })
    .await;
    let id = "0A0000010000000000000000000000AA";
    let properties = [("TRAN_MSG", "true"), ("PGROUP", "PG"), ("UNIQ_KEY", id)];
    let old = send_half(&broker.client, &half("T", "old").properties(&properties)).await;
    crate::retention::fill(&broker.client, "Other", 30).await;
    let answer = broker
        .client
        .ask(request::DELETE_EXPIRED_COMMITLOG, &[])
        .await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    let replica = &broker.service().broker().replica;
    eventually("the log begins later", || async {
        replica.log_range().0 > old.1
    })
    .await;
    assert_eq!(end(&broker.client, old, COMMIT).await.code, 1);
    let pending = replica.state().transactions(0, 10).unwrap();
    assert_eq!(pending.len(), 1, "{pending:?}");
    assert!(pending[0].position >= replica.log_range().0);
    // Its producer knows the old place, and the id.
    let other = [("msgId", "0A0000010000000000000000000000AB")];
    let answer = end_with(&broker.client, old, COMMIT, &other).await;
    assert_eq!(answer.code, 1, "{}", remark(&answer));
    for transaction_id in ["", id] {
        let known = [("msgId", id), ("transactionId", transaction_id)];
        let answer = end_with(&broker.client, old, COMMIT, &known).await;
        let ended = transaction_id == id;
        assert_eq!(answer.code, i32::from(ended), "{}", remark(&answer));
    }
    assert_eq!(queue_2(&broker.client, "T").await.len(), 1);
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_millis() as i64
}

fn half_with(body: &str, more: &[(&str, &str)]) -> Send {
    let mut properties = vec![("TRAN_MSG", "true"), ("PGROUP", "PG"), ("KEYS", "k")];
    properties.extend(more);
    half("T", body).properties(&properties)
}

/// It was delivered when it was committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_message_with_a_delay_waits_from_its_commit_on() {
    let mut broker = TestBroker::start().await;
    broker.send("T", "before").await;
    let at = (now_ms() + 3_000).to_string();
    let past = (now_ms() - 3_000).to_string();
    let mut halves = Vec::new();
    for (body, property, value) in [
        ("level", "DELAY", "1"),
        ("seconds", "TIMER_DELAY_SEC", "2"),
        ("at", "TIMER_DELIVER_MS", at.as_str()),
        ("past", "TIMER_DELIVER_MS", past.as_str()),
    ] {
        let send = half_with(body, &[(property, value)]);
        halves.push(send_half(&broker.client, &send).await);
    }
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert!(queue_2(&broker.client, "T").await.is_empty(), "no commit");
    let committed = Instant::now();
    for what in halves {
        let answer = end(&broker.client, what, COMMIT).await;
        assert_eq!(answer.code, 0, "{}", remark(&answer));
    }
    let bodies = async |client: &Client| {
        let found = queue_2(client, "T").await;
        found.into_iter().map(|m| m.body).collect::<Vec<_>>()
    };
    assert_eq!(bodies(&broker.client).await, ["past"]);
    // It is in the log, as every delayed message.
    broker.restart().await;
    eventually("all of them", async || {
        bodies(&broker.client).await.len() == 4
    })
    .await;
    assert!(committed.elapsed() >= Duration::from_millis(1_800));
    let found = queue_2(&broker.client, "T").await;
    let mut order: Vec<_> = found.iter().map(|m| m.body.as_str()).collect();
    order.sort_unstable();
    assert_eq!(order, ["at", "level", "past", "seconds"]);
    for message in found {
        assert_eq!(message.property("KEYS"), Some("k"));
        for gone in ["TRAN_MSG", "DELAY", "TIMER_OUT_MS"] {
            assert_eq!(message.property(gone), None, "{gone} of {}", message.body);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_message_with_a_bad_time_is_refused_when_it_is_sent() {
    let broker = TestBroker::start().await;
    broker.send("T", "before").await;
    let far = (now_ms() + 10 * 86_400_000).to_string();
    for (property, value, code) in [
        ("TIMER_DELIVER_MS", far.as_str(), 13),
        ("TIMER_DELIVER_MS", "soon", 13),
        ("DELAY", "x", 1),
    ] {
        let send = half_with("bad", &[(property, value)]);
        let answer = broker.client.invoke(send.command()).await;
        assert_eq!(answer.code, code, "{property}={value}: {}", remark(&answer));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_late_ends_by_a_check_alone() {
    let broker = TestBroker::start_with(|config| {
        config.transaction_timeout_ms = 100;
        config.transaction_check_interval_ms = 3_600_000;
    })
    .await;
    broker.send("T", "before").await;
    let immune = [("CHECK_IMMUNITY_TIME_IN_SECONDS", "3")];
    let mut halves = Vec::new();
    for body in ["0", "1", "2"] {
        halves.push(send_half(&broker.client, &half_with(body, &immune)).await);
    }
    let number = [("CHECK_IMMUNITY_TIME_IN_SECONDS", "x")];
    let no_number = send_half(&broker.client, &half_with("3", &number)).await;
    let without = send_half(&broker.client, &half_with("4", &[])).await;
    assert_eq!(end(&broker.client, halves[0], COMMIT).await.code, 0);
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    for (what, how) in [
        (halves[1], COMMIT),
        (halves[2], ROLLBACK),
        // Before the other checks, as with RocketMQ.
        ((halves[1].0 + 1, halves[1].1), COMMIT),
        (no_number, COMMIT),
    ] {
        let answer = end(&broker.client, what, how).await;
        assert_eq!(answer.code, 604, "{}", remark(&answer));
    }
    assert_eq!(end(&broker.client, without, COMMIT).await.code, 0);
    for (what, how) in [(halves[1], COMMIT), (halves[2], ROLLBACK)] {
        let answer = answer_check(&broker.client, what, how).await;
        assert_eq!(answer.code, 0, "{}", remark(&answer));
    }
    let found = queue_2(&broker.client, "T").await;
    let bodies: Vec<_> = found.iter().map(|m| m.body.as_str()).collect();
    assert_eq!(bodies, ["0", "4", "1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_given_up_can_be_revived() {
    let mut broker = TestBroker::start_with(|config| {
        impatient(config);
        config.transaction_check_max = 10;
    })
    .await;
    announce(&broker.client).await;
    send_half(&broker.client, &half("T", "never")).await;
    let given_up = broker.bodies("TRANS_CHECK_MAX_TIME_TOPIC", 0, 1).await;
    assert_eq!(given_up, ["never"]);
    while broker.client.pushes.try_recv().is_ok() {}
    let answer = broker.pull("TRANS_CHECK_MAX_TIME_TOPIC", 0).await;
    let position = records(&answer)[0].physical_offset;
    let bytes = answer.body.to_bytes();
    let record = StoredRecord::parse(&bytes).unwrap();
    let id = offset_msg_id(record.store_host(), position);
    let resume = async |id: &str| {
        let ext = [("topic", "T"), ("msgId", id)];
        let answer = broker.client.ask(request::RESUME_CHECK_HALF_MESSAGE, &ext);
        let answer = answer.await;
        (answer.code, remark(&answer).to_owned())
    };
    let sent = broker.send("T", "none").await;
    let plain: SendMessageResponseHeader = header(&sent);
    for (bad, why) in [
        ("", "no offset message id"),
        (plain.msg_id.as_str(), "a message of T is no half message"),
    ] {
        let (code, remark) = resume(bad).await;
        assert!(code == 1 && remark.contains(why), "{remark}");
    }
    assert_eq!(resume(&id).await, (0, String::new()));
    let again = resume(&id).await;
    assert_eq!(again, (1, "the transaction is pending already".into()));
    let pushed = tokio::time::timeout(Duration::from_secs(10), broker.client.pushes.recv());
    let question = pushed.await.expect("a question").unwrap();
    let head: CheckTransactionStateRequestHeader = header(&question);
    let told = (head.tran_state_table_offset, head.commit_log_offset);
    let done = Instant::now() + Duration::from_secs(10);
    while answer_check(&broker.client, told, COMMIT).await.code != 0 {
        assert!(Instant::now() < done, "it is always being checked");
    }
    let found = queue_2(&broker.client, "T").await;
    assert_eq!((found.len(), found[0].body.as_str()), (1, "never"));
}
