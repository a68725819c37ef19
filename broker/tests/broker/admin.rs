use std::time::Duration;

use raftmq_remoting::body::{
    BrokerStatsData, ConsumeStats, KVTable, MessageQueue, TopicStatsTable,
};
use raftmq_remoting::codes::request;
use raftmq_remoting::json;

use crate::harness::{Send, TestBroker, eventually, remark, text};

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

async fn runtime(broker: &TestBroker) -> KVTable {
    let code = request::GET_BROKER_RUNTIME_INFO;
    let answer = broker.client.ask(code, &[]).await;
    json::from_slice(&answer.body.to_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_information_counts_timers_and_room_for_sends() {
    let broker = TestBroker::start_with(|config| config.send_capacity = 777).await;
    broker.send("T", "x").await;
    let before = runtime(&broker).await.table;
    assert_eq!(before["sendThreadPoolQueueCapacity"], "777");
    assert_ne!(before["pullThreadPoolQueueCapacity"], "0");
    assert_eq!(before["timerCongestNum"], "0");
    let wait = |property, value| {
        let send = Send::to("T").properties(&[(property, value)]);
        broker.client.invoke(send.command())
    };
    for _ in 0..3 {
        assert_eq!(wait("TIMER_DELAY_SEC", "1000").await.code, 0);
    }
    assert_eq!(wait("DELAY", "18").await.code, 0);
    assert_eq!(wait("DELAY", "1").await.code, 0);
    broker.bodies("T", 1, 1).await;
    eventually("four of five wait", async || {
        let now = runtime(&broker).await.table;
        now["timerCongestNum"] == "4"
    })
    .await;
    assert_eq!(runtime(&broker).await.table["timerReadBehind"], "0");
    // Rates are of the last seconds.
    eventually("timers come in", async || {
        assert_eq!(wait("DELAY", "18").await.code, 0);
        let now = runtime(&broker).await.table;
        now["timerEnqueueTps"].parse::<f64>().unwrap() > 0.0
    })
    .await;
    eventually("timers go out", async || {
        assert_eq!(wait("TIMER_DELAY_MS", "20").await.code, 0);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = runtime(&broker).await.table;
        now["timerDequeueTps"].parse::<f64>().unwrap() > 0.0
    })
    .await;
}

/// Requests without header and body, and what RocketMQ 5.3.3 answers to them.
#[rustfmt::skip]
const EMPTY: &[(i32, i32)] = &[
    (request::SEND_MESSAGE, 1), (request::PULL_MESSAGE, 1), (request::QUERY_MESSAGE, 1),
    (request::QUERY_CONSUMER_OFFSET, 1), (request::UPDATE_CONSUMER_OFFSET, 1),
    (request::UPDATE_AND_CREATE_TOPIC, 1), (request::UPDATE_AND_CREATE_TOPIC_LIST, 1),
    (request::GET_ALL_TOPIC_CONFIG, 0), (request::UPDATE_BROKER_CONFIG, 0), (request::GET_BROKER_CONFIG, 0),
    (request::GET_BROKER_RUNTIME_INFO, 0), (request::SEARCH_OFFSET_BY_TIMESTAMP, 1), (request::GET_MAX_OFFSET, 1),
    (request::GET_MIN_OFFSET, 1), (request::GET_EARLIEST_MSG_STORETIME, 1), (request::VIEW_MESSAGE_BY_ID, 1),
    (request::HEART_BEAT, 1), (request::UNREGISTER_CLIENT, 0), (request::CONSUMER_SEND_MSG_BACK, 1),
    (request::END_TRANSACTION, 1), (request::GET_CONSUMER_LIST_BY_GROUP, 1), (request::LOCK_BATCH_MQ, 1),
    (request::UNLOCK_BATCH_MQ, 1), (request::CHECK_CLIENT_CONFIG, 0),
    (request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, 1), (request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, 0),
    (request::GET_TOPIC_STATS_INFO, 1), (request::GET_CONSUMER_CONNECTION_LIST, 1),
    (request::GET_PRODUCER_CONNECTION_LIST, 1), (request::DELETE_SUBSCRIPTIONGROUP, 1),
    (request::GET_CONSUME_STATS, 1), (request::DELETE_TOPIC_IN_BROKER, 29),
    (request::INVOKE_BROKER_TO_RESET_OFFSET, 1), (request::INVOKE_BROKER_TO_GET_CONSUMER_STATUS, 1),
    (request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST, 1), (request::QUERY_TOPIC_CONSUME_BY_WHO, 1),
    (request::QUERY_CONSUME_TIME_SPAN, 1), (request::GET_SYSTEM_TOPIC_LIST_FROM_BROKER, 0),
    (request::CLEAN_EXPIRED_CONSUMEQUEUE, 0), (request::GET_CONSUMER_RUNNING_INFO, 1),
    (request::CONSUME_MESSAGE_DIRECTLY, 1), (request::SEND_MESSAGE_V2, 1), (request::CLONE_GROUP_OFFSET, 1),
    (request::VIEW_BROKER_STATS_DATA, 1), (request::CLEAN_UNUSED_TOPIC, 0), (request::GET_BROKER_CONSUME_STATS, 0),
    (request::SEND_BATCH_MESSAGE, 1), (request::QUERY_CONSUME_QUEUE, 1), (request::RESUME_CHECK_HALF_MESSAGE, 1),
    (request::SEND_REPLY_MESSAGE, 1), (request::SEND_REPLY_MESSAGE_V2, 1), (request::GET_ALL_PRODUCER_INFO, 0),
    (request::DELETE_EXPIRED_COMMITLOG, 0), (request::QUERY_TOPICS_BY_CONSUMER, 1),
    (request::QUERY_SUBSCRIPTION_BY_CONSUMER, 1), (request::GET_TOPIC_CONFIG, 1),
    (request::GET_SUBSCRIPTIONGROUP_CONFIG, 1), (request::LITE_PULL_MESSAGE, 1),
];

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_fields_get_rocketmqs_codes() {
    let broker = TestBroker::start().await;
    broker.send("T", "x").await;
    let mut others = Vec::new();
    for (code, expected) in EMPTY {
        let answer = broker.client.ask(*code, &[]).await;
        if answer.code != *expected {
            others.push((*code, answer.code, *expected, remark(&answer).to_owned()));
        }
    }
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!(broker.bodies("T", 0, 1).await, ["x"], "nothing is lost");
}
