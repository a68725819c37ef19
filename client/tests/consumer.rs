//! Consuming: by hand and by listener, in a group and alone.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use raftmq_client::{
    ClientConfig, ClientError, ConsumeFrom, ConsumeStatus, MessageModel, MessageQueue,
    PullConsumer, PullStatus, PushConfig, PushConsumer, ReceivedMessage,
};
use support::{Cluster, Fault, eventually};

fn queue(id: i32) -> MessageQueue {
    MessageQueue::new("T", "b0", id)
}

fn bodies(messages: &[ReceivedMessage]) -> Vec<&str> {
    messages
        .iter()
        .map(|m| std::str::from_utf8(&m.body).unwrap())
        .collect()
}

/// A configuration with short intervals.
fn push(cluster: &Cluster) -> PushConfig {
    let mut config = PushConfig::new(cluster.names_addr(), "g");
    config.from = ConsumeFrom::FirstOffset;
    config.commit_interval = Duration::from_millis(50);
    config.rebalance_interval = Duration::from_millis(200);
    config.client.poll_name_server_interval = Duration::from_millis(100);
    config.client.heartbeat_broker_interval = Duration::from_millis(100);
    config.subscribe("T", "*").unwrap()
}

/// What a listener saw: body and delivery count.
type Seen = Arc<Mutex<Vec<(String, i32)>>>;

async fn consume(
    config: PushConfig,
    seen: &Seen,
    status: impl Fn(&ReceivedMessage) -> ConsumeStatus + Send + Sync + 'static,
) -> PushConsumer {
    let seen = seen.clone();
    PushConsumer::start(config, move |messages| {
        let status = messages
            .iter()
            .map(&status)
            .max_by_key(|s| *s == ConsumeStatus::Later)
            .unwrap();
        let mut all = seen.lock().unwrap();
        all.extend(messages.iter().map(|m| {
            (
                String::from_utf8(m.body.to_vec()).unwrap(),
                m.reconsume_times,
            )
        }));
        async move { status }
    })
    .await
    .unwrap()
}

fn counts(seen: &Seen) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    seen.lock()
        .unwrap()
        .iter()
        .for_each(|(body, _)| *counts.entry(body.clone()).or_default() += 1);
    counts
}

#[tokio::test]
async fn pulling_by_hand() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 2);
    for i in 0..5 {
        cluster.broker(0).put(
            "T",
            0,
            &format!("m{i}"),
            Some(if i % 2 == 0 { "even" } else { "odd" }),
        );
    }
    let c = PullConsumer::new(ClientConfig::new(cluster.names_addr()), "g").unwrap();
    assert_eq!(c.queues("T").await.unwrap(), [queue(0), queue(1)]);
    let r = c.pull(&queue(0), "*", 1, 3, None).await.unwrap();
    assert_eq!(
        (r.status, r.next_begin_offset, r.min_offset, r.max_offset),
        (PullStatus::Found, 4, 0, 5)
    );
    assert_eq!(bodies(&r.messages), ["m1", "m2", "m3"]);
    assert_eq!(
        (
            r.messages[0].queue_offset,
            r.messages[0].tags(),
            &r.messages[0].queue
        ),
        (1, Some("odd"), &queue(0))
    );
    let r = c
        .pull(&queue(0), "even || none", 0, 32, None)
        .await
        .unwrap();
    assert_eq!(
        bodies(&r.messages),
        ["m0", "m2", "m4"],
        "hash collisions and servers that do not filter are no matter"
    );
    assert_eq!(
        c.pull(&queue(0), "*", 5, 32, None).await.unwrap().status,
        PullStatus::NoNewMessage
    );
    let r = c.pull(&queue(0), "*", 99, 32, None).await.unwrap();
    assert_eq!(
        (r.status, r.next_begin_offset),
        (PullStatus::OffsetIllegal, 5)
    );
    cluster.broker(0).fail([(11, Fault::Code(26))]);
    assert_eq!(
        c.pull(&queue(0), "*", 0, 1, None).await.unwrap_err().code(),
        Some(26)
    );

    assert_eq!(
        (
            c.min_offset(&queue(0)).await.unwrap(),
            c.max_offset(&queue(0)).await.unwrap()
        ),
        (0, 5)
    );
    assert_eq!(c.search_offset(&queue(0), 1002).await.unwrap(), 2);
    assert_eq!(c.committed_offset(&queue(0)).await.unwrap(), None);
    c.commit_offset(&queue(0), 4).await.unwrap();
    assert_eq!(c.committed_offset(&queue(0)).await.unwrap(), Some(4));
    c.shutdown().await;
    assert_eq!(cluster.broker(0).seen(35).len(), 1);
}

