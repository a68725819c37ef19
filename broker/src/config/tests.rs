use super::*;

fn from(pairs: &[(&str, &str)]) -> Result<(Config, Notes), BrokerError> {
    Config::from_map(
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    )
}

fn error(pairs: &[(&str, &str)]) -> String {
    from(pairs).err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn defaults_are_rocketmqs_but_for_the_acknowledgement() {
    let (config, notes) = from(&[]).unwrap();
    assert_eq!(config.listen_port, 10911);
    assert_eq!(config.cluster, "DefaultCluster");
    assert_eq!(config.max_message_size, 4 << 20);
    assert!(config.auto_create_topic && config.auto_create_group && config.long_polling);
    assert_eq!(
        config.ack(),
        AckQuorum::Majority,
        "a majority, unless asked otherwise"
    );
    assert!(notes.warnings.is_empty());
}

#[test]
fn what_is_not_there_is_refused_and_not_ignored() {
    for key in [
        "aclEnable",
        "authenticationEnabled",
        "authorizationEnabled",
        "useTLS",
        "tlsEnable",
        "tlsConfigFile",
        "tlsTestModeEnable",
    ] {
        assert!(error(&[(key, "true")]).contains(key));
        let (_, notes) = from(&[(key, "false")]).unwrap();
        assert!(notes.warnings.is_empty(), "{key}=false asks for nothing");
    }
    assert!(error(&[("tls.server.mode", "enforcing")]).contains("tls.server.mode=enforcing"));
    assert!(error(&[("enableControllerMode", "true")]).contains("enableControllerMode"));
}

fn load(text: &str) -> Result<(Config, Notes), BrokerError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::load(file.path())
}

#[test]
fn a_mistyped_key_is_named_with_its_line_and_what_was_meant() {
    let (config, notes) = load("# flush at once\n\nflushDiskTyp=SYNC_FLUSH\nmyOwn=1\n").unwrap();
    assert_eq!(config.flush, FlushDiskType::Async);
    let text = notes.warnings.join("\n");
    assert!(
        text.contains(":3: unknown setting flushDiskTyp; ignored; did you mean flushDiskType?"),
        "{text}"
    );
    assert!(
        text.ends_with(":4: unknown setting myOwn; ignored"),
        "{text}"
    );
}

#[test]
fn a_line_without_an_equals_sign_is_an_error() {
    let error = |text: &str| load(text).err().map(|e| e.to_string()).unwrap_or_default();
    let text = error("brokerName=b\nno equals\n");
    assert!(text.contains("line 2") && text.contains("\"no\""), "{text}");
    assert!(error("brokerName\n").contains("line 1"));
    assert!(load("brokerName = b\n ! a comment\nnamesrvAddr=\\\n  10.0.0.1:9876\n").is_ok());
    assert!(error("tlsEnable=true\n").contains(":1: tlsEnable=true"));
}

#[test]
fn keys_are_rocketmqs() {
    let (config, _) = from(&[
        ("brokerClusterName", "C"),
        ("brokerName", "b1"),
        ("listenPort", "20911"),
        ("brokerRole", "SYNC_MASTER"),
        ("flushDiskType", "SYNC_FLUSH"),
        ("namesrvAddr", "10.0.0.1:9876;10.0.0.2:9876"),
        ("brokerIP1", "10.0.0.9"),
        ("dLegerPeers", "n0-10.0.0.1:40911;n1-10.0.0.2:40911"),
        ("dLegerSelfId", "n1"),
        ("messageDelayLevel", "1s 2s"),
    ])
    .unwrap();
    assert_eq!(
        (
            config.cluster.as_str(),
            config.name.as_str(),
            config.listen_port
        ),
        ("C", "b1", 20911)
    );
    assert_eq!(config.ack(), AckQuorum::Majority);
    assert_eq!(config.flush, FlushDiskType::Sync);
    assert_eq!(config.name_servers(), ["10.0.0.1:9876", "10.0.0.2:9876"]);
    assert_eq!(
        config.peers().unwrap()[1],
        PeerEntry {
            name: "n1".into(),
            addr: "10.0.0.2:40911".into()
        }
    );
    assert_eq!(config.peer_listen_port().unwrap(), 40911);
    assert_eq!(config.group(), "b1");
    assert_eq!(config.delay_levels.max(), 2);
}

