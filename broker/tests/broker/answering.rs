//! Clients that answer what the broker asks them, as the test says.

use std::sync::Arc;
use std::time::Duration;

use raftmq_remoting::codes::request;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::server::{Handler, Request};
use raftmq_remoting::{Channel, ClientOptions, RemotingClient};
use tokio::sync::mpsc;

use crate::harness::command;

/// None: the client stays silent.
type Answer = fn(&RemotingCommand) -> Option<RemotingCommand>;

struct Asked {
    tell: mpsc::UnboundedSender<RemotingCommand>,
    answer: Answer,
}

impl Handler for Asked {
    fn handle(&self, request: Request) {
        let _ = self.tell.send(request.cmd.clone());
        if let Some(answer) = (self.answer)(&request.cmd) {
            request.reply(answer);
        }
    }
}

/// A client that consumes and produces.
pub struct Answering {
    _remoting: RemotingClient,
    pub channel: Channel,
    asked: mpsc::UnboundedReceiver<RemotingCommand>,
}

/// The release that has everything.
pub const NEW: i32 = 479;

impl Answering {
    /// Online as `id`: a consumer of T in group G, and a producer in PG.
    pub async fn start(addr: &str, id: &str, version: i32, answer: Answer) -> Self {
        let (tell, asked) = mpsc::unbounded_channel();
        let handler = Arc::new(Asked { tell, answer });
        let remoting = RemotingClient::new(ClientOptions::default(), Some(handler));
        let channel = remoting.channel(addr).await.expect("a connection");
        let client = Self {
            _remoting: remoting,
            channel,
            asked,
        };
        client.beat(id, version).await;
        client
    }

    pub async fn beat(&self, id: &str, version: i32) {
        let body = format!(
            r#"{{"clientID":"{id}","producerDataSet":[{{"groupName":"PG"}}],"consumerDataSet":[{{"groupName":"G",
                "consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET",
                "subscriptionDataSet":[{{"topic":"T","subString":"a","tagsSet":["a"],"codeSet":[97],"subVersion":5,
                "expressionType":"TAG"}}],"unitMode":false}}]}}"#
        );
        let mut beat = command(request::HEART_BEAT, &[]).with_body(body.into_bytes());
        beat.version = version;
        assert_eq!(self.invoke(beat).await.code, 0);
    }

    pub async fn invoke(&self, command: RemotingCommand) -> RemotingCommand {
        let answer = self.channel.invoke(command, Duration::from_secs(20)).await;
        answer.expect("an answer")
    }

    /// The next request with this code; others are skipped.
    pub async fn asked(&mut self, code: i32) -> RemotingCommand {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(5), self.asked.recv());
            let command = next.await.expect("asked in time").expect("a connection");
            if command.code == code {
                return command;
            }
        }
    }

    /// Whether it was asked this so far.
    pub fn was_asked(&mut self, code: i32) -> bool {
        std::iter::from_fn(|| self.asked.try_recv().ok()).any(|c| c.code == code)
    }
}

/// A client that never answers.
pub fn silent(_: &RemotingCommand) -> Option<RemotingCommand> {
    None
}
