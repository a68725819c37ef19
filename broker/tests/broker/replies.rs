//! The request-reply pattern.

use raftmq_remoting::codes::request;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{ReplyMessageRequestHeader, SendMessageResponseHeader};
use raftmq_remoting::message::properties;

use crate::answering::{Answering, NEW, silent};
use crate::harness::{Send, TestBroker, command, header, records, remark, text};

const TOPIC: &str = "DefaultCluster_REPLY_TOPIC";

fn taken(cmd: &RemotingCommand) -> Option<RemotingCommand> {
    (cmd.code == request::PUSH_REPLY_MESSAGE_TO_CLIENT).then(|| RemotingCommand::response(0))
}

fn refused(cmd: &RemotingCommand) -> Option<RemotingCommand> {
    (cmd.code == request::PUSH_REPLY_MESSAGE_TO_CLIENT)
        .then(|| RemotingCommand::response(1).with_remark("unknown correlation id"))
}

fn reply(to: &str, body: &str) -> Send {
    Send::to(TOPIC)
        .code(request::SEND_REPLY_MESSAGE_V2)
        .with("e", "-1")
        .properties(&[
            ("MSG_TYPE", "reply"),
            ("CORRELATION_ID", "id-1"),
            ("REPLY_TO_CLIENT", to),
        ])
        .body(body)
}

async fn kept(broker: &TestBroker, offset: i64) -> usize {
    records(&broker.pull(TOPIC, offset).await).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_goes_to_whoever_waits_and_into_its_topic() {
    let broker = TestBroker::start().await;
    let mut waiting = Answering::start(&broker.addr(), "p1", NEW, taken).await;
    let mut other = Answering::start(&broker.addr(), "p2", NEW, taken).await;
    let answer = broker.client.invoke(reply("p1", "pong").command()).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(answer.ext.get("TRACE_ON"), Some("true"));
    let placed: SendMessageResponseHeader = header(&answer);
    assert_eq!((placed.queue_id, placed.queue_offset), (0, 0));
    assert_eq!(placed.msg_id.len(), 32);

    let pushed = waiting.asked(request::PUSH_REPLY_MESSAGE_TO_CLIENT).await;
    let told: ReplyMessageRequestHeader = header(&pushed);
    assert_eq!(
        (told.topic.as_str(), text(&pushed).as_str()),
        (TOPIC, "pong")
    );
    assert_eq!((told.flag, told.born_timestamp), (7, 1_700_000_000_000));
    assert_eq!(told.store_host, broker.addr());
    assert!(told.store_timestamp > 1_700_000_000_000);
    assert!(told.born_host.starts_with("127.0.0.1:"));
    let sent = told.properties.unwrap().into_bytes();
    assert_eq!(properties::get(&sent, "CORRELATION_ID"), Some("id-1"));
    assert!(properties::get(&sent, "PUSH_REPLY_TIME").is_some());
    assert!(!other.was_asked(request::PUSH_REPLY_MESSAGE_TO_CLIENT));

    let stored = records(&broker.pull(TOPIC, 0).await);
    assert_eq!((stored.len(), stored[0].body.as_str()), (1, "pong"));
    assert_eq!(stored[0].property("REPLY_TO_CLIENT"), Some("p1"));

    // The older form has long names.
    let long = [
        ("producerGroup", "PG"),
        ("topic", TOPIC),
        ("defaultTopic", "TBW102"),
        ("defaultTopicQueueNums", "4"),
        ("queueId", "0"),
        ("sysFlag", "0"),
        ("bornTimestamp", "1"),
        ("flag", "0"),
        ("properties", "REPLY_TO_CLIENT\u{1}p2\u{2}"),
    ];
    let long = command(request::SEND_REPLY_MESSAGE, &long).with_body("pong 2");
    assert_eq!(broker.client.invoke(long).await.code, 0);
    let pushed = other.asked(request::PUSH_REPLY_MESSAGE_TO_CLIENT).await;
    assert_eq!(text(&pushed), "pong 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_nobody_takes_is_an_error_and_stored() {
    let broker = TestBroker::start().await;
    let _refusing = Answering::start(&broker.addr(), "p1", NEW, refused).await;
    let ask = async |send: Send| {
        let answer = broker.client.invoke(send.command()).await;
        (answer.code, remark(&answer).to_owned())
    };
    let to_nobody = reply("p1", "x").properties(&[("MSG_TYPE", "reply")]);
    let why = "reply message properties[REPLY_TO_CLIENT] is null";
    assert_eq!(ask(to_nobody).await, (1, why.into()));
    let why = "push reply message fail, channel of <p9> not found.";
    assert_eq!(ask(reply("p9", "x")).await, (1, why.into()));
    let why = "push reply message to p1fail.";
    assert_eq!(ask(reply("p1", "x")).await, (1, why.into()));
    assert_eq!(kept(&broker, 0).await, 3);

    let gone = Answering::start(&broker.addr(), "p2", NEW, taken).await;
    assert_eq!(ask(reply("p2", "x")).await.0, 0);
    let leave = [
        ("clientID", "p2"),
        ("producerGroup", "PG"),
        ("consumerGroup", "G"),
    ];
    let leave = command(request::UNREGISTER_CLIENT, &leave);
    assert_eq!(gone.invoke(leave).await.code, 0);
    assert_eq!(ask(reply("p2", "x")).await.0, 1);

    // Handed over though it cannot be stored.
    let _taking = Answering::start(&broker.addr(), "p3", NEW, taken).await;
    let before = kept(&broker, 0).await;
    assert_eq!(ask(reply("p3", "")).await.0, 0);
    assert_eq!(kept(&broker, 0).await, before);

    assert_eq!(ask(reply("p3", "x").with("e", "99")).await.0, 29);
    assert_eq!(
        ask(reply("p3", "x").with("b", "RMQ_SYS_TRANS_HALF_TOPIC"))
            .await
            .0,
        16
    );
    assert_eq!(ask(reply("p3", "x").without("b")).await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_are_not_stored_when_so_configured() {
    let broker = TestBroker::start_with(|c| c.store_replies = false).await;
    let _waiting = Answering::start(&broker.addr(), "p1", NEW, taken).await;
    let answer = broker.client.invoke(reply("p1", "x").command()).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    let placed: SendMessageResponseHeader = header(&answer);
    assert_eq!((placed.msg_id.as_str(), placed.queue_offset), ("0", 0));
    assert_eq!(
        broker.client.invoke(reply("p9", "x").command()).await.code,
        1
    );
    assert_eq!(kept(&broker, 0).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_take_a_reply_delays_nobody_else() {
    let broker = TestBroker::start().await;
    let _silent = Answering::start(&broker.addr(), "p1", NEW, silent).await;
    let other = broker.another_client();
    let channel = other.channel().await;
    let lost = reply("p1", "lost").command();
    let lost = tokio::spawn(async move {
        let answer = channel
            .invoke(lost, std::time::Duration::from_secs(20))
            .await;
        answer.unwrap()
    });
    let _waiting = Answering::start(&broker.addr(), "p2", NEW, taken).await;
    assert_eq!(
        broker.client.invoke(reply("p2", "x").command()).await.code,
        0
    );
    assert!(!lost.is_finished());
    let answer = lost.await.unwrap();
    assert_eq!(
        (answer.code, remark(&answer)),
        (1, "push reply message to p1fail.")
    );
}