#[test]
fn bad_values_name_key_value_and_range() {
    let text = error(&[("listenPort", "70000")]);
    assert!(
        text.contains("listenPort=70000") && text.contains("65535"),
        "{text}"
    );
    let text = error(&[("registerNameServerPeriod", "1")]);
    assert!(
        text.contains("registerNameServerPeriod=1") && text.contains("10000"),
        "{text}"
    );
    let text = error(&[("autoCreateTopicEnable", "maybe")]);
    assert!(
        text.contains("autoCreateTopicEnable=maybe") && text.contains("true or false"),
        "{text}"
    );
    let text = error(&[("brokerRole", "SLAVE")]);
    assert!(text.contains("elect their master"), "{text}");
    let text = error(&[("ackQuorum", "most")]);
    assert!(text.contains("ackQuorum=most"), "{text}");
    let text = error(&[("messageDelayLevel", "fast")]);
    assert!(text.contains("messageDelayLevel=fast"), "{text}");
    assert!(error(&[("raftPeers", "n0-a:1;n0-b:2")]).contains("raftPeers"));
    assert!(error(&[("raftPeers", "n0-a:1"), ("raftSelfId", "n7")]).contains("raftSelfId=n7"));
    assert!(error(&[("raftPeers", "n0:1")]).contains("raftPeers"));
    assert!(error(&[("electionTimeoutMinMs", "100")]).contains("electionTimeoutMinMs"));
    assert!(error(&[("electionTimeoutMaxMs", "300")]).contains("electionTimeoutMaxMs"));
    assert!(error(&[("brokerIP1", "somewhere")]).contains("brokerIP1"));
    assert!(error(&[("namesrvAddr", "nowhere")]).contains("namesrvAddr"));
}

#[test]
fn unknown_keys_are_named_and_known_ones_are_not() {
    let (_, notes) = from(&[
        ("brokerNmae", "x"),
        ("haListenPort", "10912"),
        ("brokerId", "1"),
        ("enableDLegerCommitLog", "true"),
    ])
    .unwrap();
    assert_eq!(notes.warnings.len(), 1);
    assert!(notes.warnings[0].contains("brokerNmae"));
    assert_eq!(notes.infos.len(), 3);
}

#[test]
fn storage_keys_are_rocketmqs() {
    let (config, notes) = from(&[]).unwrap();
    assert_eq!(
        (
            config.flush_least_pages,
            config.flush_thorough_ms,
            config.warm_segments,
            config.catch_up(),
            config.file_reserved_hours,
            config.delete_when.text(),
            config.clean_interval_ms,
        ),
        (4, 10_000, false, 0, 72, "04", 10_000)
    );
    assert_eq!(
        (
            config.disk_max_used,
            config.disk_clean_forcibly,
            config.disk_warning,
            config.clean_forcibly
        ),
        (75, 85, 95, true)
    );
    assert_eq!((config.max_query, config.default_query), (64, 32));
    assert_eq!(config.scrub_rate, 8 << 20);
    assert!(notes.infos.is_empty());
    let (config, notes) = from(&[
        ("flushCommitLogLeastPages", "0"),
        ("haFlowControlEnable", "true"),
        ("maxHaTransferByteInSecond", "1048576"),
        ("fileReservedTime", "48"),
        ("deleteWhen", "04;16"),
        ("diskMaxUsedSpaceRatio", "98"),
        ("scrubBytesPerSecond", "0"),
        ("messageIndexEnable", "false"),
    ])
    .unwrap();
    assert_eq!(config.catch_up(), 1 << 20);
    assert!(config.delete_when.has(16) && !config.delete_when.has(5));
    assert_eq!((config.scrub_rate, config.flush_least_pages), (0, 0));
    assert!(notes.infos[0].contains("messageIndexEnable=false"));
    assert!(error(&[("deleteWhen", "25")]).contains("deleteWhen=25"));
    assert!(error(&[("fileReservedTime", "-1")]).contains("fileReservedTime=-1"));
    assert!(error(&[("diskSpaceWarningLevelRatio", "101")]).contains("from 1 to 100"));
    assert!(error(&[("cleanResourceInterval", "10")]).contains("1000"));
}

