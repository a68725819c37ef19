//! Resets of consumer offsets.

use raftmq_remoting::body::{MessageQueue, ResetOffsetBody};
use raftmq_remoting::codes::request;
use raftmq_remoting::command::{LanguageCode, RemotingCommand};
use raftmq_remoting::header::PullMessageResponseHeader;
use raftmq_remoting::json;

use crate::answering::{Answering, NEW, silent};
use crate::harness::{Client, Pull, TestBroker, command, header, remark, text};
use crate::replicas::Cluster;

fn reset<'a>(time: &'a str, more: &[(&'a str, &'a str)]) -> RemotingCommand {
    let mut ext = vec![
        ("topic", "T"),
        ("group", "G"),
        ("timestamp", time),
        ("isForce", "true"),
    ];
    ext.retain(|(k, _)| more.iter().all(|(m, _)| m != k));
    ext.extend(more);
    command(request::INVOKE_BROKER_TO_RESET_OFFSET, &ext)
}

fn table(answer: &RemotingCommand) -> Vec<(i32, i64)> {
    assert_eq!(answer.code, 0, "{}", remark(answer));
    let body: ResetOffsetBody = json::from_slice(&answer.body.to_bytes()).unwrap();
    let of = |(queue, offset): (&MessageQueue, &i64)| {
        assert_eq!(
            (queue.topic.as_str(), queue.broker_name.as_str()),
            ("T", "broker-a")
        );
        (queue.queue_id, *offset)
    };
    body.offset_table.iter().map(of).collect()
}

async fn stored(client: &Client) -> Option<String> {
    let key = [("consumerGroup", "G"), ("topic", "T"), ("queueId", "0")];
    let answer = client.ask(request::QUERY_CONSUMER_OFFSET, &key).await;
    answer.ext.get("offset").map(str::to_owned)
}

fn commit(offset: &str) -> RemotingCommand {
    let ext = [
        ("consumerGroup", "G"),
        ("topic", "T"),
        ("queueId", "0"),
        ("commitOffset", offset),
    ];
    command(request::UPDATE_CONSUMER_OFFSET, &ext)
}

