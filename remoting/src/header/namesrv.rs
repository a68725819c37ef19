//! The name server's requests.

use crate::headers;

headers! {
    /// GET_ROUTEINFO_BY_TOPIC (105).
    pub struct GetRouteInfoRequestHeader {
        topic: String = "topic" required,
        accept_standard_json_only: Option<bool> = "acceptStandardJsonOnly",
    }

    /// REGISTER_BROKER (103).
    pub struct RegisterBrokerRequestHeader {
        broker_name: String = "brokerName" required,
        broker_addr: String = "brokerAddr" required,
        cluster_name: String = "clusterName" required,
        ha_server_addr: String = "haServerAddr" required,
        broker_id: i64 = "brokerId" required,
        heartbeat_timeout_millis: Option<i64> = "heartbeatTimeoutMillis",
        enable_acting_master: Option<bool> = "enableActingMaster",
        compressed: bool = "compressed",
        /// CRC-32 of the body, 31 bits; 0 is not checked.
        body_crc32: i32 = "bodyCrc32",
    }

    pub struct RegisterBrokerResponseHeader {
        ha_server_addr: Option<String> = "haServerAddr",
        master_addr: Option<String> = "masterAddr",
    }

    /// UNREGISTER_BROKER (104).
    pub struct UnRegisterBrokerRequestHeader {
        broker_name: String = "brokerName" required,
        broker_addr: String = "brokerAddr" required,
        cluster_name: String = "clusterName" required,
        broker_id: i64 = "brokerId" required,
    }

    /// QUERY_DATA_VERSION (322).
    pub struct QueryDataVersionRequestHeader {
        broker_name: String = "brokerName" required,
        broker_addr: String = "brokerAddr" required,
        cluster_name: String = "clusterName" required,
        broker_id: i64 = "brokerId" required,
    }

    pub struct QueryDataVersionResponseHeader {
        changed: bool = "changed" required,
    }

    /// BROKER_HEARTBEAT (904).
    pub struct BrokerHeartbeatRequestHeader {
        cluster_name: String = "clusterName" required,
        broker_addr: String = "brokerAddr" required,
        broker_name: String = "brokerName" required,
        broker_id: Option<i64> = "brokerId",
        epoch: Option<i32> = "epoch",
        max_offset: Option<i64> = "maxOffset",
        confirm_offset: Option<i64> = "confirmOffset",
        heartbeat_timeout_mills: Option<i64> = "heartbeatTimeoutMills",
        election_priority: Option<i32> = "electionPriority",
    }

    /// GET_BROKER_MEMBER_GROUP (901).
    pub struct GetBrokerMemberGroupRequestHeader {
        cluster_name: String = "clusterName" required,
        broker_name: String = "brokerName" required,
    }

    /// NOTIFY_MIN_BROKER_ID_CHANGE (905), from the name server, oneway.
    pub struct NotifyMinBrokerIdChangeRequestHeader {
        min_broker_id: Option<i64> = "minBrokerId",
        broker_name: Option<String> = "brokerName",
        min_broker_addr: Option<String> = "minBrokerAddr",
        offline_broker_addr: Option<String> = "offlineBrokerAddr",
        ha_broker_addr: Option<String> = "haBrokerAddr",
    }

    /// GET_TOPICS_BY_CLUSTER (224).
    pub struct GetTopicsByClusterRequestHeader {
        cluster: String = "cluster" required,
    }

    /// DELETE_TOPIC_IN_NAMESRV (216).
    pub struct DeleteTopicFromNamesrvRequestHeader {
        topic: String = "topic" required,
        cluster_name: Option<String> = "clusterName",
    }

    /// REGISTER_TOPIC_IN_NAMESRV (217).
    pub struct RegisterTopicRequestHeader {
        topic: String = "topic" required,
    }

    /// WIPE_WRITE_PERM_OF_BROKER (205).
    pub struct WipeWritePermOfBrokerRequestHeader {
        broker_name: String = "brokerName" required,
    }

    pub struct WipeWritePermOfBrokerResponseHeader {
        wipe_topic_count: i32 = "wipeTopicCount" required,
    }

    /// ADD_WRITE_PERM_OF_BROKER (327).
    pub struct AddWritePermOfBrokerRequestHeader {
        broker_name: String = "brokerName" required,
    }

    pub struct AddWritePermOfBrokerResponseHeader {
        add_topic_count: i32 = "addTopicCount" required,
    }

    /// PUT_KV_CONFIG (100).
    pub struct PutKVConfigRequestHeader {
        namespace: String = "namespace" required,
        key: String = "key" required,
        value: String = "value" required,
    }

    /// GET_KV_CONFIG (101).
    pub struct GetKVConfigRequestHeader {
        namespace: String = "namespace" required,
        key: String = "key" required,
    }

    pub struct GetKVConfigResponseHeader {
        value: Option<String> = "value",
    }

    /// DELETE_KV_CONFIG (102).
    pub struct DeleteKVConfigRequestHeader {
        namespace: String = "namespace" required,
        key: String = "key" required,
    }

    /// GET_KVLIST_BY_NAMESPACE (219).
    pub struct GetKVListByNamespaceRequestHeader {
        namespace: String = "namespace" required,
    }
}