#[tokio::test]
async fn a_held_pull_ends_with_the_message() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    let c = Arc::new(PullConsumer::new(ClientConfig::new(cluster.names_addr()), "g").unwrap());
    let start = Instant::now();
    let pull = tokio::spawn({
        let c = c.clone();
        async move {
            c.pull(&queue(0), "*", 0, 32, Some(Duration::from_secs(10)))
                .await
        }
    });
    eventually("pull held", || !cluster.broker(0).seen(11).is_empty()).await;
    cluster.broker(0).put("T", 0, "late", None);
    assert_eq!(bodies(&pull.await.unwrap().unwrap().messages), ["late"]);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_listener_gets_every_message_once_and_offsets_are_committed() {
    let cluster = Cluster::start(2).await;
    cluster.topic("T", 3);
    for i in 0..300 {
        cluster
            .broker(i % 2)
            .put("T", (i % 3) as i32, &format!("m{i}"), None);
    }
    let seen = Seen::default();
    let consumer = consume(push(&cluster), &seen, |_| ConsumeStatus::Success).await;
    eventually("backlog", || seen.lock().unwrap().len() == 300).await;
    for i in 300..400 {
        cluster
            .broker(i % 2)
            .put("T", (i % 3) as i32, &format!("m{i}"), None);
    }
    eventually("news", || seen.lock().unwrap().len() >= 400).await;
    assert_eq!(
        (counts(&seen).len(), seen.lock().unwrap().len()),
        (400, 400)
    );
    assert_eq!(consumer.assigned().len(), 6);
    let total = || {
        (0..2)
            .flat_map(|b| (0..3).map(move |q| (b, q)))
            .filter_map(|(b, q)| cluster.broker(b).offset("g", "T", q))
            .sum::<i64>()
    };
    eventually("committed", || total() == 400).await;
    consumer.shutdown().await;
    assert!(
        cluster.broker(0).members("g").is_empty(),
        "it left the group"
    );
}

#[tokio::test]
async fn a_shutdown_commits_what_is_done() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    (0..10).for_each(|i| cluster.broker(0).put("T", 0, &format!("m{i}"), None));
    let seen = Seen::default();
    let config = PushConfig {
        commit_interval: Duration::from_secs(100),
        ..push(&cluster)
    };
    let consumer = consume(config.clone(), &seen, |_| ConsumeStatus::Success).await;
    eventually("consumed", || seen.lock().unwrap().len() == 10).await;
    consumer.shutdown().await;
    assert_eq!(cluster.broker(0).offset("g", "T", 0), Some(10));
    // The next one goes on there.
    cluster.broker(0).put("T", 0, "m10", None);
    let consumer = consume(config, &seen, |_| ConsumeStatus::Success).await;
    eventually("the new one", || seen.lock().unwrap().len() == 11).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(counts(&seen).len(), 11);
    consumer.shutdown().await;
}

#[tokio::test]
async fn where_a_new_group_begins() {
    for (from, expected) in [
        (ConsumeFrom::FirstOffset, 10),
        (ConsumeFrom::LastOffset, 0),
        (ConsumeFrom::Timestamp(1004), 6),
    ] {
        let cluster = Cluster::start(1).await;
        cluster.topic("T", 1);
        (0..10).for_each(|i| cluster.broker(0).put("T", 0, &format!("m{i}"), None));
        let seen = Seen::default();
        let consumer = consume(
            PushConfig {
                from,
                ..push(&cluster)
            },
            &seen,
            |_| ConsumeStatus::Success,
        )
        .await;
        eventually("pulling", || !cluster.broker(0).seen(11).is_empty()).await;
        cluster.broker(0).put("T", 0, "news", None);
        eventually("news", || counts(&seen).contains_key("news")).await;
        assert_eq!(seen.lock().unwrap().len(), expected + 1, "{from:?}");
        drop(consumer);
    }
}

#[tokio::test]
async fn an_offset_that_cannot_be_read_is_not_guessed() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    cluster.broker(0).put("T", 0, "old", None);
    cluster
        .broker(0)
        .fail([(14, Fault::Code(1)), (14, Fault::Code(2))]);
    let seen = Seen::default();
    let _consumer = consume(push(&cluster), &seen, |_| ConsumeStatus::Success).await;
    eventually("consumed at a later round", || {
        counts(&seen).contains_key("old")
    })
    .await;
    assert!(cluster.broker(0).seen(14).len() >= 3);
}

