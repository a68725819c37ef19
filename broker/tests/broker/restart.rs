use raftmq_broker::{Birth, BrokerError, Config, Service};
use raftmq_remoting::codes::request;
use tempfile::TempDir;

use crate::harness::{TestBroker, config, records};

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
