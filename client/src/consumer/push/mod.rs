//! Consuming by listener (`DefaultMQPushConsumer`).
//!
//! Tasks: one rebalances (every 20 s, and when a broker says that the group changed), one commits offsets every 5 s, one
//! a queue pulls, and one a batch of messages calls the listener, at most `consume_concurrency` at a time. The messages
//! in memory are bounded per queue; a full queue is not pulled.
//!
//! Delivery is at least once: an offset is committed only when all messages below it are consumed or given back.

mod consume;
mod process_queue;
mod pull_loop;
mod rebalance;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use raftmq_remoting::body::{ConsumeFromWhere, ConsumerData, MessageModel, MessageQueue};
use raftmq_remoting::validate::{check_existing_group, retry_topic};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{ConsumeFrom, Subscription};
use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::instance::Instance;
use crate::message::ReceivedMessage;
use process_queue::ProcessQueue;

/// What became of a batch of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumeStatus {
    Success,
    /// Deliver them again later. A broadcasting consumer drops them.
    Later,
}

/// How a push consumer consumes.
#[derive(Clone, Debug)]
pub struct PushConfig {
    pub client: ClientConfig,
    pub group: String,
    /// Clustering: each message to one member of the group. Broadcasting: each to all, offsets in memory only.
    pub model: MessageModel,
    pub from: ConsumeFrom,
    pub subscriptions: Vec<Subscription>,
    /// Messages in one call of the listener; 1.
    pub consume_batch: usize,
    /// Calls of the listener at a time; 20.
    pub consume_concurrency: usize,
    /// Messages of one pull; 32.
    pub pull_batch: i32,
    /// Messages of one queue in memory before pulling pauses; 1000.
    pub cached_messages_per_queue: usize,
    /// Bytes of one queue in memory before pulling pauses; 100 MiB.
    pub cached_bytes_per_queue: usize,
    /// Deliveries after the first before a message goes to the dead letter queue; 16.
    pub max_reconsume_times: i32,
    /// How long a broker holds a pull; 15 s.
    pub hold: Duration,
    /// 20 s.
    pub rebalance_interval: Duration,
    /// 5 s.
    pub commit_interval: Duration,
    /// How long a shutdown waits for the listener; 10 s.
    pub shutdown_wait: Duration,
}

impl PushConfig {
    /// The defaults: clustering, from the last offset, nothing subscribed.
    pub fn new(namesrv_addrs: impl Into<String>, group: impl Into<String>) -> Self {
        Self {
            client: ClientConfig::new(namesrv_addrs),
            group: group.into(),
            model: MessageModel::Clustering,
            from: ConsumeFrom::LastOffset,
            subscriptions: Vec::new(),
            consume_batch: 1,
            consume_concurrency: 20,
            pull_batch: 32,
            cached_messages_per_queue: 1000,
            cached_bytes_per_queue: 100 * 1024 * 1024,
            max_reconsume_times: 16,
            hold: Duration::from_secs(15),
            rebalance_interval: Duration::from_secs(20),
            commit_interval: Duration::from_secs(5),
            shutdown_wait: Duration::from_secs(10),
        }
    }

    /// Adds a subscription: `*`, or tags joined with `||`.
    ///
    /// # Errors
    /// The topic or the expression is malformed.
    pub fn subscribe(
        mut self,
        topic: impl Into<String>,
        expression: &str,
    ) -> Result<Self, ClientError> {
        self.subscriptions
            .push(Subscription::new(topic, expression)?);
        Ok(self)
    }

    fn check(&self) -> Result<(), ClientError> {
        check_existing_group(&self.group).map_err(|e| ClientError::Invalid(e.to_string()))?;
        let positive = [
            ("consume_batch", self.consume_batch),
            ("consume_concurrency", self.consume_concurrency),
            ("pull_batch", usize::try_from(self.pull_batch).unwrap_or(0)),
            ("cached_messages_per_queue", self.cached_messages_per_queue),
            ("cached_bytes_per_queue", self.cached_bytes_per_queue),
            ("subscriptions", self.subscriptions.len()),
        ];
        match positive.iter().find(|(_, n)| *n == 0) {
            Some((name, _)) => Err(ClientError::Invalid(format!("{name} must be above 0"))),
            None if u32::try_from(self.consume_concurrency).is_err() => Err(ClientError::Invalid(
                "consume_concurrency is too large".into(),
            )),
            None => Ok(()),
        }
    }
}

type Listener = dyn Fn(Vec<ReceivedMessage>) -> Pin<Box<dyn Future<Output = ConsumeStatus> + Send>>
    + Send
    + Sync
    + 'static;

/// What all tasks of a consumer share.
struct Ctx {
    instance: Instance,
    config: PushConfig,
    /// By topic, the group's retry topic included.
    subscriptions: BTreeMap<String, Subscription>,
    listener: Box<Listener>,
    /// One permit a call of the listener.
    permits: Arc<Semaphore>,
    /// The queues this consumer has.
    assigned: Mutex<BTreeMap<MessageQueue, Arc<ProcessQueue>>>,
    /// A broadcasting consumer's offsets.
    local_offsets: Mutex<AHashMap<MessageQueue, i64>>,
    stop: CancellationToken,
}

