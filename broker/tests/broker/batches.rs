use raftmq_remoting::codes::request;
use raftmq_remoting::header::SendMessageResponseHeader;

use crate::harness::{Send, TestBroker, header, records, remark};

fn item(body: &[u8], properties: &[u8]) -> Vec<u8> {
    let total = (4 * 5 + body.len() + 2 + properties.len()) as i32;
    let mut out = Vec::new();
    for n in [total, 0, 0, 0, body.len() as i32] {
        out.extend_from_slice(&n.to_be_bytes());
    }
    out.extend_from_slice(body);
    out.extend_from_slice(&(properties.len() as i16).to_be_bytes());
    out.extend_from_slice(properties);
    out
}

fn batch(topic: &str, body: Vec<u8>) -> Send {
    Send::to(topic)
        .with("m", "true")
        .body(body)
        .code(request::SEND_BATCH_MESSAGE)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_stored_in_order_as_messages() {
    let broker = TestBroker::start().await;
    let body = [
        item(b"one", b"UNIQ_KEY\x01U1\x02"),
        item(b"two", b""),
        item(b"three", b"TAGS\x01t\x02"),
    ]
    .concat();
    let answer = broker
        .client
        .invoke(batch("T", body).properties(&[("env", "e")]).command())
        .await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    let sent: SendMessageResponseHeader = header(&answer);
    assert_eq!(sent.queue_offset, 0);
    assert_eq!(sent.msg_id.split(',').count(), 3);
    let messages = records(&broker.pull("T", 0).await);
    let bodies: Vec<_> = messages
        .iter()
        .map(|m| (m.queue_offset, m.body.as_str()))
        .collect();
    assert_eq!(bodies, [(0, "one"), (1, "two"), (2, "three")]);
    assert_eq!(messages[0].property("UNIQ_KEY"), Some("U1"));
    assert_eq!(messages[2].property("TAGS"), Some("t"));
    assert!(
        messages
            .iter()
            .all(|m| m.property("env") == Some("e") && m.property("TRACE_ON") == Some("true"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_says_what_is_a_batch_not_the_code() {
    let broker = TestBroker::start().await;
    let two = [item(b"a", b""), item(b"b", b"")].concat();
    let answer = broker
        .client
        .invoke(batch("T", two).code(request::SEND_MESSAGE_V2).command())
        .await;
    assert_eq!(
        header::<SendMessageResponseHeader>(&answer)
            .msg_id
            .split(',')
            .count(),
        2
    );
    let one = batch("T", item(b"a", b"")).with("m", "false");
    let answer = broker.client.invoke(one.command()).await;
    assert_eq!(answer.code, 0);
    assert_eq!(records(&broker.pull("T", 2).await).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_batches_are_refused_whole() {
    let broker = TestBroker::start().await;
    broker.send("T", "x").await;
    let good = item(b"ok", b"");
    let mut short = good.clone();
    short.extend_from_slice(&good[..10]);
    let mut negative = good.clone();
    negative[16..20].copy_from_slice(&(-5_i32).to_be_bytes());
    let mut beyond = good.clone();
    beyond[16..20].copy_from_slice(&1_000_000_i32.to_be_bytes());
    let cases = [
        ("cut off", batch("T", short), 1),
        ("negative inner length", batch("T", negative), 1),
        ("inner length beyond the body", batch("T", beyond), 1),
        ("empty", batch("T", Vec::new()), 13),
        ("retry topic", batch("%RETRY%G", good.clone()), 13),
        (
            "delay",
            batch("T", good.clone()).properties(&[("DELAY", "1")]),
            13,
        ),
        (
            "transaction",
            batch("T", good).properties(&[("TRAN_MSG", "true")]),
            16,
        ),
    ];
    for (name, send, code) in cases {
        let answer = broker.client.invoke(send.command()).await;
        assert_eq!(answer.code, code, "{name}: {}", remark(&answer));
    }
    assert_eq!(records(&broker.pull("T", 0).await).len(), 1);
}
