//! Editing topics, key-value pairs and settings, over the wire.

mod support;

use raftmq_namesrv::{NameServer, NamesrvConfig};
use raftmq_remoting::body::{QueueData, TopicRouteData};
use raftmq_remoting::{RemotingCommand, json};
use support::{Fixture, field, request, start};

#[tokio::test]
async fn topics_are_edited() {
    let f = start("").await;
    f.register("b", 0, "m:1", 0).await;
    let answer = f.ask(205, &[("brokerName", "b")]).await;
    assert_eq!(
        (answer.code, field(&answer, "wipeTopicCount")),
        (0, Some("2"))
    );
    assert_eq!(f.route("T1").await.unwrap().queue_datas[0].perm, 4);
    let answer = f.ask(327, &[("brokerName", "b")]).await;
    assert_eq!(
        (answer.code, field(&answer, "addTopicCount")),
        (0, Some("2"))
    );
    assert_eq!(f.route("T1").await.unwrap().queue_datas[0].perm, 6);
    assert_eq!(
        field(&f.ask(205, &[("brokerName", "x")]).await, "wipeTopicCount"),
        Some("0")
    );

    let queues = |name: &str| QueueData {
        broker_name: name.into(),
        perm: 6,
        read_queue_nums: 4,
        ..QueueData::default()
    };
    let route = TopicRouteData {
        queue_datas: vec![queues("b"), queues("x")],
        ..TopicRouteData::default()
    };
    assert_eq!(
        f.call(request(217, &[("topic", "N")]).with_body(json::to_bytes(&route)))
            .await
            .code,
        0
    );
    assert_eq!(f.route("N").await.unwrap().queue_datas, [queues("b")]);
    assert_eq!(f.ask(217, &[("topic", "M")]).await.code, 0);
    assert_eq!(
        f.call(request(217, &[("topic", "M")]).with_body("["))
            .await
            .code,
        1
    );
    assert_eq!(
        f.ask(216, &[("topic", "N"), ("clusterName", "X")])
            .await
            .code,
        0
    );
    assert!(f.route("N").await.is_some());
    assert_eq!(
        f.ask(216, &[("topic", "N"), ("clusterName", "C")])
            .await
            .code,
        0
    );
    assert!(f.route("N").await.is_none());
    assert_eq!(f.ask(216, &[("topic", "T1")]).await.code, 0);
    assert!(f.route("T1").await.is_none());
}

#[tokio::test]
async fn key_values_are_kept_across_a_restart() {
    let f = start("").await;
    let key = |key| [("namespace", "N"), ("key", key)];
    assert_eq!(
        f.ask(100, &[("namespace", "N"), ("key", "k"), ("value", "v")])
            .await
            .code,
        0
    );
    assert_eq!(field(&f.ask(101, &key("k")).await, "value"), Some("v"));
    let answer = f.ask(101, &key("x")).await;
    assert_eq!(
        (answer.code, answer.remark.as_deref()),
        (22, Some("No config item, Namespace: N Key: x"))
    );
    assert_eq!(
        f.text(219, &[("namespace", "N")]).await,
        r#"{"table":{"k":"v"}}"#
    );
    let answer = f.ask(219, &[("namespace", "X")]).await;
    assert_eq!(
        (answer.code, answer.remark.as_deref()),
        (22, Some("No config item, Namespace: X"))
    );
    assert_eq!(f.ask(100, &key("novalue")).await.code, 1);
    f.ask(100, &[("namespace", "N"), ("key", "gone"), ("value", "v")])
        .await;
    assert_eq!(f.ask(102, &key("gone")).await.code, 0);
    assert_eq!(
        f.ask(102, &[("namespace", "X"), ("key", "k")]).await.code,
        0
    );

    let Fixture {
        server,
        client,
        dir,
    } = f;
    client.close();
    server.shutdown().await;
    let file = dir.path().join("kvConfig.json");
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        r#"{"configTable":{"N":{"k":"v"}}}"#
    );
    let server = NameServer::start(NamesrvConfig::load(&dir.path().join("namesrv.conf")).unwrap())
        .await
        .unwrap();
    let f = Fixture {
        server,
        client: support::client(),
        dir,
    };
    assert_eq!(field(&f.ask(101, &key("k")).await, "value"), Some("v"));
}

#[tokio::test]
async fn the_configuration_is_read_and_changed() {
    let f = start("").await;
    assert!(
        f.text(319, &[])
            .await
            .contains("orderMessageEnable=false\n")
    );
    let update = |text: &'static str| RemotingCommand::request(318).with_body(text);
    assert_eq!(f.call(update("orderMessageEnable=true\n")).await.code, 0);
    assert!(f.text(319, &[]).await.contains("orderMessageEnable=true\n"));
    for (text, code, remark) in [
        (
            "kvConfigPath=/tmp/x",
            16,
            "Can not update config in black list.",
        ),
        (
            "listenPort=1",
            16,
            "listenPort cannot be changed while the name server runs",
        ),
        ("foo=1", 1, "unknown key foo"),
        (
            "orderMessageEnable=2",
            1,
            "orderMessageEnable=2: true or false is wanted",
        ),
    ] {
        let answer = f.call(update(text)).await;
        assert_eq!(
            (answer.code, answer.remark.as_deref()),
            (code, Some(remark))
        );
    }
    assert_eq!(f.ask(318, &[]).await.code, 0);
}

/// It was forgotten with the process; RocketMQ writes it into its settings file.
#[tokio::test]
async fn a_changed_setting_outlives_the_process() {
    let f = start("enableTopicList=false\nwaitSecondsForService=7\n").await;
    let update = |text: &'static str| RemotingCommand::request(318).with_body(text);
    let first = update("orderMessageEnable=true\nwaitSecondsForService=9\n");
    assert_eq!(f.call(first).await.code, 0);
    assert_eq!(f.call(update("enableTopicList=true")).await.code, 0);
    let bad = update("waitSecondsForService=8\nfoo=1");
    assert_eq!(f.call(bad).await.code, 1);
    let file = f.dir.path().join("namesrv.conf");
    let Fixture { server, dir, .. } = f;
    server.shutdown().await;

    let config = NamesrvConfig::load(&file).unwrap();
    let server = NameServer::start(config).await.unwrap();
    let client = support::client();
    let shown = support::send(&client, server.local_addr(), request(319, &[])).await;
    let shown = String::from_utf8(shown.body.to_bytes().to_vec()).unwrap();
    for line in [
        "enableTopicList=true\n",
        "orderMessageEnable=true\n",
        "waitSecondsForService=9\n",
    ] {
        assert!(shown.contains(line), "{line} {shown}");
    }
    server.shutdown().await;
    // What was there before a crash is kept whole: a file that is no such file is not overwritten.
    let kept = dir.path().join("kvConfig.namesrv.json");
    std::fs::write(&kept, "{").unwrap();
    let config = NamesrvConfig::load(&file).unwrap();
    assert!(NameServer::start(config).await.is_err());
}