#[tokio::test]
async fn a_failed_message_comes_again_through_the_retry_topic() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    cluster.topic("%RETRY%g", 1);
    cluster.broker(0).put("T", 0, "bad", None);
    cluster.broker(0).put("T", 0, "good", None);
    let seen = Seen::default();
    let consumer = consume(push(&cluster), &seen, |m| {
        assert_eq!(m.topic, "T", "the original topic is shown");
        if &m.body[..] == b"bad" && m.reconsume_times < 2 {
            ConsumeStatus::Later
        } else {
            ConsumeStatus::Success
        }
    })
    .await;
    eventually("third delivery", || {
        seen.lock().unwrap().contains(&("bad".into(), 2))
    })
    .await;
    assert_eq!(
        counts(&seen),
        [("bad".to_owned(), 3), ("good".to_owned(), 1)].into()
    );
    eventually("committed", || {
        cluster.broker(0).offset("g", "T", 0) == Some(2)
    })
    .await;
    eventually("retries committed", || {
        cluster.broker(0).offset("g", "%RETRY%g", 0) == Some(2)
    })
    .await;
    consumer.shutdown().await;
}

#[tokio::test]
async fn a_panic_of_the_listener_is_a_failure() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    cluster.topic("%RETRY%g", 1);
    cluster.broker(0).put("T", 0, "x", None);
    let calls = Arc::new(AtomicUsize::new(0));
    let consumer = PushConsumer::start(push(&cluster), {
        let calls = calls.clone();
        move |_| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                assert!(call > 0, "the first call fails");
                ConsumeStatus::Success
            }
        }
    })
    .await
    .unwrap();
    eventually("again", || calls.load(Ordering::Relaxed) == 2).await;
    consumer.shutdown().await;
}

#[tokio::test]
async fn members_share_the_queues_and_take_over() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 8);
    let (seen_a, seen_b) = (Seen::default(), Seen::default());
    // Long enough that only the broker's word can be the reason of a rebalance.
    let config = PushConfig {
        rebalance_interval: Duration::from_secs(100),
        ..push(&cluster)
    };
    let a = consume(config.clone(), &seen_a, |_| ConsumeStatus::Success).await;
    eventually("all to the first", || a.assigned().len() == 8).await;
    let b = consume(config, &seen_b, |_| ConsumeStatus::Success).await;
    eventually("half each", || {
        a.assigned().len() == 4 && b.assigned().len() == 4
    })
    .await;
    let mut all = [a.assigned(), b.assigned()].concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 8);
    (0..80).for_each(|i| cluster.broker(0).put("T", i % 8, &format!("m{i}"), None));
    let both = || counts(&seen_a).len() + counts(&seen_b).len();
    eventually("consumed", || both() == 80).await;
    assert!(counts(&seen_a).len() == 40 && counts(&seen_b).len() == 40);
    b.shutdown().await;
    eventually("the first takes over", || a.assigned().len() == 8).await;
    a.shutdown().await;
}

#[tokio::test]
async fn a_member_list_that_cannot_be_read_keeps_the_queues() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 4);
    let seen = Seen::default();
    let consumer = consume(push(&cluster), &seen, |_| ConsumeStatus::Success).await;
    eventually("assigned", || consumer.assigned().len() == 4).await;
    let before = cluster.broker(0).seen(38).len();
    cluster.broker(0).fail([(38, Fault::Code(1)); 6]);
    eventually("asked again", || {
        cluster.broker(0).seen(38).len() >= before + 6
    })
    .await;
    assert_eq!(consumer.assigned().len(), 4);
}

#[tokio::test]
async fn broadcasting_gives_every_message_to_everyone() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 4);
    (0..40).for_each(|i| cluster.broker(0).put("T", i % 4, &format!("m{i}"), None));
    let (seen_a, seen_b) = (Seen::default(), Seen::default());
    let config = PushConfig {
        model: MessageModel::Broadcasting,
        ..push(&cluster)
    };
    let a = consume(config.clone(), &seen_a, |_| ConsumeStatus::Success).await;
    let b = consume(config, &seen_b, |_| ConsumeStatus::Later).await;
    eventually("both have all", || {
        counts(&seen_a).len() == 40 && counts(&seen_b).len() == 40
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        (seen_a.lock().unwrap().len(), seen_b.lock().unwrap().len()),
        (40, 40)
    );
    assert!(
        cluster.broker(0).seen(36).is_empty() && cluster.broker(0).offset("g", "T", 0).is_none()
    );
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn only_wanted_tags_arrive_and_the_others_are_passed_over() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    for tag in ["A", "B", "C", "A"] {
        cluster.broker(0).put("T", 0, tag, Some(tag));
    }
    let mut config = push(&cluster);
    config.subscriptions.clear();
    let seen = Seen::default();
    let consumer = consume(config.subscribe("T", "A || B").unwrap(), &seen, |_| {
        ConsumeStatus::Success
    })
    .await;
    eventually("committed over all", || {
        cluster.broker(0).offset("g", "T", 0) == Some(4)
    })
    .await;
    assert_eq!(
        counts(&seen),
        [("A".to_owned(), 2), ("B".to_owned(), 1)].into()
    );
    consumer.shutdown().await;
}

