//! Sending messages (`DefaultMQProducer`).
//!
//! Queues are taken in turn; a failed try goes on at another broker set when there is one. Every way to send is the same
//! state machine ([`attempt`]), driven by callbacks: a message that is sent over an open connection costs no task.

mod attempt;
mod request;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use raftmq_remoting::body::{MessageQueue, ProducerData};
use raftmq_remoting::header::UnregisterClientRequestHeader;
use raftmq_remoting::validate::{check_existing_group, check_topic};
use raftmq_remoting::{RemotingCommand, request_code};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::instance::Instance;
use crate::message::Message;
use crate::route::TopicRoute;
use attempt::Attempt;
use request::Prepared;

/// How a producer sends.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    pub client: ClientConfig,
    pub group: String,
    /// Limit of a send with all its tries; 3 s.
    pub send_timeout: Duration,
    /// Further tries after the first; 2.
    pub retries: u32,
    /// Largest body, in bytes; 4 MiB, as brokers accept by default.
    pub max_message_size: usize,
}

impl ProducerConfig {
    /// The defaults.
    pub fn new(namesrv_addrs: impl Into<String>, group: impl Into<String>) -> Self {
        Self {
            client: ClientConfig::new(namesrv_addrs),
            group: group.into(),
            send_timeout: Duration::from_secs(3),
            retries: 2,
            max_message_size: 4 * 1024 * 1024,
        }
    }
}

/// What the broker says of a message that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendStatus {
    Ok,
    FlushDiskTimeout,
    FlushSlaveTimeout,
    SlaveNotAvailable,
}

/// A message that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendResult {
    pub status: SendStatus,
    /// The message's unique id; of a batch, all ids joined with commas.
    pub msg_id: String,
    /// Names the record's place; of a batch, all joined with commas.
    pub offset_msg_id: String,
    /// The broker set.
    pub broker: String,
    pub queue_id: i32,
    /// Of a batch, that of its first message.
    pub queue_offset: i64,
}

pub(crate) struct Inner {
    instance: Instance,
    config: ProducerConfig,
    /// The queue for the next message, modulo the queues there are.
    next_queue: AtomicUsize,
}

/// Sends messages. Clones share connections and group.
#[derive(Clone)]
pub struct Producer(Arc<Inner>);

impl Producer {
    /// # Errors
    /// The group or the name server list is malformed. Nothing is connected yet.
    pub fn new(config: ProducerConfig) -> Result<Self, ClientError> {
        check_existing_group(&config.group).map_err(|e| ClientError::Invalid(e.to_string()))?;
        let instance = Instance::start(config.client.clone())?;
        let group_name = config.group.clone();
        instance.edit_heartbeat(|h| h.producer_data_set.push(ProducerData { group_name }));
        Ok(Self(Arc::new(Inner {
            instance,
            config,
            next_queue: AtomicUsize::new(0),
        })))
    }

    /// The name brokers know this client by.
    pub fn client_id(&self) -> &str {
        &self.0.instance.client_id
    }

    /// Looks the topic up and connects to its masters, so that the first sends find all ready.
    ///
    /// # Errors
    /// The topic has no route, not even that of the template topic. A broker that cannot be reached is no error.
    pub async fn prepare(&self, topic: &str) -> Result<Arc<TopicRoute>, ClientError> {
        let instance = &self.0.instance;
        let route = instance.route(topic, true).await?;
        for broker in route.brokers.keys() {
            if let Some(addr) = route.master(broker)
                && let Err(e) = instance.channel(addr).await
            {
                tracing::debug!(addr, error = %e, "broker not reached");
            }
        }
        instance.heartbeat_all().await;
        Ok(route)
    }

    /// Sends a message and waits until the broker has it.
    ///
    /// # Errors
    /// [`ClientError::may_have_happened`] tells whether it may be stored all the same.
    pub async fn send(&self, message: Message) -> Result<SendResult, ClientError> {
        self.wait(self.prepare_one(message), None).await
    }

