//! Consumer offsets and queue bounds.

use crate::bytestr::ByteStr;
use crate::headers;

headers! {
    /// QUERY_CONSUMER_OFFSET (14).
    pub struct QueryConsumerOffsetRequestHeader {
        consumer_group: ByteStr = "consumerGroup" required,
        topic: ByteStr = "topic" required,
        queue_id: i32 = "queueId" required,
        set_zero_if_not_found: Option<bool> = "setZeroIfNotFound",
    }

    pub struct QueryConsumerOffsetResponseHeader {
        offset: i64 = "offset" required,
    }

    /// UPDATE_CONSUMER_OFFSET (15).
    pub struct UpdateConsumerOffsetRequestHeader {
        consumer_group: ByteStr = "consumerGroup" required,
        topic: ByteStr = "topic" required,
        queue_id: i32 = "queueId" required,
        commit_offset: i64 = "commitOffset" required,
    }

    /// SEARCH_OFFSET_BY_TIMESTAMP (29).
    pub struct SearchOffsetRequestHeader {
        topic: ByteStr = "topic" required,
        queue_id: i32 = "queueId" required,
        /// Store time, milliseconds.
        timestamp: i64 = "timestamp" required,
        /// `lower` (also when absent) or `upper`, in any case.
        boundary_type: Option<String> = "boundaryType",
    }

    pub struct SearchOffsetResponseHeader {
        offset: i64 = "offset" required,
    }

    /// GET_MAX_OFFSET (30).
    pub struct GetMaxOffsetRequestHeader {
        topic: ByteStr = "topic" required,
        queue_id: i32 = "queueId" required,
        committed: Option<bool> = "committed",
    }

    pub struct GetMaxOffsetResponseHeader {
        /// The offset the next message gets.
        offset: i64 = "offset" required,
    }

    /// GET_MIN_OFFSET (31).
    pub struct GetMinOffsetRequestHeader {
        topic: ByteStr = "topic" required,
        queue_id: i32 = "queueId" required,
    }

    pub struct GetMinOffsetResponseHeader {
        offset: i64 = "offset" required,
    }

    /// GET_EARLIEST_MSG_STORETIME (32).
    pub struct GetEarliestMsgStoretimeRequestHeader {
        topic: ByteStr = "topic" required,
        queue_id: i32 = "queueId" required,
    }

    pub struct GetEarliestMsgStoretimeResponseHeader {
        timestamp: i64 = "timestamp" required,
    }
}
