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

/// GBK, say. RocketMQ stores the bytes, and every consumer reads the replacement character for them; the property is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_property_that_is_no_text_is_garbled_and_not_dropped() {
    let broker = TestBroker::start().await;
    let body = item(
        b"x",
        b"name\x01\xc4\xe3\xba\xc3!\x02TAGS\x01t\xff\x02KEYS\x01k\xff\x02",
    );
    let answer = broker.client.invoke(batch("T", body).command()).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    let message = records(&broker.pull("T", 0).await).remove(0);
    let name = message.property("name").expect("there");
    assert!(
        name.starts_with('\u{fffd}') && name.ends_with('!'),
        "{name}"
    );
    assert_eq!(message.property("TAGS"), Some("t\u{fffd}"));
    assert_eq!(message.property("KEYS"), Some("k\u{fffd}"));
}

/// 1.5 MB on the wire that stood for 2 GB, built before they were refused.
#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_that_many_messages_share_counts_for_each_of_them() {
    let broker = TestBroker::start().await;
    let body = item(b"", b"").repeat(65_536);
    let large = batch("T", body).properties(&[("p", &"x".repeat(30_000))]);
    let answer = broker.client.invoke(large.command()).await;
    assert_eq!(answer.code, 13, "{}", remark(&answer));
    let answer = broker
        .client
        .invoke(batch("T", item(b"x", b"")).command())
        .await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
}
