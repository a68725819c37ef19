//! Consumer groups: configuration, offsets, who is connected.

use raftmq_remoting::body::{
    ConsumeStats, ConsumerConnection, MessageQueue, SubscriptionGroupConfig,
};
use raftmq_remoting::header::{
    DeleteSubscriptionGroupRequestHeader, GetConsumeStatsRequestHeader,
    GetConsumerConnectionListRequestHeader,
};
use raftmq_remoting::{RemotingCommand, json, request_code};

use super::Admin;
use crate::error::ClientError;

impl Admin {
    /// Creates or changes a consumer group on every master of a cluster.
    pub async fn create_group(
        &self,
        cluster: &str,
        config: &SubscriptionGroupConfig,
    ) -> Result<(), ClientError> {
        for (_, addr) in self.some_masters(cluster).await? {
            self.create_group_at(&addr, config).await?;
        }
        Ok(())
    }

    /// Creates or changes a consumer group at one broker.
    pub async fn create_group_at(
        &self,
        addr: &str,
        config: &SubscriptionGroupConfig,
    ) -> Result<(), ClientError> {
        let cmd = RemotingCommand::request(request_code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP);
        self.call(addr, cmd.with_body(json::to_bytes(config)))
            .await
            .map(drop)
    }

    /// Deletes a consumer group on every master of a cluster, and with `clean_offset` its offsets.
    pub async fn delete_group(
        &self,
        cluster: &str,
        group: &str,
        clean_offset: bool,
    ) -> Result<(), ClientError> {
        let header = DeleteSubscriptionGroupRequestHeader {
            group_name: group.to_owned(),
            clean_offset,
        };
        for (_, addr) in self.some_masters(cluster).await? {
            let cmd =
                RemotingCommand::request_with(request_code::DELETE_SUBSCRIPTIONGROUP, &header);
            self.call(&addr, cmd).await?;
        }
        Ok(())
    }

    /// A group's committed offset; None when it never committed one.
    pub async fn consumer_offset(
        &self,
        group: &str,
        queue: &MessageQueue,
    ) -> Result<Option<i64>, ClientError> {
        self.instance
            .committed_offset(&self.queue_addr(queue).await?, group, queue)
            .await
    }

    /// Sets a group's committed offset and waits until the broker has it.
    pub async fn put_consumer_offset(
        &self,
        group: &str,
        queue: &MessageQueue,
        offset: i64,
    ) -> Result<(), ClientError> {
        self.instance
            .commit_offset(&self.queue_addr(queue).await?, group, queue, offset)
            .await
    }

    /// The offset of the oldest message.
    pub async fn min_offset(&self, queue: &MessageQueue) -> Result<i64, ClientError> {
        self.instance
            .min_offset(&self.queue_addr(queue).await?, queue)
            .await
    }

    /// The offset the next message will get.
    pub async fn max_offset(&self, queue: &MessageQueue) -> Result<i64, ClientError> {
        self.instance
            .max_offset(&self.queue_addr(queue).await?, queue)
            .await
    }

    /// The offset of the first message stored at `timestamp_ms` or later.
    pub async fn search_offset(
        &self,
        queue: &MessageQueue,
        timestamp_ms: i64,
    ) -> Result<i64, ClientError> {
        self.instance
            .search_offset(&self.queue_addr(queue).await?, queue, timestamp_ms)
            .await
    }

    /// How far a group is at one broker, for one topic or for all.
    pub async fn consume_stats_at(
        &self,
        addr: &str,
        group: &str,
        topic: Option<&str>,
    ) -> Result<ConsumeStats, ClientError> {
        let header = GetConsumeStatsRequestHeader {
            consumer_group: group.to_owned(),
            topic: topic.map(str::to_owned),
            topic_list: None,
        };
        let answer = self
            .call(
                addr,
                RemotingCommand::request_with(request_code::GET_CONSUME_STATS, &header),
            )
            .await?;
        json::from_slice(&answer.body.to_bytes()).map_err(ClientError::json(addr))
    }

    /// The members of a group that one broker knows.
    pub async fn consumer_connection_at(
        &self,
        addr: &str,
        group: &str,
    ) -> Result<ConsumerConnection, ClientError> {
        let header = GetConsumerConnectionListRequestHeader {
            consumer_group: group.to_owned(),
        };
        let cmd =
            RemotingCommand::request_with(request_code::GET_CONSUMER_CONNECTION_LIST, &header);
        let answer = self.call(addr, cmd).await?;
        json::from_slice(&answer.body.to_bytes()).map_err(ClientError::json(addr))
    }

    /// The queue's broker as a name server has it now: an administrator must not act on an old route.
    async fn queue_addr(&self, queue: &MessageQueue) -> Result<String, ClientError> {
        self.instance.refresh_route(&queue.topic).await?;
        self.instance.queue_addr(queue).await
    }
}
