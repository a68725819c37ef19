use raftmq_remoting::codes::request;
use raftmq_remoting::header::SendMessageResponseHeader;
use raftmq_remoting::message::parse_offset_msg_id;

use crate::harness::{Send, TestBroker, command, header, records, remark};

#[tokio::test(flavor = "multi_thread")]
async fn a_send_is_answered_and_can_be_pulled() {
    let broker = TestBroker::start().await;
    let answer = broker
        .client
        .invoke(
            Send::to("T")
                .properties(&[("KEYS", "k")])
                .body("hello")
                .command(),
        )
        .await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(answer.ext.get("MSG_REGION"), Some("DefaultRegion"));
    assert_eq!(answer.ext.get("TRACE_ON"), Some("true"));
    let sent: SendMessageResponseHeader = header(&answer);
    assert_eq!((sent.queue_id, sent.queue_offset), (0, 0));
    let (host, position) = parse_offset_msg_id(&sent.msg_id).unwrap();
    assert_eq!(host.to_string(), broker.addr());
    let second: SendMessageResponseHeader = header(&broker.send("T", "again").await);
    assert_eq!(second.queue_offset, 1);

    let pulled = broker.pull("T", 0).await;
    let messages = records(&pulled);
    assert_eq!(messages.len(), 2);
    let m = &messages[0];
    assert_eq!(
        (m.topic.as_str(), m.body.as_str(), m.queue_offset, m.flag),
        ("T", "hello", 0, 7)
    );
    assert_eq!(m.physical_offset, position);
    assert_eq!(m.born_timestamp, 1_700_000_000_000);
    assert_eq!(m.property("KEYS"), Some("k"));
    assert_eq!(m.property("CLUSTER"), Some("DefaultCluster"));
    assert_eq!(m.property("MSG_REGION"), Some("DefaultRegion"));
    assert_eq!(m.property("TRACE_ON"), Some("true"));
    assert_eq!(m.property("UNIQ_KEY"), sent.transaction_id.as_deref());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_long_header_form_is_understood() {
    let broker = TestBroker::start().await;
    let long = [
        ("producerGroup", "PG"),
        ("topic", "T"),
        ("defaultTopic", "TBW102"),
        ("defaultTopicQueueNums", "4"),
        ("queueId", "3"),
        ("sysFlag", "0"),
        ("bornTimestamp", "5"),
        ("flag", "0"),
    ];
    let answer = broker
        .client
        .ask_with(request::SEND_MESSAGE, &long, "x")
        .await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(header::<SendMessageResponseHeader>(&answer).queue_id, 3);
    let without_topic: Vec<_> = long
        .iter()
        .copied()
        .filter(|(k, _)| *k != "topic")
        .collect();
    let answer = broker
        .client
        .ask_with(request::SEND_MESSAGE, &without_topic, "x")
        .await;
    assert_eq!(answer.code, 1);
    assert!(remark(&answer).contains("topic"), "{}", remark(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_of_the_broker_are_its_own() {
    let broker = TestBroker::start().await;
    let mine = [
        ("UNIQ_KEY", "U1"),
        ("POP_CK", "x"),
        ("MSG_REGION", "fake"),
        ("WAIT", "false"),
        ("a", "b"),
    ];
    let answer = broker
        .client
        .invoke(Send::to("T").properties(&mine).command())
        .await;
    assert_eq!(
        header::<SendMessageResponseHeader>(&answer)
            .transaction_id
            .as_deref(),
        Some("U1")
    );
    // WAIT=false is answered before the message can be pulled.
    broker.bodies("T", 0, 1).await;
    let m = records(&broker.pull("T", 0).await).remove(0);
    assert_eq!(m.property("UNIQ_KEY"), Some("U1"));
    assert_eq!(m.property("MSG_REGION"), Some("DefaultRegion"));
    assert_eq!(m.property("a"), Some("b"));
    assert_eq!(m.property("POP_CK"), None);
    assert_eq!(m.property("WAIT"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_queue_is_a_random_one() {
    let broker = TestBroker::start().await;
    let mut queues = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let answer = broker
            .client
            .invoke(Send::to("T").with("e", "-1").command())
            .await;
        queues.insert(header::<SendMessageResponseHeader>(&answer).queue_id);
    }
    assert!(
        queues.len() > 1 && queues.iter().all(|q| (0..4).contains(q)),
        "{queues:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_sends_are_refused_with_rocketmqs_codes() {
    let broker = TestBroker::start().await;
    broker.send("T", "x").await;
    let long_property = "v".repeat(32_768);
    let cases: Vec<(&str, Send, i32, &str)> = vec![
        ("topic missing", Send::to("T").without("b"), 1, "<b>"),
        ("queue mistyped", Send::to("T").with("e", "abc"), 1, "<e>"),
        ("illegal topic", Send::to("a b"), 29, "illegal characters"),
        ("blank topic", Send::to(""), 29, "blank"),
        (
            "topic too long",
            Send::to(&"t".repeat(128)),
            29,
            "longer than topic max length",
        ),
        ("empty body", Send::to("T").body(""), 13, "empty"),
        (
            "body too large",
            Send::to("T").body(vec![b'x'; (4 << 20) + 1]),
            13,
            "the message is illegal",
        ),
        (
            "properties too long",
            Send::to("T").properties(&[("k", &long_property)]),
            13,
            "the message is illegal",
        ),
        (
            "queue out of range",
            Send::to("T").with("e", "100"),
            29,
            "request queueId[100] is illegal",
        ),
        (
            "forbidden topic",
            Send::to("SELF_TEST_TOPIC"),
            16,
            "Sending message to topic[SELF_TEST_TOPIC] is forbidden.",
        ),
        (
            "schedule topic",
            Send::to("SCHEDULE_TOPIC_XXXX"),
            16,
            "is forbidden",
        ),
        (
            "no template",
            Send::to("New").with("c", "NOPE"),
            17,
            "not exist, apply first please!",
        ),
        (
            "template does not pass on",
            Send::to("New").with("c", "T"),
            17,
            "not exist",
        ),
        (
            "bad delay",
            Send::to("T").properties(&[("DELAY", "abc")]),
            1,
            "DELAY",
        ),
        (
            "a timer too far ahead",
            Send::to("T").properties(&[("TIMER_DELAY_SEC", "259201")]),
            13,
            "timer message illegal",
        ),
        (
            "a timer that says no time",
            Send::to("T").properties(&[("TIMER_DELIVER_MS", "soon")]),
            13,
            "timer message illegal",
        ),
        (
            "an inner batch",
            Send::to("T").with("f", "128"),
            13,
            "the message is illegal",
        ),
        (
            "messages of its own",
            Send::to("T").properties(&[("INNER_NUM", "2")]),
            13,
            "the message is illegal",
        ),
        (
            "prepared",
            Send::to("T").with("f", "4"),
            16,
            "sending transaction message is forbidden",
        ),
    ];
    for (name, send, code, part) in cases {
        let answer = broker.client.invoke(send.command()).await;
        assert_eq!(answer.code, code, "{name}: {}", remark(&answer));
        assert!(
            remark(&answer).contains(part),
            "{name}: {}",
            remark(&answer)
        );
    }
    // Nothing of it was stored, and the broker goes on.
    assert_eq!(records(&broker.pull("T", 0).await).len(), 1);
    broker.send("T", "y").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_properties_are_dropped() {
    let broker = TestBroker::start().await;
    let odd = Send::to("T").with("i", "abc\u{2}\u{1}v\u{2}k\u{1}v\u{2}");
    let answer = broker.client.invoke(odd.command()).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    let m = records(&broker.pull("T", 0).await).remove(0);
    assert_eq!(m.property("k"), Some("v"));
    assert_eq!(m.property("abc"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_body_is_taken() {
    let broker = TestBroker::start().await;
    let answer = broker
        .client
        .invoke(Send::to("T").body(vec![b'x'; 4 << 20]).command())
        .await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(records(&broker.pull("T", 0).await)[0].body.len(), 4 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_oneway_send_is_stored_and_never_answered() {
    let broker = TestBroker::start().await;
    let mut client = broker.another_client();
    client.oneway(Send::to("T").body("quiet").command()).await;
    assert_eq!(broker.bodies("T", 0, 1).await, ["quiet"]);
    // A refused one is not answered either.
    client.oneway(Send::to("a b").command()).await;
    client.oneway(command(9_999, &[])).await;
    let answer = client
        .ask(request::GET_MAX_OFFSET, &[("topic", "T"), ("queueId", "0")])
        .await;
    assert_eq!(
        answer.ext.get("offset"),
        Some("1"),
        "answers match their requests"
    );
    assert!(client.pushes.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_requests_are_named() {
    let broker = TestBroker::start().await;
    let answer = broker.client.ask(9_999, &[]).await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (3, " request type 9999 not supported")
    );
    let answer = broker.client.ask(request::POP_MESSAGE, &[]).await;
    assert_eq!(answer.code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_port_serves_all_but_pulls() {
    let broker = TestBroker::start().await;
    let second = crate::harness::Client::new(&broker.service().second_addr().to_string());
    assert_eq!(second.invoke(Send::to("T").command()).await.code, 0);
    let answer = second.invoke(crate::harness::Pull::of("T").command()).await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (3, " request type 11 not supported")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_may_be_read_only() {
    let broker = TestBroker::start_with(|c| c.permission = 4).await;
    let answer = broker.client.invoke(Send::to("T").command()).await;
    assert_eq!(answer.code, 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_sends_at_once_are_told_to_come_later() {
    let broker = TestBroker::start_with(|c| c.send_capacity = 4).await;
    broker.send("T", "first").await;
    let answers = (0..256).map(|_| {
        let client = broker.another_client();
        tokio::spawn(async move { client.invoke(Send::to("T").command()).await })
    });
    let answers: Vec<_> = answers.collect();
    let mut stored = 1;
    let mut refused = 0;
    for answer in answers {
        let answer = answer.await.unwrap();
        match answer.code {
            0 => stored += 1,
            code => {
                assert_eq!(
                    (code, remark(&answer)),
                    (2, "[OVERLOAD]system busy, start flow control for a while")
                );
                refused += 1;
            }
        }
    }
    assert!(
        refused > 0 && stored > 4,
        "{stored} stored, {refused} refused"
    );
    let end = [("topic", "T"), ("queueId", "0")];
    let answer = broker.client.ask(request::GET_MAX_OFFSET, &end).await;
    let offset = answer.ext.get("offset").map(str::to_owned);
    assert_eq!(offset, Some(stored.to_string()), "refused is not stored");
    broker.send("T", "last").await;
}
