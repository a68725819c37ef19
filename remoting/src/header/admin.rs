//! Message lookup, topics, groups, users and permissions.

use crate::headers;

headers! {
    /// QUERY_MESSAGE (12); see also [`super::extra::UNIQUE_KEY_QUERY`].
    pub struct QueryMessageRequestHeader {
        topic: String = "topic" required,
        key: String = "key" required,
        max_num: i32 = "maxNum" required,
        begin_timestamp: i64 = "beginTimestamp" required,
        end_timestamp: i64 = "endTimestamp" required,
    }

    pub struct QueryMessageResponseHeader {
        index_last_update_timestamp: i64 = "indexLastUpdateTimestamp" required,
        index_last_update_phyoffset: i64 = "indexLastUpdatePhyoffset" required,
    }

    /// VIEW_MESSAGE_BY_ID (33).
    pub struct ViewMessageRequestHeader {
        topic: Option<String> = "topic",
        /// Physical offset.
        offset: i64 = "offset" required,
    }

    /// UPDATE_AND_CREATE_TOPIC (17).
    pub struct CreateTopicRequestHeader {
        topic: String = "topic" required,
        default_topic: String = "defaultTopic" required,
        read_queue_nums: i32 = "readQueueNums" required,
        write_queue_nums: i32 = "writeQueueNums" required,
        perm: i32 = "perm" required,
        /// SINGLE_TAG or MULTI_TAG.
        topic_filter_type: String = "topicFilterType" required,
        topic_sys_flag: Option<i32> = "topicSysFlag",
        order: bool = "order" required,
        /// `+key=value` and `-key`, comma separated.
        attributes: Option<String> = "attributes",
        force: Option<bool> = "force",
    }

    /// DELETE_TOPIC_IN_BROKER (215).
    pub struct DeleteTopicRequestHeader {
        topic: String = "topic" required,
    }

    /// GET_ALL_TOPIC_CONFIG (21). All absent: everything is wanted at once.
    pub struct GetAllTopicConfigRequestHeader {
        topic_seq: Option<i32> = "topicSeq",
        data_version: Option<String> = "dataVersion",
        max_topic_num: Option<i32> = "maxTopicNum",
    }

    /// Only set when the answer is one page of several.
    pub struct GetAllTopicConfigResponseHeader {
        total_topic_num: Option<i32> = "totalTopicNum",
    }

    /// GET_TOPIC_CONFIG (351).
    pub struct GetTopicConfigRequestHeader {
        topic: String = "topic" required,
    }

    /// GET_BROKER_CONFIG (26).
    pub struct GetBrokerConfigResponseHeader {
        /// DataVersion as JSON.
        version: String = "version" required,
    }

    /// GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201). All absent: everything is wanted at once.
    pub struct GetAllSubscriptionGroupRequestHeader {
        group_seq: Option<i32> = "groupSeq",
        data_version: Option<String> = "dataVersion",
        max_group_num: Option<i32> = "maxGroupNum",
    }

    /// Only set when the answer is one page of several.
    pub struct GetAllSubscriptionGroupResponseHeader {
        total_group_num: Option<i32> = "totalGroupNum",
    }

    /// GET_SUBSCRIPTIONGROUP_CONFIG (352).
    pub struct GetSubscriptionGroupConfigRequestHeader {
        group: String = "group" required,
    }

    /// DELETE_SUBSCRIPTIONGROUP (207).
    pub struct DeleteSubscriptionGroupRequestHeader {
        group_name: String = "groupName" required,
        clean_offset: bool = "cleanOffset",
    }

    /// UPDATE_AND_GET_GROUP_FORBIDDEN (353).
    pub struct UpdateGroupForbiddenRequestHeader {
        group: String = "group" required,
        topic: String = "topic" required,
        readable: Option<bool> = "readable",
    }

    /// VIEW_BROKER_STATS_DATA (315).
    pub struct ViewBrokerStatsDataRequestHeader {
        stats_name: String = "statsName" required,
        stats_key: String = "statsKey" required,
    }

    /// QUERY_CONSUME_QUEUE (321).
    pub struct QueryConsumeQueueRequestHeader {
        topic: Option<String> = "topic",
        queue_id: i32 = "queueId",
        index: i64 = "index",
        count: i32 = "count",
        consumer_group: Option<String> = "consumerGroup",
    }

    /// AUTH_CREATE_USER, AUTH_UPDATE_USER, AUTH_DELETE_USER, AUTH_GET_USER (3001-3004).
    pub struct UserRequestHeader {
        username: Option<String> = "username",
    }

    /// AUTH_LIST_USER (3005).
    pub struct ListUsersRequestHeader {
        filter: Option<String> = "filter",
    }

    /// AUTH_CREATE_ACL, AUTH_UPDATE_ACL, AUTH_DELETE_ACL, AUTH_GET_ACL (3006-3009); only a deletion sets the last two.
    pub struct AclRequestHeader {
        subject: Option<String> = "subject",
        policy_type: Option<String> = "policyType",
        resource: Option<String> = "resource",
    }

    /// AUTH_LIST_ACL (3010).
    pub struct ListAclsRequestHeader {
        subject_filter: Option<String> = "subjectFilter",
        resource_filter: Option<String> = "resourceFilter",
    }
}
