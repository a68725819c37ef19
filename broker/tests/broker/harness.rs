//! A broker in this process with its store in a temporary directory, and a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq_broker::config::BrokerRole;
use raftmq_broker::{Birth, Config, Service};
use raftmq_remoting::codes::request;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::Header;
use raftmq_remoting::message::StoredRecord;
use raftmq_remoting::server::{Handler, Request};
use raftmq_remoting::{ClientOptions, RemotingClient};
use tempfile::TempDir;
use tokio::sync::mpsc;

pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Hands what the broker pushes to the test.
struct Pushes(mpsc::UnboundedSender<RemotingCommand>);

impl Handler for Pushes {
    fn handle(&self, request: Request) {
        let _ = self.0.send(request.cmd.clone());
    }
}

/// One client with its own connection.
pub struct Client {
    remoting: RemotingClient,
    addr: String,
    pub pushes: mpsc::UnboundedReceiver<RemotingCommand>,
}

impl Client {
    pub fn new(addr: &str) -> Self {
        let (tx, pushes) = mpsc::unbounded_channel();
        let remoting = RemotingClient::new(ClientOptions::default(), Some(Arc::new(Pushes(tx))));
        Self {
            remoting,
            addr: addr.to_owned(),
            pushes,
        }
    }

    pub async fn invoke(&self, command: RemotingCommand) -> RemotingCommand {
        self.remoting
            .invoke(&self.addr, command, TIMEOUT)
            .await
            .expect("an answer")
    }

    pub async fn oneway(&self, command: RemotingCommand) {
        self.remoting
            .oneway(&self.addr, command)
            .await
            .expect("sent");
    }

    pub async fn channel(&self) -> raftmq_remoting::Channel {
        self.remoting
            .channel(&self.addr)
            .await
            .expect("a connection")
    }

    pub async fn ask(&self, code: i32, ext: &[(&str, &str)]) -> RemotingCommand {
        self.invoke(command(code, ext)).await
    }

    pub async fn ask_with(
        &self,
        code: i32,
        ext: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> RemotingCommand {
        self.invoke(command(code, ext).with_body(body.into())).await
    }

    pub fn close(&self) {
        self.remoting.close();
    }
}

pub fn command(code: i32, ext: &[(&str, &str)]) -> RemotingCommand {
    ext.iter()
        .fold(RemotingCommand::request(code), |command, (k, v)| {
            command.with_ext(k, v)
        })
}

pub struct TestBroker {
    service: Option<Service>,
    dir: TempDir,
    change: fn(&mut Config),
    pub client: Client,
}

pub fn config(dir: &TempDir) -> Config {
    Config {
        listen_port: 0,
        bind_address: "127.0.0.1".to_owned(),
        ip1: "127.0.0.1".to_owned(),
        store_dir: dir.path().join("store").to_string_lossy().into_owned(),
        segment_size: 32 << 20,
        // Answered when applied, so that a test reads what it wrote.
        role: BrokerRole::SyncMaster,
        ..Config::default()
    }
}

async fn serve(dir: &TempDir, change: fn(&mut Config)) -> Service {
    let mut config = config(dir);
    change(&mut config);
    let service = Service::start(config, Birth::Bootstrap)
        .await
        .expect("the broker starts");
    let ready = Instant::now() + Duration::from_secs(20);
    let broker = service.broker();
    // The last thing a new master makes is its system groups.
    while !broker.leads() || broker.state().group("CID_RMQ_SYS_TRANS").is_none() {
        assert!(Instant::now() < ready, "the broker does not lead");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    service
}

impl TestBroker {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: fn(&mut Config)) -> Self {
        let dir = TempDir::new().expect("a directory");
        let service = serve(&dir, change).await;
        let client = Client::new(&service.addr().to_string());
        Self {
            service: Some(service),
            dir,
            change,
            client,
        }
    }

    pub fn service(&self) -> &Service {
        self.service.as_ref().expect("running")
    }

    pub fn addr(&self) -> String {
        self.service().addr().to_string()
    }

    pub fn another_client(&self) -> Client {
        Client::new(&self.addr())
    }

    /// Directory of the store.
    pub fn store_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("store")
    }

