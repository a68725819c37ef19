use raftmq_remoting::body::LockBatchResponseBody;
use raftmq_remoting::codes::request;
use raftmq_remoting::json;

use crate::harness::{TestBroker, remark};

fn body(client: &str, queues: &[i32]) -> String {
    let set: Vec<String> = queues
        .iter()
        .map(|q| format!(r#"{{"topic":"T","brokerName":"broker-a","queueId":{q}}}"#))
        .collect();
    format!(
        r#"{{"consumerGroup":"G","clientId":"{client}","onlyThisBroker":false,"mqSet":[{}]}}"#,
        set.join(",")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_has_one_owner() {
    let broker = TestBroker::start().await;
    let lock = async |client: &str, queues: &[i32]| {
        let answer = broker
            .client
            .ask_with(request::LOCK_BATCH_MQ, &[], body(client, queues))
            .await;
        assert_eq!(answer.code, 0, "{}", remark(&answer));
        let body: LockBatchResponseBody = json::from_slice(&answer.body.to_bytes()).unwrap();
        body.lock_ok_mq_set
            .iter()
            .map(|q| q.queue_id)
            .collect::<Vec<_>>()
    };
    assert_eq!(lock("c1", &[0, 1]).await, [0, 1]);
    assert_eq!(lock("c2", &[0, 1, 2]).await, [2]);
    assert_eq!(lock("c1", &[0]).await, [0]);
    assert_eq!(
        broker
            .client
            .ask_with(request::UNLOCK_BATCH_MQ, &[], body("c1", &[0]))
            .await
            .code,
        0
    );
    assert_eq!(lock("c2", &[0, 1]).await, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lock_requests_are_refused() {
    let broker = TestBroker::start().await;
    for bad in ["", "zz", "{}"] {
        assert_eq!(
            broker
                .client
                .ask_with(request::LOCK_BATCH_MQ, &[], bad)
                .await
                .code,
            1,
            "{bad:?}"
        );
    }
    assert_eq!(
        broker
            .client
            .ask_with(request::UNLOCK_BATCH_MQ, &[], "zz")
            .await
            .code,
        1
    );
}

/// An orderly consumer gives up a message that it tried often enough: there is nothing to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_orderly_group_gives_up_is_a_dead_letter() {
    let broker = TestBroker::start().await;
    broker.send("T", "x").await;
    let back = crate::harness::Send::to("%RETRY%G")
        .with("j", "1")
        .properties(&[("DELAY", "4")]);
    assert_eq!(broker.client.invoke(back.command()).await.code, 0);
    let answer = broker
        .client
        .ask_with(request::LOCK_BATCH_MQ, &[], body("c1", &[0]));
    assert_eq!(answer.await.code, 0);
    let answer = broker.client.invoke(back.body("given up").command()).await;
    assert_eq!(answer.code, 0);
    assert_eq!(broker.bodies("%DLQ%G", 0, 1).await, ["given up"]);
}

/// A client of which no heartbeat tells may lock a queue that nobody holds, as with RocketMQ, and takes nothing from anybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_takes_no_lock_away() {
    let broker = TestBroker::start().await;
    broker.send("T", "x").await;
    let ask = async |code: i32, client: &str, queues: &[i32]| {
        let answer = broker.client.ask_with(code, &[], body(client, queues));
        let answer = answer.await;
        assert_eq!(answer.code, 0, "{}", remark(&answer));
        answer
    };
    let lock = async |client: &str, queues: &[i32]| {
        let answer = ask(request::LOCK_BATCH_MQ, client, queues).await;
        let body: LockBatchResponseBody = json::from_slice(&answer.body.to_bytes()).unwrap();
        let locked = body.lock_ok_mq_set.iter().map(|q| q.queue_id);
        locked.collect::<Vec<_>>()
    };
    assert_eq!(lock("owner", &[0, 1]).await, [0, 1]);
    ask(request::UNLOCK_BATCH_MQ, "stranger", &[0, 1, 7]).await;
    assert_eq!(lock("stranger", &[0, 1]).await, [0_i32; 0]);
    assert_eq!(lock("owner", &[0, 1]).await, [0, 1]);
    // Of another group's locks it knows nothing.
    let other = body("stranger", &[0]).replace(r#""G""#, r#""H""#);
    let answer = broker
        .client
        .ask_with(request::LOCK_BATCH_MQ, &[], other)
        .await;
    let locked: LockBatchResponseBody = json::from_slice(&answer.body.to_bytes()).unwrap();
    assert_eq!(locked.lock_ok_mq_set.len(), 1);
}
