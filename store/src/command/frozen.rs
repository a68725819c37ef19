//! How topic and group configs are written inside commands and metadata rows, frozen: these shapes are the store's own,
//! whatever becomes of the shapes on the wire.
//!
//! A field that the remoting types gain does not compile here until somebody decides from which set version on it is
//! written ([`crate::version`]). Fields and names that are not listed are not dropped in silence: a command that has
//! them is newer than this binary ([`super::Command::read`]). An enum's value stands under its name.

use std::collections::BTreeMap;

use raftmq_remoting::body::{
    CustomizedRetryPolicy, ExponentialRetryPolicy, GroupRetryPolicy, GroupRetryPolicyType,
    SimpleSubscriptionData, SubscriptionGroupConfig, TopicConfig, TopicFilterType,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A topic.
#[derive(Serialize, Deserialize)]
#[serde(remote = "TopicConfig", rename_all = "camelCase")]
pub struct Topic {
    attributes: BTreeMap<String, String>,
    order: bool,
    perm: i32,
    read_queue_nums: i32,
    #[serde(with = "filter_type")]
    topic_filter_type: TopicFilterType,
    topic_name: String,
    topic_sys_flag: i32,
    write_queue_nums: i32,
}

/// A subscription group.
#[derive(Serialize, Deserialize)]
#[serde(remote = "SubscriptionGroupConfig", rename_all = "camelCase")]
pub struct Group {
    attributes: BTreeMap<String, String>,
    broker_id: i64,
    consume_broadcast_enable: bool,
    consume_enable: bool,
    consume_from_min_enable: bool,
    consume_message_orderly: bool,
    consume_timeout_minute: i32,
    group_name: String,
    #[serde(with = "RetryPolicy")]
    group_retry_policy: GroupRetryPolicy,
    group_sys_flag: i32,
    notify_consumer_ids_changed_enable: bool,
    retry_max_times: i32,
    retry_queue_nums: i32,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "subscriptions"
    )]
    subscription_data_set: Option<Vec<SimpleSubscriptionData>>,
    which_broker_when_consume_slowly: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "GroupRetryPolicy", rename_all = "camelCase")]
struct RetryPolicy {
    #[serde(default, skip_serializing_if = "Option::is_none", with = "customized")]
    customized_retry_policy: Option<CustomizedRetryPolicy>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "exponential")]
    exponential_retry_policy: Option<ExponentialRetryPolicy>,
    #[serde(rename = "type", with = "policy_type")]
    policy_type: GroupRetryPolicyType,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "CustomizedRetryPolicy", rename_all = "camelCase")]
struct Customized {
    next: Vec<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ExponentialRetryPolicy", rename_all = "camelCase")]
struct Exponential {
    initial: i64,
    max: i64,
    multiplier: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SimpleSubscriptionData", rename_all = "camelCase")]
struct Subscription {
    expression: String,
    expression_type: String,
    topic: String,
    version: i64,
}

/// An optional value of a frozen shape, or a list of them.
macro_rules! optional {
    ($name:ident, $shape:literal, $ty:ty) => {
        mod $name {
            use super::*;

            #[derive(Deserialize)]
            struct Read(#[serde(with = $shape)] $ty);

            #[derive(Serialize)]
            struct Written<'a>(#[serde(with = $shape)] &'a $ty);

            pub fn serialize<S: Serializer>(value: &Option<$ty>, s: S) -> Result<S::Ok, S::Error> {
                value.as_ref().map(Written).serialize(s)
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<$ty>, D::Error> {
                let read = Option::<Read>::deserialize(d)?;
                Ok(read.map(|read| read.0))
            }
        }
    };
}
optional!(customized, "Customized", CustomizedRetryPolicy);
optional!(exponential, "Exponential", ExponentialRetryPolicy);

mod subscriptions {
    use super::*;

    #[derive(Deserialize)]
    struct Read(#[serde(with = "Subscription")] SimpleSubscriptionData);

    #[derive(Serialize)]
    struct Written<'a>(#[serde(with = "Subscription")] &'a SimpleSubscriptionData);

    pub fn serialize<S: Serializer>(
        value: &Option<Vec<SimpleSubscriptionData>>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        let list = value.as_deref().map(|list| list.iter().map(Written));
        let list: Option<Vec<Written<'_>>> = list.map(Iterator::collect);
        list.serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Vec<SimpleSubscriptionData>>, D::Error> {
        let read = Option::<Vec<Read>>::deserialize(d)?;
        Ok(read.map(|list| list.into_iter().map(|one| one.0).collect()))
    }
}

/// An enum under its name; a name that is not known is an error, and no default.
macro_rules! named {
    ($name:ident, $ty:ty) => {
        mod $name {
            use super::*;

            pub fn serialize<S: Serializer>(value: &$ty, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(value.name())
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<$ty, D::Error> {
                let name = String::deserialize(d)?;
                <$ty>::from_name(&name).ok_or_else(|| {
                    serde::de::Error::custom(format!("{}{name}", super::UNKNOWN_NAME))
                })
            }
        }
    };
}
named!(filter_type, TopicFilterType);
named!(policy_type, GroupRetryPolicyType);

/// How the error of a name that is not known begins.
pub(super) const UNKNOWN_NAME: &str = "unknown name ";

/// A topic's row in the metadata.
#[derive(Deserialize)]
pub struct TopicRow(#[serde(with = "Topic")] pub TopicConfig);

/// A group's row in the metadata.
#[derive(Deserialize)]
pub struct GroupRow(#[serde(with = "Group")] pub SubscriptionGroupConfig);

/// A topic's row, to be written.
#[derive(Serialize)]
pub struct TopicOut<'a>(#[serde(with = "Topic")] pub &'a TopicConfig);

/// A group's row, to be written.
#[derive(Serialize)]
pub struct GroupOut<'a>(#[serde(with = "Group")] pub &'a SubscriptionGroupConfig);