async fn filled(client: &Client, broker: &TestBroker) {
    let group = r#"{"groupName":"G"}"#;
    let code = request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP;
    assert_eq!(client.ask_with(code, &[], group).await.code, 0);
    for body in ["a", "b", "c", "d"] {
        broker.send("T", body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_reset_while_nobody_consumes() {
    let mut broker = TestBroker::start().await;
    filled(&broker.client, &broker).await;
    let ask = async |time: &str, more: &[(&str, &str)]| {
        let answer = broker.client.invoke(reset(time, more)).await;
        (table(&answer), stored(&broker.client).await)
    };
    let end = vec![(0, 4), (1, 0), (2, 0), (3, 0)];
    assert_eq!(ask("-1", &[]).await, (end, Some("4".into())));
    let begin = vec![(0, 0), (1, 0), (2, 0), (3, 0)];
    assert_eq!(
        ask("0", &[("offset", "-1")]).await,
        (begin, Some("0".into()))
    );
    let two = [("queueId", "0"), ("offset", "2")];
    assert_eq!(ask("0", &two).await, (vec![(0, 2)], Some("2".into())));
    let by_time = [("queueId", "0"), ("offset", "-1")];
    assert_eq!(ask("-1", &by_time).await, (vec![(0, 4)], Some("4".into())));
    let three = [("queueId", "0"), ("offset", "3")];
    assert_eq!(ask("0", &three).await, (vec![(0, 3)], Some("3".into())));
    // It is in the log, as every commit.
    broker.restart().await;
    assert_eq!(stored(&broker.client).await, Some("3".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_on_at_the_new_offset() {
    let broker = TestBroker::start().await;
    filled(&broker.client, &broker).await;
    let client = &broker.client;
    assert_eq!(client.invoke(commit("4")).await.code, 0);
    let pull = Pull::of("T").with("consumerGroup", "G").offset(4);
    let waiting = {
        let client = broker.another_client();
        let pull = pull.held(10_000).command();
        tokio::spawn(async move { client.invoke(pull).await })
    };
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let one = reset("0", &[("queueId", "0"), ("offset", "1")]);
    assert_eq!(table(&client.invoke(one.clone()).await), [(0, 1)]);
    let moved = |answer: &RemotingCommand| {
        let found: PullMessageResponseHeader = header(answer);
        (
            answer.code,
            found.next_begin_offset,
            remark(answer).to_owned(),
        )
    };
    let to_one = (21, 1, "OFFSET_RESET".to_owned());
    assert_eq!(moved(&waiting.await.unwrap()), to_one, "at once");

    // Told once; what is committed from now on is the consumer's own.
    let pull = || Pull::of("T").with("consumerGroup", "G").offset(1);
    assert_eq!(client.invoke(pull().command()).await.code, 0);
    assert_eq!(client.invoke(commit("2")).await.code, 0);
    assert_eq!(stored(client).await, Some("2".into()));

    // Until it has come, what it commits is older than the reset.
    assert_eq!(table(&client.invoke(one).await), [(0, 1)]);
    let answer = client.invoke(commit("4")).await;
    let before = (0, "Offset has been previously reset");
    assert_eq!((answer.code, remark(&answer)), before);
    client.oneway(commit("4")).await;
    let other_group = Pull::of("T").offset(4).command();
    assert_eq!(client.invoke(other_group).await.code, 19);
    let rides_along = pull()
        .offset(4)
        .with("sysFlag", "5")
        .with("commitOffset", "4");
    assert_eq!(moved(&client.invoke(rides_along.command()).await), to_one);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(stored(client).await, Some("1".into()));
    client.oneway(commit("3")).await;
    assert_eq!(stored(client).await, Some("3".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_resets_are_refused() {
    let broker = TestBroker::start().await;
    filled(&broker.client, &broker).await;
    let ask = async |time: &str, more: &[(&str, &str)]| {
        let answer = broker.client.invoke(reset(time, more)).await;
        (answer.code, remark(&answer).to_owned())
    };
    let topic = ask("0", &[("topic", "U")]).await;
    assert_eq!(topic, (17, "Topic U does not exist".into()));
    let group = ask("0", &[("group", "H")]).await;
    assert_eq!(group, (26, "Group H does not exist".into()));
    let beyond = ask("0", &[("queueId", "0"), ("offset", "6")]).await;
    let range = "Target offset 6 not in consume queue range [0-4]";
    assert_eq!(beyond, (1, range.into()));
    assert_eq!(ask("0", &[("queueId", "0"), ("offset", "-2")]).await.0, 1);
    assert_eq!(ask("0", &[("queueId", "4"), ("offset", "0")]).await.0, 1);
    assert_eq!(ask("0", &[("queueId", "2147483647")]).await.0, 1);
    assert_eq!(ask("soon", &[]).await.0, 1);
    assert_eq!(ask("0", &[("queueId", "x")]).await.0, 1);
    let bare = command(request::INVOKE_BROKER_TO_RESET_OFFSET, &[("topic", "T")]);
    assert_eq!(broker.client.invoke(bare).await.code, 1);
    assert_eq!(
        stored(&broker.client).await,
        Some("0".into()),
        "nothing was reset"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_reset_themselves_when_so_configured() {
    let broker = TestBroker::start_with(|c| c.server_side_reset = false).await;
    filled(&broker.client, &broker).await;
    let client = &broker.client;
    let unknown = client.invoke(reset("0", &[("topic", "U")])).await;
    assert_eq!(unknown.code, 17);
    let answer = client.invoke(reset("0", &[])).await;
    let new = "THe consumer group <G> not exist";
    assert_eq!((answer.code, remark(&answer)), (1, new));
    for queue in ["0", "1", "2", "3"] {
        let offset = if queue == "0" { "2" } else { "0" };
        assert_eq!(
            client
                .invoke(commit(offset).with_ext("queueId", queue))
                .await
                .code,
            0
        );
    }
    let answer = client.invoke(reset("-1", &[])).await;
    let offline = "Consumer not online, so can not reset offset, Group: G Topic: T Timestamp: -1";
    assert_eq!((answer.code, remark(&answer)), (206, offline));

    let mut consumer = Answering::start(&broker.addr(), "c1", NEW, silent).await;
    let answer = client.invoke(reset("-1", &[])).await;
    let forced = vec![(0, 4), (1, 0), (2, 0), (3, 0)];
    assert_eq!(table(&answer), forced);
    let told = consumer.asked(request::RESET_CONSUMER_CLIENT_OFFSET).await;
    assert!(told.is_oneway());
    assert_eq!(told.ext.get("timestamp"), Some("-1"));
    assert_eq!(text(&told), text(&answer));
    assert_eq!(
        stored(client).await,
        Some("2".into()),
        "the consumer commits by itself"
    );
    let answer = client.invoke(reset("-1", &[("isForce", "false")])).await;
    assert_eq!(table(&answer)[0], (0, 2), "only backwards");
    consumer.asked(request::RESET_CONSUMER_CLIENT_OFFSET).await;

    let mut for_c = reset("0", &[]);
    for_c.language = LanguageCode::Cpp;
    let other = broker.another_client();
    let channel = other.channel().await;
    let answer = channel
        .invoke(for_c, crate::harness::TIMEOUT)
        .await
        .unwrap();
    assert_eq!(table(&answer)[0], (0, 0));
    let told = consumer.asked(request::RESET_CONSUMER_CLIENT_OFFSET).await;
    assert!(
        text(&told).contains(r#"{"brokerName":"broker-a","offset":0,"queueId":0,"topic":"T"}"#)
    );

    consumer.beat("c1", 27).await;
    let answer = client.invoke(reset("0", &[])).await;
    assert_eq!(answer.code, 1);
    assert!(remark(&answer).starts_with("the client does not support this feature"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_passed_on_and_outlives_the_master() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.wait_for_leader().await;
    let (follower, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let client = cluster.client(follower);
    let group = r#"{"groupName":"G"}"#;
    let code = request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP;
    assert_eq!(client.ask_with(code, &[], group).await.code, 0);
    for body in ["a", "b"] {
        let send = crate::harness::Send::to("T").body(body).command();
        assert_eq!(client.invoke(send).await.code, 0);
    }
    assert_eq!(client.invoke(commit("2")).await.code, 0);
    let one = [("queueId", "0"), ("offset", "1")];
    assert_eq!(table(&client.invoke(reset("0", &one)).await), [(0, 1)]);
    cluster.stop_one(leader).await;
    cluster.wait_for_leader().await;
    assert_eq!(stored(&cluster.client(third)).await, Some("1".into()));
}

/// The mark that keeps a running consumer's old commits out was the master's own: with the next master they undid the reset.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_does_not_let_old_commits_undo_a_reset() {
    let mut cluster = Cluster::start_with(|config| config.slave_read = true).await;
    let first = cluster.wait_for_leader().await;
    let client = cluster.client(first);
    let group = r#"{"groupName":"G"}"#;
    let code = request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP;
    assert_eq!(client.ask_with(code, &[], group).await.code, 0);
    for body in ["a", "b", "c"] {
        let send = crate::harness::Send::to("T").body(body).command();
        assert_eq!(client.invoke(send).await.code, 0);
    }
    assert_eq!(client.invoke(commit("3")).await.code, 0);
    let one = [("queueId", "0"), ("offset", "1")];
    assert_eq!(table(&client.invoke(reset("0", &one)).await), [(0, 1)]);
    cluster.stop_one(first).await;

    let next = cluster.wait_for_leader().await;
    let client = cluster.client(next);
    let old = client.invoke(commit("3")).await;
    let before = (0, "Offset has been previously reset");
    assert_eq!((old.code, remark(&old)), before);
    client.oneway(commit("3")).await;
    let pull = |offset: i64| {
        let pull = Pull::of("T").with("consumerGroup", "G").offset(offset);
        pull.with("sysFlag", "5").with("commitOffset", "3")
    };
    // A consumer that was told to read elsewhere is sent to the new offset, too.
    let follower = (0..3).find(|n| *n != first && *n != next).unwrap();
    let answer = cluster.client(follower).invoke(pull(3).command()).await;
    let found: PullMessageResponseHeader = header(&answer);
    let moved = (answer.code, found.next_begin_offset, remark(&answer));
    assert_eq!(moved, (21, 1, "OFFSET_RESET"));
    assert_eq!(stored(&client).await, Some("1".into()));

    let own = Pull::of("T").with("consumerGroup", "G").offset(1);
    assert_eq!(client.invoke(own.command()).await.code, 0, "told once");
    assert_eq!(client.invoke(commit("2")).await.code, 0);
    assert_eq!(stored(&client).await, Some("2".into()));
    let state = cluster.service(next).broker().state().clone();
    assert_eq!(state.reset_count(), 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_what_is_deleted_is_forgotten() {
    let broker = TestBroker::start().await;
    filled(&broker.client, &broker).await;
    let client = &broker.client;
    let state = broker.service().broker().state().clone();
    let one = [("queueId", "0"), ("offset", "1")];
    assert_eq!(table(&client.invoke(reset("0", &one)).await), [(0, 1)]);
    assert_eq!(state.reset("G", "T", 0), Some(1));
    // Chosen by an administrator, too, and later.
    let copied = [
        ("srcGroup", "CG"),
        ("destGroup", "G"),
        ("topic", "T"),
        ("offline", "true"),
    ];
    let two = [
        ("consumerGroup", "CG"),
        ("topic", "T"),
        ("queueId", "0"),
        ("commitOffset", "2"),
    ];
    let pull = Pull::of("T").command();
    assert_eq!(client.invoke(pull).await.code, 0, "makes the group");
    let answer = client.ask(request::UPDATE_CONSUMER_OFFSET, &two).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    let answer = client.ask(request::CLONE_GROUP_OFFSET, &copied).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(stored(client).await, Some("2".into()));
    assert_eq!(state.reset_count(), 0);

    assert_eq!(table(&client.invoke(reset("0", &one)).await), [(0, 1)]);
    let topic = [("topic", "T")];
    let answer = client.ask(request::DELETE_TOPIC_IN_BROKER, &topic).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(state.reset_count(), 0);
}
