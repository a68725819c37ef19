//! Rules for topic and group names, the names that belong to the system, and settings nobody may rely on yet.

/// Longest topic a client may create, in characters.
pub const MAX_TOPIC_LENGTH: usize = 127;
/// Longest retry or dead letter topic.
pub const MAX_RETRY_TOPIC_LENGTH: usize = 255;
/// Longest group that may be created; groups in use already may have [`MAX_OLD_GROUP_LENGTH`].
pub const MAX_GROUP_LENGTH: usize = 120;
/// What 4.9 clients allow.
pub const MAX_OLD_GROUP_LENGTH: usize = 255;

pub const RETRY_PREFIX: &str = "%RETRY%";
pub const DLQ_PREFIX: &str = "%DLQ%";
pub const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
pub const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";
pub const REPLY_TOPIC_POSTFIX: &str = "REPLY_TOPIC";

pub const AUTO_CREATE_TOPIC: &str = "TBW102";
pub const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
pub const BENCHMARK_TOPIC: &str = "BenchmarkTest";
pub const OFFSET_MOVED_EVENT: &str = "OFFSET_MOVED_EVENT";
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
pub const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub const OP_HALF_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
pub const CHECK_MAX_TIME_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
pub const CHECKPOINT_TOPIC: &str = "CHECKPOINT_TOPIC";
pub const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";
pub const REVIVE_TOPIC_PREFIX: &str = "rmq_sys_REVIVE_LOG_";
pub const SYNC_MEMBER_TOPIC_PREFIX: &str = "rmq_sys_SYNC_BROKER_MEMBER_";

/// System topics by exact name. Cluster and broker names are system topics too, but only the broker knows them.
pub const SYSTEM_TOPICS: &[&str] = &[
    AUTO_CREATE_TOPIC,
    SCHEDULE_TOPIC,
    BENCHMARK_TOPIC,
    HALF_TOPIC,
    TRACE_TOPIC,
    OP_HALF_TOPIC,
    CHECK_MAX_TIME_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_EVENT,
    CHECKPOINT_TOPIC,
];

/// Topics a client may not send to.
pub const SEND_FORBIDDEN_TOPICS: &[&str] = &[
    SCHEDULE_TOPIC,
    HALF_TOPIC,
    OP_HALF_TOPIC,
    CHECK_MAX_TIME_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_EVENT,
];

/// Groups a broker creates at its start.
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

/// Groups that clients and tools use by themselves; no user may own them.
pub const CLIENT_GROUPS: &[&str] = &[
    "DEFAULT_PRODUCER",
    "DEFAULT_CONSUMER",
    "SCHEDULE_CONSUMER",
    "__MONITOR_CONSUMER",
    "CLIENT_INNER_PRODUCER",
    "SELF_TEST_P_GROUP",
];

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the specified {0} is blank")]
    Blank(&'static str),
    #[error("the specified {kind} is longer than {kind} max length {max}")]
    TooLong { kind: &'static str, max: usize },
    #[error("the specified {kind} contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")]
    Characters { kind: &'static str },
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'%' | b'|' | b'_' | b'-')
}

fn check(name: &str, kind: &'static str, max: usize) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Blank(kind));
    }
    if !name.bytes().all(is_name_byte) {
        return Err(NameError::Characters { kind });
    }
    if name.len() > max {
        return Err(NameError::TooLong { kind, max });
    }
    Ok(())
}

/// Whether `topic` may be created or sent to: `[%|a-zA-Z0-9_-]+`, at most 127 characters, retry and dead letter topics 255.
pub fn check_topic(topic: &str) -> Result<(), NameError> {
    let max = if is_retry_topic(topic) || is_dlq_topic(topic) {
        MAX_RETRY_TOPIC_LENGTH
    } else {
        MAX_TOPIC_LENGTH
    };
    check(topic, "topic", max)
}

/// Whether `group` may be created.
pub fn check_group(group: &str) -> Result<(), NameError> {
    check(group, "group", MAX_GROUP_LENGTH)
}

/// Whether `group` may be used when it exists already: 4.9 clients allow longer names.
pub fn check_existing_group(group: &str) -> Result<(), NameError> {
    check(group, "group", MAX_OLD_GROUP_LENGTH)
}

/// Whether `topic` is a system topic whatever the cluster and broker are called.
pub fn is_system_topic(topic: &str) -> bool {
    SYSTEM_TOPICS.contains(&topic) || topic.starts_with(SYSTEM_TOPIC_PREFIX)
}

/// Whether clients may not send to `topic`.
pub fn is_send_forbidden(topic: &str) -> bool {
    SEND_FORBIDDEN_TOPICS.contains(&topic)
}

/// Whether `group` belongs to the broker.
pub fn is_system_group(group: &str) -> bool {
    SYSTEM_GROUPS.contains(&group) || group.starts_with(SYSTEM_GROUP_PREFIX)
}

