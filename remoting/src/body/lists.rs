//! Small tables and lists.

use std::collections::{BTreeMap, BTreeSet};

use super::shapes;

shapes! {
    /// Answers to 28 and 219, and the order configuration in a registration's answer.
    #[derive(Default)]
    pub struct KVTable {
        table: BTreeMap<String, String>,
    }

    /// Answers to 206, 224, 304, 305 and 343.
    #[derive(Default)]
    pub struct TopicList {
        #[serde(skip_serializing_if = "Option::is_none")]
        broker_addr: Option<String>,
        topic_list: BTreeSet<String>,
    }
}
