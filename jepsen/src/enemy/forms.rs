//! What a right request looks like: for every code of broker and name server its fields and its body. A code that has no row
//! of its own is asked with fields that many requests have.

use raftmq_remoting::codes::request as code;

/// What a field holds, and so what would be right in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Topic,
    Group,
    Client,
    Queue,
    /// Of a queue, entries.
    Offset,
    /// In the log, bytes; learned from answers.
    Position,
    Count,
    Flag,
    /// Of a message.
    SysFlag,
    /// Of a pull.
    PullFlag,
    /// Milliseconds since the epoch.
    Time,
    /// Milliseconds.
    Wait,
    Bool,
    Text,
    /// A message's properties, encoded.
    Properties,
    /// A key or unique id.
    Key,
    Level,
    Perm,
    FilterType,
    /// A subscription's expression.
    Expression,
    ExpressionType,
    Attributes,
    Verdict,
    Replica,
    Address,
    Broker,
    Cluster,
    /// Taken from an answer to a send.
    Handle,
    Version,
    Boundary,
}

/// What the body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Nothing,
    Message,
    Batch,
    Heartbeat,
    Lock,
    CheckClient,
    TopicList,
    Group,
    GroupList,
    Settings,
    Registration,
    DataVersion,
    /// Of a message, stored.
    Json,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub code: i32,
    /// How often it is sent, against the others.
    pub weight: u32,
    pub fields: &'static [(&'static str, Kind)],
    pub content: Content,
}

const fn form(
    code: i32,
    weight: u32,
    fields: &'static [(&'static str, Kind)],
    content: Content,
) -> Form {
    Form {
        code,
        weight,
        fields,
        content,
    }
}

use Content::{
    Batch, CheckClient, DataVersion, GroupList, Heartbeat, Json, Lock, Message, Nothing,
    Registration, Settings, TopicList,
};
use Kind::{
    Address, Attributes, Bool, Boundary, Broker, Client, Cluster, Count, Expression,
    ExpressionType, FilterType, Flag, Group, Handle, Key, Level, Offset, Perm, Position,
    Properties, PullFlag, Queue, Replica, SysFlag, Text, Time, Topic, Verdict, Version, Wait,
};

const SEND: &[(&str, Kind)] = &[
    ("producerGroup", Group),
    ("topic", Topic),
    ("defaultTopic", Topic),
    ("defaultTopicQueueNums", Count),
    ("queueId", Queue),
    ("sysFlag", SysFlag),
    ("bornTimestamp", Time),
    ("flag", Flag),
    ("properties", Properties),
    ("reconsumeTimes", Count),
    ("unitMode", Bool),
    ("maxReconsumeTimes", Count),
];
const LETTERS: &[(&str, Kind)] = &[
    ("a", Group),
    ("b", Topic),
    ("c", Topic),
    ("d", Count),
    ("e", Queue),
    ("f", SysFlag),
    ("g", Time),
    ("h", Flag),
    ("i", Properties),
    ("j", Count),
    ("k", Bool),
    ("l", Count),
    ("n", Broker),
];
const BATCH: &[(&str, Kind)] = &[
    ("a", Group),
    ("b", Topic),
    ("c", Topic),
    ("d", Count),
    ("e", Queue),
    ("f", SysFlag),
    ("g", Time),
    ("h", Flag),
    ("i", Properties),
    ("j", Count),
    ("m", Bool),
];
const PULLS: &[(&str, Kind)] = &[
    ("consumerGroup", Group),
    ("topic", Topic),
    ("queueId", Queue),
    ("queueOffset", Offset),
    ("maxMsgNums", Count),
    ("sysFlag", PullFlag),
    ("commitOffset", Offset),
    ("suspendTimeoutMillis", Wait),
    ("subscription", Expression),
    ("subVersion", Version),
    ("expressionType", ExpressionType),
    ("maxMsgBytes", Count),
    ("proxyFrowardClientId", Client),
];
const QUEUE: &[(&str, Kind)] = &[("topic", Topic), ("queueId", Queue)];
const BROKER: &[(&str, Kind)] = &[
    ("brokerName", Broker),
    ("brokerAddr", Address),
    ("clusterName", Cluster),
    ("haServerAddr", Address),
    ("brokerId", Offset),
    ("heartbeatTimeoutMillis", Wait),
    ("enableActingMaster", Bool),
    ("compressed", Bool),
    ("bodyCrc32", Flag),
    ("epoch", Flag),
    ("maxOffset", Offset),
];
const KV: &[(&str, Kind)] = &[("namespace", Text), ("key", Key), ("value", Text)];

