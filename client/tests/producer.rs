//! Sending: routes, turns, retries, and what a failed send says.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use raftmq_client::{ClientError, Message, MessageQueue, Producer, ProducerConfig, SendStatus};
use raftmq_remoting::header::SendMessageRequestHeader;
use raftmq_remoting::message::{parse_offset_msg_id, properties};
use support::{Cluster, Fault, eventually};

const SEND: i32 = 310;

fn producer(cluster: &Cluster) -> Producer {
    Producer::new(ProducerConfig::new(cluster.names_addr(), "pg")).unwrap()
}

fn quick(cluster: &Cluster, timeout_ms: u64, retries: u32) -> Producer {
    let send_timeout = Duration::from_millis(timeout_ms);
    Producer::new(ProducerConfig {
        send_timeout,
        retries,
        ..ProducerConfig::new(cluster.names_addr(), "pg")
    })
    .unwrap()
}

#[tokio::test]
async fn a_message_is_sent_and_its_result_told() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    let p = producer(&cluster);
    let sent = p
        .send(Message::new("T", "hello").tags("A").keys("k1 k2"))
        .await
        .unwrap();
    assert_eq!(
        (
            sent.status,
            sent.broker.as_str(),
            sent.queue_id,
            sent.queue_offset
        ),
        (SendStatus::Ok, "b0", 0, 0)
    );
    assert_eq!(
        parse_offset_msg_id(&sent.offset_msg_id).unwrap(),
        (cluster.brokers[0].1.addr, 0)
    );
    assert_eq!(sent.msg_id.len(), 32);
    assert_eq!(
        p.send(Message::new("T", "again"))
            .await
            .unwrap()
            .queue_offset,
        1
    );

    let cmd = &cluster.broker(0).seen(SEND)[0];
    let header = SendMessageRequestHeader::decode_for(SEND, &cmd.ext).unwrap();
    assert_eq!(
        (
            header.default_topic.as_str(),
            header.producer_group.as_str()
        ),
        ("TBW102", "pg")
    );
    let encoded = header.properties.unwrap().into_bytes();
    assert_eq!(
        properties::get(&encoded, "UNIQ_KEY"),
        Some(sent.msg_id.as_str())
    );
    assert_eq!(
        (
            properties::get(&encoded, "TAGS"),
            properties::get(&encoded, "KEYS")
        ),
        (Some("A"), Some("k1 k2"))
    );
}

#[tokio::test]
async fn queues_are_taken_in_turn() {
    let cluster = Cluster::start(2).await;
    cluster.topic("T", 3);
    let p = producer(&cluster);
    let mut used = std::collections::BTreeMap::new();
    for _ in 0..60 {
        let sent = p.send(Message::new("T", "x")).await.unwrap();
        *used.entry((sent.broker, sent.queue_id)).or_insert(0) += 1;
    }
    assert_eq!((used.len(), used.values().all(|n| *n == 10)), (6, true));
    assert_eq!(
        cluster.names.asked.load(Ordering::Relaxed),
        1,
        "the route is asked for once"
    );
}

#[tokio::test]
async fn a_refused_send_goes_on_at_another_set() {
    for code in [17, 14, 1, 16, 2] {
        let cluster = Cluster::start(2).await;
        cluster.topic("T", 1);
        cluster.broker(0).fail([(SEND, Fault::Code(code)); 20]);
        let p = producer(&cluster);
        for _ in 0..10 {
            assert_eq!(
                p.send(Message::new("T", "x")).await.unwrap().broker,
                "b1",
                "{code}"
            );
        }
    }
}

#[tokio::test]
async fn other_codes_are_errors_at_once() {
    let cluster = Cluster::start(2).await;
    cluster.topic("T", 1);
    cluster.broker(0).fail([(SEND, Fault::Code(13))]);
    cluster.broker(1).fail([(SEND, Fault::Code(13))]);
    let error = producer(&cluster)
        .send(Message::new("T", "x"))
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.may_have_happened()), (Some(13), false));
    assert_eq!(
        cluster.broker(0).seen(SEND).len() + cluster.broker(1).seen(SEND).len(),
        1
    );
}

