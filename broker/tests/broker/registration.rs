use raftmq_namesrv::{NameServer, NamesrvConfig};
use raftmq_remoting::body::TopicRouteData;
use raftmq_remoting::codes::request;
use raftmq_remoting::{RemotingCommand, json};
use tempfile::TempDir;

use crate::harness::{Client, TestBroker, eventually};

pub async fn name_server(dir: &TempDir) -> NameServer {
    let config = NamesrvConfig {
        listen_port: 0,
        kv_config_path: dir.path().join("kv.json"),
        ..NamesrvConfig::default()
    };
    NameServer::start(config).await.unwrap()
}

pub async fn route(client: &Client, topic: &str) -> Option<TopicRouteData> {
    let answer: RemotingCommand = client
        .ask(request::GET_ROUTEINFO_BY_TOPIC, &[("topic", topic)])
        .await;
    (answer.code == 0).then(|| json::from_slice(&answer.body.to_bytes()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_is_registered_with_its_topics() {
    let dir = TempDir::new().unwrap();
    let server = name_server(&dir).await;
    let port = server.local_addr().port();
    static PORT: std::sync::OnceLock<u16> = std::sync::OnceLock::new();
    PORT.get_or_init(|| port);
    let mut broker = TestBroker::start_with(|c| {
        c.namesrv_addr = format!("127.0.0.1:{}", PORT.get().unwrap());
    })
    .await;
    let client = Client::new(&format!("127.0.0.1:{port}"));
    eventually("the template is routable", || async {
        route(&client, "TBW102").await.is_some()
    })
    .await;
    let data = route(&client, "TBW102").await.unwrap();
    assert_eq!(data.broker_datas[0].broker_addrs[&0], broker.addr());
    assert_eq!(data.broker_datas[0].broker_name, "broker-a");
    // A new topic is announced at once, not with the next period.
    let start = std::time::Instant::now();
    broker.send("Brand-new", "x").await;
    eventually("the new topic is routable", || async {
        route(&client, "Brand-new").await.is_some()
    })
    .await;
    assert!(start.elapsed().as_secs() < 3, "{:?}", start.elapsed());
    assert_eq!(
        route(&client, "Brand-new").await.unwrap().queue_datas[0].write_queue_nums,
        4
    );
    broker.stop().await;
    eventually("the broker is gone", || async {
        route(&client, "TBW102").await.is_none()
    })
    .await;
    server.shutdown().await;
}
