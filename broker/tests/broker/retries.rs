use raftmq_remoting::codes::request;
use raftmq_remoting::header::SendMessageResponseHeader;
use raftmq_remoting::message::parse_offset_msg_id;

use crate::harness::{Send, TestBroker, command, eventually, header, records, remark};

fn quick(config: &mut raftmq_broker::Config) {
    let (quick, _) = raftmq_broker::Config::from_map(
        [("messageDelayLevel".to_owned(), "1s 1s 1s 1s 1s".to_owned())]
            .into_iter()
            .collect(),
    )
    .unwrap();
    config.delay_levels = quick.delay_levels;
}

async fn sent_position(broker: &TestBroker, body: &str) -> (String, String) {
    let id = header::<SendMessageResponseHeader>(&broker.send("T", body).await).msg_id;
    (parse_offset_msg_id(&id).unwrap().1.to_string(), id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_given_back_comes_again() {
    let broker = TestBroker::start_with(quick).await;
    let (position, id) = sent_position(&broker, "again").await;
    let back = [
        ("offset", position.as_str()),
        ("group", "G"),
        ("delayLevel", "0"),
        ("originTopic", "T"),
    ];
    let answer = broker
        .client
        .ask(request::CONSUMER_SEND_MSG_BACK, &back)
        .await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(broker.bodies("%RETRY%G", 0, 1).await, ["again"]);
    let m = records(&broker.pull("%RETRY%G", 0).await).remove(0);
    assert_eq!(m.reconsume_times, 1);
    assert_eq!(m.property("RETRY_TOPIC"), Some("T"));
    assert_eq!(m.property("ORIGIN_MESSAGE_ID"), Some(id.as_str()));
    assert_eq!(m.property("DELAY"), None);
    assert_eq!(
        m.born_timestamp, 1_700_000_000_000,
        "born when the original was"
    );

    // The retry is given back in turn: it stays the same message.
    let position = m.physical_offset.to_string();
    let back = [
        ("offset", position.as_str()),
        ("group", "G"),
        ("delayLevel", "1"),
    ];
    assert_eq!(
        broker
            .client
            .ask(request::CONSUMER_SEND_MSG_BACK, &back)
            .await
            .code,
        0
    );
    assert_eq!(broker.bodies("%RETRY%G", 1, 1).await, ["again"]);
    let m = records(&broker.pull("%RETRY%G", 1).await).remove(0);
    assert_eq!(
        (m.reconsume_times, m.property("RETRY_TOPIC")),
        (2, Some("T"))
    );
    assert_eq!(m.property("ORIGIN_MESSAGE_ID"), Some(id.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tried_too_often_means_dead() {
    let broker = TestBroker::start_with(quick).await;
    let (position, _) = sent_position(&broker, "poison").await;
    let at_once = [
        ("offset", position.as_str()),
        ("group", "G"),
        ("delayLevel", "-1"),
    ];
    assert_eq!(
        broker
            .client
            .ask(request::CONSUMER_SEND_MSG_BACK, &at_once)
            .await
            .code,
        0
    );
    assert_eq!(broker.bodies("%DLQ%G", 0, 1).await, ["poison"]);
    let limit = [
        ("offset", position.as_str()),
        ("group", "G"),
        ("delayLevel", "0"),
        ("maxReconsumeTimes", "0"),
    ];
    assert_eq!(
        broker
            .client
            .ask(request::CONSUMER_SEND_MSG_BACK, &limit)
            .await
            .code,
        0
    );
    assert_eq!(broker.bodies("%DLQ%G", 1, 1).await, ["poison"]);
    let m = records(&broker.pull("%DLQ%G", 0).await).remove(0);
    assert_eq!(m.property("RETRY_TOPIC"), Some("T"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_cannot_be_given_back() {
    let broker = TestBroker::start().await;
    let (position, _) = sent_position(&broker, "x").await;
    let inside = (position.parse::<i64>().unwrap() + 17).to_string();
    for offset in ["999999999", inside.as_str(), "-1"] {
        let back = [("offset", offset), ("group", "G"), ("delayLevel", "0")];
        let answer = broker
            .client
            .ask(request::CONSUMER_SEND_MSG_BACK, &back)
            .await;
        assert_eq!(answer.code, 1, "{offset}");
        assert_eq!(
            remark(&answer),
            format!("look message by offset failed, {offset}")
        );
    }
    assert_eq!(
        broker
            .client
            .ask(request::CONSUMER_SEND_MSG_BACK, &[("offset", "0")])
            .await
            .code,
        1
    );
    let illegal = [
        ("offset", position.as_str()),
        ("group", "a b"),
        ("delayLevel", "0"),
    ];
    assert_eq!(
        broker
            .client
            .ask(request::CONSUMER_SEND_MSG_BACK, &illegal)
            .await
            .code,
        26
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_retry_queues_gives_nothing_back() {
    let broker = TestBroker::start().await;
    let (position, _) = sent_position(&broker, "x").await;
    let group = r#"{"groupName":"G","retryQueueNums":0}"#;
    broker
        .client
        .ask_with(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], group)
        .await;
    let back = [
        ("offset", position.as_str()),
        ("group", "G"),
        ("delayLevel", "0"),
    ];
    assert_eq!(
        broker
            .client
            .ask(request::CONSUMER_SEND_MSG_BACK, &back)
            .await
            .code,
        0
    );
    assert_ne!(
        broker
            .client
            .ask(request::GET_TOPIC_CONFIG, &[("topic", "%RETRY%G")])
            .await
            .code,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_sent_by_the_client_itself() {
    let broker = TestBroker::start_with(quick).await;
    let retry = |times: &str| Send::to("%RETRY%G").with("j", times).with("l", "3");
    let answer = broker
        .client
        .invoke(retry("3").body("third").command())
        .await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(broker.bodies("%RETRY%G", 0, 1).await, ["third"]);
    let beyond = retry("4").properties(&[("DELAY", "3")]).body("fourth");
    assert_eq!(broker.client.invoke(beyond.command()).await.code, 0);
    assert_eq!(broker.bodies("%DLQ%G", 0, 1).await, ["fourth"]);
    // Before V3_4_9 the group's own limit counts.
    let mut old: raftmq_remoting::RemotingCommand = retry("4").body("old").command();
    old.version = 100;
    let channel = broker.client.channel().await;
    let answer = channel.invoke(old, crate::harness::TIMEOUT).await.unwrap();
    assert_eq!(answer.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_found_by_their_id() {
    let broker = TestBroker::start().await;
    let (position, _) = sent_position(&broker, "found").await;
    let answer = broker
        .client
        .ask(
            request::VIEW_MESSAGE_BY_ID,
            &[("topic", "T"), ("offset", &position)],
        )
        .await;
    assert_eq!(records(&answer)[0].body, "found");
    let answer = broker
        .client
        .ask(request::VIEW_MESSAGE_BY_ID, &[("offset", "99999999")])
        .await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (1, "can not find message by the offset, 99999999")
    );
    assert_eq!(
        broker
            .client
            .invoke(command(request::VIEW_MESSAGE_BY_ID, &[]))
            .await
            .code,
        1
    );
    eventually("served throughout", || async {
        broker.send("T", "y").await.code == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_can_be_given_back() {
    let broker = TestBroker::start_with(quick).await;
    let (position, id) = sent_position(&broker, "poison").await;
    let back = async |position: &str, group: &str, level: &str, most: &str| {
        let fields = [
            ("offset", position),
            ("group", group),
            ("delayLevel", level),
            ("maxReconsumeTimes", most),
        ];
        let code = request::CONSUMER_SEND_MSG_BACK;
        let answer = broker.client.ask(code, &fields).await;
        assert_eq!(answer.code, 0, "{}", remark(&answer));
    };
    back(&position, "G", "-1", "16").await;
    broker.bodies("%DLQ%G", 0, 1).await;
    let dead = records(&broker.pull("%DLQ%G", 0).await).remove(0);
    let position = dead.physical_offset.to_string();
    // Whoever reads it may have it tried again, and gets it for his own group.
    for group in ["G", "H"] {
        let retry = format!("%RETRY%{group}");
        back(&position, group, "1", "16").await;
        assert_eq!(broker.bodies(&retry, 0, 1).await, ["poison"]);
        let m = records(&broker.pull(&retry, 0).await).remove(0);
        assert_eq!(m.reconsume_times, 2);
        assert_eq!(m.property("RETRY_TOPIC"), Some("T"));
        assert_eq!(m.property("ORIGIN_MESSAGE_ID"), Some(id.as_str()));
    }
    // Tried often enough, it is a dead letter once more.
    back(&position, "G", "0", "1").await;
    assert_eq!(broker.bodies("%DLQ%G", 1, 1).await, ["poison"]);
}

/// The group had four retry queues and its topic one: three of four messages lay where no route led.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_topic_follows_its_groups_number_of_queues() {
    let broker = TestBroker::start_with(quick).await;
    let group = |queues: i32| format!(r#"{{"groupName":"G","retryQueueNums":{queues}}}"#);
    let put = request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP;
    let answer = broker.client.ask_with(put, &[], group(1)).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    let give_back = async |n: usize| {
        let (position, _) = sent_position(&broker, &format!("m{n}")).await;
        let back = [
            ("offset", position.as_str()),
            ("group", "G"),
            ("delayLevel", "0"),
        ];
        let code = request::CONSUMER_SEND_MSG_BACK;
        let answer = broker.client.ask(code, &back).await;
        assert_eq!(answer.code, 0, "{}", remark(&answer));
    };
    give_back(0).await;
    let queues = || {
        let topic = broker.service().broker().state().topic("%RETRY%G");
        topic.map(|t| (t.write_queue_nums, t.read_queue_nums))
    };
    assert_eq!(queues(), Some((1, 1)));
    let answer = broker.client.ask_with(put, &[], group(4)).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(queues(), Some((4, 4)));
    for n in 1..20 {
        give_back(n).await;
    }
    eventually(
        "all come again, from queues that the route shows",
        || async {
            let mut found = 0;
            for queue in 0..4 {
                let pull = crate::harness::Pull::of("%RETRY%G").with("queueId", &queue.to_string());
                found += records(&broker.client.invoke(pull.command()).await).len();
            }
            found == 20
        },
    )
    .await;
    // With fewer, the others are still read.
    let answer = broker.client.ask_with(put, &[], group(2)).await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    assert_eq!(queues(), Some((2, 4)));
}