/// Every request the broker has a handler for, and some of those it must refuse.
pub const BROKER_FORMS: &[Form] = &[
    form(code::SEND_MESSAGE, 30, SEND, Message),
    form(code::SEND_MESSAGE_V2, 60, LETTERS, Message),
    form(code::SEND_BATCH_MESSAGE, 20, BATCH, Batch),
    form(code::SEND_REPLY_MESSAGE, 3, SEND, Message),
    form(code::SEND_REPLY_MESSAGE_V2, 3, LETTERS, Message),
    form(code::PULL_MESSAGE, 30, PULLS, Nothing),
    form(code::LITE_PULL_MESSAGE, 8, PULLS, Nothing),
    form(
        code::QUERY_MESSAGE,
        5,
        &[
            ("topic", Topic),
            ("key", Key),
            ("maxNum", Count),
            ("beginTimestamp", Time),
            ("endTimestamp", Time),
            ("_UNIQUE_KEY_QUERY", Bool),
        ],
        Nothing,
    ),
    form(
        code::QUERY_CONSUMER_OFFSET,
        5,
        &[
            ("consumerGroup", Group),
            ("topic", Topic),
            ("queueId", Queue),
            ("setZeroIfNotFound", Bool),
        ],
        Nothing,
    ),
    form(
        code::UPDATE_CONSUMER_OFFSET,
        15,
        &[
            ("consumerGroup", Group),
            ("topic", Topic),
            ("queueId", Queue),
            ("commitOffset", Offset),
        ],
        Nothing,
    ),
    form(
        code::UPDATE_AND_CREATE_TOPIC,
        6,
        &[
            ("topic", Topic),
            ("defaultTopic", Topic),
            ("readQueueNums", Queue),
            ("writeQueueNums", Queue),
            ("perm", Perm),
            ("topicFilterType", FilterType),
            ("topicSysFlag", Flag),
            ("order", Bool),
            ("attributes", Attributes),
            ("force", Bool),
        ],
        Nothing,
    ),
    form(code::UPDATE_AND_CREATE_TOPIC_LIST, 3, &[], TopicList),
    form(
        code::GET_ALL_TOPIC_CONFIG,
        1,
        &[
            ("topicSeq", Count),
            ("dataVersion", Text),
            ("maxTopicNum", Count),
        ],
        Nothing,
    ),
    form(code::UPDATE_BROKER_CONFIG, 3, &[], Settings),
    form(code::GET_BROKER_CONFIG, 1, &[], Nothing),
    form(code::GET_BROKER_RUNTIME_INFO, 1, &[], Nothing),
    form(
        code::SEARCH_OFFSET_BY_TIMESTAMP,
        5,
        &[
            ("topic", Topic),
            ("queueId", Queue),
            ("timestamp", Time),
            ("boundaryType", Boundary),
        ],
        Nothing,
    ),
    form(
        code::GET_MAX_OFFSET,
        4,
        &[("topic", Topic), ("queueId", Queue), ("committed", Bool)],
        Nothing,
    ),
    form(code::GET_MIN_OFFSET, 4, QUEUE, Nothing),
    form(code::GET_EARLIEST_MSG_STORETIME, 3, QUEUE, Nothing),
    form(
        code::VIEW_MESSAGE_BY_ID,
        5,
        &[("topic", Topic), ("offset", Position)],
        Nothing,
    ),
    form(code::HEART_BEAT, 12, &[], Heartbeat),
    form(
        code::UNREGISTER_CLIENT,
        4,
        &[
            ("clientID", Client),
            ("producerGroup", Group),
            ("consumerGroup", Group),
        ],
        Nothing,
    ),
    form(
        code::CONSUMER_SEND_MSG_BACK,
        15,
        &[
            ("offset", Position),
            ("group", Group),
            ("delayLevel", Level),
            ("originMsgId", Key),
            ("originTopic", Topic),
            ("unitMode", Bool),
            ("maxReconsumeTimes", Count),
        ],
        Nothing,
    ),
    form(
        code::END_TRANSACTION,
        15,
        &[
            ("topic", Topic),
            ("producerGroup", Group),
            ("tranStateTableOffset", Offset),
            ("commitLogOffset", Position),
            ("commitOrRollback", Verdict),
            ("fromTransactionCheck", Bool),
            ("msgId", Key),
            ("transactionId", Key),
        ],
        Nothing,
    ),
    form(
        code::GET_CONSUMER_LIST_BY_GROUP,
        2,
        &[("consumerGroup", Group)],
        Nothing,
    ),
    form(code::LOCK_BATCH_MQ, 6, &[], Lock),
    form(code::UNLOCK_BATCH_MQ, 5, &[], Lock),
    form(code::GET_ALL_CONSUMER_OFFSET, 1, &[], Nothing),
    form(code::CHECK_CLIENT_CONFIG, 4, &[], CheckClient),
    form(
        code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP,
        5,
        &[],
        Content::Group,
    ),
    form(
        code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST,
        3,
        &[],
        GroupList,
    ),
    form(
        code::GET_ALL_SUBSCRIPTIONGROUP_CONFIG,
        1,
        &[("groupSeq", Count), ("maxGroupNum", Count)],
        Nothing,
    ),
    form(code::GET_TOPIC_STATS_INFO, 2, &[("topic", Topic)], Nothing),
    form(
        code::GET_CONSUMER_CONNECTION_LIST,
        2,
        &[("consumerGroup", Group)],
        Nothing,
    ),
    form(
        code::GET_PRODUCER_CONNECTION_LIST,
        2,
        &[("producerGroup", Group)],
        Nothing,
    ),
    form(
        code::DELETE_SUBSCRIPTIONGROUP,
        2,
        &[("groupName", Group), ("cleanOffset", Bool)],
        Nothing,
    ),
    form(
        code::GET_CONSUME_STATS,
        2,
        &[
            ("consumerGroup", Group),
            ("topic", Topic),
            ("topicList", Text),
        ],
        Nothing,
    ),
    form(
        code::DELETE_TOPIC_IN_BROKER,
        2,
        &[("topic", Topic)],
        Nothing,
    ),
    form(
        code::INVOKE_BROKER_TO_RESET_OFFSET,
        6,
        &[
            ("group", Group),
            ("topic", Topic),
            ("queueId", Queue),
            ("offset", Offset),
            ("timestamp", Time),
            ("isForce", Bool),
        ],
        Nothing,
    ),
    form(
        code::INVOKE_BROKER_TO_GET_CONSUMER_STATUS,
        2,
        &[("topic", Topic), ("group", Group), ("clientAddr", Client)],
        Nothing,
    ),
    form(
        code::QUERY_TOPIC_CONSUME_BY_WHO,
        2,
        &[("topic", Topic)],
        Nothing,
    ),
    form(
        code::QUERY_CONSUME_TIME_SPAN,
        2,
        &[("topic", Topic), ("group", Group)],
        Nothing,
    ),
    form(code::GET_SYSTEM_TOPIC_LIST_FROM_BROKER, 1, &[], Nothing),
    form(code::CLEAN_EXPIRED_CONSUMEQUEUE, 1, &[], Nothing),
    form(
        code::GET_CONSUMER_RUNNING_INFO,
        2,
        &[
            ("consumerGroup", Group),
            ("clientId", Client),
            ("jstackEnable", Bool),
        ],
        Nothing,
    ),
    form(
        code::QUERY_CORRECTION_OFFSET,
        2,
        &[
            ("filterGroups", Text),
            ("compareGroup", Group),
            ("topic", Topic),
        ],
        Nothing,
    ),
    form(
        code::CONSUME_MESSAGE_DIRECTLY,
        2,
        &[
            ("consumerGroup", Group),
            ("clientId", Client),
            ("msgId", Key),
            ("brokerName", Broker),
            ("topic", Topic),
        ],
        Nothing,
    ),
    form(
        code::CLONE_GROUP_OFFSET,
        6,
        &[
            ("srcGroup", Group),
            ("destGroup", Group),
            ("topic", Topic),
            ("offline", Bool),
        ],
        Nothing,
    ),
    form(
        code::VIEW_BROKER_STATS_DATA,
        2,
        &[("statsName", Text), ("statsKey", Text)],
        Nothing,
    ),
    form(code::CLEAN_UNUSED_TOPIC, 1, &[], Nothing),
    form(
        code::GET_BROKER_CONSUME_STATS,
        1,
        &[("isOrder", Bool)],
        Nothing,
    ),
    form(
        code::QUERY_CONSUME_QUEUE,
        4,
        &[
            ("topic", Topic),
            ("queueId", Queue),
            ("index", Offset),
            ("count", Count),
            ("consumerGroup", Group),
        ],
        Nothing,
    ),
    form(
        code::RESUME_CHECK_HALF_MESSAGE,
        3,
        &[("topic", Topic), ("msgId", Key)],
        Nothing,
    ),
    form(code::GET_ALL_PRODUCER_INFO, 1, &[], Nothing),
    form(code::DELETE_EXPIRED_COMMITLOG, 1, &[], Nothing),
    form(
        code::QUERY_TOPICS_BY_CONSUMER,
        2,
        &[("group", Group)],
        Nothing,
    ),
    form(
        code::QUERY_SUBSCRIPTION_BY_CONSUMER,
        2,
        &[("group", Group), ("topic", Topic)],
        Nothing,
    ),
    form(code::GET_TOPIC_CONFIG, 2, &[("topic", Topic)], Nothing),
    form(
        code::GET_SUBSCRIPTIONGROUP_CONFIG,
        2,
        &[("group", Group)],
        Nothing,
    ),
    form(
        code::RECALL_MESSAGE,
        8,
        &[
            ("producerGroup", Group),
            ("topic", Topic),
            ("recallHandle", Handle),
        ],
        Nothing,
    ),
    form(code::GET_BROKER_HA_STATUS, 1, &[], Nothing),
    form(code::RAFT_STATUS, 1, &[], Nothing),
    // A transfer is an ordinary event; adding and removing are only asked for replicas that are not there.
    form(
        code::RAFT_TRANSFER_LEADER,
        1,
        &[("replica", Replica)],
        Nothing,
    ),
    form(code::RAFT_ADD_REPLICA, 1, &[("replica", Text)], Nothing),
    form(
        code::RAFT_REMOVE_REPLICA,
        1,
        &[("replica", Text), ("force", Bool)],
        Nothing,
    ),
];

