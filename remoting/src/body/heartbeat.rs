//! HEART_BEAT (34) and CHECK_CLIENT_CONFIG (46).

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};

use super::{named, shapes};
use crate::json::{Number, lenient_number, null_as_default};

named! {
    pub enum ConsumeType {
        Actively = "CONSUME_ACTIVELY",
        #[default]
        Passively = "CONSUME_PASSIVELY",
        Pop = "CONSUME_POP",
    }

    pub enum MessageModel {
        Broadcasting = "BROADCASTING",
        #[default]
        Clustering = "CLUSTERING",
    }

    pub enum ConsumeFromWhere {
        #[default]
        LastOffset = "CONSUME_FROM_LAST_OFFSET",
        LastOffsetAndFromMinWhenBootFirst = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        MinOffset = "CONSUME_FROM_MIN_OFFSET",
        MaxOffset = "CONSUME_FROM_MAX_OFFSET",
        FirstOffset = "CONSUME_FROM_FIRST_OFFSET",
        Timestamp = "CONSUME_FROM_TIMESTAMP",
    }
}

shapes! {
    #[derive(Default)]
    pub struct HeartbeatData {
        #[serde(rename = "clientID")]
        client_id: String,
        consumer_data_set: Vec<ConsumerData>,
        /// 0: the plain heartbeat; else its content's fingerprint.
        heartbeat_fingerprint: i32,
        producer_data_set: Vec<ProducerData>,
        /// The subscriptions are left out: keep the stored ones.
        without_sub: bool,
    }

    #[derive(Default)]
    pub struct ProducerData {
        group_name: String,
    }

    #[derive(Default)]
    pub struct ConsumerData {
        consume_from_where: ConsumeFromWhere,
        consume_type: ConsumeType,
        group_name: String,
        message_model: MessageModel,
        subscription_data_set: Vec<SubscriptionData>,
        unit_mode: bool,
    }

    /// Body of CHECK_CLIENT_CONFIG.
    #[derive(Default)]
    pub struct CheckClientRequestBody {
        client_id: String,
        group: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        subscription_data: SubscriptionData,
    }
}

/// What a consumer wants of a topic. The C++ client writes its numbers as strings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubscriptionData {
    #[serde(deserialize_with = "null_as_default")]
    pub class_filter_mode: bool,
    /// Java hashes of the tags.
    #[serde(deserialize_with = "hash_codes")]
    pub code_set: BTreeSet<i32>,
    /// TAG or SQL92; empty counts as TAG.
    #[serde(deserialize_with = "null_as_default")]
    pub expression_type: String,
    /// `*`, or tags joined with `||`, or an SQL92 expression.
    #[serde(deserialize_with = "null_as_default")]
    pub sub_string: String,
    /// Client clock, milliseconds: the newest wins.
    #[serde(deserialize_with = "lenient_number")]
    pub sub_version: i64,
    #[serde(deserialize_with = "null_as_default")]
    pub tags_set: BTreeSet<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub topic: String,
}

fn hash_codes<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeSet<i32>, D::Error> {
    let codes = Option::<Vec<Number>>::deserialize(d)?.unwrap_or_default();
    Ok(codes.into_iter().map(|n| n.0 as i32).collect())
}

impl Default for SubscriptionData {
    fn default() -> Self {
        Self {
            class_filter_mode: false,
            code_set: BTreeSet::new(),
            expression_type: "TAG".into(),
            sub_string: String::new(),
            sub_version: 0,
            tags_set: BTreeSet::new(),
            topic: String::new(),
        }
    }
}