    /// Sends to a queue of the caller's choice, without trying another one.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_to(
        &self,
        message: Message,
        queue: MessageQueue,
    ) -> Result<SendResult, ClientError> {
        self.wait(self.prepare_one(message), Some(queue)).await
    }

    /// Sends several messages of one topic to one queue, in one request.
    ///
    /// # Errors
    /// As [`Self::send`]; an empty batch or one of several topics is [`ClientError::Invalid`].
    pub async fn send_batch(&self, messages: Vec<Message>) -> Result<SendResult, ClientError> {
        self.wait(Prepared::batch(&messages, &self.0.config), None)
            .await
    }

    /// Sends a message and returns at once; `done` gets the result on a thread of the runtime and must not block. Retries
    /// as [`Self::send`] does. The caller limits how many messages are under way.
    pub fn send_with(
        &self,
        message: Message,
        done: impl FnOnce(Result<SendResult, ClientError>) + Send + 'static,
    ) {
        match self.prepare_one(message) {
            Ok(prepared) => self.start(prepared, None, Box::new(done)),
            Err(e) => done(Err(e)),
        }
    }

    /// As [`Self::send_with`], to a queue of the caller's choice.
    pub fn send_to_with(
        &self,
        message: Message,
        queue: MessageQueue,
        done: impl FnOnce(Result<SendResult, ClientError>) + Send + 'static,
    ) {
        match self.prepare_one(message) {
            Ok(prepared) => self.start(prepared, Some(queue), Box::new(done)),
            Err(e) => done(Err(e)),
        }
    }

    /// Sends a message without an answer: Ok says that it is on its way, nothing more. Returns its unique id.
    ///
    /// # Errors
    /// There is no route or no connection.
    pub async fn send_oneway(&self, message: Message) -> Result<String, ClientError> {
        let prepared = self.prepare_one(message)?;
        let inner = &self.0;
        let route = inner.instance.route(&prepared.topic, true).await?;
        let queue = inner
            .pick_queue(&route, None)
            .ok_or_else(|| ClientError::NoRoute {
                topic: prepared.topic.to_string(),
            })?;
        let addr = route.master(&queue.broker_name).unwrap_or_default();
        inner
            .instance
            .channel(addr)
            .await?
            .oneway(prepared.command(queue));
        Ok(prepared.msg_id)
    }

    /// Leaves the group and closes the connections. Sends under way fail as unknown.
    pub async fn shutdown(&self) {
        let instance = &self.0.instance;
        instance.edit_heartbeat(|h| h.producer_data_set.clear());
        let header = UnregisterClientRequestHeader {
            client_id: instance.client_id.as_str().into(),
            producer_group: Some(self.0.config.group.as_str().into()),
            consumer_group: None,
        };
        for addr in instance.broker_addrs(true) {
            // Brokers that were never spoken to know nothing to forget.
            if let Some(channel) = instance.open_channel(&addr) {
                let cmd = RemotingCommand::request_with(request_code::UNREGISTER_CLIENT, &header);
                let _ = channel.invoke(cmd, instance.config.request_timeout).await;
            }
        }
        instance.remoting.close();
    }

    fn prepare_one(&self, message: Message) -> Result<Prepared, ClientError> {
        Prepared::one(message, &self.0.config)
    }

    async fn wait(
        &self,
        prepared: Result<Prepared, ClientError>,
        queue: Option<MessageQueue>,
    ) -> Result<SendResult, ClientError> {
        let (tx, rx) = oneshot::channel();
        // A caller who is gone wants no result.
        self.start(prepared?, queue, Box::new(|result| drop(tx.send(result))));
        rx.await.unwrap_or_else(|_| {
            Err(ClientError::Unknown {
                why: "the send was dropped".into(),
            })
        })
    }

    fn start(&self, prepared: Prepared, queue: Option<MessageQueue>, done: attempt::Done) {
        let config = &self.0.config;
        let tries = if queue.is_some() {
            1
        } else {
            config.retries + 1
        };
        Attempt::new(
            self.0.clone(),
            prepared,
            queue,
            tries,
            Instant::now() + config.send_timeout,
            done,
        )
        .go();
    }
}

impl Inner {
    /// The next queue in turn, at another set than `last_failed` where there is one.
    fn pick_queue<'a>(
        &self,
        route: &'a TopicRoute,
        last_failed: Option<&str>,
    ) -> Option<&'a MessageQueue> {
        let n = route.publish.len();
        if n == 0 {
            return None;
        }
        let first = self.next_queue.fetch_add(1, Ordering::Relaxed);
        let mut turn = (0..n).map(|i| &route.publish[first.wrapping_add(i) % n]);
        match last_failed {
            None => turn.next(),
            Some(failed) => turn
                .find(|q| q.broker_name != failed)
                .or(Some(&route.publish[first % n])),
        }
    }
}

fn check_message(message: &Message, config: &ProducerConfig) -> Result<(), ClientError> {
    check_topic(&message.topic).map_err(|e| ClientError::Invalid(e.to_string()))?;
    if message.body.is_empty() {
        return Err(ClientError::Invalid("the message body is empty".into()));
    }
    if message.body.len() > config.max_message_size {
        let (is, max) = (message.body.len(), config.max_message_size);
        return Err(ClientError::Invalid(format!(
            "the message body has {is} bytes, more than {max}"
        )));
    }
    Ok(())
}
