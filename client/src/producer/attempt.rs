//! One send with all its tries, as a chain of callbacks.
//!
//! It runs on whatever thread the last step ended: the caller's, a connection's read task, the keeper of the connections.
//! Only a missing route or connection costs a task, which waits for it.

use std::sync::Arc;

use raftmq_remoting::body::MessageQueue;
use raftmq_remoting::{Channel, RemotingCommand, RemotingError, response_code};
use tokio::time::Instant;

use super::request::Prepared;
use super::{Inner, SendResult};
use crate::error::ClientError;

pub(super) type Done = Box<dyn FnOnce(Result<SendResult, ClientError>) + Send>;

/// Refusals after which another try may succeed, as the Java producer has them.
const RETRIED_CODES: [i32; 8] = [
    response_code::TOPIC_NOT_EXIST,
    response_code::SERVICE_NOT_AVAILABLE,
    response_code::SYSTEM_ERROR,
    response_code::NO_PERMISSION,
    response_code::GO_AWAY,
    response_code::SYSTEM_BUSY,
    response_code::NO_BUYER_ID,
    response_code::NOT_IN_CURRENT_UNIT,
];

pub(super) struct Attempt {
    producer: Arc<Inner>,
    prepared: Prepared,
    /// The caller's queue.
    fixed: Option<MessageQueue>,
    tries_left: u32,
    deadline: Instant,
    /// The broker set of the last failure.
    last_failed: Option<String>,
    last_error: Option<ClientError>,
    /// A try that failed may have been executed.
    may_have_happened: bool,
    /// The route was asked for again because it had no queue.
    refreshed: bool,
    done: Done,
}

impl Attempt {
    pub(super) fn new(
        producer: Arc<Inner>,
        prepared: Prepared,
        fixed: Option<MessageQueue>,
        tries: u32,
        deadline: Instant,
        done: Done,
    ) -> Box<Self> {
        Box::new(Self {
            producer,
            prepared,
            fixed,
            tries_left: tries,
            deadline,
            last_failed: None,
            last_error: None,
            may_have_happened: false,
            refreshed: false,
            done,
        })
    }

    /// The next try: over the open connection now, or from a task that makes what is missing.
    pub(super) fn go(self: Box<Self>) {
        if Instant::now() >= self.deadline {
            let why = format!(
                "no answer within {} ms",
                self.producer.config.send_timeout.as_millis()
            );
            return self.fail(ClientError::NotSent { why });
        }
        match self.target() {
            Some((queue, addr)) => match self.producer.instance.open_channel(&addr) {
                Some(channel) => self.dispatch(&channel, queue, addr),
                None => drop(tokio::spawn(self.connect(queue, addr))),
            },
            None => drop(tokio::spawn(self.look_up())),
        }
    }

    /// The queue for this try and the address of its master.
    fn target(&self) -> Option<(MessageQueue, String)> {
        let route = self.producer.instance.known_route(&self.prepared.topic)?;
        let queue = match &self.fixed {
            Some(queue) => queue,
            None => self
                .producer
                .pick_queue(&route, self.last_failed.as_deref())?,
        };
        Some((queue.clone(), route.master(&queue.broker_name)?.to_owned()))
    }

    async fn look_up(mut self: Box<Self>) {
        let instance = &self.producer.instance;
        let topic = &self.prepared.topic;
        let known = instance.known_route(topic).is_some();
        if known && self.refreshed {
            let no_route = ClientError::NoRoute {
                topic: topic.to_string(),
            };
            return match self.last_error.take() {
                Some(error) => self.fail(error),
                None => self.fail(no_route),
            };
        }
        let found = tokio::time::timeout_at(self.deadline, async {
            if known {
                instance.refresh_route(topic).await
            } else {
                instance.route(topic, true).await
            }
        });
        let found = found.await;
        self.refreshed |= known;
        match found {
            Ok(Ok(_)) => self.go(),
            Ok(Err(e)) => self.fail(e),
            Err(_) => self.fail(ClientError::NoNameServer {
                why: "no answer in time".into(),
            }),
        }
    }

    async fn connect(self: Box<Self>, queue: MessageQueue, addr: String) {
        let connected =
            tokio::time::timeout_at(self.deadline, self.producer.instance.channel(&addr)).await;
        match connected {
            Ok(Ok(channel)) => self.dispatch(&channel, queue, addr),
            Ok(Err(e)) => self.retry(e, queue),
            Err(_) => self.retry(
                ClientError::NotSent {
                    why: format!("no connection to {addr} in time"),
                },
                queue,
            ),
        }
    }

    fn dispatch(self: Box<Self>, channel: &Channel, queue: MessageQueue, addr: String) {
        let cmd = self.prepared.command(&queue);
        let left = self.deadline.saturating_duration_since(Instant::now());
        channel.invoke_with(cmd, left, move |answer| self.answered(answer, queue, &addr));
    }

    fn answered(
        self: Box<Self>,
        answer: Result<RemotingCommand, RemotingError>,
        queue: MessageQueue,
        addr: &str,
    ) {
        let result = answer
            .map_err(ClientError::from)
            .and_then(|a| self.prepared.result(addr, &queue, &a));
        match result {
            Ok(sent) => (self.done)(Ok(sent)),
            Err(e) if e.code().is_some_and(|c| !RETRIED_CODES.contains(&c)) => self.fail(e),
            Err(e @ ClientError::BadAnswer { .. }) => self.fail(e),
            Err(e) => self.retry(e, queue),
        }
    }

    fn retry(mut self: Box<Self>, error: ClientError, queue: MessageQueue) {
        self.tries_left = self.tries_left.saturating_sub(1);
        if self.tries_left == 0 || Instant::now() >= self.deadline {
            return self.fail(error);
        }
        self.may_have_happened |= error.may_have_happened();
        self.last_failed = Some(queue.broker_name);
        self.last_error = Some(error);
        self.go();
    }

    /// The end. An error that says "surely not stored" is only told when that is so for every try.
    fn fail(self: Box<Self>, error: ClientError) {
        let error = match self.last_error {
            Some(earlier) if self.may_have_happened && !error.may_have_happened() => {
                ClientError::Unknown {
                    why: format!("{earlier}; then {error}"),
                }
            }
            Some(earlier)
                if matches!(error, ClientError::NotSent { .. }) && earlier.code().is_some() =>
            {
                earlier
            }
            _ => error,
        };
        (self.done)(Err(error));
    }
}
