use raftmq_remoting::body::{
    BrokerStatsData, ConsumeStats, KVTable, MessageQueue, TopicStatsTable,
};
use raftmq_remoting::codes::request;
use raftmq_remoting::json;

use crate::harness::{TestBroker, remark, text};

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_runtime_are_shown() {
    let broker = TestBroker::start().await;
    broker.send("T", "x").await;
    let answer = broker.client.ask(request::GET_BROKER_CONFIG, &[]).await;
    assert!(text(&answer).contains("brokerName=broker-a\n"));
    assert!(
        answer
            .ext
            .get("version")
            .is_some_and(|v| v.contains("stateVersion"))
    );
    let answer = broker
        .client
        .ask(request::GET_BROKER_RUNTIME_INFO, &[])
        .await;
    let table: KVTable = json::from_slice(&answer.body.to_bytes()).unwrap();
    for key in [
        "putTps",
        "getTransferredTps",
        "getTransferedTps",
        "sendThreadPoolQueueSize",
        "pullThreadPoolQueueSize",
        "sendThreadPoolQueueHeadWaitTimeMills",
        "pullThreadPoolQueueHeadWaitTimeMills",
        "pageCacheLockTimeMills",
        "earliestMessageTimeStamp",
        "commitLogDiskRatio",
        "timerReadBehind",
        "timerCongestNum",
        "brokerVersionDesc",
        "brokerActive",
        "runtime",
        "commitLogDirCapacity",
        "dispatchMaxBuffer",
    ] {
        assert!(table.table.contains_key(key), "{key}");
    }
    assert_eq!(table.table["msgPutTotalTodayNow"], "1");
    assert!(table.table["commitLogMaxOffset"].parse::<i64>().unwrap() > 0);
    assert_eq!(table.table["putTps"].split_whitespace().count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_and_consume_stats() {
    let broker = TestBroker::start().await;
    for body in ["a", "b", "c"] {
        broker.send("T", body).await;
    }
    let answer = broker
        .client
        .ask(request::GET_TOPIC_STATS_INFO, &[("topic", "T")])
        .await;
    let stats: TopicStatsTable = json::from_slice(&answer.body.to_bytes()).unwrap();
    assert_eq!(stats.offset_table.len(), 4);
    let first = &stats.offset_table[&MessageQueue::new("T", "broker-a", 0)];
    assert_eq!((first.min_offset, first.max_offset), (0, 3));
    assert!(first.last_update_timestamp > 0);
    let answer = broker
        .client
        .ask(request::GET_TOPIC_STATS_INFO, &[("topic", "Nope")])
        .await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (17, "topic[Nope] not exist")
    );

    let group = r#"{"groupName":"G"}"#;
    broker
        .client
        .ask_with(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], group)
        .await;
    let commit = [
        ("consumerGroup", "G"),
        ("topic", "T"),
        ("queueId", "0"),
        ("commitOffset", "2"),
    ];
    assert_eq!(
        broker
            .client
            .ask(request::UPDATE_CONSUMER_OFFSET, &commit)
            .await
            .code,
        0
    );
    for ext in [
        vec![("consumerGroup", "G")],
        vec![("consumerGroup", "G"), ("topicList", "T;Nope")],
    ] {
        let answer = broker.client.ask(request::GET_CONSUME_STATS, &ext).await;
        let stats: ConsumeStats = json::from_slice(&answer.body.to_bytes()).unwrap();
        let first = &stats.offset_table[&MessageQueue::new("T", "broker-a", 0)];
        assert_eq!((first.broker_offset, first.consumer_offset), (3, 2));
        assert!(first.last_timestamp > 0);
        assert_eq!(stats.offset_table.len(), 4);
    }
    let answer = broker
        .client
        .ask(request::GET_CONSUME_STATS, &[("consumerGroup", "Nobody")])
        .await;
    assert_eq!(
        (answer.code, text(&answer).as_str()),
        (0, r#"{"consumeTps":0.0,"offsetTable":{}}"#)
    );
    let answer = broker
        .client
        .ask(request::QUERY_TOPIC_CONSUME_BY_WHO, &[("topic", "T")])
        .await;
    assert_eq!(text(&answer), r#"{"groupList":["G"]}"#);
    let view = |key| [("statsName", "TOPIC_PUT_NUMS"), ("statsKey", key)];
    let answer = broker
        .client
        .ask(request::VIEW_BROKER_STATS_DATA, &view("T"))
        .await;
    let data: BrokerStatsData = json::from_slice(&answer.body.to_bytes()).unwrap();
    assert!((0..=3).contains(&data.stats_minute.sum), "{data:?}");
    let answer = broker
        .client
        .ask(request::VIEW_BROKER_STATS_DATA, &view("Nope"))
        .await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (1, "The stats <TOPIC_PUT_NUMS> <Nope> not exist")
    );
}
