//! Topics: creation, deletion, routes, statistics.

use raftmq_remoting::body::{TopicConfig, TopicList, TopicRouteData, TopicStatsTable};
use raftmq_remoting::header::{
    CreateTopicRequestHeader, DeleteTopicFromNamesrvRequestHeader, DeleteTopicRequestHeader,
    GetTopicStatsInfoRequestHeader, GetTopicsByClusterRequestHeader,
};
use raftmq_remoting::validate::AUTO_CREATE_TOPIC;
use raftmq_remoting::{RemotingCommand, json, request_code};

use super::Admin;
use crate::error::ClientError;

impl Admin {
    /// Creates or changes a topic on every master of a cluster. The first failure ends it: masters before it have the
    /// topic, and doing it again is safe.
    pub async fn create_topic(
        &self,
        cluster: &str,
        config: &TopicConfig,
    ) -> Result<(), ClientError> {
        for (_, addr) in self.some_masters(cluster).await? {
            self.create_topic_at(&addr, config).await?;
        }
        Ok(())
    }

    /// Creates or changes a topic at one broker.
    pub async fn create_topic_at(
        &self,
        addr: &str,
        config: &TopicConfig,
    ) -> Result<(), ClientError> {
        let attributes: Vec<_> = config
            .attributes
            .iter()
            .map(|(k, v)| format!("+{}={v}", k.trim_start_matches('+')))
            .collect();
        let header = CreateTopicRequestHeader {
            topic: config.topic_name.clone(),
            default_topic: AUTO_CREATE_TOPIC.to_owned(),
            read_queue_nums: config.read_queue_nums,
            write_queue_nums: config.write_queue_nums,
            perm: config.perm,
            topic_filter_type: config.topic_filter_type.name().to_owned(),
            topic_sys_flag: Some(config.topic_sys_flag),
            order: config.order,
            attributes: (!attributes.is_empty()).then(|| attributes.join(",")),
            force: None,
        };
        self.call(
            addr,
            RemotingCommand::request_with(request_code::UPDATE_AND_CREATE_TOPIC, &header),
        )
        .await
        .map(drop)
    }

    /// Deletes a topic on every master of a cluster and at every name server.
    pub async fn delete_topic(&self, cluster: &str, topic: &str) -> Result<(), ClientError> {
        let header = DeleteTopicRequestHeader {
            topic: topic.to_owned(),
        };
        for (_, addr) in self.some_masters(cluster).await? {
            let cmd = RemotingCommand::request_with(request_code::DELETE_TOPIC_IN_BROKER, &header);
            self.call(&addr, cmd).await?;
        }
        let header = DeleteTopicFromNamesrvRequestHeader {
            topic: topic.to_owned(),
            cluster_name: Some(cluster.to_owned()),
        };
        for addr in self.instance.names.all() {
            let cmd = RemotingCommand::request_with(request_code::DELETE_TOPIC_IN_NAMESRV, &header);
            self.call(addr, cmd).await?;
        }
        Ok(())
    }

    /// The route of a topic as a name server has it now.
    ///
    /// # Errors
    /// [`ClientError::NoRoute`] for an unknown topic.
    pub async fn topic_route(&self, topic: &str) -> Result<TopicRouteData, ClientError> {
        let instance = &self.instance;
        instance
            .names
            .route(&instance.remoting, topic, instance.config.request_timeout)
            .await
    }

    /// All topics a name server knows.
    pub async fn topic_list(&self) -> Result<Vec<String>, ClientError> {
        self.list(RemotingCommand::request(
            request_code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER,
        ))
        .await
    }

    /// The topics of a cluster.
    pub async fn topics_of_cluster(&self, cluster: &str) -> Result<Vec<String>, ClientError> {
        let header = GetTopicsByClusterRequestHeader {
            cluster: cluster.to_owned(),
        };
        self.list(RemotingCommand::request_with(
            request_code::GET_TOPICS_BY_CLUSTER,
            &header,
        ))
        .await
    }

    /// Offsets of a topic's queues at one broker.
    pub async fn topic_stats_at(
        &self,
        addr: &str,
        topic: &str,
    ) -> Result<TopicStatsTable, ClientError> {
        let header = GetTopicStatsInfoRequestHeader {
            topic: topic.to_owned(),
        };
        let cmd = RemotingCommand::request_with(request_code::GET_TOPIC_STATS_INFO, &header);
        let answer = self.call(addr, cmd).await?;
        json::from_slice(&answer.body.to_bytes()).map_err(ClientError::json(addr))
    }

    /// Offsets of all queues of a topic, from the master of each set.
    pub async fn topic_stats(&self, topic: &str) -> Result<TopicStatsTable, ClientError> {
        let mut all = TopicStatsTable::default();
        for broker in self.topic_route(topic).await?.broker_datas {
            let Some(addr) = broker.broker_addrs.get(&0) else {
                continue;
            };
            let stats = self.topic_stats_at(addr, topic).await?;
            all.topic_put_tps += stats.topic_put_tps;
            all.offset_table.0.extend(stats.offset_table.0);
        }
        Ok(all)
    }

    async fn list(&self, cmd: RemotingCommand) -> Result<Vec<String>, ClientError> {
        let instance = &self.instance;
        let (addr, answer) = instance
            .names
            .call(&instance.remoting, &cmd, instance.config.request_timeout)
            .await?;
        let list: TopicList =
            json::from_slice(&answer.body.to_bytes()).map_err(ClientError::json(&addr))?;
        Ok(list.topic_list.into_iter().collect())
    }
}
