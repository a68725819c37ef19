//! Names of topics and groups: what is allowed, what is the system's own, and what is derived from what.

use std::collections::BTreeMap;

use crate::broker::perm::{INHERIT, READ, WRITE};
use crate::config::Config;

/// Template of topics that are created by being sent to.
pub const TEMPLATE: &str = "TBW102";
/// Messages that wait for their time.
pub const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";
pub const SELF_TEST: &str = "SELF_TEST_TOPIC";
pub const BENCHMARK: &str = "BenchmarkTest";
pub const OFFSET_MOVED: &str = "OFFSET_MOVED_EVENT";
pub const TRANS_HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub const TRANS_OP: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
pub const TRANS_CHECK_MAX: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
pub const WHEEL_TIMER: &str = "rmq_sys_wheel_timer";
pub const CHECKPOINT: &str = "CHECKPOINT_TOPIC";

pub const RETRY_PREFIX: &str = "%RETRY%";
pub const DLQ_PREFIX: &str = "%DLQ%";

/// Longest name of a topic clients create.
pub const MAX_TOPIC: usize = 127;
/// Longest name of a group in use.
pub const MAX_GROUP: usize = 255;
/// Longest name of a retry or dead letter topic: every group has both. Two bytes of length in a record allow more.
pub const MAX_DERIVED_TOPIC: usize = RETRY_PREFIX.len() + MAX_GROUP;
/// Longest name of a group that is created by an administrator.
pub const MAX_NEW_GROUP: usize = 120;

const FORBIDDEN_TO_SEND: &[&str] = &[
    SCHEDULE,
    TRANS_HALF,
    TRANS_OP,
    TRANS_CHECK_MAX,
    SELF_TEST,
    OFFSET_MOVED,
];

const SYSTEM: &[&str] = &[
    TEMPLATE,
    SCHEDULE,
    SELF_TEST,
    BENCHMARK,
    OFFSET_MOVED,
    TRANS_HALF,
    TRANS_OP,
    TRANS_CHECK_MAX,
    WHEEL_TIMER,
    CHECKPOINT,
    "RMQ_SYS_TRACE_TOPIC",
];

/// Groups that exist from the first start.
pub const SYSTEM_GROUPS: &[&str] = &[
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_RMQ_SYS_TRANS",
];

/// Letters, digits and `%|_-`, not empty.
pub fn has_legal_characters(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'%' | b'|' | b'_' | b'-'))
}

/// Whether clients may use this name for a group.
pub fn is_group_name(name: &str) -> bool {
    name.len() <= MAX_GROUP && has_legal_characters(name)
}

/// Longest text by which a client names itself, a group or a topic in what is kept of it, in bytes.
pub const MAX_TEXT: usize = 255;

/// Whether a text that a client sent may be kept as a name. RocketMQ asks less of client ids and producer groups than of
/// topics and consumer groups; nobody has ones that are longer or have control characters.
pub fn is_text(text: &str) -> bool {
    text.len() <= MAX_TEXT && !text.bytes().any(|b| b.is_ascii_control())
}

/// What is said of one that may not.
pub fn bad_text(what: &str) -> String {
    format!("the {what} is longer than {MAX_TEXT} bytes or has control characters")
}

/// Why a name cannot be a topic; worded as RocketMQ words it.
pub fn check_topic(name: &str) -> Result<(), &'static str> {
    let limit = if name.starts_with(RETRY_PREFIX) || name.starts_with(DLQ_PREFIX) {
        MAX_DERIVED_TOPIC
    } else {
        MAX_TOPIC
    };
    if name.trim().is_empty() {
        Err("The specified topic is blank.")
    } else if !has_legal_characters(name) {
        Err("The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")
    } else if name.len() > limit {
        Err("The specified topic is longer than topic max length.")
    } else {
        Ok(())
    }
}

/// Topics clients cannot send to, whatever their permission.
pub fn forbidden_to_send(topic: &str) -> bool {
    FORBIDDEN_TO_SEND.contains(&topic)
}

/// Topics that belong to the broker and cannot be created, changed or deleted by an administrator.
pub fn is_system_topic(config: &Config, topic: &str) -> bool {
    SYSTEM.contains(&topic)
        || topic.starts_with("rmq_sys_")
        || topic == config.cluster
        || topic == config.name
        || topic == config.trace_topic_name
        || topic.strip_suffix("_REPLY_TOPIC") == Some(&config.cluster)
}