#[tokio::test]
async fn an_offset_outside_the_queue_is_corrected() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    (0..10).for_each(|i| cluster.broker(0).put("T", 0, &format!("m{i}"), None));
    let c = PullConsumer::new(ClientConfig::new(cluster.names_addr()), "g").unwrap();
    c.commit_offset(&queue(0), 2).await.unwrap();
    cluster.broker(0).set_min("T", 0, 7);
    let seen = Seen::default();
    let consumer = consume(push(&cluster), &seen, |_| ConsumeStatus::Success).await;
    eventually("the rest", || seen.lock().unwrap().len() == 3).await;
    eventually("committed", || {
        cluster.broker(0).offset("g", "T", 0) == Some(10)
    })
    .await;
    consumer.shutdown().await;
}

#[tokio::test]
async fn a_slow_listener_bounds_the_messages_in_memory() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    (0..200).for_each(|i| cluster.broker(0).put("T", 0, &format!("m{i}"), None));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let config = PushConfig {
        cached_messages_per_queue: 10,
        pull_batch: 4,
        consume_concurrency: 2,
        ..push(&cluster)
    };
    let consumed = Arc::new(AtomicUsize::new(0));
    let consumer = PushConsumer::start(config, {
        let (gate, consumed) = (gate.clone(), consumed.clone());
        move |_| {
            let (gate, consumed) = (gate.clone(), consumed.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                consumed.fetch_add(1, Ordering::Relaxed);
                ConsumeStatus::Success
            }
        }
    })
    .await
    .unwrap();
    let found = || cluster.broker(0).seen(11).len();
    eventually("full", || found() == 3).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(found(), 3, "12 messages in memory are enough");
    gate.add_permits(1000);
    eventually("all consumed", || consumed.load(Ordering::Relaxed) == 200).await;
    consumer.shutdown().await;
}

#[tokio::test]
async fn a_topic_that_comes_later_is_found() {
    let cluster = Cluster::start(1).await;
    let seen = Seen::default();
    let consumer = consume(push(&cluster), &seen, |_| ConsumeStatus::Success).await;
    cluster.broker(0).put("T", 0, "x", None);
    cluster.topic("T", 1);
    eventually("consumed", || counts(&seen).contains_key("x")).await;
    consumer.shutdown().await;
}

#[test]
fn a_damaged_record_is_an_error() {
    for damaged in [&b"\0\0\0\x20garbage"[..], b"\0", &[0xFF; 200]] {
        assert!(ReceivedMessage::decode_all(&bytes::Bytes::copy_from_slice(damaged), "b").is_err());
    }
}

#[tokio::test]
async fn configurations_that_can_never_work_are_refused() {
    let cluster = Cluster::start(1).await;
    let start = async |config: PushConfig| {
        PushConsumer::start(config, |_| async { ConsumeStatus::Success })
            .await
            .err()
            .unwrap()
    };
    let base = push(&cluster);
    for bad in [
        PushConfig {
            subscriptions: vec![],
            ..base.clone()
        },
        PushConfig {
            consume_batch: 0,
            ..base.clone()
        },
        PushConfig {
            consume_concurrency: 0,
            ..base.clone()
        },
        PushConfig {
            pull_batch: -1,
            ..base.clone()
        },
        PushConfig {
            group: "a b".into(),
            ..base.clone()
        },
        PushConfig {
            client: ClientConfig::new(""),
            ..base.clone()
        },
    ] {
        assert!(matches!(start(bad).await, ClientError::Invalid(_)));
    }
    let gone = PushConfig {
        client: ClientConfig::new("127.0.0.1:1"),
        ..base
    };
    assert!(matches!(
        start(gone).await,
        ClientError::NoNameServer { .. }
    ));
}