/// Every request the name server has a handler for.
pub const NAMESRV_FORMS: &[Form] = &[
    form(
        code::GET_ROUTEINFO_BY_TOPIC,
        10,
        &[("topic", Topic), ("acceptStandardJsonOnly", Bool)],
        Nothing,
    ),
    form(code::REGISTER_BROKER, 10, BROKER, Registration),
    form(code::UNREGISTER_BROKER, 4, BROKER, Nothing),
    form(code::BROKER_HEARTBEAT, 6, BROKER, Nothing),
    form(code::QUERY_DATA_VERSION, 6, BROKER, DataVersion),
    form(code::GET_BROKER_MEMBER_GROUP, 3, BROKER, Nothing),
    form(code::GET_BROKER_CLUSTER_INFO, 2, &[], Nothing),
    form(code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, 2, &[], Nothing),
    form(
        code::GET_TOPICS_BY_CLUSTER,
        3,
        &[("cluster", Cluster)],
        Nothing,
    ),
    form(code::GET_SYSTEM_TOPIC_LIST_FROM_NS, 2, &[], Nothing),
    form(code::GET_UNIT_TOPIC_LIST, 2, &[], Nothing),
    form(code::GET_HAS_UNIT_SUB_TOPIC_LIST, 2, &[], Nothing),
    form(code::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST, 2, &[], Nothing),
    form(
        code::REGISTER_TOPIC_IN_NAMESRV,
        5,
        &[("topic", Topic)],
        Json,
    ),
    form(
        code::DELETE_TOPIC_IN_NAMESRV,
        4,
        &[("topic", Topic), ("clusterName", Cluster)],
        Nothing,
    ),
    form(
        code::WIPE_WRITE_PERM_OF_BROKER,
        3,
        &[("brokerName", Broker)],
        Nothing,
    ),
    form(
        code::ADD_WRITE_PERM_OF_BROKER,
        3,
        &[("brokerName", Broker)],
        Nothing,
    ),
    form(code::PUT_KV_CONFIG, 6, KV, Nothing),
    form(code::GET_KV_CONFIG, 3, KV, Nothing),
    form(code::DELETE_KV_CONFIG, 4, KV, Nothing),
    form(code::GET_KVLIST_BY_NAMESPACE, 3, KV, Nothing),
    form(code::GET_NAMESRV_CONFIG, 1, &[], Nothing),
    form(code::UPDATE_NAMESRV_CONFIG, 3, &[], Settings),
];

