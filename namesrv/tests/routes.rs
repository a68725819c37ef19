//! What clients ask for: routes and lists, byte for byte as Java clients read them.

mod support;

use raftmq_remoting::body::TopicRouteData;
use raftmq_remoting::{RemotingCommand, json};
use support::{registration, request, start, table};

#[tokio::test]
async fn routes_are_what_java_clients_of_each_version_expect() {
    let f = start("").await;
    f.register("b-a", 0, "10.0.0.1:10911", 0).await;
    f.register("b-a", 1, "10.0.0.2:10911", 0).await;
    let acting = registration("b-b", 0, "10.0.0.3:10911")
        .with_ext("enableActingMaster", "true")
        .with_ext("__ZONE_NAME", "z€");
    f.call(acting.with_body(table(0, &["T1", "x"]).encode()))
        .await;
    const QUEUES: &str = r#""filterServerTable":{},"queueDatas":[{"brokerName":"b-a","perm":6,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":8},{"brokerName":"b-b","perm":6,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":8}]}"#;
    let new = r#"{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911","1":"10.0.0.2:10911"},"brokerName":"b-a","cluster":"C","enableActingMaster":false},{"brokerAddrs":{"0":"10.0.0.3:10911"},"brokerName":"b-b","cluster":"C","enableActingMaster":true,"zoneName":"z\u20AC"}],"#.to_owned() + QUEUES;
    let old = r#"{"brokerDatas":[{"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911"},"brokerName":"b-a","cluster":"C","enableActingMaster":false},{"brokerAddrs":{0:"10.0.0.3:10911"},"brokerName":"b-b","cluster":"C","enableActingMaster":true,"zoneName":"z€"}],"#.to_owned() + QUEUES;
    for (version, standard, expected) in [
        (317, None, &old),
        (399, None, &old),
        (400, None, &old),
        (400, Some("false"), &old),
        (401, None, &new),
        (479, None, &new),
        (317, Some("true"), &new),
    ] {
        let mut cmd = request(105, &[("topic", "T1")]);
        cmd.version = version;
        if let Some(standard) = standard {
            cmd = cmd.with_ext("acceptStandardJsonOnly", standard);
        }
        let answer = f.call(cmd).await;
        assert_eq!(
            (answer.code, &answer.body.to_bytes()[..]),
            (0, expected.as_bytes()),
            "version {version} {standard:?}"
        );
    }
}

#[tokio::test]
async fn an_unknown_topic_has_code_17_and_the_known_remark() {
    let f = start("").await;
    let answer = f.ask(105, &[("topic", "nope")]).await;
    assert_eq!(answer.code, 17);
    assert_eq!(
        answer.remark.unwrap(),
        "No topic route info in name server for the topic: nope\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details."
    );
    let answer = f.ask(105, &[]).await;
    assert_eq!(
        (answer.code, answer.remark.unwrap().contains("topic")),
        (1, true)
    );
}

#[tokio::test]
async fn unregistering_and_member_groups() {
    let f = start("").await;
    f.register("b", 0, "m:1", 0).await;
    f.register("b", 1, "f:1", 0).await;
    let group = [("clusterName", "C"), ("brokerName", "b")];
    assert_eq!(
        f.text(901, &group).await,
        r#"{"brokerMemberGroup":{"brokerAddrs":{0:"m:1",1:"f:1"},"brokerName":"b","cluster":"C"}}"#
    );
    let gone = [
        ("brokerName", "b"),
        ("brokerAddr", "m:1"),
        ("clusterName", "C"),
        ("brokerId", "0"),
    ];
    assert_eq!(f.ask(104, &gone).await.code, 0);
    assert_eq!(f.ask(104, &gone).await.code, 0);
    assert_eq!(
        f.text(901, &group).await,
        r#"{"brokerMemberGroup":{"brokerAddrs":{1:"f:1"},"brokerName":"b","cluster":"C"}}"#
    );
    assert_eq!(
        f.text(901, &[("clusterName", "C"), ("brokerName", "x")])
            .await,
        r#"{"brokerMemberGroup":{"brokerAddrs":{},"brokerName":"x","cluster":"C"}}"#
    );
}

