//! UPDATE_BROKER_CONFIG: what an administrator changes at run time belongs to the set.

use raftmq_broker::config::AckQuorum;
use raftmq_remoting::codes::request;
use raftmq_remoting::command::RemotingCommand;
use tempfile::TempDir;

use crate::harness::{Client, Pull, Send, TestBroker, eventually, remark, text};
use crate::registration::{name_server, route};
use crate::replicas::Cluster;

async fn update(client: &Client, body: &str) -> RemotingCommand {
    client
        .ask_with(request::UPDATE_BROKER_CONFIG, &[], body)
        .await
}

async fn set(client: &Client, body: &str) {
    let answer = update(client, body).await;
    assert_eq!(answer.code, 0, "{body}: {}", remark(&answer));
    assert!(answer.body.to_bytes().is_empty());
}

async fn shown(client: &Client) -> String {
    text(&client.ask(request::GET_BROKER_CONFIG, &[]).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_setting_is_in_force_at_once_and_after_a_restart() {
    let mut broker = TestBroker::start().await;
    set(
        &broker.client,
        "brokerRole=ASYNC_MASTER\nmaxMessageSize=2048\n",
    )
    .await;
    assert!(
        shown(&broker.client)
            .await
            .contains("brokerRole=ASYNC_MASTER\n")
    );
    let large = Send::to("T").body(vec![b'x'; 2049]).command();
    let answer = broker.client.invoke(large.clone()).await;
    assert_eq!(answer.code, 13, "{}", remark(&answer));

    broker.restart().await;
    let config = broker.service().broker().config();
    assert_eq!(
        (config.ack(), config.max_message_size),
        (AckQuorum::Leader, 2048)
    );
    drop(config);
    set(&broker.client, "brokerRole=\nmaxMessageSize=").await;
    let after = shown(&broker.client).await;
    assert!(after.contains("brokerRole=SYNC_MASTER\n"), "{after}");
    assert!(after.contains("maxMessageSize=4194304\n"), "{after}");
    assert_eq!(broker.client.invoke(large).await.code, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_taken_whole_or_not_at_all() {
    let mut broker = TestBroker::start().await;
    let answer = update(&broker.client, "ackQuorum=all\nlistenPort=1").await;
    assert_eq!(answer.code, 29);
    assert!(remark(&answer).contains("listenPort needs a restart"));
    let answer = update(&broker.client, "ackQuorum=all\nackQourum=all").await;
    assert_eq!(
        (answer.code, remark(&answer)),
        (29, "unknown setting ackQourum")
    );
    let answer = update(&broker.client, "ackQuorum=most").await;
    assert!(remark(&answer).contains("leader, majority or all"));
    let answer = update(&broker.client, "configBlackList=x").await;
    assert_eq!(answer.code, 16);
    assert!(shown(&broker.client).await.contains("ackQuorum=role\n"));
    set(&broker.client, "").await;
    set(&broker.client, "ackQuorum=all\nminInSyncReplicas=2").await;
    let now = shown(&broker.client).await;
    assert!(now.contains("ackQuorum=all\n") && now.contains("minInSyncReplicas=2\n"));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_belong_to_the_set_and_survive_a_failover() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.wait_for_leader().await;
    // A replica that does not lead passes it on; the others' own are not touched.
    set(
        &cluster.client((leader + 1) % 3),
        "brokerRole=ASYNC_MASTER\ninSyncReplicas=2",
    )
    .await;
    let level = |n: usize| cluster.service(n).broker().config().ack();
    assert_eq!(level(leader), AckQuorum::Leader, "in force when answered");
    eventually("every replica has it", async || {
        (0..3).all(|n| level(n) == AckQuorum::Leader)
    })
    .await;

    cluster.stop_one(leader).await;
    let next = cluster.wait_for_leader().await;
    assert_ne!(next, leader);
    assert_eq!(
        cluster.service(next).broker().config().ack(),
        AckQuorum::Leader
    );
    set(&cluster.client(next), "brokerRole=").await;
    assert_eq!(
        cluster.service(next).broker().config().ack(),
        AckQuorum::Majority
    );
    // One that was away learns of it.
    cluster.start_one(leader).await;
    let returned = cluster.service(leader).broker();
    eventually("the returned replica has it", async || {
        returned.config().ack() == AckQuorum::Majority && returned.config().in_sync == 2
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_is_shown_by_the_name_servers() {
    let dir = TempDir::new().unwrap();
    let name_server = name_server(&dir).await;
    static PORT: std::sync::OnceLock<u16> = std::sync::OnceLock::new();
    let port = name_server.local_addr().port();
    PORT.get_or_init(|| port);
    let mut broker = TestBroker::start_with(|c| {
        c.namesrv_addr = format!("127.0.0.1:{}", PORT.get().unwrap());
    })
    .await;
    broker.send("T", "x").await;
    let routes = Client::new(&format!("127.0.0.1:{port}"));
    let perm = async || Some(route(&routes, "T").await?.queue_datas.first()?.perm);
    eventually("the route is there", async || perm().await == Some(6)).await;
    set(&broker.client, "brokerPermission=4").await;
    assert_eq!(perm().await, Some(4), "shown when answered");
    let answer = broker.client.invoke(Send::to("T").command()).await;
    assert_eq!(answer.code, 16, "{}", remark(&answer));
    set(&broker.client, "brokerPermission=").await;
    assert_eq!(perm().await, Some(6));
    broker.send("T", "y").await;
    broker.stop().await;
    name_server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_at_each_use_can_be_changed() {
    let broker = TestBroker::start().await;
    broker.send("T", "x").await;
    let code = async |command: RemotingCommand| broker.client.invoke(command).await.code;
    let half = Send::to("T").properties(&[("TRAN_MSG", "true"), ("PGROUP", "PG")]);
    assert_eq!(code(half.command()).await, 0);
    let timer = Send::to("T").properties(&[("TIMER_DELAY_SEC", "100")]);
    assert_eq!(code(timer.command()).await, 0);
    let sql = Pull::of("T").with("expressionType", "SQL92");
    let sql = sql
        .with("subscription", "a is null")
        .with("subVersion", "1");
    assert_eq!(code(sql.command()).await, 1);

    set(
        &broker.client,
        "rejectTransactionMessage=true\ntimerMaxDelaySec=99\nenablePropertyFilter=true\n\
         transactionTimeOut=1000\ntransactionCheckMax=3\ntransactionCheckInterval=1000\n\
         recallMessageEnable=true\nallowRecallWhenBrokerNotWriteable=false\n\
         enableMixedMessageType=true\nsendThreadPoolQueueCapacity=1000",
    )
    .await;
    let answer = broker.client.invoke(half.command()).await;
    let forbidden = "the broker[127.0.0.1] sending transaction message is forbidden";
    assert_eq!((answer.code, remark(&answer)), (16, forbidden));
    assert_eq!(code(Send::to("T").command()).await, 0, "others are taken");
    assert_eq!(code(timer.command()).await, 13);
    assert_eq!(code(sql.command()).await, 0);

    set(&broker.client, "timerWheelEnable=false\ntimerMaxDelaySec=").await;
    assert_eq!(code(timer.command()).await, 1);
    set(
        &broker.client,
        "timerWheelEnable=\nrejectTransactionMessage=",
    )
    .await;
    assert_eq!(code(timer.command()).await, 0);
    assert_eq!(code(half.command()).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_of_arbitrary_times_can_be_allowed_later() {
    let broker = TestBroker::start_with(|config| config.timer_wheel = false).await;
    broker.send("T", "x").await;
    let timer = Send::to("T").properties(&[("TIMER_DELAY_MS", "300")]);
    let timer = timer.body("later").command();
    assert_eq!(broker.client.invoke(timer.clone()).await.code, 1);
    set(&broker.client, "timerWheelEnable=true").await;
    assert_eq!(broker.client.invoke(timer).await.code, 0);
    assert_eq!(broker.bodies("T", 1, 1).await, ["later"]);
    let state = broker.service().broker().state().clone();
    eventually("the topic of timers is made", async || {
        state.topic("rmq_sys_wheel_timer").is_some()
    })
    .await;
}