/// Consumes until it is shut down or dropped.
pub struct PushConsumer {
    ctx: Arc<Ctx>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Drop for PushConsumer {
    fn drop(&mut self) {
        self.ctx.stop.cancel();
    }
}

impl PushConsumer {
    /// Joins the group and begins to call `listener`. A panic in it counts as [`ConsumeStatus::Later`].
    ///
    /// # Errors
    /// The configuration is malformed, or no name server answers. A topic without route is waited for.
    pub async fn start<F, R>(config: PushConfig, listener: F) -> Result<Self, ClientError>
    where
        F: Fn(Vec<ReceivedMessage>) -> R + Send + Sync + 'static,
        R: Future<Output = ConsumeStatus> + Send + 'static,
    {
        config.check()?;
        let instance = Instance::start(config.client.clone())?;
        let mut subscriptions: BTreeMap<_, _> = config
            .subscriptions
            .iter()
            .map(|s| (s.topic.clone(), s.clone()))
            .collect();
        if config.model == MessageModel::Clustering {
            let retry = retry_topic(&config.group);
            subscriptions.insert(retry.clone(), Subscription::new(retry, "*")?);
        }
        let data = ConsumerData {
            consume_from_where: match config.from {
                ConsumeFrom::LastOffset => ConsumeFromWhere::LastOffset,
                ConsumeFrom::FirstOffset => ConsumeFromWhere::FirstOffset,
                ConsumeFrom::Timestamp(_) => ConsumeFromWhere::Timestamp,
            },
            group_name: config.group.clone(),
            message_model: config.model,
            subscription_data_set: subscriptions.values().map(Subscription::data).collect(),
            ..ConsumerData::default()
        };
        instance.edit_heartbeat(|h| h.consumer_data_set.push(data));
        for topic in subscriptions.keys() {
            match instance.route(topic, false).await {
                Ok(_) | Err(ClientError::NoRoute { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        let ctx = Arc::new(Ctx {
            permits: Arc::new(Semaphore::new(config.consume_concurrency)),
            instance,
            config,
            subscriptions,
            listener: Box::new(move |messages| Box::pin(listener(messages))),
            assigned: Mutex::default(),
            local_offsets: Mutex::default(),
            stop: CancellationToken::new(),
        });
        let rebalance = AbortOnDropHandle::new(tokio::spawn(rebalance::run(ctx.clone())));
        let commit = AbortOnDropHandle::new(tokio::spawn(commit_loop(ctx.clone())));
        Ok(Self {
            ctx,
            _tasks: [rebalance, commit],
        })
    }

    /// The name brokers know this consumer by.
    pub fn client_id(&self) -> &str {
        &self.ctx.instance.client_id
    }

    /// The queues this consumer has now. Sorted.
    pub fn assigned(&self) -> Vec<MessageQueue> {
        self.ctx.assigned.lock().keys().cloned().collect()
    }

    /// Stops pulling, waits for the listener, commits, leaves the group and closes the connections.
    pub async fn shutdown(self) {
        let ctx = &self.ctx;
        ctx.stop.cancel();
        let all = u32::try_from(ctx.config.consume_concurrency).unwrap_or(u32::MAX);
        // The permits are given in order: whoever waits for one before us sees the stop and leaves.
        if tokio::time::timeout(ctx.config.shutdown_wait, ctx.permits.acquire_many(all))
            .await
            .is_err()
        {
            tracing::warn!(
                group = ctx.config.group,
                "the listener still runs at shutdown"
            );
        }
        let queues: Vec<_> = ctx
            .assigned
            .lock()
            .iter()
            .map(|(q, p)| (q.clone(), p.clone()))
            .collect();
        for (queue, process) in queues {
            ctx.commit(&queue, &process, Commit::Confirmed).await;
        }
        ctx.instance.edit_heartbeat(|h| h.consumer_data_set.clear());
        for addr in ctx.instance.broker_addrs(false) {
            if let Err(e) = ctx
                .instance
                .unregister_consumer(&addr, &ctx.config.group)
                .await
            {
                tracing::debug!(addr, error = %e, "not unregistered");
            }
        }
        ctx.instance.remoting.close();
    }
}

/// Whether a commit waits for the broker's answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Commit {
    Oneway,
    Confirmed,
}

impl Ctx {
    fn is_clustering(&self) -> bool {
        self.config.model == MessageModel::Clustering
    }

    /// Commits a queue's offset if it moved.
    async fn commit(&self, queue: &MessageQueue, process: &ProcessQueue, how: Commit) {
        let Some(offset) = process.offset_to_commit() else {
            return;
        };
        if !self.is_clustering() {
            self.local_offsets.lock().insert(queue.clone(), offset);
            return process.committed(offset);
        }
        let committed = async {
            let addr = self.instance.queue_addr(queue).await?;
            match how {
                Commit::Oneway => {
                    self.instance
                        .commit_offset_oneway(&addr, &self.config.group, queue, offset)
                        .await
                }
                Commit::Confirmed => {
                    self.instance
                        .commit_offset(&addr, &self.config.group, queue, offset)
                        .await
                }
            }
        };
        match committed.await {
            Ok(()) => process.committed(offset),
            Err(e) => tracing::warn!(?queue, offset, error = %e, "offset not committed"),
        }
    }
}

async fn commit_loop(ctx: Arc<Ctx>) {
    loop {
        tokio::time::sleep(ctx.config.commit_interval).await;
        let queues: Vec<_> = ctx
            .assigned
            .lock()
            .iter()
            .map(|(q, p)| (q.clone(), p.clone()))
            .collect();
        for (queue, process) in queues {
            ctx.commit(&queue, &process, Commit::Oneway).await;
        }
    }
}
