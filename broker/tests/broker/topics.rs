use raftmq_remoting::body::{TopicConfig, TopicConfigSerializeWrapper};
use raftmq_remoting::codes::request;
use raftmq_remoting::header::SendMessageResponseHeader;
use raftmq_remoting::json;

use crate::harness::{Send, TestBroker, header, records, remark, text};

async fn config_of(broker: &TestBroker, topic: &str) -> Option<TopicConfig> {
    let answer = broker
        .client
        .ask(request::GET_TOPIC_CONFIG, &[("topic", topic)])
        .await;
    (answer.code == 0).then(|| json::from_slice(&answer.body.to_bytes()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_creates_its_topic_from_the_template() {
    let broker = TestBroker::start().await;
    broker.send("Four", "x").await;
    let four = config_of(&broker, "Four").await.unwrap();
    assert_eq!(
        (four.read_queue_nums, four.write_queue_nums, four.perm),
        (4, 4, 6)
    );
    broker
        .client
        .invoke(Send::to("Many").with("d", "100").command())
        .await;
    assert_eq!(
        config_of(&broker, "Many").await.unwrap().write_queue_nums,
        8,
        "as many as the template has"
    );
    let answer = broker
        .client
        .invoke(Send::to("%RETRY%NewGroup").with("c", "NOPE").command())
        .await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(
        config_of(&broker, "%RETRY%NewGroup")
            .await
            .unwrap()
            .write_queue_nums,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_first_sends_create_one_topic() {
    let broker = TestBroker::start().await;
    let mut tasks = Vec::new();
    for n in 0..40 {
        let client = broker.another_client();
        let send = Send::to("Rush").with("e", "0").body(format!("m{n}"));
        tasks.push(tokio::spawn(
            async move { client.invoke(send.command()).await },
        ));
    }
    let mut offsets = Vec::new();
    for task in tasks {
        let answer = task.await.unwrap();
        assert_eq!(answer.code, 0, "{}", remark(&answer));
        offsets.push(header::<SendMessageResponseHeader>(&answer).queue_offset);
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (0..40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_auto_creation_a_topic_must_exist() {
    let broker = TestBroker::start_with(|c| c.auto_create_topic = false).await;
    let answer = broker.client.invoke(Send::to("New").command()).await;
    assert_eq!(answer.code, 17, "{}", remark(&answer));
    assert!(
        config_of(&broker, "TBW102").await.is_none(),
        "no client may see the template"
    );
    let create = creation("New", &[]);
    assert_eq!(
        broker
            .client
            .ask(request::UPDATE_AND_CREATE_TOPIC, &create)
            .await
            .code,
        0
    );
    broker.send("New", "x").await;
}

fn creation<'a>(topic: &'a str, changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut ext = vec![
        ("topic", topic),
        ("defaultTopic", "TBW102"),
        ("readQueueNums", "4"),
        ("writeQueueNums", "4"),
        ("perm", "6"),
        ("topicFilterType", "SINGLE_TAG"),
        ("topicSysFlag", "0"),
        ("order", "false"),
    ];
    for (k, v) in changes {
        ext.retain(|(key, _)| key != k);
        ext.push((k, v));
    }
    ext
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_changed_listed_and_deleted() {
    let broker = TestBroker::start().await;
    let put = async |changes: &[(&str, &str)]| {
        broker
            .client
            .ask(request::UPDATE_AND_CREATE_TOPIC, &creation("T", changes))
            .await
    };
    assert_eq!(put(&[("attributes", "+message.type=FIFO")]).await.code, 0);
    assert_eq!(
        config_of(&broker, "T").await.unwrap().attributes["message.type"],
        "FIFO"
    );
    assert_eq!(
        put(&[
            ("readQueueNums", "2"),
            ("writeQueueNums", "2"),
            ("perm", "4")
        ])
        .await
        .code,
        0
    );
    let changed = config_of(&broker, "T").await.unwrap();
    assert_eq!((changed.read_queue_nums, changed.perm), (2, 4));
    assert_eq!(changed.attributes["message.type"], "FIFO", "kept");
    assert_eq!(
        broker.client.invoke(Send::to("T").command()).await.code,
        16,
        "read only"
    );

    let all = broker.client.ask(request::GET_ALL_TOPIC_CONFIG, &[]).await;
    let table: TopicConfigSerializeWrapper = json::from_slice(&all.body.to_bytes()).unwrap();
    assert!(table.topic_config_table.contains_key("T"));
    assert!(table.topic_config_table.contains_key("SCHEDULE_TOPIC_XXXX"));
    assert_eq!(
        table.topic_config_table["SCHEDULE_TOPIC_XXXX"].write_queue_nums,
        18
    );
    assert!(table.data_version.state_version > 0, "the term");
    assert!(all.ext.get("totalTopicNum").is_none(), "not in pages");

    assert_eq!(
        broker
            .client
            .ask(request::DELETE_TOPIC_IN_BROKER, &[("topic", "T")])
            .await
            .code,
        0
    );
    assert!(config_of(&broker, "T").await.is_none());
    assert_eq!(
        broker
            .client
            .ask(request::DELETE_TOPIC_IN_BROKER, &[("topic", "T")])
            .await
            .code,
        0,
        "gone is gone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_starts_at_zero() {
    let broker = TestBroker::start().await;
    broker.send("T", "old").await;
    broker.send("T", "old").await;
    broker
        .client
        .ask(request::DELETE_TOPIC_IN_BROKER, &[("topic", "T")])
        .await;
    let answer = broker.send("T", "new").await;
    assert_eq!(header::<SendMessageResponseHeader>(&answer).queue_offset, 0);
    let messages = records(&broker.pull("T", 0).await);
    assert_eq!((messages.len(), messages[0].body.as_str()), (1, "new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_topics_are_refused() {
    let broker = TestBroker::start().await;
    let long = "x".repeat(128);
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], i32, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("TBW102", &[], 29, "is conflict with system topic"),
        ("DefaultCluster", &[], 29, "is conflict with system topic"),
        ("a b", &[], 29, "illegal characters"),
        ("", &[], 29, "blank"),
        (&long, &[], 29, "longer"),
        (
            "T",
            &[("topicFilterType", "X")],
            1,
            "topicFilterType = [X] value invalid",
        ),
        ("T", &[("readQueueNums", "-4")], 29, "queues"),
        ("T", &[("writeQueueNums", "99999999")], 29, "queues"),
        ("T", &[("writeQueueNums", "four")], 1, "writeQueueNums"),
        ("T", &[("perm", "9")], 29, "perm"),
        (
            "T",
            &[("attributes", "+foo=bar")],
            1,
            "unsupported key: foo",
        ),
        ("T", &[("attributes", "+message.type=MIXED")], 29, "MIXED"),
    ];
    for (topic, changes, code, part) in cases {
        let answer = broker
            .client
            .ask(request::UPDATE_AND_CREATE_TOPIC, &creation(topic, changes))
            .await;
        assert_eq!(
            answer.code,
            code,
            "{topic} {changes:?}: {}",
            remark(&answer)
        );
        assert!(
            remark(&answer).contains(part),
            "{topic} {changes:?}: {}",
            remark(&answer)
        );
    }
    let answer = broker
        .client
        .ask(request::DELETE_TOPIC_IN_BROKER, &[("topic", "TBW102")])
        .await;
    assert_eq!(answer.code, 29);
    assert_eq!(
        broker
            .client
            .ask(request::DELETE_TOPIC_IN_BROKER, &[])
            .await
            .code,
        29
    );
    let answer = broker
        .client
        .ask(request::GET_TOPIC_CONFIG, &[("topic", "Nope")])
        .await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (17, "No topic in this broker. topic: Nope")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_topics_are_all_or_none() {
    let broker = TestBroker::start().await;
    let list = |second: &str| {
        format!(
            r#"{{"topicConfigList":[{{"topicName":"L1","readQueueNums":2,"writeQueueNums":2,"perm":6}},
               {{"topicName":"{second}","readQueueNums":2,"writeQueueNums":2,"perm":6}}]}}"#
        )
    };
    let put = async |body: String| {
        broker
            .client
            .ask_with(request::UPDATE_AND_CREATE_TOPIC_LIST, &[], body)
            .await
    };
    assert_eq!(put(list("TBW102")).await.code, 29);
    assert!(config_of(&broker, "L1").await.is_none());
    assert_eq!(put(list("L2")).await.code, 0);
    assert!(config_of(&broker, "L1").await.is_some() && config_of(&broker, "L2").await.is_some());
    assert_eq!(put("nonsense".into()).await.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn system_topics_are_listed() {
    let broker = TestBroker::start().await;
    let answer = broker
        .client
        .ask(request::GET_SYSTEM_TOPIC_LIST_FROM_BROKER, &[])
        .await;
    for topic in [
        "TBW102",
        "SCHEDULE_TOPIC_XXXX",
        "DefaultCluster",
        "RMQ_SYS_TRANS_HALF_TOPIC",
    ] {
        assert!(text(&answer).contains(topic), "{topic}");
    }
}
