//! Statistics: topics, consumers, brokers, consume queues.

use std::collections::BTreeMap;

use super::{MessageQueue, MessageQueueMap, SubscriptionData, shapes};

shapes! {
    /// Answer to GET_TOPIC_STATS_INFO (202).
    #[derive(Default)]
    pub struct TopicStatsTable {
        offset_table: MessageQueueMap<TopicOffset>,
        topic_put_tps: f64,
    }

    #[derive(Default, Eq, Copy)]
    pub struct TopicOffset {
        last_update_timestamp: i64,
        max_offset: i64,
        min_offset: i64,
    }

    /// Answer to GET_CONSUME_STATS (208).
    #[derive(Default)]
    pub struct ConsumeStats {
        consume_tps: f64,
        offset_table: MessageQueueMap<OffsetWrapper>,
    }

    #[derive(Default, Eq, Copy)]
    pub struct OffsetWrapper {
        broker_offset: i64,
        consumer_offset: i64,
        last_timestamp: i64,
        pull_offset: i64,
    }

    /// Answer to GET_BROKER_CONSUME_STATS (317).
    #[derive(Default)]
    pub struct ConsumeStatsList {
        broker_addr: String,
        consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>>,
        total_diff: i64,
        total_inflight_diff: i64,
    }

    /// Answer to VIEW_BROKER_STATS_DATA (315).
    #[derive(Default)]
    pub struct BrokerStatsData {
        stats_day: BrokerStatsItem,
        stats_hour: BrokerStatsItem,
        stats_minute: BrokerStatsItem,
    }

    #[derive(Default)]
    pub struct BrokerStatsItem {
        avgpt: f64,
        sum: i64,
        tps: f64,
    }

    /// Answer to QUERY_CONSUME_TIME_SPAN (303).
    #[derive(Default)]
    pub struct QueryConsumeTimeSpanBody {
        consume_time_span_set: Vec<QueueTimeSpan>,
    }

    #[derive(Default)]
    pub struct QueueTimeSpan {
        consume_time_stamp: i64,
        delay_time: i64,
        max_time_stamp: i64,
        message_queue: MessageQueue,
        min_time_stamp: i64,
    }

    /// Answer to GET_ALL_CONSUMER_OFFSET (43), keyed by `topic@group` and queue.
    #[derive(Default)]
    pub struct ConsumerOffsets {
        offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
    }

    /// Answer to QUERY_CORRECTION_OFFSET (308).
    #[derive(Default)]
    pub struct QueryCorrectionOffsetBody {
        correction_offsets: BTreeMap<i32, i64>,
    }

    /// Answer to QUERY_CONSUME_QUEUE (321).
    #[derive(Default)]
    pub struct QueryConsumeQueueResponseBody {
        #[serde(skip_serializing_if = "Option::is_none")]
        filter_data: Option<String>,
        max_queue_index: i64,
        min_queue_index: i64,
        queue_data: Vec<ConsumeQueueData>,
        #[serde(skip_serializing_if = "Option::is_none")]
        subscription_data: Option<SubscriptionData>,
    }

    #[derive(Default)]
    pub struct ConsumeQueueData {
        #[serde(skip_serializing_if = "Option::is_none")]
        bit_map: Option<String>,
        eval: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        extend_data_json: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        msg: Option<String>,
        physic_offset: i64,
        physic_size: i32,
        tags_code: i64,
    }
}

impl TopicOffset {
    pub fn new(min_offset: i64, max_offset: i64, last_update_timestamp: i64) -> Self {
        Self {
            last_update_timestamp,
            max_offset,
            min_offset,
        }
    }
}
