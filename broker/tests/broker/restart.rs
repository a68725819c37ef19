use raftmq_broker::{Birth, BrokerError, Config, LostEnd, Service, exit};
use raftmq_remoting::codes::request;
use tempfile::TempDir;

use crate::harness::{TestBroker, config, records};
use crate::replicas::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn messages_topics_and_offsets_survive_a_restart() {
    let mut broker = TestBroker::start().await;
    for body in ["a", "b", "c"] {
        broker.send("T", body).await;
    }
    let group = r#"{"groupName":"G"}"#;
    broker
        .client
        .ask_with(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], group)
        .await;
    let commit = [
        ("consumerGroup", "G"),
        ("topic", "T"),
        ("queueId", "0"),
        ("commitOffset", "2"),
    ];
    assert_eq!(
        broker
            .client
            .ask(request::UPDATE_CONSUMER_OFFSET, &commit)
            .await
            .code,
        0
    );
    broker.restart().await;
    assert_eq!(records(&broker.pull("T", 0).await).len(), 3);
    let query = [("consumerGroup", "G"), ("topic", "T"), ("queueId", "0")];
    let answer = broker
        .client
        .ask(request::QUERY_CONSUMER_OFFSET, &query)
        .await;
    assert_eq!(answer.ext.get("offset"), Some("2"));
    let sent = broker.send("T", "d").await;
    assert_eq!(sent.ext.get("queueOffset"), Some("3"));
    broker.stop().await;
}

async fn refusal(config: Config, birth: Birth) -> String {
    match Service::start(config, birth).await {
        Ok(_) => panic!("it started"),
        Err(e) => e.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_broker_without_peers_does_not_start() {
    let dir = TempDir::new().unwrap();
    let error = match Service::start(config(&dir), Birth::FromPeers).await {
        Ok(_) => panic!("it started"),
        Err(e) => e,
    };
    assert!(matches!(error, BrokerError::NotBorn { .. }));
    assert!(error.to_string().contains("--bootstrap"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loopback_address_is_not_registered_elsewhere() {
    let dir = TempDir::new().unwrap();
    let mut config = config(&dir);
    config.namesrv_addr = "192.0.2.1:9876".to_owned();
    let text = refusal(config, Birth::Bootstrap).await;
    assert!(
        text.contains("loopback") && text.contains("192.0.2.1:9876"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named() {
    let dir = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut config = config(&dir);
    config.listen_port = port;
    let text = refusal(config, Birth::Bootstrap).await;
    assert!(text.contains(&port.to_string()), "{text}");
}

/// Both were taken in silence and did nothing, when somebody tried to save what is left of a set.
#[tokio::test(flavor = "multi_thread")]
async fn switches_that_cannot_do_what_they_say_end_the_start() {
    let dir = TempDir::new().unwrap();
    let started = Service::start_with(config(&dir), Birth::Bootstrap, LostEnd::Accept).await;
    let Err(error) = started else {
        panic!("there is nothing to accept");
    };
    assert!(error.to_string().contains("--accept-data-loss"), "{error}");
    assert_eq!(exit::code(&error), exit::CONFIG);

    let alone = Service::start(config(&dir), Birth::Bootstrap)
        .await
        .unwrap();
    assert_eq!(alone.is_no_set_of_one().await, None);
    alone.stop().await.unwrap();

    let mut cluster = Cluster::start().await;
    for n in 0..3 {
        cluster.stop_one(n).await;
    }
    let survivor = Service::start(cluster.alone(0), Birth::Bootstrap)
        .await
        .unwrap();
    let reason = survivor.is_no_set_of_one().await.expect("a set of three");
    assert!(reason.contains("n0, n1, n2"), "{reason}");
    survivor.stop().await.unwrap();
}
