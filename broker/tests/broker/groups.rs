use raftmq_remoting::body::{SubscriptionGroupConfig, SubscriptionGroupWrapper};
use raftmq_remoting::codes::request;
use raftmq_remoting::json;

use crate::harness::{Pull, TestBroker, eventually, remark};

async fn groups(broker: &TestBroker) -> SubscriptionGroupWrapper {
    let answer = broker
        .client
        .ask(request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, &[])
        .await;
    json::from_slice(&answer.body.to_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_created_changed_listed_and_deleted() {
    let broker = TestBroker::start().await;
    assert!(
        groups(&broker)
            .await
            .subscription_group_table
            .contains_key("TOOLS_CONSUMER"),
        "made at the start"
    );
    let put = r#"{"groupName":"G","retryMaxTimes":3,"retryQueueNums":2}"#;
    let answer = broker
        .client
        .ask_with(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], put)
        .await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    let answer = broker
        .client
        .ask(request::GET_SUBSCRIPTIONGROUP_CONFIG, &[("group", "G")])
        .await;
    let config: SubscriptionGroupConfig = json::from_slice(&answer.body.to_bytes()).unwrap();
    assert_eq!((config.retry_max_times, config.retry_queue_nums), (3, 2));
    let list = r#"{"groupConfigList":[{"groupName":"G1"},{"groupName":"G2"}]}"#;
    assert_eq!(
        broker
            .client
            .ask_with(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST, &[], list)
            .await
            .code,
        0
    );
    let table = groups(&broker).await.subscription_group_table;
    assert!(table.contains_key("G1") && table.contains_key("G2"));
    let delete = [("groupName", "G1"), ("cleanOffset", "true")];
    assert_eq!(
        broker
            .client
            .ask(request::DELETE_SUBSCRIPTIONGROUP, &delete)
            .await
            .code,
        0
    );
    assert!(
        !groups(&broker)
            .await
            .subscription_group_table
            .contains_key("G1")
    );
    assert_eq!(
        broker
            .client
            .ask(request::DELETE_SUBSCRIPTIONGROUP, &delete)
            .await
            .code,
        0,
        "gone is gone"
    );
    assert_eq!(
        broker
            .client
            .ask(request::DELETE_SUBSCRIPTIONGROUP, &[])
            .await
            .code,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_created_when_it_is_used() {
    let broker = TestBroker::start().await;
    broker.send("T", "x").await;
    let answer = broker
        .client
        .invoke(Pull::of("T").with("consumerGroup", "Fresh").command())
        .await;
    assert_eq!(answer.code, 0);
    eventually("the group exists", || async {
        groups(&broker)
            .await
            .subscription_group_table
            .contains_key("Fresh")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_auto_creation_a_group_must_exist() {
    let broker = TestBroker::start_with(|c| c.auto_create_group = false).await;
    broker.send("T", "x").await;
    let answer = broker.pull("T", 0).await;
    assert_eq!(answer.code, 26, "{}", remark(&answer));
    let answer = broker
        .client
        .ask(request::GET_SUBSCRIPTIONGROUP_CONFIG, &[("group", "Nope")])
        .await;
    assert_eq!(answer.code, 26);
    let back = [("offset", "0"), ("group", "Nope"), ("delayLevel", "0")];
    assert_eq!(
        broker
            .client
            .ask(request::CONSUMER_SEND_MSG_BACK, &back)
            .await
            .code,
        26
    );
    let pull = Pull::of("T").with("consumerGroup", "TOOLS_CONSUMER");
    assert_eq!(broker.client.invoke(pull.command()).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_groups_are_refused() {
    let broker = TestBroker::start().await;
    let long = format!(r#"{{"groupName":"{}"}}"#, "g".repeat(121));
    for (body, code) in [
        ("", 1),
        ("x", 1),
        ("{}", 29),
        (r#"{"groupName":"a b"}"#, 29),
        (long.as_str(), 29),
        (r#"{"groupName":"G","retryQueueNums":-1}"#, 29),
        (r#"{"groupName":"G","attributes":{"+foo":"bar"}}"#, 1),
    ] {
        let answer = broker
            .client
            .ask_with(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], body)
            .await;
        assert_eq!(answer.code, code, "{body}: {}", remark(&answer));
    }
}
