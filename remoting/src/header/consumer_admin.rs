//! Looking at and steering consumers: statistics, connections, offset resets, relays to clients.

use crate::headers;

headers! {
    /// GET_TOPIC_STATS_INFO (202).
    pub struct GetTopicStatsInfoRequestHeader {
        topic: String = "topic" required,
    }

    /// GET_CONSUME_STATS (208).
    pub struct GetConsumeStatsRequestHeader {
        consumer_group: String = "consumerGroup" required,
        topic: Option<String> = "topic",
        /// Joined with `;`.
        topic_list: Option<String> = "topicList",
    }

    /// GET_BROKER_CONSUME_STATS (317).
    pub struct GetBrokerConsumeStatsRequestHeader {
        is_order: bool = "isOrder" required,
    }

    /// GET_CONSUMER_CONNECTION_LIST (203).
    pub struct GetConsumerConnectionListRequestHeader {
        consumer_group: String = "consumerGroup" required,
    }

    /// GET_PRODUCER_CONNECTION_LIST (204).
    pub struct GetProducerConnectionListRequestHeader {
        producer_group: String = "producerGroup" required,
    }

    /// QUERY_TOPIC_CONSUME_BY_WHO (300).
    pub struct QueryTopicConsumeByWhoRequestHeader {
        topic: String = "topic" required,
    }

    /// QUERY_TOPICS_BY_CONSUMER (343).
    pub struct QueryTopicsByConsumerRequestHeader {
        group: String = "group" required,
    }

    /// QUERY_SUBSCRIPTION_BY_CONSUMER (345).
    pub struct QuerySubscriptionByConsumerRequestHeader {
        group: String = "group" required,
        topic: Option<String> = "topic",
    }

    /// QUERY_CONSUME_TIME_SPAN (303).
    pub struct QueryConsumeTimeSpanRequestHeader {
        topic: String = "topic" required,
        group: String = "group" required,
    }

    /// QUERY_CORRECTION_OFFSET (308).
    pub struct QueryCorrectionOffsetRequestHeader {
        filter_groups: Option<String> = "filterGroups",
        compare_group: String = "compareGroup" required,
        topic: String = "topic" required,
    }

    /// INVOKE_BROKER_TO_RESET_OFFSET (222) and RESET_CONSUMER_CLIENT_OFFSET (220, from the broker).
    pub struct ResetOffsetRequestHeader {
        group: String = "group" required,
        topic: String = "topic" required,
        /// -1 or absent: all queues.
        queue_id: Option<i32> = "queueId",
        offset: Option<i64> = "offset",
        /// Milliseconds; -1: the maximum offset.
        timestamp: i64 = "timestamp" required,
        is_force: bool = "isForce" required,
    }

    /// INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223) and GET_CONSUMER_STATUS_FROM_CLIENT (221, from the broker).
    pub struct GetConsumerStatusRequestHeader {
        topic: String = "topic" required,
        group: String = "group" required,
        client_addr: Option<String> = "clientAddr",
    }

    /// GET_CONSUMER_RUNNING_INFO (307), relayed.
    pub struct GetConsumerRunningInfoRequestHeader {
        consumer_group: String = "consumerGroup" required,
        client_id: String = "clientId" required,
        jstack_enable: bool = "jstackEnable",
    }

    /// CONSUME_MESSAGE_DIRECTLY (309), relayed; the broker adds the last three.
    pub struct ConsumeMessageDirectlyResultRequestHeader {
        consumer_group: String = "consumerGroup" required,
        client_id: Option<String> = "clientId",
        msg_id: Option<String> = "msgId",
        broker_name: Option<String> = "brokerName",
        topic: Option<String> = "topic",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        group_sys_flag: Option<i32> = "groupSysFlag",
    }

    /// CLONE_GROUP_OFFSET (314).
    pub struct CloneGroupOffsetRequestHeader {
        src_group: String = "srcGroup" required,
        dest_group: String = "destGroup" required,
        topic: Option<String> = "topic",
        offline: bool = "offline",
    }
}
