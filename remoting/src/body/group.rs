//! Consumer groups and how they retry.

use std::collections::BTreeMap;

use super::{named, shapes};

named! {
    pub enum GroupRetryPolicyType {
        Exponential = "EXPONENTIAL",
        #[default]
        Customized = "CUSTOMIZED",
    }
}

shapes! {
    pub struct SubscriptionGroupConfig {
        attributes: BTreeMap<String, String>,
        broker_id: i64,
        consume_broadcast_enable: bool,
        consume_enable: bool,
        consume_from_min_enable: bool,
        consume_message_orderly: bool,
        consume_timeout_minute: i32,
        group_name: String,
        group_retry_policy: GroupRetryPolicy,
        group_sys_flag: i32,
        notify_consumer_ids_changed_enable: bool,
        retry_max_times: i32,
        retry_queue_nums: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        subscription_data_set: Option<Vec<SimpleSubscriptionData>>,
        which_broker_when_consume_slowly: i64,
    }

    #[derive(Default, Eq)]
    pub struct SimpleSubscriptionData {
        expression: String,
        expression_type: String,
        topic: String,
        version: i64,
    }

    #[derive(Default)]
    pub struct GroupRetryPolicy {
        #[serde(skip_serializing_if = "Option::is_none")]
        customized_retry_policy: Option<CustomizedRetryPolicy>,
        #[serde(skip_serializing_if = "Option::is_none")]
        exponential_retry_policy: Option<ExponentialRetryPolicy>,
        #[serde(rename = "type")]
        policy_type: GroupRetryPolicyType,
    }

    /// Milliseconds.
    #[derive(Eq)]
    pub struct ExponentialRetryPolicy {
        initial: i64,
        max: i64,
        multiplier: i64,
    }

    /// Milliseconds before each retry.
    #[derive(Default, Eq)]
    pub struct CustomizedRetryPolicy {
        next: Vec<i64>,
    }

    /// Answer to GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201).
    #[derive(Default)]
    pub struct SubscriptionGroupWrapper {
        data_version: super::DataVersion,
        forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
        subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>,
    }

    /// Body of UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST (225).
    #[derive(Default)]
    pub struct SubscriptionGroupList {
        group_config_list: Vec<SubscriptionGroupConfig>,
    }
}

impl Default for SubscriptionGroupConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            broker_id: 0,
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            consume_message_orderly: false,
            consume_timeout_minute: 15,
            group_name: String::new(),
            group_retry_policy: GroupRetryPolicy::default(),
            group_sys_flag: 0,
            notify_consumer_ids_changed_enable: true,
            retry_max_times: 16,
            retry_queue_nums: 1,
            subscription_data_set: None,
            which_broker_when_consume_slowly: 1,
        }
    }
}

impl Default for ExponentialRetryPolicy {
    fn default() -> Self {
        Self {
            initial: 5000,
            max: 7_200_000,
            multiplier: 2,
        }
    }
}
