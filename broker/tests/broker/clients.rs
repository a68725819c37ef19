use std::time::Duration;

use raftmq_remoting::body::{ConsumerConnection, GetConsumerListByGroupResponseBody};
use raftmq_remoting::codes::request;
use raftmq_remoting::{RemotingCommand, json};

use crate::harness::{Client, Pull, TestBroker, eventually, remark, text};

fn heartbeat(client: &str, topics: &[&str], fingerprint: i32, without_sub: bool) -> String {
    let subscriptions: Vec<String> = topics
        .iter()
        .map(|t| {
            format!(
                r#"{{"classFilterMode":false,"topic":"{t}","subString":"*","tagsSet":[],"codeSet":[],"subVersion":5,
                    "expressionType":"TAG"}}"#
            )
        })
        .collect();
    format!(
        r#"{{"clientID":"{client}","producerDataSet":[{{"groupName":"PG"}}],"consumerDataSet":[{{"groupName":"G",
            "consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET",
            "subscriptionDataSet":[{}],"unitMode":false}}],"heartbeatFingerprint":{fingerprint},
            "withoutSub":{without_sub}}}"#,
        subscriptions.join(",")
    )
}

async fn beat(client: &Client, body: String) -> RemotingCommand {
    let answer = client.ask_with(request::HEART_BEAT, &[], body).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(answer.ext.get("IS_SUPPORT_HEART_BEAT_V2"), Some("true"));
    answer
}

async fn ids(broker: &TestBroker) -> Option<Vec<String>> {
    let answer = broker
        .client
        .ask(
            request::GET_CONSUMER_LIST_BY_GROUP,
            &[("consumerGroup", "G")],
        )
        .await;
    if answer.code != 0 {
        assert_eq!(
            (answer.code, remark(&answer)),
            (1, "no consumer for this group, G")
        );
        return None;
    }
    let body: GetConsumerListByGroupResponseBody =
        json::from_slice(&answer.body.to_bytes()).unwrap();
    Some(body.consumer_id_list)
}

async fn told(client: &mut Client) -> bool {
    let wait = tokio::time::timeout(Duration::from_secs(2), client.pushes.recv()).await;
    match wait {
        Ok(Some(push)) => {
            assert_eq!(push.code, request::NOTIFY_CONSUMER_IDS_CHANGED);
            assert!(push.is_oneway());
            assert_eq!(push.ext.get("consumerGroup"), Some("G"));
            true
        }
        _ => false,
    }
}

