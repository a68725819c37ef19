//! POP consumption.

use crate::bytestr::ByteStr;
use crate::headers;

headers! {
    /// POP_MESSAGE (200050).
    pub struct PopMessageRequestHeader {
        consumer_group: ByteStr = "consumerGroup" required,
        topic: ByteStr = "topic" required,
        /// -1: any queue.
        queue_id: i32 = "queueId" required,
        max_msg_nums: i32 = "maxMsgNums" required,
        /// Milliseconds the messages stay hidden.
        invisible_time: i64 = "invisibleTime" required,
        /// Longest hold, milliseconds.
        poll_time: i64 = "pollTime" required,
        /// Client clock, milliseconds; 0 or less: taken from the broker.
        born_time: i64 = "bornTime" required,
        /// 0 from the minimum, 1 from the maximum offset.
        init_mode: i32 = "initMode" required,
        exp_type: Option<ByteStr> = "expType",
        exp: Option<ByteStr> = "exp",
        order: Option<bool> = "order",
        attempt_id: Option<ByteStr> = "attemptId",
    }

    /// Answer to a pop and a peek.
    pub struct PopMessageResponseHeader {
        pop_time: i64 = "popTime" required,
        invisible_time: i64 = "invisibleTime" required,
        revive_qid: i32 = "reviveQid" required,
        rest_num: i64 = "restNum" required,
        start_offset_info: Option<String> = "startOffsetInfo",
        msg_offset_info: Option<String> = "msgOffsetInfo",
        order_count_info: Option<String> = "orderCountInfo",
    }

    /// ACK_MESSAGE (200051).
    pub struct AckMessageRequestHeader {
        consumer_group: ByteStr = "consumerGroup" required,
        topic: ByteStr = "topic" required,
        queue_id: i32 = "queueId" required,
        /// The receipt handle.
        extra_info: ByteStr = "extraInfo" required,
        offset: i64 = "offset" required,
    }

    /// CHANGE_MESSAGE_INVISIBLETIME (200053).
    pub struct ChangeInvisibleTimeRequestHeader {
        consumer_group: ByteStr = "consumerGroup" required,
        topic: ByteStr = "topic" required,
        queue_id: i32 = "queueId" required,
        extra_info: ByteStr = "extraInfo" required,
        offset: i64 = "offset" required,
        invisible_time: i64 = "invisibleTime" required,
    }

    pub struct ChangeInvisibleTimeResponseHeader {
        pop_time: i64 = "popTime" required,
        invisible_time: i64 = "invisibleTime" required,
        revive_qid: i32 = "reviveQid" required,
    }

    /// NOTIFICATION (200054).
    pub struct NotificationRequestHeader {
        consumer_group: ByteStr = "consumerGroup" required,
        topic: ByteStr = "topic" required,
        queue_id: i32 = "queueId" required,
        poll_time: i64 = "pollTime" required,
        born_time: i64 = "bornTime" required,
        order: Option<bool> = "order",
        attempt_id: Option<ByteStr> = "attemptId",
    }

    pub struct NotificationResponseHeader {
        has_msg: bool = "hasMsg" required,
        polling_full: bool = "pollingFull",
    }

    /// POLLING_INFO (200055).
    pub struct PollingInfoRequestHeader {
        consumer_group: ByteStr = "consumerGroup" required,
        topic: ByteStr = "topic" required,
        queue_id: i32 = "queueId" required,
    }

    pub struct PollingInfoResponseHeader {
        polling_num: i32 = "pollingNum" required,
    }

    /// PEEK_MESSAGE (200052).
    pub struct PeekMessageRequestHeader {
        topic: ByteStr = "topic" required,
        queue_id: i32 = "queueId" required,
        max_msg_nums: i32 = "maxMsgNums" required,
        consumer_group: ByteStr = "consumerGroup" required,
    }
}
