//! Client life: heartbeat, leaving, who consumes a group.

use crate::bytestr::ByteStr;
use crate::headers;

headers! {
    /// HEART_BEAT (34) has no request header; this is its response.
    pub struct HeartbeatResponseHeader {
        is_support_heart_beat_v2: bool = "IS_SUPPORT_HEART_BEAT_V2",
        is_sub_change: bool = "IS_SUB_CHANGE",
    }

    /// UNREGISTER_CLIENT (35).
    pub struct UnregisterClientRequestHeader {
        client_id: ByteStr = "clientID" required,
        producer_group: Option<ByteStr> = "producerGroup",
        consumer_group: Option<ByteStr> = "consumerGroup",
    }

    /// GET_CONSUMER_LIST_BY_GROUP (38).
    pub struct GetConsumerListByGroupRequestHeader {
        consumer_group: ByteStr = "consumerGroup" required,
    }

    /// NOTIFY_CONSUMER_IDS_CHANGED (40), from the broker.
    pub struct NotifyConsumerIdsChangedRequestHeader {
        consumer_group: ByteStr = "consumerGroup" required,
    }

    /// A header class without fields.
    pub struct EmptyHeader {}
}
