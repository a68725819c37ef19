//! A name server on a free port, and the means to ask it.

#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::Duration;

use raftmq_namesrv::{NameServer, NamesrvConfig};
use raftmq_remoting::body::{DataVersion, RegisterBrokerBody, TopicConfig, TopicRouteData};
use raftmq_remoting::{ClientOptions, RemotingClient, RemotingCommand, json};

pub struct Fixture {
    pub server: NameServer,
    pub client: RemotingClient,
    pub dir: tempfile::TempDir,
}

pub async fn start(settings: &str) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("namesrv.conf");
    let kv = dir.path().join("kvConfig.json");
    let text = format!(
        "listenPort=0\nbindAddress=127.0.0.1\nkvConfigPath={}\n{settings}",
        kv.display()
    );
    std::fs::write(&file, text).unwrap();
    let server = NameServer::start(NamesrvConfig::load(&file).unwrap())
        .await
        .unwrap();
    Fixture {
        server,
        client: client(),
        dir,
    }
}

pub fn client() -> RemotingClient {
    RemotingClient::new(ClientOptions::default(), None)
}

pub fn request(code: i32, fields: &[(&str, &str)]) -> RemotingCommand {
    fields
        .iter()
        .fold(RemotingCommand::request(code), |cmd, (k, v)| {
            cmd.with_ext(k, v)
        })
}

pub async fn send(
    client: &RemotingClient,
    addr: SocketAddr,
    cmd: RemotingCommand,
) -> RemotingCommand {
    // The channel and not the client, which would set its own version.
    let channel = client.channel(&addr.to_string()).await.unwrap();
    channel.invoke(cmd, Duration::from_secs(5)).await.unwrap()
}

impl Fixture {
    pub async fn call(&self, cmd: RemotingCommand) -> RemotingCommand {
        send(&self.client, self.server.local_addr(), cmd).await
    }

    pub async fn ask(&self, code: i32, fields: &[(&str, &str)]) -> RemotingCommand {
        self.call(request(code, fields)).await
    }

    /// The JSON of a request that must succeed.
    pub async fn text(&self, code: i32, fields: &[(&str, &str)]) -> String {
        let answer = self.ask(code, fields).await;
        assert_eq!(answer.code, 0, "{answer:?}");
        String::from_utf8(answer.body.to_bytes().to_vec()).unwrap()
    }

    pub async fn route(&self, topic: &str) -> Option<TopicRouteData> {
        let answer = self.ask(105, &[("topic", topic)]).await;
        (answer.code == 0).then(|| json::from_slice(&answer.body.to_bytes()).unwrap())
    }

    pub async fn register(&self, name: &str, id: i64, addr: &str, term: i64) -> RemotingCommand {
        self.call(registration(name, id, addr).with_body(table(term, &["T1", "T2"]).encode()))
            .await
    }
}

pub fn registration(name: &str, id: i64, addr: &str) -> RemotingCommand {
    request(
        103,
        &[
            ("brokerName", name),
            ("brokerAddr", addr),
            ("clusterName", "C"),
            ("haServerAddr", &format!("{addr}2")),
            ("brokerId", &id.to_string()),
        ],
    )
}

pub fn table(term: i64, topics: &[&str]) -> RegisterBrokerBody {
    let mut body = RegisterBrokerBody::default();
    let wrapper = &mut body.topic_config_serialize_wrapper;
    wrapper.data_version = DataVersion {
        state_version: term,
        timestamp: 1,
        counter: 0,
    };
    for topic in topics {
        let config = TopicConfig {
            topic_name: (*topic).into(),
            read_queue_nums: 8,
            write_queue_nums: 8,
            ..TopicConfig::default()
        };
        wrapper.topic_config_table.insert((*topic).into(), config);
    }
    body
}

pub fn field<'a>(cmd: &'a RemotingCommand, name: &str) -> Option<&'a str> {
    cmd.ext.get(name)
}
