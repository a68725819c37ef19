//! What administrators ask about groups and queues.

use raftmq_remoting::body::{
    ConsumeStatsList, ConsumerOffsets, HaRuntimeInfo, MessageQueue, ProducerTableInfo,
    QueryConsumeQueueResponseBody, QueryConsumeTimeSpanBody, QueryCorrectionOffsetBody,
    QuerySubscriptionResponseBody, TopicList,
};
use raftmq_remoting::codes::request;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::json;
use serde::de::DeserializeOwned;

use crate::answering::{Answering, NEW, silent};
use crate::harness::{TestBroker, eventually, remark};
use crate::replicas::Cluster;

fn body<T: DeserializeOwned>(answer: &RemotingCommand) -> T {
    assert_eq!(answer.code, 0, "{}", remark(answer));
    json::from_slice(&answer.body.to_bytes()).unwrap()
}

async fn commit(broker: &TestBroker, group: &str, topic: &str, offset: &str) {
    let config = format!(r#"{{"groupName":"{group}"}}"#);
    let code = request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP;
    assert_eq!(broker.client.ask_with(code, &[], config).await.code, 0);
    let ext = [
        ("consumerGroup", group),
        ("topic", topic),
        ("queueId", "0"),
        ("commitOffset", offset),
    ];
    let code = request::UPDATE_CONSUMER_OFFSET;
    assert_eq!(broker.client.ask(code, &ext).await.code, 0);
}

/// Four messages in T, three in U; G has consumed 3 and 1, H 2 of T.
async fn filled() -> TestBroker {
    let broker = TestBroker::start().await;
    for (topic, count) in [("T", 4), ("U", 3)] {
        for n in 0..count {
            broker.send(topic, &format!("{n}")).await;
        }
    }
    commit(&broker, "G", "T", "3").await;
    commit(&broker, "G", "U", "1").await;
    commit(&broker, "H", "T", "2").await;
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_subscriptions_of_a_group() {
    let broker = filled().await;
    let topics = async |group: &str| {
        let code = request::QUERY_TOPICS_BY_CONSUMER;
        let answer = broker.client.ask(code, &[("group", group)]).await;
        let list: TopicList = body(&answer);
        assert_eq!(list.broker_addr, Some(broker.addr()));
        Vec::from_iter(list.topic_list)
    };
    assert_eq!(topics("G").await, ["T", "U"]);
    assert!(topics("nobody").await.is_empty());
    let subscription = async |topic: &str| {
        let code = request::QUERY_SUBSCRIPTION_BY_CONSUMER;
        let answer = broker
            .client
            .ask(code, &[("group", "G"), ("topic", topic)])
            .await;
        let found: QuerySubscriptionResponseBody = body(&answer);
        assert_eq!((found.group.as_str(), found.topic.as_str()), ("G", topic));
        found.subscription_data.map(|s| s.sub_string)
    };
    assert_eq!(subscription("T").await, None, "nobody is online");
    let _consumer = Answering::start(&broker.addr(), "c1", NEW, silent).await;
    assert_eq!(subscription("T").await.as_deref(), Some("a"));
    assert_eq!(subscription("U").await, None);
    for code in [
        request::QUERY_TOPICS_BY_CONSUMER,
        request::QUERY_SUBSCRIPTION_BY_CONSUMER,
    ] {
        assert_eq!(broker.client.ask(code, &[]).await.code, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_are_listed() {
    let broker = TestBroker::start().await;
    let all = async || {
        let answer = broker.client.ask(request::GET_ALL_PRODUCER_INFO, &[]).await;
        body::<ProducerTableInfo>(&answer).data
    };
    assert!(all().await.is_empty());
    let producer = Answering::start(&broker.addr(), "p1", NEW, silent).await;
    let found = &all().await["PG"];
    let (one, local) = (&found[0], producer.channel.local());
    assert_eq!((found.len(), one.client_id.as_str()), (1, "p1"));
    assert_eq!(
        (one.version, one.remote_ip.as_str()),
        (NEW, format!("/{local}").as_str())
    );
    assert!(one.last_update_timestamp > 1_700_000_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_between_which_a_group_consumes() {
    let broker = filled().await;
    let ask = async |ext: &[(&str, &str)]| {
        let code = request::QUERY_CONSUME_TIME_SPAN;
        broker.client.ask(code, ext).await
    };
    let spans = async |group: &str| {
        let answer = ask(&[("topic", "T"), ("group", group)]).await;
        body::<QueryConsumeTimeSpanBody>(&answer).consume_time_span_set
    };
    let spans_of_g = spans("G").await;
    assert_eq!(spans_of_g.len(), 4);
    let first = &spans_of_g[0];
    assert_eq!(first.message_queue, MessageQueue::new("T", "broker-a", 0));
    assert!(first.min_time_stamp > 1_700_000_000_000);
    assert!((first.min_time_stamp..=first.max_time_stamp).contains(&first.consume_time_stamp));
    assert!(first.delay_time >= 0 && first.delay_time < 60_000);
    let empty = &spans_of_g[1];
    let times = (empty.min_time_stamp, empty.max_time_stamp, empty.delay_time);
    assert_eq!(times, (-1, -1, 0));
    let new = &spans("new").await[0];
    assert_eq!(new.consume_time_stamp, new.min_time_stamp);
    assert!(new.delay_time >= first.delay_time);
    commit(&broker, "G", "T", "4").await;
    assert_eq!(spans("G").await[0].delay_time, 0, "it has everything");
    let answer = ask(&[("topic", "V"), ("group", "G")]).await;
    assert_eq!((answer.code, remark(&answer)), (17, "topic[V] not exist"));
    assert_eq!(ask(&[("topic", "T")]).await.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_cloned() {
    let broker = filled().await;
    let clone = async |ext: &[(&str, &str)]| {
        let code = request::CLONE_GROUP_OFFSET;
        broker.client.ask(code, ext).await.code
    };
    let offset = async |group: &str, topic: &str| {
        let ext = [("consumerGroup", group), ("topic", topic), ("queueId", "0")];
        let code = request::QUERY_CONSUMER_OFFSET;
        let answer = broker.client.ask(code, &ext).await;
        answer.ext.get("offset").map(str::to_owned)
    };
    let one = [("srcGroup", "G"), ("destGroup", "One"), ("topic", "T")];
    assert_eq!(clone(&one).await, 0);
    assert_eq!(offset("One", "T").await.as_deref(), Some("3"));
    assert_eq!(
        offset("One", "U").await.as_deref(),
        Some("0"),
        "as of a new group"
    );
    let all = [("srcGroup", "G"), ("destGroup", "All"), ("topic", "")];
    assert_eq!(clone(&all).await, 0);
    assert_eq!(offset("All", "T").await.as_deref(), Some("3"));
    assert_eq!(offset("All", "U").await.as_deref(), Some("1"));
    // Who is online and does not subscribe to U has only old offsets there, which count only when asked for.
    let _consumer = Answering::start(&broker.addr(), "c1", NEW, silent).await;
    let mut some = vec![("srcGroup", "G"), ("destGroup", "Some"), ("topic", "")];
    assert_eq!(clone(&some).await, 0);
    assert_eq!(offset("Some", "U").await.as_deref(), Some("0"));
    some.push(("offline", "true"));
    assert_eq!(clone(&some).await, 0);
    assert_eq!(offset("Some", "U").await.as_deref(), Some("1"));
    let nobody = [("srcGroup", "nobody"), ("destGroup", "One"), ("topic", "T")];
    assert_eq!(clone(&nobody).await, 0);
    assert_eq!(
        offset("One", "T").await.as_deref(),
        Some("3"),
        "nothing to clone"
    );
    assert_eq!(clone(&one[..1]).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_of_all_groups() {
    let broker = filled().await;
    let stats = async |order: &str| {
        let code = request::GET_BROKER_CONSUME_STATS;
        let answer = broker.client.ask(code, &[("isOrder", order)]).await;
        let list: ConsumeStatsList = body(&answer);
        assert_eq!(list.broker_addr, broker.addr());
        list
    };
    let all = stats("false").await;
    assert_eq!(all.total_diff, 1 + 2 + 2);
    let of = |group: &str| {
        let found = all.consume_stats_list.iter().find_map(|g| g.get(group));
        found.unwrap_or_else(|| panic!("no {group}"))
    };
    assert_eq!(of("G").len(), 2);
    let queue = MessageQueue::new("T", "broker-a", 0);
    let of_t = &of("H")[0].offset_table[&queue];
    assert_eq!((of_t.broker_offset, of_t.consumer_offset), (4, 2));
    assert!(of_t.last_timestamp > 0);
    assert!(of("TOOLS_CONSUMER").is_empty());
    assert_eq!(stats("true").await.total_diff, 0, "no topic is ordered");
    // Without a word about the order it is all of them, as with RocketMQ.
    let code = request::GET_BROKER_CONSUME_STATS;
    assert_eq!(broker.client.ask(code, &[]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_looked_into() {
    let broker = filled().await;
    let ask = async |more: &[(&str, &str)]| {
        let mut ext = vec![
            ("topic", "T"),
            ("queueId", "0"),
            ("index", "1"),
            ("count", "2"),
        ];
        ext.retain(|(k, _)| more.iter().all(|(m, _)| m != k));
        ext.extend(more);
        broker.client.ask(request::QUERY_CONSUME_QUEUE, &ext).await
    };
    let found: QueryConsumeQueueResponseBody = body(&ask(&[]).await);
    assert_eq!((found.min_queue_index, found.max_queue_index), (0, 4));
    assert_eq!(found.queue_data.len(), 2);
    assert!(found.queue_data[0].physic_offset < found.queue_data[1].physic_offset);
    assert!(found.queue_data[0].physic_size > 0);
    assert_eq!(found.filter_data, None);
    let offline: QueryConsumeQueueResponseBody = body(&ask(&[("consumerGroup", "G")]).await);
    assert_eq!(offline.filter_data.as_deref(), Some("G@T is not online!"));
    let _consumer = Answering::start(&broker.addr(), "c1", NEW, silent).await;
    let online: QueryConsumeQueueResponseBody = body(&ask(&[("consumerGroup", "G")]).await);
    assert_eq!(online.subscription_data.unwrap().sub_string, "a");
    let answer = ask(&[("index", "9")]).await;
    assert_eq!(remark(&answer), "Index 9 of 0@T is not exist!");
    assert!(
        body::<QueryConsumeQueueResponseBody>(&answer)
            .queue_data
            .is_empty()
    );
    let answer = ask(&[("queueId", "7")]).await;
    assert_eq!((answer.code, remark(&answer)), (1, "7@T is not exist!"));
    let none: QueryConsumeQueueResponseBody = body(&ask(&[("count", "-1")]).await);
    assert!(none.queue_data.is_empty());
    assert_eq!(
        broker
            .client
            .ask(request::QUERY_CONSUME_QUEUE, &[])
            .await
            .code,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_all_groups_and_their_correction() {
    let broker = filled().await;
    let answer = broker
        .client
        .ask(request::GET_ALL_CONSUMER_OFFSET, &[])
        .await;
    let all: ConsumerOffsets = body(&answer);
    assert_eq!(
        (all.offset_table["T@G"][&0], all.offset_table["T@H"][&0]),
        (3, 2)
    );
    let correct = async |more: &[(&str, &str)]| {
        let mut ext = vec![("topic", "T"), ("compareGroup", "nobody")];
        ext.retain(|(k, _)| more.iter().all(|(m, _)| m != k));
        ext.extend(more);
        let code = request::QUERY_CORRECTION_OFFSET;
        let answer = broker.client.ask(code, &ext).await;
        body::<QueryCorrectionOffsetBody>(&answer).correction_offsets
    };
    assert_eq!(correct(&[]).await[&0], 2);
    assert_eq!(correct(&[("filterGroups", "H,X")]).await[&0], 3);
    let less = [("filterGroups", "H"), ("compareGroup", "H")];
    assert_eq!(correct(&less).await[&0], i64::MAX);
    assert!(correct(&[("topic", "V")]).await.is_empty());
    let after: ConsumerOffsets = body(&broker.client.ask(43, &[]).await);
    assert_eq!(after, all, "asking changes nothing");
    let code = request::QUERY_CORRECTION_OFFSET;
    assert_eq!(broker.client.ask(code, &[("topic", "T")]).await.code, 1);
    assert_eq!(
        broker
            .client
            .ask(request::CLEAN_UNUSED_TOPIC, &[])
            .await
            .code,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_shown_as_master_and_slaves() {
    let cluster = Cluster::start().await;
    let leader = cluster.wait_for_leader().await;
    let addr = |n: usize| cluster.service(n).addr().to_string();
    let ask = async |n: usize| {
        let code = request::GET_BROKER_HA_STATUS;
        body::<HaRuntimeInfo>(&cluster.client(n).ask(code, &[]).await)
    };
    eventually("both followers are in sync", async || {
        ask(leader).await.in_sync_slave_nums == 2
    })
    .await;
    let master = ask(leader).await;
    assert!(master.master && master.master_commit_log_max_offset > 0);
    let mut others: Vec<String> = master
        .ha_connection_info
        .into_iter()
        .map(|c| c.addr)
        .collect();
    others.sort();
    let mut expected = vec![addr((leader + 1) % 3), addr((leader + 2) % 3)];
    expected.sort();
    assert_eq!(others, expected);
    let slave = ask((leader + 1) % 3).await;
    assert!(!slave.master && slave.ha_connection_info.is_empty());
    assert_eq!(slave.ha_client_runtime_info.master_addr, addr(leader));
    assert!(slave.ha_client_runtime_info.max_offset > 0);
}