#[tokio::test]
async fn lists_are_java_s() {
    let f = start("").await;
    let mut body = table(0, &["U1", "U2", "U3", "é"]);
    for (topic, flag) in [("U1", 1), ("U2", 2), ("U3", 3)] {
        let topics = &mut body.topic_config_serialize_wrapper.topic_config_table;
        topics.get_mut(topic).unwrap().topic_sys_flag = flag;
    }
    f.call(registration("b", 0, "m:1").with_body(body.encode()))
        .await;
    assert_eq!(
        f.text(106, &[]).await,
        r#"{"brokerAddrTable":{"b":{"brokerAddrs":{0:"m:1"},"brokerName":"b","cluster":"C","enableActingMaster":false}},"clusterAddrTable":{"C":["b"]}}"#
    );
    assert_eq!(
        f.text(206, &[]).await,
        r#"{"topicList":["U1","U2","U3","é"]}"#
    );
    assert_eq!(
        f.text(224, &[("cluster", "C")]).await,
        r#"{"topicList":["U1","U2","U3","é"]}"#
    );
    assert_eq!(
        f.text(224, &[("cluster", "X")]).await,
        r#"{"topicList":[]}"#
    );
    assert_eq!(
        f.text(304, &[]).await,
        r#"{"brokerAddr":"m:1","topicList":["C","b"]}"#
    );
    assert_eq!(f.text(311, &[]).await, r#"{"topicList":["U1","U3"]}"#);
    assert_eq!(f.text(312, &[]).await, r#"{"topicList":["U2","U3"]}"#);
    assert_eq!(f.text(313, &[]).await, r#"{"topicList":["U2"]}"#);
    f.call(
        RemotingCommand::request(318)
            .with_body("enableAllTopicList=false\nenableTopicList=false\n"),
    )
    .await;
    for (code, fields) in [
        (206, &[][..]),
        (224, &[("cluster", "C")]),
        (304, &[]),
        (311, &[]),
        (312, &[]),
        (313, &[]),
    ] {
        let answer = f.ask(code, fields).await;
        assert_eq!(
            (answer.code, answer.remark.as_deref()),
            (1, Some("disable")),
            "{code}"
        );
    }
}

#[tokio::test]
async fn routes_wait_for_service_when_told() {
    let f = start("needWaitForService=true").await;
    f.register("b", 0, "m:1", 0).await;
    let answer = f.ask(105, &[("topic", "T1")]).await;
    assert_eq!(
        (answer.code, answer.remark.as_deref()),
        (1, Some("name server not ready"))
    );
    f.call(RemotingCommand::request(318).with_body("waitSecondsForService=0"))
        .await;
    assert!(f.route("T1").await.is_some());
}

#[tokio::test]
async fn other_codes_are_not_supported() {
    let f = start("").await;
    for code in [0, -1, 13, 34, 310, 999] {
        let answer = f.ask(code, &[]).await;
        assert_eq!(
            (answer.code, answer.remark),
            (3, Some(format!(" request type {code} not supported")))
        );
    }
}

#[tokio::test]
async fn a_binary_header_is_answered_in_kind() {
    let f = start("").await;
    f.register("b", 0, "m:1", 0).await;
    let mut cmd = request(105, &[("topic", "T1")]);
    cmd.serialize = raftmq_remoting::SerializeType::RocketMq;
    let answer = f.call(cmd).await;
    assert_eq!(
        (answer.code, answer.serialize),
        (0, raftmq_remoting::SerializeType::RocketMq)
    );
    let route: TopicRouteData = json::from_slice(&answer.body.to_bytes()).unwrap();
    assert_eq!(route.broker_datas.len(), 1);
}