/// Fields that many requests have.
const COMMON: &[(&str, Kind)] = &[
    ("topic", Topic),
    ("consumerGroup", Group),
    ("queueId", Queue),
    ("offset", Offset),
    ("brokerName", Broker),
    ("username", Text),
    ("subject", Text),
    ("extraInfo", Text),
    ("maxMsgNums", Count),
    ("invisibleTime", Wait),
    ("pollTime", Wait),
    ("bornTime", Time),
];

/// A request of another code, mostly one that is refused.
pub const fn other(code: i32) -> Form {
    form(code, 1, COMMON, Json)
}

/// Codes that have a name, and some that have none.
pub fn other_codes() -> Vec<i32> {
    let named = (0..8_000).chain(200_000..200_200);
    let named = named.filter(|c| code::name(*c).is_some());
    named
        .chain([
            -1,
            i32::MIN,
            i32::MAX,
            32_767,
            32_768,
            65_535,
            3_442,
            3_543,
            9_999,
        ])
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_code_has_one_form_at_each_server() {
        for forms in [BROKER_FORMS, NAMESRV_FORMS] {
            let codes: BTreeSet<i32> = forms.iter().map(|f| f.code).collect();
            assert_eq!(codes.len(), forms.len());
            assert!(codes.iter().all(|c| code::name(*c).is_some()));
        }
        assert!(other_codes().len() > 150);
    }
}