fn drain(client: &mut Client) {
    while client.pushes.try_recv().is_ok() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_listed_and_told_of_changes() {
    let broker = TestBroker::start().await;
    assert_eq!(ids(&broker).await, None);
    let (mut first, mut second) = (broker.another_client(), broker.another_client());
    beat(&first, heartbeat("c1", &["T"], 0, false)).await;
    assert_eq!(ids(&broker).await.unwrap(), ["c1"]);
    assert!(told(&mut first).await, "of its own joining");
    drain(&mut first);
    beat(&second, heartbeat("c2", &["T"], 0, false)).await;
    assert!(
        told(&mut first).await && told(&mut second).await,
        "of the second's joining"
    );
    assert_eq!(ids(&broker).await.unwrap(), ["c1", "c2"]);
    drain(&mut first);
    drain(&mut second);
    beat(&second, heartbeat("c2", &["T"], 0, false)).await;
    assert!(
        tokio::time::timeout(Duration::from_millis(300), first.pushes.recv())
            .await
            .is_err(),
        "nothing new"
    );
    beat(&second, heartbeat("c2", &["T", "U"], 0, false)).await;
    assert!(told(&mut first).await, "of a changed subscription");
    drain(&mut first);
    second.channel().await.close("the test says so");
    assert!(told(&mut first).await, "of a closed connection");
    assert_eq!(ids(&broker).await.unwrap(), ["c1"]);
    let leave = [
        ("clientID", "c1"),
        ("producerGroup", "PG"),
        ("consumerGroup", "G"),
    ];
    assert_eq!(first.ask(request::UNREGISTER_CLIENT, &leave).await.code, 0);
    assert_eq!(ids(&broker).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn fingerprints_ask_for_full_heartbeats() {
    let broker = TestBroker::start().await;
    let client = broker.another_client();
    let change = async |fingerprint, without| {
        let answer = beat(
            &client,
            heartbeat(
                "c1",
                if without { &[] } else { &["T"] },
                fingerprint,
                without,
            ),
        )
        .await;
        answer.ext.get("IS_SUB_CHANGE") == Some("true")
    };
    assert!(change(0, false).await, "the plain form");
    assert!(change(77, true).await, "unknown here: send everything");
    assert!(change(77, false).await, "first of this kind");
    assert!(!change(77, false).await);
    assert!(!change(77, true).await);
    assert!(change(78, true).await, "another content");
    // The subscriptions survive heartbeats that leave them out.
    broker.send("T", "x").await;
    let pull = Pull::of("T")
        .with("consumerGroup", "G")
        .with("sysFlag", "0")
        .with("subVersion", "5");
    let answer = broker.client.invoke(pull.command()).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_use_the_subscription_of_the_heartbeat() {
    let broker = TestBroker::start().await;
    broker.send("T", "x").await;
    broker.send("U", "x").await;
    beat(&broker.client, heartbeat("c1", &["T"], 0, false)).await;
    let pull = async |topic: &str, version: &str| {
        let pull = Pull::of(topic)
            .with("consumerGroup", "G")
            .with("sysFlag", "0")
            .with("subVersion", version);
        broker.client.invoke(pull.command()).await.code
    };
    assert_eq!(pull("T", "5").await, 0);
    assert_eq!(pull("T", "9").await, 25);
    assert_eq!(pull("U", "5").await, 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_makes_the_retry_topic() {
    let broker = TestBroker::start().await;
    beat(&broker.client, heartbeat("c1", &["T"], 0, false)).await;
    eventually("the retry topic exists", || async {
        broker
            .client
            .ask(request::GET_TOPIC_CONFIG, &[("topic", "%RETRY%G")])
            .await
            .code
            == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_shown() {
    let broker = TestBroker::start().await;
    let answer = broker
        .client
        .ask(
            request::GET_CONSUMER_CONNECTION_LIST,
            &[("consumerGroup", "G")],
        )
        .await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (206, "the consumer group[G] not online")
    );
    let answer = broker
        .client
        .ask(
            request::GET_PRODUCER_CONNECTION_LIST,
            &[("producerGroup", "PG")],
        )
        .await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (1, "the producer group[PG] not exist")
    );
    beat(&broker.client, heartbeat("c1", &["T"], 0, false)).await;
    let answer = broker
        .client
        .ask(
            request::GET_CONSUMER_CONNECTION_LIST,
            &[("consumerGroup", "G")],
        )
        .await;
    let shown: ConsumerConnection = json::from_slice(&answer.body.to_bytes()).unwrap();
    assert_eq!(shown.connection_set[0].client_id, "c1");
    assert_eq!(shown.subscription_table["T"].sub_version, 5);
    assert!(text(&answer).contains("CONSUME_FROM_FIRST_OFFSET"));
    let answer = broker
        .client
        .ask(
            request::GET_PRODUCER_CONNECTION_LIST,
            &[("producerGroup", "PG")],
        )
        .await;
    assert!(text(&answer).contains(r#""clientId":"c1""#));
    let answer = broker
        .client
        .ask(request::QUERY_TOPIC_CONSUME_BY_WHO, &[("topic", "T")])
        .await;
    assert_eq!(text(&answer), r#"{"groupList":["G"]}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_heartbeats_are_refused() {
    let broker = TestBroker::start().await;
    for bad in ["", "{{{", "[1]"] {
        assert_eq!(
            broker
                .client
                .ask_with(request::HEART_BEAT, &[], bad)
                .await
                .code,
            1,
            "{bad:?}"
        );
    }
    assert_eq!(
        broker
            .client
            .ask(request::GET_CONSUMER_LIST_BY_GROUP, &[])
            .await
            .code,
        1
    );
    let illegal =
        heartbeat("c1", &["T"], 0, false).replace(r#""groupName":"G""#, r#""groupName":"a b""#);
    beat(&broker.client, illegal).await;
    let answer = broker
        .client
        .ask(
            request::GET_CONSUMER_LIST_BY_GROUP,
            &[("consumerGroup", "a b")],
        )
        .await;
    assert_eq!(answer.code, 1, "not a group");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_are_forgotten() {
    let broker = TestBroker::start_with(|c| c.channel_expired_ms = 1_000).await;
    let client = broker.another_client();
    beat(&client, heartbeat("c1", &["T"], 0, false)).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    eventually("the client is forgotten", || async {
        ids(&broker).await.is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_are_checked_before_use() {
    let broker = TestBroker::start().await;
    let check = async |kind: &str| {
        let body = format!(
            r#"{{"clientId":"c1","group":"G","subscriptionData":{{"topic":"T","subString":"x","expressionType":"{kind}"}}}}"#
        );
        broker
            .client
            .ask_with(request::CHECK_CLIENT_CONFIG, &[], body)
            .await
            .code
    };
    assert_eq!(check("TAG").await, 0);
    assert_eq!(check("SQL92").await, 1);
    assert_eq!(
        broker
            .client
            .ask_with(request::CHECK_CLIENT_CONFIG, &[], "")
            .await
            .code,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_by_class_is_refused_by_name() {
    let broker = TestBroker::start().await;
    broker.send("T", "a").await;
    let by_class = heartbeat("c1", &["T"], 0, false)
        .replace(r#""classFilterMode":false"#, r#""classFilterMode":true"#)
        .replace(r#""subString":"*""#, r#""subString":"org.example.Mine""#);
    beat(&broker.client, by_class).await;
    let own = Pull::of("T").with("consumerGroup", "G");
    let beaten = own.with("sysFlag", "2").with("subVersion", "5").command();
    let answer = broker.client.invoke(beaten).await;
    let why = "filter by class is not supported";
    assert_eq!(answer.code, 27, "{}", remark(&answer));
    assert!(remark(&answer).ends_with(why), "{}", remark(&answer));
    let flagged = Pull::of("T").with("sysFlag", "12").command();
    let answer = broker.client.invoke(flagged).await;
    assert_eq!(answer.code, 23, "{}", remark(&answer));
    assert!(remark(&answer).ends_with(why), "{}", remark(&answer));
    let check = r#"{"clientId":"c","group":"G","subscriptionData":{"classFilterMode":true,"topic":"T","subString":"x"}}"#;
    let answer = broker
        .client
        .ask_with(request::CHECK_CLIENT_CONFIG, &[], check)
        .await;
    assert_eq!((answer.code, remark(&answer)), (23, why));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_would_be_kept_have_a_limit() {
    let broker = TestBroker::start().await;
    let long = "x".repeat(256);
    let with_control = "a\\u0000b";
    for name in [long.as_str(), with_control] {
        let bodies = [
            heartbeat(name, &["T"], 0, false),
            heartbeat("c", &[name], 0, false),
            format!(r#"{{"clientID":"c","producerDataSet":[{{"groupName":"{name}"}}]}}"#),
            format!(r#"{{"clientID":"c","consumerDataSet":[{{"groupName":"{name}"}}]}}"#),
        ];
        for body in bodies {
            let answer = broker.client.ask_with(request::HEART_BEAT, &[], body).await;
            assert_eq!(answer.code, 1);
            assert!(
                remark(&answer).contains("longer than 255 bytes"),
                "{}",
                remark(&answer)
            );
        }
        let lock =
            format!(r#"{{"clientId":"{name}","consumerGroup":"G","mqSet":[{{"topic":"T"}}]}}"#);
        let answer = broker
            .client
            .ask_with(request::LOCK_BATCH_MQ, &[], lock)
            .await;
        assert_eq!(answer.code, 1, "{}", remark(&answer));
    }
    beat(
        &broker.client,
        heartbeat(&"x".repeat(255), &["T"], 0, false),
    )
    .await;
    assert_eq!(ids(&broker).await, Some(vec!["x".repeat(255)]));
}

/// 0.5 MB that took 3 GB: each of 10 000 groups had a copy of a client id of 300 KB.
#[tokio::test(flavor = "multi_thread")]
async fn many_groups_of_one_client_share_its_id_and_all_clients_have_a_bound() {
    let broker = TestBroker::start().await;
    let groups = |n: usize| -> String {
        let each = (0..9_000).map(|g| format!(r#"{{"groupName":"P{n}-{g}"}}"#));
        each.collect::<Vec<_>>().join(",")
    };
    let id = "x".repeat(255);
    let mut code = 0;
    for n in 0..20 {
        let body = format!(r#"{{"clientID":"{id}","producerDataSet":[{}]}}"#, groups(n));
        assert!(body.len() < 400_000);
        let answer = broker.client.ask_with(request::HEART_BEAT, &[], body).await;
        code = answer.code;
        if code != 0 {
            assert_eq!(code, 2, "{}", remark(&answer));
            break;
        }
    }
    assert_eq!(code, 2, "there is a bound");
    // With the connection goes what it said.
    broker.client.close();
    let other = broker.another_client();
    eventually("there is room again", || async {
        let answer = other
            .ask_with(request::HEART_BEAT, &[], heartbeat("c", &["T"], 0, false))
            .await;
        answer.code == 0
    })
    .await;
}
