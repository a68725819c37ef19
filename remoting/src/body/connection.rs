//! Who is connected: producers, consumers, and what a consumer says about itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ConsumeFromWhere, ConsumeType, MessageModel, MessageQueueMap, SubscriptionData, named, shapes,
};

named! {
    /// Outcome of CONSUME_MESSAGE_DIRECTLY (309).
    pub enum ConsumeResult {
        Success = "CR_SUCCESS",
        Later = "CR_LATER",
        Rollback = "CR_ROLLBACK",
        Commit = "CR_COMMIT",
        ThrowException = "CR_THROW_EXCEPTION",
        #[default]
        ReturnNull = "CR_RETURN_NULL",
    }
}

shapes! {
    #[derive(Default, Eq, Hash, PartialOrd, Ord)]
    pub struct Connection {
        client_addr: String,
        client_id: String,
        /// Name of a [`crate::LanguageCode`].
        language: String,
        version: i32,
    }

    /// Answer to GET_CONSUMER_CONNECTION_LIST (203).
    #[derive(Default)]
    pub struct ConsumerConnection {
        connection_set: Vec<Connection>,
        consume_from_where: ConsumeFromWhere,
        consume_type: ConsumeType,
        message_model: MessageModel,
        subscription_table: BTreeMap<String, SubscriptionData>,
    }

    /// Answer to GET_PRODUCER_CONNECTION_LIST (204).
    #[derive(Default)]
    pub struct ProducerConnection {
        connection_set: Vec<Connection>,
    }

    /// Answer to GET_ALL_PRODUCER_INFO (328).
    #[derive(Default)]
    pub struct ProducerTableInfo {
        data: BTreeMap<String, Vec<ProducerInfo>>,
    }

    #[derive(Default)]
    pub struct ProducerInfo {
        client_id: String,
        language: String,
        last_update_timestamp: i64,
        #[serde(rename = "remoteIP")]
        remote_ip: String,
        version: i32,
    }

    /// Answer to GET_CONSUMER_RUNNING_INFO (307); normally relayed without being read.
    #[derive(Default)]
    pub struct ConsumerRunningInfo {
        #[serde(skip_serializing_if = "Option::is_none")]
        jstack: Option<String>,
        mq_pop_table: MessageQueueMap<serde_json::Value>,
        mq_table: MessageQueueMap<serde_json::Value>,
        properties: BTreeMap<String, String>,
        status_table: BTreeMap<String, serde_json::Value>,
        subscription_set: Vec<SubscriptionData>,
        user_consumer_info: BTreeMap<String, String>,
    }

    /// Answer to CONSUME_MESSAGE_DIRECTLY (309).
    #[derive(Default)]
    pub struct ConsumeMessageDirectlyResult {
        auto_commit: bool,
        consume_result: ConsumeResult,
        order: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        remark: Option<String>,
        spent_time_mills: i64,
    }

    /// Answer to QUERY_SUBSCRIPTION_BY_CONSUMER (345).
    #[derive(Default)]
    pub struct QuerySubscriptionResponseBody {
        group: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        subscription_data: Option<SubscriptionData>,
        topic: String,
    }

    /// Answer to GET_CONSUMER_LIST_BY_GROUP (38).
    #[derive(Default)]
    pub struct GetConsumerListByGroupResponseBody {
        consumer_id_list: Vec<String>,
    }

    /// Answer to QUERY_TOPIC_CONSUME_BY_WHO (300).
    #[derive(Default)]
    pub struct GroupList {
        group_list: BTreeSet<String>,
    }
}
