//! Old messages go: from the log, the queues and the index, on every replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::Timelike;
use raftmq_broker::delete_when::DeleteWhen;
use raftmq_broker::{Broker, Config};
use raftmq_remoting::body::KVTable;
use raftmq_remoting::codes::request;
use raftmq_remoting::header::PullMessageResponseHeader;
use raftmq_remoting::json;

use crate::harness::{Client, Pull, Send, TestBroker, eventually, header, records, remark};
use crate::replicas::Cluster;

pub const SMALL: u64 = 65_536;

/// Segments of 64 KiB, and everything has expired at once; it goes when somebody asks.
pub fn small(config: &mut Config) {
    config.segment_size = SMALL;
    config.file_reserved_hours = 0;
    config.delete_when = far_hour();
    config.clean_interval_ms = 1_000;
    config.disk_max_used = 95;
    config.clean_forcibly = false;
}

/// `deleteWhen` half a day from now: nothing is deleted because of the time of a test.
fn far_hour() -> DeleteWhen {
    let hour = (chrono::Local::now().hour() + 12) % 24;
    DeleteWhen::parse(&hour.to_string()).unwrap()
}

/// Messages of 8 KiB over some seconds, as the log is cut at most once a second.
pub async fn fill(client: &Client, topic: &str, count: usize) {
    for n in 0..count {
        let body = format!("{n:05}{}", "x".repeat(8 << 10));
        let answer = client.invoke(Send::to(topic).body(body).command()).await;
        assert_eq!(answer.code, 0, "{}", remark(&answer));
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

pub fn range(broker: &Broker) -> (i64, i64) {
    broker.replica.queue_range("T", 0).unwrap_or((0, 0))
}

/// Waits until the log's beginning has not moved for some rounds.
async fn settled(brokers: &[&Arc<Broker>]) {
    let starts = || -> Vec<(i64, i64)> {
        let one = |b: &&Arc<Broker>| (b.replica.log_range().0, range(b).0);
        brokers.iter().map(one).collect()
    };
    let (mut seen, mut since) = (starts(), Instant::now());
    let end = Instant::now() + Duration::from_secs(30);
    while since.elapsed() < Duration::from_millis(2_500) {
        assert!(Instant::now() < end, "still moving: {seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = starts();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
}

async fn number(client: &Client, code: i32, field: &str, more: &[(&str, &str)]) -> i64 {
    let mut ext = vec![("topic", "T"), ("queueId", "0")];
    ext.extend_from_slice(more);
    let answer = client.ask(code, &ext).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    answer.ext.get(field).unwrap().parse().unwrap()
}

/// Pulls all there is from an offset on; numbers of the messages.
async fn pull_all(client: &Client, mut offset: i64) -> Vec<usize> {
    let mut found = Vec::new();
    loop {
        let answer = client.invoke(Pull::of("T").offset(offset).command()).await;
        match answer.code {
            0 => {}
            19 => return found,
            code => panic!("{code}: {}", remark(&answer)),
        }
        for m in records(&answer) {
            assert_eq!(m.queue_offset, offset, "no gap");
            offset += 1;
            found.extend(m.body.get(..5).and_then(|n| n.parse::<usize>().ok()));
        }
    }
}

/// Pulls from 0 on, again and again, for as long as the flag is up; no answer may be an error.
async fn keep_pulling(client: Client, go_on: Arc<AtomicBool>) -> usize {
    let (mut offset, mut pulls) = (0, 0);
    while go_on.load(Ordering::Relaxed) {
        let answer = client.invoke(Pull::of("T").offset(offset).command()).await;
        offset = match answer.code {
            0 | 21 => header::<PullMessageResponseHeader>(&answer).next_begin_offset,
            17 | 19 => 0,
            code => panic!("{code}: {}", remark(&answer)),
        };
        pulls += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    pulls
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_messages_go_on_every_replica_and_timers_stay() {
    const COUNT: usize = 60;
    let cluster = Cluster::start_with(|c| {
        small(c);
        let levels = [("messageDelayLevel".to_owned(), "20s".to_owned())];
        c.delay_levels = Config::from_map(levels.into()).unwrap().0.delay_levels;
    })
    .await;
    let leader = cluster.wait_for_leader().await;
    let client = cluster.client(leader);
    let delayed = Send::to("Later")
        .properties(&[("DELAY", "1"), ("KEYS", "k"), ("TAGS", "t")])
        .body("later");
    let asked = Instant::now();
    assert_eq!(client.invoke(delayed.command()).await.code, 0);
    let go_on = Arc::new(AtomicBool::new(true));
    let pulling = tokio::spawn(keep_pulling(cluster.client(leader), go_on.clone()));
    fill(&client, "T", COUNT).await;

    // The manual delete arrives at a follower and is the master's to do.
    let through = cluster.client((leader + 1) % 3);
    let answer = through.ask(request::DELETE_EXPIRED_COMMITLOG, &[]).await;
    assert_eq!((answer.code, answer.body.is_empty()), (0, true));
    eventually("the log of each replica begins later", || async {
        cluster.running().all(|(_, s)| {
            s.broker().replica.log_range().0 > 2 * SMALL as i64 && range(s.broker()).0 > 0
        })
    })
    .await;
    let (_, max) = range(cluster.service(leader).broker());
    assert_eq!(max, COUNT as i64);
    let brokers: Vec<_> = cluster.running().map(|(_, s)| s.broker()).collect();
    settled(&brokers).await;
    assert!(
        asked.elapsed() < Duration::from_secs(19),
        "the timer is still pending: {:?}",
        asked.elapsed()
    );

    // What is too old has moved; the rest is whole.
    let answer = client.invoke(Pull::of("T").command()).await;
    let head: PullMessageResponseHeader = header(&answer);
    assert_eq!((answer.code, remark(&answer)), (21, "OFFSET_TOO_SMALL"));
    assert!(head.min_offset > 0 && head.next_begin_offset == head.min_offset);
    let min = number(&client, request::GET_MIN_OFFSET, "offset", &[]).await;
    assert!(min >= head.min_offset, "{min} {}", head.min_offset);
    let found = pull_all(&client, min).await;
    assert_eq!(found, (min as usize..COUNT).collect::<Vec<_>>());
    let time = number(
        &client,
        request::GET_EARLIEST_MSG_STORETIME,
        "timestamp",
        &[],
    )
    .await;
    assert!(time > 1_700_000_000_000);
    let at = time.to_string();
    for at in ["0", at.as_str()] {
        let search = request::SEARCH_OFFSET_BY_TIMESTAMP;
        let offset = number(&client, search, "offset", &[("timestamp", at)]).await;
        assert!(offset >= min, "{at}: {offset}");
    }
    let info = client.ask(request::GET_BROKER_RUNTIME_INFO, &[]).await;
    let table: KVTable = json::from_slice(&info.body.to_bytes()).unwrap();
    assert!(table.table["commitLogMinOffset"].parse::<u64>().unwrap() >= 2 * SMALL);
    assert!(
        table.table["earliestMessageTimeStamp"]
            .parse::<i64>()
            .unwrap()
            >= time
    );

    // The delayed message lay in what is gone. It comes once, at its time, as it was sent.
    let end = asked + Duration::from_secs(30);
    let message = loop {
        let answer = client.invoke(Pull::of("Later").command()).await;
        if let Some(message) = records(&answer).pop() {
            break message;
        }
        assert!(Instant::now() < end, "not delivered");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let took = asked.elapsed();
    assert!(
        took > Duration::from_millis(19_900) && took < Duration::from_secs(23),
        "{took:?}"
    );
    assert_eq!((message.body.as_str(), message.queue_offset), ("later", 0));
    assert_eq!(message.property("KEYS"), Some("k"));
    assert_eq!(message.property("TIMER_OUT_MS"), None);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let answer = client.invoke(Pull::of("Later").command()).await;
    assert_eq!(records(&answer).len(), 1, "delivered once");

    go_on.store(false, Ordering::Relaxed);
    assert!(pulling.await.unwrap() > 50);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_away_comes_back_to_a_shorter_log() {
    // Any disk is short, so that the trim does not wait for the replica that is away.
    let mut cluster = Cluster::start_with(|c| {
        small(c);
        c.file_reserved_hours = 72;
        c.clean_forcibly = true;
        c.disk_clean_forcibly = 1;
    })
    .await;
    let leader = cluster.wait_for_leader().await;
    let client = cluster.client(leader);
    fill(&client, "T", 5).await;
    let away = (leader + 1) % 3;
    cluster.stop_one(away).await;
    let group = r#"{"groupName":"G"}"#;
    let put = request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP;
    assert_eq!(client.ask_with(put, &[], group).await.code, 0);
    fill(&client, "T", 55).await;
    eventually("the log begins after what the replica has", || async {
        cluster.running().all(|(_, s)| {
            s.broker().replica.log_range().0 > 2 * SMALL as i64 && range(s.broker()).0 > 5
        })
    })
    .await;

    cluster.start_one(away).await;
    eventually("it has caught up", || async {
        let broker = cluster.service(away).broker();
        range(broker).1 == 60 && broker.state().group("G").is_some()
    })
    .await;
    let (master, other) = (
        cluster.service(leader).broker(),
        cluster.service(away).broker(),
    );
    assert!(range(other).0 > 5, "{:?}", range(other));
    let from = range(other).0.max(range(master).0);
    let entries = |broker: &Broker| broker.replica.read_queue("T", 0, from, 100).unwrap();
    let expected = entries(master);
    assert!(!expected.is_empty());
    assert_eq!(entries(other), expected);
    for entry in expected {
        let read = |broker: &Broker| {
            broker
                .replica
                .read_record(entry.physical_offset, entry.size)
        };
        // What is given up between the two looks is given up by one sooner than by the other.
        if let (Ok(a), Ok(b)) = (read(master), read(other)) {
            assert_eq!(a, b);
        }
    }

    // It can lead, and serves what the others have.
    cluster.stop_one(leader).await;
    let next = cluster.wait_for_leader().await;
    let client = cluster.client(next);
    fill(&client, "T", 1).await;
    let min = number(&client, request::GET_MIN_OFFSET, "offset", &[]).await;
    assert!(min > 5, "{min}");
    assert_eq!(
        number(&client, request::GET_MAX_OFFSET, "offset", &[]).await,
        61
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_replica_keeps_its_shorter_log() {
    let mut broker = TestBroker::start_with(small).await;
    fill(&broker.client, "T", 40).await;
    assert_eq!(
        range(broker.service().broker()).0,
        0,
        "nobody has asked yet"
    );
    let ask = request::DELETE_EXPIRED_COMMITLOG;
    assert_eq!(broker.client.ask(ask, &[]).await.code, 0);
    eventually("the queue begins later", || async {
        range(broker.service().broker()).0 > 0
    })
    .await;
    let clean = request::CLEAN_EXPIRED_CONSUMEQUEUE;
    let answer = broker.client.ask(clean, &[]).await;
    assert_eq!((answer.code, answer.body.is_empty()), (0, true));
    let before = range(broker.service().broker());
    broker.restart().await;
    settled(&[broker.service().broker()]).await;
    let after = range(broker.service().broker());
    assert!(after.0 >= before.0 && after.1 == 40, "{before:?} {after:?}");
    let found = pull_all(&broker.client, after.0).await;
    assert_eq!(found, (after.0 as usize..40).collect::<Vec<_>>());
    let sent = broker.send("T", "next").await;
    assert_eq!(sent.ext.get("queueOffset"), Some("40"));
    assert_eq!(broker.pull("T", 0).await.code, 21);
    broker.stop().await;
}
