//! Pulling messages and giving them back.

use crate::bytestr::ByteStr;
use crate::headers;

headers! {
    /// PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361).
    pub struct PullMessageRequestHeader {
        consumer_group: ByteStr = "consumerGroup" required,
        topic: ByteStr = "topic" required,
        queue_id: i32 = "queueId" required,
        queue_offset: i64 = "queueOffset" required,
        max_msg_nums: i32 = "maxMsgNums" required,
        /// Bits of [`crate::message::sysflag::pull`].
        sys_flag: i32 = "sysFlag" required,
        commit_offset: i64 = "commitOffset" required,
        /// Longest hold when nothing is found, milliseconds.
        suspend_timeout_millis: i64 = "suspendTimeoutMillis" required,
        subscription: Option<ByteStr> = "subscription",
        sub_version: i64 = "subVersion" required,
        /// TAG (also when absent) or SQL92.
        expression_type: Option<ByteStr> = "expressionType",
        max_msg_bytes: Option<i32> = "maxMsgBytes",
        request_source: Option<i32> = "requestSource",
        proxy_forward_client_id: Option<ByteStr> = "proxyFrowardClientId",
    }

    /// Answer to a pull; codes 0, 19, 20 and 21 carry it.
    pub struct PullMessageResponseHeader {
        suggest_which_broker_id: i64 = "suggestWhichBrokerId" required,
        next_begin_offset: i64 = "nextBeginOffset" required,
        min_offset: i64 = "minOffset" required,
        max_offset: i64 = "maxOffset" required,
        offset_delta: Option<i64> = "offsetDelta",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        group_sys_flag: Option<i32> = "groupSysFlag",
        /// 1 broker, 2 group, 3 topic, 4 broadcasting, 5 subscription.
        forbidden_type: Option<i32> = "forbiddenType",
    }

    /// CONSUMER_SEND_MSG_BACK (36).
    pub struct ConsumerSendMsgBackRequestHeader {
        /// Physical offset of the record that was consumed.
        offset: i64 = "offset" required,
        group: ByteStr = "group" required,
        /// 0: by the retry count; negative: to the dead letter queue.
        delay_level: i32 = "delayLevel" required,
        origin_msg_id: Option<String> = "originMsgId",
        origin_topic: Option<String> = "originTopic",
        unit_mode: bool = "unitMode",
        max_reconsume_times: Option<i32> = "maxReconsumeTimes",
    }
}