/// Groups that are created whatever `autoCreateSubscriptionGroup` says.
pub fn is_system_group(group: &str) -> bool {
    group.starts_with("CID_RMQ_SYS_") || SYSTEM_GROUPS.contains(&group)
}

/// `%RETRY%group`
pub fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

/// `%DLQ%group`
pub fn dlq_topic(group: &str) -> String {
    format!("{DLQ_PREFIX}{group}")
}

/// Topics the master creates when it first serves, with their queues and permission.
pub fn topics_at_start(config: &Config) -> BTreeMap<String, (i32, i32)> {
    const RW: i32 = READ | WRITE;
    const RWX: i32 = READ | WRITE | INHERIT;
    let mut topics = BTreeMap::new();
    let mut put =
        |name: &str, queues: i32, perm: i32| topics.insert(name.to_owned(), (queues, perm));
    put(SELF_TEST, 1, RW);
    if config.auto_create_topic {
        put(TEMPLATE, config.default_topic_queues, RWX);
    }
    put(BENCHMARK, 1024, RW);
    put(
        &config.cluster,
        16,
        if config.cluster_topic { RWX } else { INHERIT },
    );
    put(
        &config.name,
        1,
        if config.broker_topic { RWX } else { INHERIT },
    );
    put(OFFSET_MOVED, 1, RW);
    // A queue for each level, at least RocketMQ's 18.
    put(SCHEDULE, config.delay_levels.max().max(18), RW);
    if config.trace_topic {
        put(&config.trace_topic_name, 1, RW);
    }
    put(&format!("{}_REPLY_TOPIC", config.cluster), 1, RW);
    put(
        &format!("rmq_sys_REVIVE_LOG_{}", config.cluster),
        config.revive_queues,
        RW,
    );
    put(
        &format!("rmq_sys_SYNC_BROKER_MEMBER_{}", config.name),
        1,
        INHERIT,
    );
    put(TRANS_HALF, 1, RW);
    put(TRANS_OP, 1, RW);
    if config.timer_wheel {
        put(WHEEL_TIMER, 1, RW);
    }
    topics
}

/// Answer to GET_SYSTEM_TOPIC_LIST_FROM_BROKER: every reserved name, whether the topic exists or not.
pub fn system_topics(config: &Config) -> Vec<String> {
    let mut all: Vec<String> = SYSTEM.iter().map(|s| (*s).to_owned()).collect();
    all.extend(topics_at_start(config).into_keys());
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names() {
        assert!(check_topic("a-b_c%d|9").is_ok());
        assert!(check_topic("").unwrap_err().contains("blank"));
        assert!(check_topic("  ").unwrap_err().contains("blank"));
        assert!(
            check_topic("a b")
                .unwrap_err()
                .contains("illegal characters")
        );
        assert!(check_topic("tópico").is_err());
        assert!(check_topic(&"t".repeat(127)).is_ok());
        assert!(
            check_topic(&"t".repeat(128))
                .unwrap_err()
                .contains("longer")
        );
        for group in [248, 249, MAX_GROUP].map(|n| "g".repeat(n)) {
            for topic in [retry_topic(&group), dlq_topic(&group)] {
                assert!(check_topic(&topic).is_ok());
                let storable = raftmq_store::storable::topic(&topic, raftmq_store::version::NEWEST);
                assert!(storable.is_ok(), "{storable:?}");
            }
        }
        assert!(check_topic(&retry_topic(&"g".repeat(MAX_GROUP + 1))).is_err());
    }

    #[test]
    fn group_names() {
        assert!(is_group_name("CID-1"));
        assert!(!is_group_name("a b"));
        assert!(!is_group_name(""));
        assert!(!is_group_name(&"g".repeat(256)));
        assert!(is_system_group("CID_RMQ_SYS_X"));
        assert!(is_system_group("TOOLS_CONSUMER"));
        assert!(!is_system_group("mine"));
    }

    #[test]
    fn template_exists_only_with_auto_creation() {
        let mut config = Config::default();
        assert!(topics_at_start(&config).contains_key(TEMPLATE));
        config.auto_create_topic = false;
        assert!(!topics_at_start(&config).contains_key(TEMPLATE));
        assert!(is_system_topic(&config, TEMPLATE), "reserved all the same");
    }

    #[test]
    fn system_topics_are_recognised() {
        let config = Config::default();
        for topic in system_topics(&config) {
            assert!(is_system_topic(&config, &topic), "{topic}");
        }
        assert!(!is_system_topic(&config, "orders"));
    }
}
