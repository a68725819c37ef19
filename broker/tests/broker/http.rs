//! The HTTP port: metrics that Prometheus can read, and what /healthz and /readyz say as a replica comes and goes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use raftmq_broker::config::MetricsExporter;
use raftmq_broker::{Config, Service};
use raftmq_remoting::codes::request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Client, Send, TestBroker, eventually};
use crate::replicas::Cluster;

fn metrics(config: &mut Config) {
    config.metrics_exporter = MetricsExporter::Prom;
    config.http_port = 0;
}

fn health(config: &mut Config) {
    config.health_check = true;
    config.http_port = 0;
}

/// Status and body.
async fn ask(addr: SocketAddr, what: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("{what} HTTP/1.1\r\nHost: broker\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

async fn get(service: &Service, path: &str) -> (u16, String) {
    ask(service.http_addr().unwrap(), &format!("GET {path}")).await
}

/// The series of a metric that have all of these labels, with their values. Every line must be one that Prometheus reads.
fn series<'a>(text: &'a str, name: &str, labels: &[&str]) -> Vec<(&'a str, f64)> {
    let mut families = HashSet::new();
    let mut found = Vec::new();
    for line in text.lines().filter(|l| !l.is_empty()) {
        if let Some(comment) = line.strip_prefix('#') {
            if let Some(family) = comment.strip_prefix(" TYPE ") {
                assert!(families.insert(family), "twice: {line}");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect(line);
        let (own, rest) = series.split_once('{').expect(line);
        assert!(rest.ends_with('}'), "{line}");
        let value: f64 = value.parse().expect(line);
        if own == name && labels.iter().all(|l| rest.contains(l)) {
            found.push((line, value));
        }
    }
    found
}

fn value(text: &str, name: &str, labels: &[&str]) -> f64 {
    match series(text, name, labels)[..] {
        [(_, value)] => value,
        ref other => panic!("{name} {labels:?}: {other:?}\n{text}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_rocketmqs_names() {
    let mut broker = TestBroker::start_with(metrics).await;
    for body in ["a", "bc", "def"] {
        broker.send("T", body).await;
    }
    assert_eq!(broker.bodies("T", 0, 3).await.len(), 3);
    let group = r#"{"groupName":"CG"}"#;
    broker
        .client
        .ask_with(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], group)
        .await;
    let commit = [
        ("consumerGroup", "CG"),
        ("topic", "T"),
        ("queueId", "0"),
        ("commitOffset", "1"),
    ];
    broker
        .client
        .ask(request::UPDATE_CONSUMER_OFFSET, &commit)
        .await;
    let heartbeat = r#"{"clientID":"c1","producerDataSet":[{"groupName":"PG"}],"consumerDataSet":[{"groupName":"CG",
        "consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_LAST_OFFSET",
        "subscriptionDataSet":[]}],"heartbeatFingerprint":0,"withoutSub":false}"#;
    let answer = broker
        .client
        .ask_with(request::HEART_BEAT, &[], heartbeat)
        .await;
    assert_eq!(answer.code, 0);

    let (status, text) = get(broker.service(), "/metrics").await;
    assert_eq!(status, 200);
    let node = [
        "cluster=\"DefaultCluster\"",
        "node_type=\"broker\"",
        "node_id=\"broker-a\"",
    ];
    let of = |name: &str, labels: &[&str]| value(&text, name, &[&node, labels].concat());
    let topic = ["topic=\"T\"", "is_system=\"false\""];
    let both = [&topic[..], &["consumer_group=\"CG\"", "is_retry=\"false\""]].concat();
    assert_eq!(of("rocketmq_messages_in_total", &topic), 3.0);
    assert_eq!(of("rocketmq_throughput_in_total", &topic), 6.0);
    assert!(of("rocketmq_messages_out_total", &both) >= 3.0);
    assert!(of("rocketmq_throughput_out_total", &both) > 6.0);
    assert_eq!(of("rocketmq_consumer_lag_messages", &both), 2.0);
    assert_eq!(of("rocketmq_broker_permission", &[]), 6.0);
    assert!(of("rocketmq_storage_size", &["storage_medium=\"disk\""]) > 0.0);
    assert!(of("rocketmq_topic_number", &[]) > 1.0);
    assert_eq!(
        of("rocketmq_producer_connections", &["language=\"rust\""]),
        1.0
    );
    let consumer = ["consumer_group=\"CG\"", "consume_mode=\"push\""];
    assert_eq!(of("rocketmq_consumer_connections", &consumer), 1.0);
    assert_eq!(of("raftmq_raft_is_leader", &[]), 1.0);
    assert_eq!(of("raftmq_raft_elections_won_total", &[]), 1.0);
    let (last, applied) = (
        of("raftmq_raft_last_index", &[]),
        of("raftmq_raft_applied_index", &[]),
    );
    assert!(last >= applied && applied > 3.0, "{last} {applied}");

    // What is gone leaves nothing behind.
    broker
        .client
        .ask(
            request::UNREGISTER_CLIENT,
            &[
                ("clientID", "c1"),
                ("producerGroup", "PG"),
                ("consumerGroup", "CG"),
            ],
        )
        .await;
    let (_, text) = get(broker.service(), "/metrics").await;
    assert!(series(&text, "rocketmq_consumer_connections", &[]).is_empty());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_says_no_more_than_it_is_asked_for() {
    let mut quiet = TestBroker::start().await;
    assert_eq!(quiet.service().http_addr(), None);
    quiet.stop().await;
    let mut broker = TestBroker::start_with(health).await;
    let addr = broker.service().http_addr().unwrap();
    assert_eq!(ask(addr, "GET /metrics").await.0, 404);
    assert_eq!(ask(addr, "GET /").await.0, 404);
    assert_eq!(ask(addr, "POST /healthz").await.0, 405);
    assert_eq!(ask(addr, "GET /healthz").await, (200, "ok\n".to_owned()));
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let long = vec![b'x'; 100_000];
    let _ = stream.write_all(b"GET /").await;
    let _ = stream.write_all(&long).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "too long");
    broker.stop().await;
    assert!(
        TcpStream::connect(addr).await.is_err(),
        "closed with the broker"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_about_to_stop_or_unregistered_is_not_ready() {
    let mut broker = TestBroker::start_with(health).await;
    assert_eq!(get(broker.service(), "/readyz").await.0, 200);
    let draining = &broker.service().broker().draining;
    draining.store(true, Ordering::Relaxed);
    let (status, why) = get(broker.service(), "/readyz").await;
    assert_eq!((status, why.as_str()), (503, "it is about to stop\n"));
    assert_eq!(get(broker.service(), "/healthz").await.0, 200);
    broker.stop().await;

    let mut broker = TestBroker::start_with(|c| {
        health(c);
        // Nobody listens there.
        c.namesrv_addr = "127.0.0.1:1".to_owned();
    })
    .await;
    let (status, why) = get(broker.service(), "/readyz").await;
    assert_eq!(
        (status, why.as_str()),
        (503, "it is not registered at any name server\n")
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_ready_as_long_as_there_is_a_leader() {
    let mut cluster = Cluster::start_with(metrics).await;
    let leader = cluster.wait_for_leader().await;
    for n in 0..3 {
        let ready = async || get(cluster.service(n), "/readyz").await.0 == 200;
        eventually("ready", ready).await;
    }
    let client: Client = cluster.client(leader);
    assert_eq!(client.invoke(Send::to("T").command()).await.code, 0);
    let (_, text) = get(cluster.service(leader), "/metrics").await;
    let reachable = series(&text, "raftmq_raft_replica_reachable", &[]);
    assert_eq!(reachable.iter().map(|(_, v)| v).sum::<f64>(), 3.0);
    assert_eq!(
        value(&text, "raftmq_raft_replica_voter", &["replica=\"n1\""]),
        1.0
    );
    let other = (leader + 1) % 3;
    let (_, text) = get(cluster.service(other), "/metrics").await;
    assert_eq!(value(&text, "raftmq_raft_is_leader", &[]), 0.0);
    assert_eq!(value(&text, "raftmq_raft_has_leader", &[]), 1.0);
    assert!(series(&text, "raftmq_raft_replica_reachable", &[]).is_empty());

    let last = (leader + 2) % 3;
    cluster.stop_one(leader).await;
    cluster.stop_one(last).await;
    eventually("one of three is not ready", async || {
        let (status, why) = get(cluster.service(other), "/readyz").await;
        status == 503 && why.contains("no leader is known")
    })
    .await;
    assert_eq!(get(cluster.service(other), "/healthz").await.0, 200);
    cluster.start_one(leader).await;
    eventually("ready again", async || {
        get(cluster.service(other), "/readyz").await.0 == 200
    })
    .await;
    cluster.stop().await;
}
