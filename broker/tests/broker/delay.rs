use std::time::{Duration, Instant};

use crate::harness::{Pull, Send, TestBroker, eventually, records, remark};
use crate::replicas::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn level_one_waits_a_second() {
    let broker = TestBroker::start().await;
    broker.send("T", "now").await;
    let start = Instant::now();
    let delayed =
        Send::to("T")
            .with("e", "0")
            .properties(&[("DELAY", "1"), ("TAGS", "t"), ("KEYS", "k")]);
    let answer = broker.client.invoke(delayed.body("later").command()).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(
        answer.ext.get("queueId"),
        Some("0"),
        "the queue it will go to"
    );
    assert_eq!(records(&broker.pull("T", 0).await).len(), 1, "not yet");
    assert_eq!(broker.bodies("T", 1, 1).await, ["later"]);
    let took = start.elapsed();
    assert!(
        took >= Duration::from_millis(950) && took < Duration::from_secs(4),
        "{took:?}"
    );
    let m = records(&broker.pull("T", 1).await).remove(0);
    assert_eq!(m.property("DELAY"), None);
    assert_eq!(m.property("TIMER_OUT_MS"), None);
    assert_eq!(
        (m.property("KEYS"), m.property("TAGS")),
        (Some("k"), Some("t"))
    );
    assert_eq!(
        (m.property("REAL_TOPIC"), m.property("REAL_QID")),
        (Some("T"), Some("0"))
    );
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(
        records(&broker.pull("T", 0).await).len(),
        2,
        "delivered once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_level_is_no_delay() {
    let broker = TestBroker::start().await;
    for level in ["0", "-1"] {
        let send = Send::to("T").properties(&[("DELAY", level)]).body(level);
        assert_eq!(broker.client.invoke(send.command()).await.code, 0);
    }
    assert_eq!(records(&broker.pull("T", 0).await).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_message_survives_a_restart() {
    let mut broker = TestBroker::start().await;
    broker.send("T", "now").await;
    let delayed = Send::to("T").properties(&[("DELAY", "1")]).body("later");
    assert_eq!(broker.client.invoke(delayed.command()).await.code, 0);
    broker.restart().await;
    assert_eq!(broker.bodies("T", 1, 1).await, ["later"]);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(
        records(&broker.pull("T", 0).await).len(),
        2,
        "delivered once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_delayed_messages_arrive_once_each() {
    let broker = TestBroker::start().await;
    broker.send("T", "now").await;
    for n in 0..300 {
        let send = Send::to("T")
            .properties(&[("DELAY", "1")])
            .body(format!("d{n}"));
        assert_eq!(broker.client.invoke(send.command()).await.code, 0);
    }
    let mut bodies = Vec::new();
    let end = Instant::now() + Duration::from_secs(15);
    while bodies.len() < 300 && Instant::now() < end {
        let answer = broker.pull("T", 1 + bodies.len() as i64).await;
        bodies.extend(records(&answer).into_iter().map(|m| m.body));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(records(&broker.pull("T", 301).await).len(), 0);
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_of_arbitrary_times() {
    let broker = TestBroker::start().await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64;
    let start = Instant::now();
    let at = |name: &'static str, value: i64| {
        Send::to("T").properties(&[(name, value.to_string().as_str())])
    };
    for (send, body) in [
        (at("TIMER_DELAY_SEC", 2), "third"),
        (at("TIMER_DELAY_MS", 700), "first"),
        (at("TIMER_DELIVER_MS", now + 1_300), "second"),
        (at("TIMER_DELIVER_MS", now - 5), "now"),
    ] {
        let answer = broker.client.invoke(send.body(body).command()).await;
        assert_eq!(answer.code, 0, "{}", remark(&answer));
    }
    assert_eq!(broker.bodies("T", 0, 1).await, ["now"]);
    assert_eq!(
        broker.bodies("T", 0, 4).await,
        ["now", "first", "second", "third"]
    );
    let took = start.elapsed();
    assert!(
        took >= Duration::from_millis(1_950) && took < Duration::from_secs(5),
        "{took:?}"
    );
    let message = records(&broker.pull("T", 1).await).remove(0);
    assert_eq!(message.property("TIMER_OUT_MS"), None);
    assert_eq!(message.property("TIMER_DELAY_MS"), Some("700"));
}

fn own_levels(config: &mut raftmq_broker::Config) {
    let pairs = [("messageDelayLevel".to_owned(), "1h 2s 1h".to_owned())];
    let (own, _) = raftmq_broker::Config::from_map(pairs.into_iter().collect()).unwrap();
    config.delay_levels = own.delay_levels;
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_of_ones_own_outlive_the_master() {
    let mut cluster = Cluster::start_with(own_levels).await;
    let leader = cluster.wait_for_leader().await;
    let client = cluster.client(leader);
    let start = Instant::now();
    for (level, body) in [("0", "now"), ("1", "an hour"), ("2", "two seconds")] {
        let send = Send::to("T").properties(&[("DELAY", level)]).body(body);
        assert_eq!(client.invoke(send.command()).await.code, 0);
    }
    cluster.stop_one(leader).await;
    let next = cluster.wait_for_leader().await;
    let client = cluster.client(next);
    // By its own levels, too.
    let send = Send::to("T").properties(&[("DELAY", "2")]).body("again");
    assert_eq!(client.invoke(send.command()).await.code, 0);
    let bodies = async || {
        let answer = client.invoke(Pull::of("T").command()).await;
        let found = records(&answer).into_iter().map(|m| m.body);
        found.collect::<Vec<_>>()
    };
    eventually("both are there", async || bodies().await.len() == 3).await;
    assert!(start.elapsed() >= Duration::from_millis(1_950));
    assert_eq!(bodies().await, ["now", "two seconds", "again"]);
    cluster.stop().await;
}