#[test]
fn loopback_and_remote_name_server_do_not_go_together() {
    let (mut config, _) = from(&[
        ("brokerIP1", "127.0.0.1"),
        ("namesrvAddr", "127.0.0.1:9876;localhost:9877"),
    ])
    .unwrap();
    assert!(config.check_registration().is_ok());
    config.namesrv_addr = "10.0.0.1:9876".into();
    let text = config.check_registration().unwrap_err().to_string();
    assert!(
        text.contains("brokerIP1=127.0.0.1") && text.contains("10.0.0.1:9876"),
        "{text}"
    );
    config.ip1 = "10.0.0.2".into();
    assert!(config.check_registration().is_ok());
}

#[test]
fn ack_quorum_overrides_the_role() {
    for (pairs, expected) in [
        (
            &[("brokerRole", "SYNC_MASTER"), ("ackQuorum", "leader")][..],
            AckQuorum::Leader,
        ),
        (
            &[("brokerRole", "ASYNC_MASTER"), ("ackQuorum", "majority")],
            AckQuorum::Majority,
        ),
        (&[("brokerRole", "ASYNC_MASTER")], AckQuorum::Leader),
        (
            &[("brokerRole", "SYNC_MASTER"), ("ackQuorum", "all")],
            AckQuorum::All,
        ),
        (&[("allAckInSyncStateSet", "true")], AckQuorum::All),
        (
            &[("allAckInSyncStateSet", "true"), ("ackQuorum", "majority")],
            AckQuorum::Majority,
        ),
    ] {
        assert_eq!(from(pairs).unwrap().0.ack(), expected, "{pairs:?}");
    }
}

#[test]
fn replicas_to_wait_for() {
    let three = ("raftPeers", "n0-h:1;n1-h:2;n2-h:3");
    let (config, _) = from(&[three, ("inSyncReplicas", "2"), ("minInSyncReplicas", "3")]).unwrap();
    assert_eq!((config.in_sync, config.min_in_sync), (2, 3));
    let text = error(&[three, ("inSyncReplicas", "3")]);
    assert!(
        text.contains("inSyncReplicas=3")
            && text.contains("at most 2")
            && text.contains("ackQuorum=all"),
        "{text}"
    );
    assert!(error(&[("inSyncTimeoutMs", "100")]).contains("from 200 to 60000"));
    assert!(error(&[("replicaEvictAfterMs", "4999")]).contains("at least 5000"));
    assert!(from(&[("replicaEvictAfterMs", "5000"), ("drainTimeout", "0")]).is_ok());
    let (_, notes) = from(&[("enableAutoInSyncReplicas", "true")]).unwrap();
    assert!(notes.infos[0].contains("minInSyncReplicas"), "{notes:?}");
}

#[test]
fn properties_show_what_is_in_force() {
    let (config, _) = from(&[("brokerName", "b7"), ("raftPeers", "n0-h:1")]).unwrap();
    let text = config.to_properties();
    assert!(
        text.contains("brokerName=b7\n") && text.contains("raftPeers=n0-h:1\n"),
        "{text}"
    );
    let map = java_properties::read(text.as_bytes()).unwrap();
    assert!(Config::from_map(map).is_ok(), "what is shown can be read");
    for key in IMPORTANT {
        assert!(config.entries().iter().any(|(k, _)| k == key), "{key}");
    }
}