#[tokio::test]
async fn tries_are_limited() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 4);
    cluster.broker(0).fail([(SEND, Fault::Code(14)); 10]);
    let error = producer(&cluster)
        .send(Message::new("T", "x"))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), cluster.broker(0).seen(SEND).len()),
        (Some(14), 3)
    );
    assert!(!error.may_have_happened());
}

#[tokio::test]
async fn statuses_of_stored_messages_are_told() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    let p = producer(&cluster);
    for (code, status) in [
        (10, SendStatus::FlushDiskTimeout),
        (12, SendStatus::FlushSlaveTimeout),
        (11, SendStatus::SlaveNotAvailable),
    ] {
        cluster.broker(0).fail([(SEND, Fault::Status(code))]);
        assert_eq!(p.send(Message::new("T", "x")).await.unwrap().status, status);
    }
    // Without a send header a client cannot make a result of it.
    cluster.broker(0).fail([(SEND, Fault::Code(10))]);
    let error = p.send(Message::new("T", "x")).await.unwrap_err();
    assert!(
        matches!(error, ClientError::BadAnswer { .. }) && error.may_have_happened(),
        "{error}"
    );
}

#[tokio::test]
async fn a_silent_broker_is_an_unknown_outcome_in_time() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    let p = quick(&cluster, 300, 2);
    p.send(Message::new("T", "warm")).await.unwrap();
    cluster.broker(0).fail([(SEND, Fault::Silence)]);
    let start = Instant::now();
    let error = p.send(Message::new("T", "x")).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Unknown { .. }) && error.may_have_happened(),
        "{error}"
    );
    assert!(
        (250..1500).contains(&start.elapsed().as_millis()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_broken_connection_is_retried_and_remembered_as_unknown() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    let p = producer(&cluster);
    cluster.broker(0).fail([(SEND, Fault::CloseAfter)]);
    p.send(Message::new("T", "x")).await.unwrap();
    assert_eq!(
        cluster.stored("T"),
        2,
        "the same message twice: at least once"
    );
    let ids: Vec<_> = cluster
        .broker(0)
        .seen(SEND)
        .iter()
        .map(|c| c.ext.get("i").unwrap().to_owned())
        .collect();
    assert_eq!(ids[0], ids[1], "a retry keeps the unique id");

    cluster.broker(0).fail([
        (SEND, Fault::CloseAfter),
        (SEND, Fault::Code(14)),
        (SEND, Fault::Code(14)),
    ]);
    let error = p.send(Message::new("T", "y")).await.unwrap_err();
    assert!(
        error.may_have_happened(),
        "stored by the first try: {error}"
    );
}

#[tokio::test]
async fn without_retries_a_failure_is_told_as_it_is() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    let p = quick(&cluster, 3000, 0);
    cluster.broker(0).fail([
        (SEND, Fault::Close),
        (SEND, Fault::Code(14)),
        (SEND, Fault::Code(1)),
    ]);
    assert!(matches!(
        p.send(Message::new("T", "x")).await.unwrap_err(),
        ClientError::Unknown { .. }
    ));
    let refused = p.send(Message::new("T", "x")).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.may_have_happened()),
        (Some(14), false)
    );
    assert!(
        p.send(Message::new("T", "x"))
            .await
            .unwrap_err()
            .may_have_happened()
    );
}

#[tokio::test]
async fn a_broker_that_is_gone_is_surely_not_sent_to() {
    let mut cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    cluster.brokers.pop().unwrap().1.server.shutdown().await;
    let error = quick(&cluster, 500, 2)
        .send(Message::new("T", "x"))
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::NotSent { .. }), "{error}");
}

