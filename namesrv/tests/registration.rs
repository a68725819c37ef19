//! How brokers come, stay and go, over the wire; and what is made of bad registrations.

mod support;

use std::time::Duration;

use raftmq_remoting::message::body_crc;
use raftmq_remoting::{ClientOptions, RemotingClient, RemotingCommand, json};
use support::{client, field, registration, request, send, start, table};

#[tokio::test]
async fn a_registration_comes_plain_or_deflated_whatever_the_header_says() {
    let f = start("").await;
    let body = table(0, &["T1", "T2"]);
    let (plain, deflated) = (body.encode(), body.encode_compressed(479));
    let mut addr = 0;
    for (compressed, bytes) in [
        ("false", &plain),
        ("true", &deflated),
        ("false", &deflated),
        ("true", &plain),
    ] {
        for crc in [0, body_crc(bytes)] {
            addr += 1;
            let cmd = registration(&format!("b{addr}"), 0, &format!("h{addr}:1"))
                .with_ext("compressed", compressed);
            let answer = f
                .call(
                    cmd.with_ext("bodyCrc32", crc.to_string())
                        .with_body(bytes.clone()),
                )
                .await;
            assert_eq!((answer.code, answer.remark), (0, None));
        }
    }
    assert_eq!(f.route("T2").await.unwrap().broker_datas.len(), addr);
}

#[tokio::test]
async fn a_registration_of_an_old_broker_is_the_topic_table_alone() {
    let f = start("").await;
    let wrapper = json::to_bytes(&table(0, &["T1", "T2"]).topic_config_serialize_wrapper);
    let mut cmd = registration("b", 0, "h:1").with_body(wrapper);
    cmd.version = 36;
    assert_eq!(f.call(cmd).await.code, 0);
    assert!(f.route("T1").await.is_some());
}

