//! Requests that the broker passes on to a consumer.

use std::time::{Duration, Instant};

use raftmq_remoting::body::{GetConsumerStatusBody, MessageQueue};
use raftmq_remoting::codes::request;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::SendMessageResponseHeader;
use raftmq_remoting::{json, message::StoredRecord};

use crate::answering::{Answering, NEW, silent};
use crate::harness::{Client, TestBroker, command, eventually, header, remark, text};
use crate::replicas::Cluster;

fn known(cmd: &RemotingCommand) -> Option<RemotingCommand> {
    let answer = RemotingCommand::response(0);
    match cmd.code {
        request::GET_CONSUMER_RUNNING_INFO => {
            Some(answer.with_body(r#"{"jstack":"main"}"#).with_remark("told"))
        }
        request::CONSUME_MESSAGE_DIRECTLY => {
            Some(answer.with_body(r#"{"consumeResult":"CR_SUCCESS"}"#))
        }
        request::GET_CONSUMER_STATUS_FROM_CLIENT => {
            let body = r#"{"messageQueueTable":{{"brokerName":"b","queueId":0,"topic":"T"}:7}}"#;
            Some(answer.with_body(body))
        }
        _ => None,
    }
}

fn asks(client_id: &str) -> [(&str, &str); 3] {
    [
        ("consumerGroup", "G"),
        ("clientId", client_id),
        ("jstackEnable", "true"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_tells_about_itself() {
    let broker = TestBroker::start().await;
    let mut consumer = Answering::start(&broker.addr(), "c1", NEW, known).await;
    let ask = async |ext: &[(&str, &str)]| {
        let code = request::GET_CONSUMER_RUNNING_INFO;
        broker.client.ask(code, ext).await
    };
    let answer = ask(&asks("c1")).await;
    assert_eq!((answer.code, remark(&answer)), (0, "told"));
    assert_eq!(text(&answer), r#"{"jstack":"main"}"#);
    let asked = consumer.asked(request::GET_CONSUMER_RUNNING_INFO).await;
    assert_eq!(asked.ext.get("jstackEnable"), Some("true"));
    assert!(!asked.is_oneway());

    let answer = ask(&asks("c2")).await;
    let not_online = "The Consumer <G> <c2> not online";
    assert_eq!((answer.code, remark(&answer)), (1, not_online));
    for missing in [&asks("c1")[..1], &asks("c1")[1..], &[]] {
        assert_eq!(ask(missing).await.code, 1, "{missing:?}");
    }

    consumer.beat("c1", 61).await;
    let answer = ask(&asks("c1")).await;
    assert_eq!(answer.code, 1);
    assert!(remark(&answer).contains("too low to finish"));
    consumer.channel.close("the test says so");
    eventually("the consumer is forgotten", async || {
        remark(&ask(&asks("c1")).await).ends_with("<c1> not online")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_does_not_answer_is_given_up() {
    let broker = TestBroker::start().await;
    let mut consumer = Answering::start(&broker.addr(), "c1", NEW, silent).await;
    let client = broker.another_client();
    let other = client.channel().await;
    let ask = async || {
        let ask = command(request::GET_CONSUMER_RUNNING_INFO, &asks("c1"));
        let answer = other.invoke(ask, Duration::from_secs(20)).await;
        answer.expect("an answer")
    };
    let start = Instant::now();
    let answer = ask().await;
    assert_eq!(answer.code, 207);
    assert!(remark(&answer).starts_with("consumer <G> <c1> Timeout: "));
    assert!(start.elapsed() >= Duration::from_secs(9));
    let leave = async {
        consumer.asked(request::GET_CONSUMER_RUNNING_INFO).await;
        consumer.asked(request::GET_CONSUMER_RUNNING_INFO).await;
        consumer.channel.close("the test says so");
    };
    let (answer, ()) = tokio::join!(ask(), leave);
    assert_eq!(answer.code, 1);
    let gone = "invoke consumer <G> <c1> Exception: ";
    assert!(remark(&answer).starts_with(gone), "{}", remark(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_given_a_stored_message() {
    let broker = TestBroker::start().await;
    let mut consumer = Answering::start(&broker.addr(), "c1", NEW, known).await;
    let sent: SendMessageResponseHeader = header(&broker.send("T", "again").await);
    let consume = async |client_id: &str, msg_id: &str| {
        let ext = [
            ("consumerGroup", "G"),
            ("clientId", client_id),
            ("msgId", msg_id),
            ("topic", "T"),
        ];
        let code = request::CONSUME_MESSAGE_DIRECTLY;
        broker.client.ask(code, &ext).await
    };
    let answer = consume("c1", &sent.msg_id).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(text(&answer), r#"{"consumeResult":"CR_SUCCESS"}"#);
    let asked = consumer.asked(request::CONSUME_MESSAGE_DIRECTLY).await;
    let bytes = asked.body.to_bytes();
    let record = StoredRecord::parse(&bytes).unwrap();
    assert_eq!((record.topic(), record.body()), ("T", &b"again"[..]));
    for (name, value) in [
        ("brokerName", "broker-a"),
        ("topicSysFlag", "0"),
        ("groupSysFlag", "0"),
        ("msgId", sent.msg_id.as_str()),
    ] {
        assert_eq!(asked.ext.get(name), Some(value), "{name}");
    }
    let answer = consume("c2", &sent.msg_id).await;
    assert_eq!(answer.code, 1);
    assert!(remark(&answer).ends_with("<c2> not online"));
    assert_eq!(consume("c1", "nonsense").await.code, 1);
    let nowhere = format!("{}00000000000FFFFF", &sent.msg_id[..16]);
    let answer = consume("c1", &nowhere).await;
    assert_eq!(answer.code, 1);
    assert!(remark(&answer).starts_with("can not find message"));
    let ext = [("consumerGroup", "G"), ("clientId", "c1")];
    let code = request::CONSUME_MESSAGE_DIRECTLY;
    assert_eq!(broker.client.ask(code, &ext).await.code, 1, "no id");
}

async fn status(client: &Client, ext: &[(&str, &str)]) -> RemotingCommand {
    let code = request::INVOKE_BROKER_TO_GET_CONSUMER_STATUS;
    client.ask(code, ext).await
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_tell_their_offsets() {
    let broker = TestBroker::start().await;
    let ext = [("topic", "T"), ("group", "G")];
    let answer = status(&broker.client, &ext).await;
    let nobody = "No Any Consumer online in the consumer group: [G]";
    assert_eq!((answer.code, remark(&answer)), (1, nobody));
    assert_eq!(status(&broker.client, &ext[..1]).await.code, 1);

    let mut first = Answering::start(&broker.addr(), "c1", NEW, known).await;
    let mut second = Answering::start(&broker.addr(), "c2", NEW, silent).await;
    let told = async |client: &str| {
        let ext = [("topic", "T"), ("group", "G"), ("clientAddr", client)];
        let answer = status(&broker.client, &ext).await;
        assert_eq!(answer.code, 0, "{}", remark(&answer));
        let body: GetConsumerStatusBody = json::from_slice(&answer.body.to_bytes()).unwrap();
        body.consumer_table
    };
    let all = told("").await;
    assert_eq!(all.len(), 1, "of the one that answers");
    assert_eq!(all["c1"][&MessageQueue::new("T", "b", 0)], 7);
    let asked = first.asked(request::GET_CONSUMER_STATUS_FROM_CLIENT).await;
    assert_eq!(asked.ext.get("group"), Some("G"));
    assert!(second.was_asked(request::GET_CONSUMER_STATUS_FROM_CLIENT));
    assert_eq!(told("c1").await.len(), 1);
    assert!(!second.was_asked(request::GET_CONSUMER_STATUS_FROM_CLIENT));
    assert!(told("c9").await.is_empty());

    second.beat("c2", 27).await;
    let answer = status(&broker.client, &ext).await;
    assert_eq!(answer.code, 1);
    assert!(remark(&answer).starts_with("the client does not support this feature. version=V"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_know_a_client_asks_the_master() {
    let cluster = Cluster::start().await;
    let leader = cluster.wait_for_leader().await;
    let follower = (leader + 1) % 3;
    let addr = |n: usize| cluster.service(n).addr().to_string();
    let _consumer = Answering::start(&addr(leader), "c1", NEW, known).await;
    let at_follower = Answering::start(&addr(follower), "c2", NEW, known).await;
    let client = cluster.client(follower);
    for known in ["c1", "c2"] {
        let code = request::GET_CONSUMER_RUNNING_INFO;
        let answer = client.ask(code, &asks(known)).await;
        assert_eq!(text(&answer), r#"{"jstack":"main"}"#, "{known}");
    }
    let code = request::GET_CONSUMER_RUNNING_INFO;
    let answer = client.ask(code, &asks("c3")).await;
    assert_eq!(remark(&answer), "The Consumer <G> <c3> not online");
    drop(at_follower);
}