#[tokio::test]
async fn an_unknown_topic_gets_the_template_s_route() {
    let cluster = Cluster::start(1).await;
    cluster.topic("TBW102", 8);
    let p = producer(&cluster);
    for _ in 0..8 {
        assert!(p.send(Message::new("New", "x")).await.unwrap().queue_id < 4);
    }
    assert_eq!(cluster.stored("New"), 8);
}

#[tokio::test]
async fn no_route_and_no_name_server_are_told_apart() {
    let cluster = Cluster::start(1).await;
    let error = producer(&cluster)
        .send(Message::new("T", "x"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::NoRoute { ref topic } if topic == "T"),
        "{error}"
    );
    let p = Producer::new(ProducerConfig::new("127.0.0.1:1;127.0.0.1:2", "pg")).unwrap();
    let error = p.send(Message::new("T", "x")).await.unwrap_err();
    assert!(matches!(error, ClientError::NoNameServer { .. }), "{error}");
}

#[tokio::test]
async fn name_servers_stand_in_for_each_other() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    let empty = Cluster::start(0).await;
    let list = format!(
        "127.0.0.1:1;{};{}",
        empty.names_addr(),
        cluster.names_addr()
    );
    let p = Producer::new(ProducerConfig::new(list, "pg")).unwrap();
    p.send(Message::new("T", "x")).await.unwrap();
}

#[tokio::test]
async fn a_changed_route_is_found_by_polling() {
    let cluster = Cluster::start(2).await;
    let addrs = [cluster.brokers[0].1.addr, cluster.brokers[1].1.addr];
    cluster
        .names
        .set_route("T", 6, 1, &[("b", 0, addrs[0]), ("b", 1, addrs[1])]);
    let mut config = ProducerConfig::new(cluster.names_addr(), "pg");
    config.client.poll_name_server_interval = Duration::from_millis(50);
    let p = Producer::new(config).unwrap();
    p.send(Message::new("T", "x")).await.unwrap();
    assert_eq!(cluster.broker(0).stored("T"), 1);
    cluster
        .names
        .set_route("T", 6, 1, &[("b", 0, addrs[1]), ("b", 1, addrs[0])]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    p.send(Message::new("T", "x")).await.unwrap();
    assert_eq!(cluster.broker(1).stored("T"), 1);
    // A name server that forgets the topic does not take the route away.
    cluster.names.routes.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_millis(200)).await;
    p.send(Message::new("T", "x")).await.unwrap();
}

