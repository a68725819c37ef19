//! Pulling by hand (`DefaultMQPullConsumer`).

use std::collections::BTreeMap;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use raftmq_remoting::body::{ConsumeType, ConsumerData, MessageQueue};
use raftmq_remoting::header::PullMessageRequestHeader;
use raftmq_remoting::message::sysflag::pull as flag;
use raftmq_remoting::validate::check_existing_group;

use super::{PullResult, Subscription};
use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::instance::Instance;
use crate::route::MASTER_ID;

/// Pulls from queues that the caller names, at offsets the caller keeps or commits.
pub struct PullConsumer {
    instance: Instance,
    group: String,
    /// The broker to pull a queue from next.
    suggested: Mutex<AHashMap<MessageQueue, i64>>,
    subscriptions: Mutex<BTreeMap<(String, String), Subscription>>,
}

impl PullConsumer {
    /// # Errors
    /// The group or the name server list is malformed. Nothing is connected yet.
    pub fn new(config: ClientConfig, group: impl Into<String>) -> Result<Self, ClientError> {
        let group = group.into();
        check_existing_group(&group).map_err(|e| ClientError::Invalid(e.to_string()))?;
        Ok(Self {
            instance: Instance::start(config)?,
            group,
            suggested: Mutex::default(),
            subscriptions: Mutex::default(),
        })
    }

    /// The queues of a topic that can be read. Sorted.
    pub async fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>, ClientError> {
        Ok(self.instance.route(topic, false).await?.subscribe.clone())
    }

    /// Pulls up to `max` messages of `queue` from `offset` on that match `expression`. With `hold` the broker waits up to
    /// that long for a message when there is none.
    pub async fn pull(
        &self,
        queue: &MessageQueue,
        expression: &str,
        offset: i64,
        max: i32,
        hold: Option<Duration>,
    ) -> Result<PullResult, ClientError> {
        let subscription = self.subscription(&queue.topic, expression)?;
        let route = self.instance.route(&queue.topic, false).await?;
        let broker_id = self
            .suggested
            .lock()
            .get(queue)
            .copied()
            .unwrap_or(MASTER_ID);
        let addr = route
            .pull_addr(&queue.broker_name, broker_id)
            .ok_or_else(|| ClientError::NoRoute {
                topic: queue.topic.clone(),
            })?;
        let suspend = if hold.is_some() { flag::SUSPEND } else { 0 };
        let header = PullMessageRequestHeader {
            consumer_group: self.group.as_str().into(),
            topic: queue.topic.as_str().into(),
            queue_id: queue.queue_id,
            queue_offset: offset,
            max_msg_nums: max,
            sys_flag: flag::SUBSCRIPTION | suspend,
            commit_offset: 0,
            suspend_timeout_millis: hold
                .map_or(0, |h| i64::try_from(h.as_millis()).unwrap_or(i64::MAX)),
            subscription: Some(subscription.expression.as_str().into()),
            sub_version: subscription.version,
            expression_type: Some("TAG".into()),
            ..PullMessageRequestHeader::default()
        };
        let mut result = self
            .instance
            .pull(addr, &queue.broker_name, &header)
            .await?;
        result.messages.retain(|m| subscription.matches(m.tags()));
        if result.suggested_broker_id != broker_id {
            self.suggested
                .lock()
                .insert(queue.clone(), result.suggested_broker_id);
        }
        Ok(result)
    }

    /// The group's committed offset; None when it never committed one.
    pub async fn committed_offset(&self, queue: &MessageQueue) -> Result<Option<i64>, ClientError> {
        self.instance
            .committed_offset(&self.instance.queue_addr(queue).await?, &self.group, queue)
            .await
    }

    /// Commits the offset of the next message to consume, and waits until the broker has it.
    pub async fn commit_offset(
        &self,
        queue: &MessageQueue,
        offset: i64,
    ) -> Result<(), ClientError> {
        self.instance
            .commit_offset(
                &self.instance.queue_addr(queue).await?,
                &self.group,
                queue,
                offset,
            )
            .await
    }

    /// The offset of the oldest message.
    pub async fn min_offset(&self, queue: &MessageQueue) -> Result<i64, ClientError> {
        self.instance
            .min_offset(&self.instance.queue_addr(queue).await?, queue)
            .await
    }

    /// The offset the next message will get.
    pub async fn max_offset(&self, queue: &MessageQueue) -> Result<i64, ClientError> {
        self.instance
            .max_offset(&self.instance.queue_addr(queue).await?, queue)
            .await
    }

    /// The offset of the first message stored at `timestamp_ms` or later.
    pub async fn search_offset(
        &self,
        queue: &MessageQueue,
        timestamp_ms: i64,
    ) -> Result<i64, ClientError> {
        self.instance
            .search_offset(&self.instance.queue_addr(queue).await?, queue, timestamp_ms)
            .await
    }

    /// Leaves the group and closes the connections.
    pub async fn shutdown(&self) {
        self.instance
            .edit_heartbeat(|h| h.consumer_data_set.clear());
        for addr in self.instance.broker_addrs(false) {
            if let Err(e) = self.instance.unregister_consumer(&addr, &self.group).await {
                tracing::debug!(addr, error = %e, "not unregistered");
            }
        }
        self.instance.remoting.close();
    }

    /// The subscription of an expression; a new one is told to the brokers with the next heartbeat.
    fn subscription(&self, topic: &str, expression: &str) -> Result<Subscription, ClientError> {
        let mut known = self.subscriptions.lock();
        let key = (topic.to_owned(), expression.to_owned());
        if let Some(subscription) = known.get(&key) {
            return Ok(subscription.clone());
        }
        let subscription = Subscription::new(topic, expression)?;
        // A consumer that pulls with ever new expressions shows the last one of each topic.
        known.retain(|(t, _), _| t != topic);
        known.insert(key, subscription.clone());
        let data = ConsumerData {
            consume_type: ConsumeType::Actively,
            group_name: self.group.clone(),
            subscription_data_set: known.values().map(Subscription::data).collect(),
            ..ConsumerData::default()
        };
        self.instance
            .edit_heartbeat(|h| h.consumer_data_set = vec![data]);
        Ok(subscription)
    }
}
