//! Topic configuration and the versions of tables.

use std::collections::BTreeMap;

use super::{named, shapes};
use crate::message::perm;

named! {
    pub enum TopicFilterType {
        #[default]
        SingleTag = "SINGLE_TAG",
        MultiTag = "MULTI_TAG",
    }
}

/// Queues of a topic when nobody says how many.
pub const DEFAULT_QUEUE_NUMS: i32 = 16;

shapes! {
    pub struct TopicConfig {
        attributes: BTreeMap<String, String>,
        order: bool,
        perm: i32,
        read_queue_nums: i32,
        topic_filter_type: TopicFilterType,
        topic_name: String,
        topic_sys_flag: i32,
        write_queue_nums: i32,
    }

    /// Which state of a table this is: compared as a whole, and by `state_version` (the term) between two claimants.
    #[derive(Default, Copy, Eq)]
    pub struct DataVersion {
        counter: i64,
        state_version: i64,
        timestamp: i64,
    }

    /// Answer to GET_ALL_TOPIC_CONFIG (21), and the first part of a registration.
    #[derive(Default)]
    pub struct TopicConfigSerializeWrapper {
        data_version: DataVersion,
        mapping_data_version: DataVersion,
        topic_config_table: BTreeMap<String, TopicConfig>,
        topic_queue_mapping_detail_map: BTreeMap<String, serde_json::Value>,
        topic_queue_mapping_info_map: BTreeMap<String, serde_json::Value>,
    }

    /// Body of UPDATE_AND_CREATE_TOPIC_LIST (18).
    #[derive(Default)]
    pub struct CreateTopicListRequestBody {
        topic_config_list: Vec<TopicConfig>,
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            order: false,
            perm: perm::READ | perm::WRITE,
            read_queue_nums: DEFAULT_QUEUE_NUMS,
            topic_filter_type: TopicFilterType::SingleTag,
            topic_name: String::new(),
            topic_sys_flag: 0,
            write_queue_nums: DEFAULT_QUEUE_NUMS,
        }
    }
}

impl TopicConfig {
    /// The one-line form of a compressed registration. Order and system flag have no place in it.
    pub fn encode(&self) -> String {
        let attributes = serde_json::to_string(&self.attributes).unwrap_or_else(|_| "{}".into());
        format!(
            "{} {} {} {} {} {attributes}",
            self.topic_name,
            self.read_queue_nums,
            self.write_queue_nums,
            self.perm,
            self.topic_filter_type
        )
    }

    /// Reads the one-line form; older senders leave the attributes out.
    pub fn decode(line: &str) -> Option<Self> {
        let mut parts = line.splitn(6, ' ');
        let mut config = Self {
            topic_name: parts.next()?.to_owned(),
            ..Self::default()
        };
        config.read_queue_nums = parts.next()?.parse().ok()?;
        config.write_queue_nums = parts.next()?.parse().ok()?;
        config.perm = parts.next()?.parse().ok()?;
        config.topic_filter_type = TopicFilterType::from_name(parts.next()?)?;
        if let Some(attributes) = parts.next().filter(|a| !a.is_empty()) {
            config.attributes = serde_json::from_str(attributes).ok()?;
        }
        Some(config)
    }
}
