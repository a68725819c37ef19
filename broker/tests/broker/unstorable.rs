//! What cannot be stored is refused before it reaches the log, and every name that clients may use can be stored.

use raftmq_remoting::codes::{request, response};
use raftmq_remoting::message::parse_offset_msg_id;
use raftmq_store::{Command, version};

use crate::harness::{Send, TestBroker, header, records, remark};
use crate::transactions::{end, half, send_half};

fn quick(config: &mut raftmq_broker::Config) {
    let settings = [("messageDelayLevel".to_owned(), "1s 1s 1s".to_owned())];
    let (quick, _) = raftmq_broker::Config::from_map(settings.into()).expect("levels");
    config.delay_levels = quick.delay_levels;
}

/// Gives the first message of T back for a group, after which it is retried or, with a negative level, dead.
async fn give_back(broker: &TestBroker, group: &str, level: &str) -> (i32, String) {
    let sent = broker.send("T", "again").await;
    let sent: raftmq_remoting::header::SendMessageResponseHeader = header(&sent);
    let (_, position) = parse_offset_msg_id(&sent.msg_id).expect("an offset id");
    let position = position.to_string();
    let back = [
        ("offset", position.as_str()),
        ("group", group),
        ("delayLevel", level),
        ("originTopic", "T"),
    ];
    let code = request::CONSUMER_SEND_MSG_BACK;
    let answer = broker.client.ask(code, &back).await;
    (answer.code, remark(&answer).to_owned())
}

async fn raise(broker: &TestBroker) {
    let raise = Command::SetVersion {
        version: version::NEWEST,
    };
    let replica = &broker.service().broker().replica;
    replica.propose_commands(vec![raise]).await.expect("raised");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_group_has_retries_and_dead_letters() {
    let mut broker = TestBroker::start_with(quick).await;
    raise(&broker).await;
    for length in [248, 249, 251, 255] {
        let group = "g".repeat(length);
        let (retry, dlq) = (format!("%RETRY%{group}"), format!("%DLQ%{group}"));
        assert_eq!(give_back(&broker, &group, "1").await.0, 0);
        assert_eq!(broker.bodies(&retry, 0, 1).await, ["again"]);
        assert_eq!(give_back(&broker, &group, "-1").await.0, 0);
        assert_eq!(broker.bodies(&dlq, 0, 1).await, ["again"]);
        // As the message of a client that asks for it.
        let answer = broker.send(&retry, "sent").await;
        assert_eq!(answer.code, 0, "{}", remark(&answer));
    }
    broker.restart().await;
    let retry = format!("%RETRY%{}", "g".repeat(255));
    assert_eq!(broker.bodies(&retry, 0, 2).await, ["again", "sent"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_makes_a_name_that_no_key_can_hold() {
    let mut broker = TestBroker::start().await;
    broker.send("T", "a").await;
    let commit = [
        ("consumerGroup", "G"),
        ("topic", "T"),
        ("queueId", "0"),
        ("commitOffset", "1"),
    ];
    broker
        .client
        .ask(request::UPDATE_CONSUMER_OFFSET, &commit)
        .await;
    for name in ["a\0b", "\0", "", "a b", "a\tb", &"g".repeat(256)] {
        let clone = [("srcGroup", "G"), ("destGroup", name), ("topic", "T")];
        let answer = broker.client.ask(request::CLONE_GROUP_OFFSET, &clone).await;
        assert_eq!(answer.code, response::SYSTEM_ERROR, "{name:?}");
    }
    // Straight to the log, as a request that forgets to look would.
    let replica = broker.service().broker().replica.clone();
    let assign = |group: &str| Command::AssignOffsets {
        offsets: vec![raftmq_store::OffsetCommit {
            group: group.to_owned(),
            topic: "T".to_owned(),
            queue_id: 0,
            offset: 1,
        }],
        reset: true,
    };
    let refused = replica.propose_commands(vec![assign("a\0b")]).await;
    assert!(
        matches!(refused, Err(raftmq_raft::ProposeError::Unstorable(_))),
        "{refused:?}"
    );
    assert!(replica.propose_commands(vec![assign("ab")]).await.is_ok());
    drop(replica);
    broker.restart().await;
    assert_eq!(records(&broker.pull("T", 0).await).len(), 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_message_is_taken_only_with_room_for_what_its_end_adds() {
    let mut broker = TestBroker::start_with(quick).await;
    broker.send("T", "first").await;
    let padded = |length: usize| {
        half("T", "half").properties(&[
            ("TRAN_MSG", "true"),
            ("PGROUP", "PG"),
            ("DELAY", "1"),
            ("PAD", &"p".repeat(length)),
        ])
    };
    // From far below the limit to beyond it: taken ones can be committed, the others are refused at once.
    let (mut taken, mut refused) = (0, 0);
    for length in (32_400..32_767).step_by(7) {
        let send = padded(length);
        let answer = broker.client.invoke(send.command()).await;
        if answer.code != 0 {
            assert_eq!(
                answer.code,
                response::MESSAGE_ILLEGAL,
                "{}",
                remark(&answer)
            );
            refused += 1;
            continue;
        }
        let place = send_half(&broker.client, &send).await;
        let answer = end(&broker.client, place, "8").await;
        assert_eq!(answer.code, 0, "{length}: {}", remark(&answer));
        taken += 1;
    }
    assert!(taken > 5 && refused > 5, "{taken} {refused}");
    broker.restart().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_beyond_a_record_are_refused_and_nobody_falls() {
    let mut broker = TestBroker::start().await;
    for length in [32_600, 32_700, 32_760, 32_768, 40_000, 70_000] {
        let pad = "p".repeat(length);
        let send = Send::to("T").properties(&[("PAD", &pad)]).body("b");
        let answer = broker.client.invoke(send.command()).await;
        let expected = [0, response::MESSAGE_ILLEGAL];
        assert!(expected.contains(&answer.code), "{length}: {}", answer.code);
    }
    assert_eq!(broker.send("T", "after").await.code, 0);
    broker.stop().await;
}
