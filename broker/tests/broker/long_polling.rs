use std::time::{Duration, Instant};

use raftmq_remoting::header::PullMessageResponseHeader;

use crate::harness::{Pull, Send, TestBroker, header, records};

async fn held(
    broker: &TestBroker,
    pull: Pull,
) -> tokio::task::JoinHandle<(raftmq_remoting::RemotingCommand, Instant)> {
    let client = broker.another_client();
    let task = tokio::spawn(async move {
        let answer = client.invoke(pull.command()).await;
        (answer, Instant::now())
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    task
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_wakes_a_held_pull() {
    let broker = TestBroker::start().await;
    broker.send("T", "first").await;
    let pull = held(&broker, Pull::of("T").offset(1).held(10_000)).await;
    assert!(!pull.is_finished());
    let mut fastest = Duration::MAX;
    broker.send("T", "second").await;
    let sent = Instant::now();
    let (answer, at) = pull.await.unwrap();
    fastest = fastest.min(at.saturating_duration_since(sent));
    assert_eq!(answer.code, 0);
    assert_eq!(records(&answer)[0].body, "second");
    // Several tries: the machine may be busy for a moment.
    for n in 2..7 {
        if fastest < Duration::from_millis(50) {
            break;
        }
        let pull = held(&broker, Pull::of("T").offset(n).held(10_000)).await;
        broker.send("T", "next").await;
        let sent = Instant::now();
        fastest = fastest.min(pull.await.unwrap().1.saturating_duration_since(sent));
    }
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_pull_times_out_with_not_found() {
    let broker = TestBroker::start().await;
    broker.send("T", "first").await;
    let start = Instant::now();
    let answer = broker
        .client
        .invoke(Pull::of("T").offset(1).held(700).command())
        .await;
    let took = start.elapsed();
    assert_eq!(answer.code, 19);
    assert_eq!(
        header::<PullMessageResponseHeader>(&answer).next_begin_offset,
        1
    );
    assert!(
        took >= Duration::from_millis(650) && took < Duration::from_millis(2_500),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_queue_is_waited_for() {
    let broker = TestBroker::start().await;
    broker.send("T", "elsewhere").await;
    let pull = held(&broker, Pull::of("T").with("queueId", "2").held(10_000)).await;
    broker
        .client
        .invoke(Send::to("T").with("e", "2").body("here").command())
        .await;
    let (answer, _) = pull.await.unwrap();
    assert_eq!(records(&answer)[0].body, "here");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_wanted_tag_wakes() {
    let broker = TestBroker::start().await;
    broker.send("T", "first").await;
    let pull = held(
        &broker,
        Pull::of("T")
            .offset(1)
            .with("subscription", "Yes")
            .held(20_000),
    )
    .await;
    broker
        .client
        .invoke(Send::to("T").properties(&[("TAGS", "No")]).command())
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!pull.is_finished());
    broker
        .client
        .invoke(
            Send::to("T")
                .properties(&[("TAGS", "Yes")])
                .body("wanted")
                .command(),
        )
        .await;
    let (answer, _) = pull.await.unwrap();
    let messages = records(&answer);
    assert_eq!((messages.len(), messages[0].body.as_str()), (1, "wanted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unwanted_messages_move_a_held_pull_on() {
    let broker = TestBroker::start().await;
    broker.send("T", "first").await;
    let start = Instant::now();
    let pull = held(
        &broker,
        Pull::of("T")
            .offset(1)
            .with("subscription", "Yes")
            .held(30_000),
    )
    .await;
    broker
        .client
        .invoke(Send::to("T").properties(&[("TAGS", "No")]).command())
        .await;
    let (answer, _) = pull.await.unwrap();
    assert_eq!(answer.code, 20, "looked at again every 5 s");
    assert_eq!(
        header::<PullMessageResponseHeader>(&answer).next_begin_offset,
        2
    );
    assert!(start.elapsed() < Duration::from_secs(12));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_long_polling_the_wait_is_short() {
    let broker = TestBroker::start_with(|c| {
        c.long_polling = false;
        c.short_polling_ms = 200;
    })
    .await;
    broker.send("T", "first").await;
    let start = Instant::now();
    let answer = broker
        .client
        .invoke(Pull::of("T").offset(1).held(15_000).command())
        .await;
    assert_eq!(answer.code, 19);
    assert!(start.elapsed() < Duration::from_secs(3));
}