#[tokio::test]
async fn followers_learn_their_master_and_the_order_configuration() {
    let f = start("orderMessageEnable=true").await;
    let answer = f.register("b", 0, "m:1", 0).await;
    assert_eq!(
        (answer.code, field(&answer, "masterAddr"), answer.body.len()),
        (0, None, 0)
    );
    f.ask(
        100,
        &[
            ("namespace", "ORDER_TOPIC_CONFIG"),
            ("key", "T1"),
            ("value", "b:8"),
        ],
    )
    .await;
    let answer = f.register("b", 1, "f:1", 0).await;
    assert_eq!(
        (field(&answer, "masterAddr"), field(&answer, "haServerAddr")),
        (Some("m:1"), Some("m:12"))
    );
    assert_eq!(answer.body.to_bytes(), r#"{"table":{"T1":"b:8"}}"#);
    assert_eq!(
        f.route("T1").await.unwrap().order_topic_conf.as_deref(),
        Some("b:8")
    );
    assert_eq!(f.route("T2").await.unwrap().order_topic_conf, None);
}

#[tokio::test]
async fn bad_registrations_are_refused_and_change_nothing() {
    let f = start("").await;
    f.register("b", 0, "m:1", 0).await;
    let before = f.text(106, &[]).await;
    let good = table(0, &["T1", "T2"]).encode();
    let deflated = table(0, &["T1", "T2"]).encode_compressed(479);
    let reg = || registration("bad", 0, "bad:1");
    let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..65 {
        std::io::Write::write_all(&mut bomb, &vec![0; 1 << 20]).unwrap();
    }
    for cmd in [
        reg().with_body("{\"garb"),
        reg().with_body("{\"topicConfigSerializeWrapper\":7}"),
        reg().with_body(vec![1, 2, 3, 4]),
        reg()
            .with_ext("compressed", "true")
            .with_body(deflated.slice(..deflated.len() / 2)),
        reg().with_body(bomb.finish().unwrap()),
        reg().with_ext("bodyCrc32", "77").with_body(good.clone()),
        reg().with_ext("brokerId", "x").with_body(good.clone()),
        reg().with_ext("brokerName", "").with_body(good.clone()),
        reg()
            .with_ext("heartbeatTimeoutMillis", "-5")
            .with_body(good.clone()),
        reg().with_body(table(0, &["T1"]).encode()),
        request(103, &[("brokerName", "bad")]),
    ] {
        let answer = f.call(cmd.clone()).await;
        assert_eq!(answer.code, 1, "{cmd:?}");
        assert!(!answer.remark.unwrap().is_empty());
    }
    for seed in 0..200u32 {
        let noise: Vec<u8> = (0..seed)
            .map(|i| {
                (seed
                    .wrapping_mul(2_654_435_761)
                    .wrapping_add(i * i * 40_503)
                    >> 13) as u8
            })
            .collect();
        let answer = f
            .call(reg().with_body([&b"\x78\xDA"[..], &noise].concat()))
            .await;
        assert_eq!(answer.code, 1);
    }
    assert_eq!(f.text(106, &[]).await, before);
}

#[tokio::test]
async fn a_stale_master_never_replaces_a_newer_one() {
    let f = start("").await;
    f.register("b", 0, "old:1", 3).await;
    f.register("b", 0, "new:1", 4).await;
    let answer = f.register("b", 0, "old:1", 3).await;
    assert_eq!((answer.code, field(&answer, "masterAddr")), (0, None));
    assert_eq!(
        f.route("T1").await.unwrap().broker_datas[0].broker_addrs,
        [(0, "new:1".to_owned())].into()
    );
    f.register("b", 1, "old:1", 4).await;
    assert_eq!(
        f.route("T1").await.unwrap().broker_datas[0]
            .broker_addrs
            .len(),
        2
    );
}

#[tokio::test]
async fn a_closed_connection_unregisters_at_once() {
    let f = start("").await;
    let broker = client();
    let cmd = registration("b", 0, "m:1").with_body(table(0, &["T1", "T2"]).encode());
    assert_eq!(send(&broker, f.server.local_addr(), cmd).await.code, 0);
    assert!(f.route("T1").await.is_some());
    broker.close();
    tokio::time::timeout(Duration::from_secs(5), async {
        while f.route("T1").await.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the broker stayed");
    assert_eq!(
        f.text(106, &[]).await,
        r#"{"brokerAddrTable":{},"clusterAddrTable":{}}"#
    );
}

#[tokio::test]
async fn a_silent_broker_is_evicted() {
    let f = start("scanNotActiveBrokerInterval=100").await;
    let short = registration("b", 0, "m:1").with_ext("heartbeatTimeoutMillis", "400");
    f.call(short.with_body(table(0, &["T1", "T2"]).encode()))
        .await;
    let beat = [
        ("clusterName", "C"),
        ("brokerName", "b"),
        ("brokerAddr", "m:1"),
    ];
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(f.ask(904, &beat).await.code, 0);
    }
    assert!(f.route("T1").await.is_some());
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert!(f.route("T1").await.is_none());
    assert_eq!(
        f.ask(904, &beat).await.code,
        0,
        "as with Java, an unknown broker's heartbeat is no error"
    );
}

#[tokio::test]
async fn data_versions_are_compared() {
    let f = start("").await;
    f.register("b", 0, "m:1", 4).await;
    let ask = |addr: &'static str, body: &'static str| {
        request(
            322,
            &[
                ("clusterName", "C"),
                ("brokerName", "b"),
                ("brokerAddr", addr),
                ("brokerId", "0"),
            ],
        )
        .with_body(body)
    };
    let ours = r#"{"counter":0,"stateVersion":4,"timestamp":1}"#;
    for (addr, body, changed, expected) in [
        ("m:1", ours, "false", ours),
        (
            "m:1",
            r#"{"counter":1,"stateVersion":4,"timestamp":1}"#,
            "true",
            ours,
        ),
        ("x:1", ours, "true", ""),
    ] {
        let answer = f.call(ask(addr, body)).await;
        assert_eq!((answer.code, field(&answer, "changed")), (0, Some(changed)));
        assert_eq!(answer.body.to_bytes(), expected);
    }
    assert_eq!(f.call(ask("m:1", "{{")).await.code, 1);
}

#[tokio::test]
async fn deleted_topics_go_only_when_told() {
    for (setting, kept) in [("false", true), ("true", false)] {
        let f = start(&format!("deleteTopicWithBrokerRegistration={setting}")).await;
        f.register("b", 0, "m:1", 0).await;
        f.call(registration("b", 0, "m:1").with_body(table(1, &["T1", "T3"]).encode()))
            .await;
        assert_eq!(f.route("T2").await.is_some(), kept);
        assert!(f.route("T3").await.is_some());
    }
}

#[tokio::test]
async fn members_are_told_of_a_new_lowest_id() {
    struct Pushed(tokio::sync::mpsc::UnboundedSender<RemotingCommand>);
    impl raftmq_remoting::Handler for Pushed {
        fn handle(&self, request: raftmq_remoting::Request) {
            self.0.send(request.cmd).unwrap();
        }
    }
    let f = start("notifyMinBrokerIdChanged=true").await;
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    let follower = RemotingClient::new(
        ClientOptions::default(),
        Some(std::sync::Arc::new(Pushed(tx))),
    );
    let cmd = registration("b", 2, "f:1").with_body(table(0, &["T1", "T2"]).encode());
    send(&follower, f.server.local_addr(), cmd).await;
    f.register("b", 0, "m:1", 0).await;
    let mut told = async || {
        tokio::time::timeout(Duration::from_secs(5), rx.recv())
            .await
            .unwrap()
            .unwrap()
    };
    let push = told().await;
    assert!(push.is_oneway());
    assert_eq!(
        (
            push.code,
            field(&push, "minBrokerId"),
            field(&push, "minBrokerAddr")
        ),
        (905, Some("0"), Some("m:1"))
    );
    f.ask(
        104,
        &[
            ("brokerName", "b"),
            ("brokerAddr", "m:1"),
            ("clusterName", "C"),
            ("brokerId", "0"),
        ],
    )
    .await;
    let push = told().await;
    assert_eq!(
        (
            field(&push, "minBrokerId"),
            field(&push, "offlineBrokerAddr")
        ),
        (Some("2"), Some("m:1"))
    );
}