#[tokio::test]
async fn a_set_without_master_is_looked_up_again() {
    let cluster = Cluster::start(1).await;
    let addr = cluster.brokers[0].1.addr;
    cluster.names.set_route("T", 6, 1, &[("b", 1, addr)]);
    let p = producer(&cluster);
    assert!(matches!(
        p.send(Message::new("T", "x")).await.unwrap_err(),
        ClientError::NoRoute { .. }
    ));
    cluster.names.set_route("T", 6, 1, &[("b", 0, addr)]);
    p.send(Message::new("T", "x")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_are_under_way_at_once() {
    let cluster = Cluster::start(2).await;
    cluster.topic("T", 4);
    let p = producer(&cluster);
    let done = Arc::new(AtomicUsize::new(0));
    for i in 0..20_000 {
        let done = done.clone();
        p.send_with(Message::new("T", format!("m{i}")), move |result| {
            result.unwrap();
            done.fetch_add(1, Ordering::Relaxed);
        });
    }
    eventually("all answered", || done.load(Ordering::Relaxed) == 20_000).await;
    assert_eq!(cluster.stored("T"), 20_000);
}

#[tokio::test]
async fn callbacks_retry_too() {
    let cluster = Cluster::start(2).await;
    cluster.topic("T", 1);
    cluster
        .broker(0)
        .fail([(SEND, Fault::Code(14)), (SEND, Fault::Close)]);
    let p = producer(&cluster);
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..10 {
        let tx = tx.clone();
        p.send_with(Message::new("T", "x"), move |r| tx.send(r).unwrap());
    }
    for _ in 0..10 {
        rx.recv().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_chosen_queue_is_the_only_one_tried() {
    let cluster = Cluster::start(2).await;
    cluster.topic("T", 4);
    let p = producer(&cluster);
    let queue = MessageQueue::new("T", "b1", 3);
    for offset in 0..3 {
        let sent = p
            .send_to(Message::new("T", "x"), queue.clone())
            .await
            .unwrap();
        assert_eq!(
            (sent.broker.as_str(), sent.queue_id, sent.queue_offset),
            ("b1", 3, offset)
        );
    }
    cluster.broker(1).fail([(SEND, Fault::Code(14))]);
    assert_eq!(
        p.send_to(Message::new("T", "x"), queue)
            .await
            .unwrap_err()
            .code(),
        Some(14)
    );
    assert_eq!(cluster.broker(0).seen(SEND).len(), 0);
}

#[tokio::test]
async fn a_batch_is_one_request() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    let p = producer(&cluster);
    let sent = p
        .send_batch((0..3).map(|i| Message::new("T", format!("m{i}"))).collect())
        .await
        .unwrap();
    assert_eq!(
        (
            sent.queue_offset,
            cluster.stored("T"),
            cluster.broker(0).seen(320).len()
        ),
        (0, 3, 1)
    );
    assert_eq!(
        (
            sent.msg_id.split(',').count(),
            sent.offset_msg_id.split(',').count()
        ),
        (3, 3)
    );
    for bad in [
        vec![],
        vec![Message::new("T", "x"), Message::new("U", "x")],
        vec![Message::new("T", "x").delay_level(1)],
        vec![
            Message::new("T", vec![0; 3 << 20]),
            Message::new("T", vec![0; 3 << 20]),
        ],
    ] {
        assert!(matches!(
            p.send_batch(bad).await,
            Err(ClientError::Invalid(_))
        ));
    }
}

#[tokio::test]
async fn oneway_sends_arrive() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    let p = producer(&cluster);
    p.send_oneway(Message::new("T", "x")).await.unwrap();
    eventually("stored", || cluster.stored("T") == 1).await;
    assert!(cluster.broker(0).seen(SEND)[0].is_oneway());
    assert!(p.send_oneway(Message::new("none", "x")).await.is_err());
}

#[tokio::test]
async fn messages_that_can_never_work_are_refused_here() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    let p = producer(&cluster);
    for bad in [
        Message::new("bad topic", "x"),
        Message::new("T", ""),
        Message::new("T", vec![0; (4 << 20) + 1]),
        Message::new("T", "x").property("a\u{1}", "b"),
        Message::new("T", "x").property("a", "b\u{2}"),
        Message::new("T", "x").property("a", "b".repeat(40_000)),
    ] {
        assert!(matches!(p.send(bad).await, Err(ClientError::Invalid(_))));
    }
    assert!(Producer::new(ProducerConfig::new("nonsense", "pg")).is_err());
    assert!(Producer::new(ProducerConfig::new("a:1", "bad group")).is_err());
}

#[tokio::test]
async fn brokers_hear_of_a_producer_and_of_its_end() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    let mut config = ProducerConfig::new(cluster.names_addr(), "pg");
    config.client.heartbeat_broker_interval = Duration::from_millis(50);
    let p = Producer::new(config).unwrap();
    p.send(Message::new("T", "x")).await.unwrap();
    eventually("heartbeats", || cluster.broker(0).seen(34).len() >= 2).await;
    let body = String::from_utf8(cluster.broker(0).seen(34)[0].body.to_bytes().to_vec()).unwrap();
    assert!(
        body.contains(r#""producerDataSet":[{"groupName":"pg"}]"#) && body.contains(p.client_id()),
        "{body}"
    );
    p.shutdown().await;
    assert_eq!(
        cluster.broker(0).seen(35)[0].ext.get("producerGroup"),
        Some("pg")
    );
    assert!(p.send(Message::new("T", "x")).await.is_err());
}