/// Whether `group` is used by clients and tools by themselves.
pub fn is_client_group(group: &str) -> bool {
    CLIENT_GROUPS.contains(&group)
}

pub fn is_retry_topic(topic: &str) -> bool {
    topic.starts_with(RETRY_PREFIX)
}

pub fn is_dlq_topic(topic: &str) -> bool {
    topic.starts_with(DLQ_PREFIX)
}

/// Where a group's failed messages wait for their retry.
pub fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

/// Where a group's messages end after their last retry.
pub fn dlq_topic(group: &str) -> String {
    format!("{DLQ_PREFIX}{group}")
}

/// The group of a retry or dead letter topic.
pub fn group_of(topic: &str) -> Option<&str> {
    topic
        .strip_prefix(RETRY_PREFIX)
        .or_else(|| topic.strip_prefix(DLQ_PREFIX))
}

/// The POP retry topic of a group and topic, in its older form.
pub fn pop_retry_topic_v1(topic: &str, group: &str) -> String {
    format!("{RETRY_PREFIX}{group}_{topic}")
}

/// The POP retry topic of a group and topic, in its newer form.
pub fn pop_retry_topic_v2(topic: &str, group: &str) -> String {
    format!("{RETRY_PREFIX}{group}+{topic}")
}

/// Whether a setting of RocketMQ asks for encryption or access control. There is neither yet, and a server that goes on
/// without what its file asks for is worse than one that does not start. A value that switches it off asks for nothing.
pub fn asks_for_security(key: &str, value: &str) -> bool {
    let off = ["", "false", "disabled"];
    if off.iter().any(|v| value.trim().eq_ignore_ascii_case(v)) {
        return false;
    }
    // At the start of the key or of a word in it: `classLoader` is no key of SSL's.
    let word = |lower: &str, capital: &str, upper: &str| {
        let mut parts = key.split(['.', '_', '-']);
        parts.any(|part| {
            part.get(..lower.len())
                .is_some_and(|p| p.eq_ignore_ascii_case(lower))
        }) || key.contains(capital)
            || key.contains(upper)
    };
    word("tls", "Tls", "TLS")
        || word("ssl", "Ssl", "SSL")
        || word("acl", "Acl", "ACL")
        || ["authentication", "authorization", "authconfig"]
            .iter()
            .any(|what| key.to_ascii_lowercase().contains(what))
        || key == "migrateAuthFromV1Enabled"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_tls_and_access_control_are_known() {
        for key in [
            "useTLS",
            "tlsEnable",
            "tls.server.mode",
            "tlsConfigFile",
            "tlsTestModeEnable",
            "sslContext",
            "aclEnable",
            "authenticationEnabled",
            "authorizationProvider",
            "initAuthenticationUser",
            "innerClientAuthenticationCredentials",
            "authConfigPath",
            "migrateAuthFromV1Enabled",
        ] {
            assert!(asks_for_security(key, "true"), "{key}");
            assert!(!asks_for_security(key, " False"), "{key}");
        }
        assert!(asks_for_security("tls.server.mode", "permissive"));
        assert!(!asks_for_security("tls.server.mode", "disabled"));
        for key in ["classLoader", "brokerName", "enableCalcFilterBitMap", "é"] {
            assert!(!asks_for_security(key, "true"), "{key}");
        }
    }

    #[test]
    fn names_follow_the_rules() {
        for good in ["a", "%RETRY%g", "a|b", "A-z_0", &"t".repeat(127)] {
            assert_eq!(check_topic(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "  ",
            "a b",
            "a+b",
            "a.b",
            "tópico",
            "a\n",
            &"t".repeat(128),
        ] {
            assert!(check_topic(bad).is_err(), "{bad}");
        }
        assert_eq!(check_topic(&retry_topic(&"g".repeat(248))), Ok(()));
        assert!(check_topic(&retry_topic(&"g".repeat(249))).is_err());
        assert_eq!(check_group(&"g".repeat(120)), Ok(()));
        assert!(check_group(&"g".repeat(121)).is_err());
        assert_eq!(check_existing_group(&"g".repeat(255)), Ok(()));
        assert!(check_existing_group(&"g".repeat(256)).is_err());
    }

    #[test]
    fn system_names_are_known() {
        assert!(
            is_system_topic("TBW102")
                && is_system_topic("rmq_sys_anything")
                && !is_system_topic("orders")
        );
        assert!(is_send_forbidden(SCHEDULE_TOPIC) && !is_send_forbidden(TRACE_TOPIC));
        assert!(
            is_system_group("CID_RMQ_SYS_x")
                && is_system_group("TOOLS_CONSUMER")
                && !is_system_group("g")
        );
        assert_eq!(group_of("%DLQ%g"), Some("g"));
        assert_eq!(group_of("g"), None);
    }
}