    /// Starts again after [`TestBroker::stop`].
    pub async fn start_again(&mut self) {
        self.service = Some(serve(&self.dir, self.change).await);
        self.client = Client::new(&self.addr());
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    pub async fn stop(&mut self) {
        self.client.close();
        if let Some(service) = self.service.take() {
            service.stop().await.expect("a clean stop");
        }
    }

    /// Sends to queue 0 of a topic that is created when it is missing; expects success.
    pub async fn send(&self, topic: &str, body: &str) -> RemotingCommand {
        let answer = self
            .client
            .invoke(Send::to(topic).body(body).command())
            .await;
        assert_eq!(answer.code, 0, "{:?}", answer.remark);
        answer
    }

    pub async fn pull(&self, topic: &str, offset: i64) -> RemotingCommand {
        self.client
            .invoke(Pull::of(topic).offset(offset).command())
            .await
    }

    /// Bodies of queue 0 from an offset on, as soon as there are `count`.
    pub async fn bodies(&self, topic: &str, from: i64, count: usize) -> Vec<String> {
        let end = Instant::now() + TIMEOUT;
        loop {
            let answer = self.pull(topic, from).await;
            let found = records(&answer).len();
            if answer.code == 0 && found >= count {
                return records(&answer).into_iter().map(|r| r.body).collect();
            }
            assert!(
                Instant::now() < end,
                "{found} of {count} messages in {topic}, code {}",
                answer.code
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A send in the making.
#[derive(Clone)]
pub struct Send {
    ext: Vec<(&'static str, String)>,
    body: Vec<u8>,
    code: i32,
}

impl Send {
    pub fn to(topic: &str) -> Self {
        let ext = [
            ("a", "PG"),
            ("b", topic),
            ("c", "TBW102"),
            ("d", "4"),
            ("e", "0"),
            ("f", "0"),
            ("g", "1700000000000"),
            ("h", "7"),
            ("i", ""),
            ("j", "0"),
            ("k", "false"),
            ("m", "false"),
        ];
        let ext = ext.into_iter().map(|(k, v)| (k, v.to_owned())).collect();
        Self {
            ext,
            body: b"body".to_vec(),
            code: request::SEND_MESSAGE_V2,
        }
    }

    pub fn with(mut self, letter: &'static str, value: &str) -> Self {
        self.ext.retain(|(k, _)| *k != letter);
        self.ext.push((letter, value.to_owned()));
        self
    }

    pub fn without(mut self, letter: &str) -> Self {
        self.ext.retain(|(k, _)| *k != letter);
        self
    }

    pub fn properties(self, pairs: &[(&str, &str)]) -> Self {
        let text: String = pairs
            .iter()
            .map(|(k, v)| format!("{k}\u{1}{v}\u{2}"))
            .collect();
        self.with("i", &text)
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }

    pub fn command(&self) -> RemotingCommand {
        let ext: Vec<(&str, &str)> = self.ext.iter().map(|(k, v)| (*k, v.as_str())).collect();
        command(self.code, &ext).with_body(self.body.clone())
    }
}

/// A pull in the making: of queue 0, all tags, not held.
pub struct Pull {
    ext: Vec<(&'static str, String)>,
    code: i32,
}

impl Pull {
    pub fn of(topic: &str) -> Self {
        let ext = [
            ("consumerGroup", "CG"),
            ("topic", topic),
            ("queueId", "0"),
            ("queueOffset", "0"),
            ("maxMsgNums", "32"),
            ("sysFlag", "4"),
            ("commitOffset", "0"),
            ("suspendTimeoutMillis", "1000"),
            ("subscription", "*"),
            ("subVersion", "0"),
            ("expressionType", "TAG"),
        ];
        let ext = ext.into_iter().map(|(k, v)| (k, v.to_owned())).collect();
        Self {
            ext,
            code: request::PULL_MESSAGE,
        }
    }

    pub fn with(mut self, key: &'static str, value: &str) -> Self {
        self.ext.retain(|(k, _)| *k != key);
        self.ext.push((key, value.to_owned()));
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        self.ext.retain(|(k, _)| *k != key);
        self
    }

    pub fn offset(self, offset: i64) -> Self {
        self.with("queueOffset", &offset.to_string())
    }

    /// Held for this long when nothing is found.
    pub fn held(self, millis: u64) -> Self {
        self.with("sysFlag", "6")
            .with("suspendTimeoutMillis", &millis.to_string())
    }

    pub fn code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }

    pub fn command(&self) -> RemotingCommand {
        let ext: Vec<(&str, &str)> = self.ext.iter().map(|(k, v)| (*k, v.as_str())).collect();
        command(self.code, &ext)
    }
}

#[derive(Debug, PartialEq)]
pub struct Message {
    pub topic: String,
    pub queue_id: i32,
    pub queue_offset: i64,
    pub physical_offset: i64,
    pub reconsume_times: i32,
    pub flag: i32,
    pub born_timestamp: i64,
    pub body: String,
    pub properties: Vec<(String, String)>,
}

impl Message {
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties
            .iter()
            .find(|(k, _)| k == name)
            .map(|(_, v)| v.as_str())
    }
}

/// The records of a pull answer.
pub fn records(answer: &RemotingCommand) -> Vec<Message> {
    let bytes = answer.body.to_bytes();
    StoredRecord::all(&bytes)
        .map(|record| {
            let r = record.expect("a whole record");
            assert!(r.body_crc_ok());
            Message {
                topic: r.topic().to_owned(),
                queue_id: r.queue_id(),
                queue_offset: r.queue_offset(),
                physical_offset: r.physical_offset(),
                reconsume_times: r.reconsume_times(),
                flag: r.flag(),
                born_timestamp: r.born_timestamp(),
                body: String::from_utf8_lossy(r.body()).into_owned(),
                properties: raftmq_remoting::message::properties::iter(r.properties())
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .collect(),
            }
        })
        .collect()
}

pub fn header<H: Header>(answer: &RemotingCommand) -> H {
    answer
        .header()
        .unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

pub fn remark(answer: &RemotingCommand) -> &str {
    answer.remark.as_deref().unwrap_or_default()
}

pub fn text(answer: &RemotingCommand) -> String {
    String::from_utf8_lossy(&answer.body.to_bytes()).into_owned()
}

/// Polls until `what` is true.
pub async fn eventually<F: Future<Output = bool>>(why: &str, mut what: impl FnMut() -> F) {
    let end = Instant::now() + TIMEOUT;
    while !what().await {
        assert!(Instant::now() < end, "{why}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
