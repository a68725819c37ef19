//! Takes timers back a little before their time, at whatever replica answers. What was acknowledged must never come.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use raftmq_remoting::codes::{request, response};
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::RecallMessageRequestHeader;
use raftmq_remoting::{ClientOptions, RemotingClient};
use tokio::task::JoinSet;

use crate::book::{Book, now_ms};
use crate::read::id;

/// So long before its time each is taken back; an outage may eat most of it.
const BEFORE_MS: i64 = 2_000;
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_millis(1_000);
/// Pause before the next try.
const PAUSE: Duration = Duration::from_millis(50);

/// Whom to ask about what.
pub struct Recaller {
    pub client: RemotingClient,
    /// Of all replicas: any passes a request on.
    pub addrs: Vec<String>,
    pub set: String,
    pub topic: String,
    pub run: u64,
    pub book: Arc<Book>,
}

impl Recaller {
    /// A client of its own.
    pub fn client() -> RemotingClient {
        RemotingClient::new(ClientOptions::default(), None)
    }

    /// Takes these messages, in the order of their times, back.
    pub async fn run(self: Arc<Self>, numbers: Vec<usize>) {
        let mut tasks = JoinSet::new();
        for number in numbers {
            let due = self.book.due_ms(number);
            let early = u64::try_from(due - BEFORE_MS - now_ms()).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(early)).await;
            let shared = self.clone();
            tasks.spawn(async move { shared.one(number, due).await });
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn one(&self, number: usize, due: i64) {
        self.book.recalls(number);
        let handle = format!(
            "v1 {} {} {due} {}",
            self.topic,
            self.set,
            id(self.run, number)
        );
        let header = RecallMessageRequestHeader {
            producer_group: Some("mqtimers".to_owned()),
            topic: self.topic.clone(),
            recall_handle: URL_SAFE.encode(handle),
        };
        for addr in self.addrs.iter().cycle().skip(number % self.addrs.len()) {
            let command = RemotingCommand::request_with(request::RECALL_MESSAGE, &header);
            let answer = self.client.invoke(addr, command, TIMEOUT).await;
            if answer.is_ok_and(|a| a.code == response::SUCCESS) {
                return self.book.recalled(number);
            }
            if now_ms() >= due {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
