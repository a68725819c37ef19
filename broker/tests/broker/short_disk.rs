//! A disk that is too full, or damaged: what is refused, and what goes on.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use raftmq_remoting::body::KVTable;
use raftmq_remoting::codes::request;
use raftmq_remoting::json;

use crate::harness::{Pull, Send, TestBroker, command, eventually, records, remark};
use crate::retention::{SMALL, fill, range, small};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_messages_and_recovers() {
    let broker = TestBroker::start().await;
    broker.send("T", "before").await;
    let delayed = Send::to("T").properties(&[("DELAY", "1")]).body("later");
    assert_eq!(broker.client.invoke(delayed.command()).await.code, 0);
    // The next look at the disk, which has room, takes it back: tried until a send falls in between.
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        broker.service().broker().replica.set_full(true);
        let answer = broker.client.invoke(Send::to("T").command()).await;
        if answer.code == 14 {
            assert!(
                remark(&answer).contains("disk is full"),
                "{}",
                remark(&answer)
            );
            break;
        }
        assert!(Instant::now() < end, "not refused: {}", answer.code);
    }
    assert_eq!(broker.pull("T", 0).await.code, 0, "reads go on");
    eventually("messages are taken again", || async {
        broker
            .client
            .invoke(Send::to("T").body("after").command())
            .await
            .code
            == 0
    })
    .await;
    eventually("the delayed message has come", || async {
        let all = records(&broker.pull("T", 0).await);
        all.iter().any(|m| m.body == "later")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_above_the_warning_level_takes_no_messages_but_all_else() {
    // There is no disk of which less than a hundredth is used.
    let broker = TestBroker::start_with(|c| c.disk_warning = 1).await;
    eventually("messages are refused", || async {
        broker.client.invoke(Send::to("T").command()).await.code == 14
    })
    .await;
    let oneway = Send::to("T").command();
    broker.client.oneway(oneway).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let answer = broker.client.invoke(Send::to("T").command()).await;
    assert_eq!(answer.code, 14, "still, after the next look");
    let group = r#"{"groupName":"G"}"#;
    let put = request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP;
    assert_eq!(broker.client.ask_with(put, &[], group).await.code, 0);
    let commit = [
        ("consumerGroup", "G"),
        ("topic", "T"),
        ("queueId", "0"),
        ("commitOffset", "0"),
    ];
    let answer = broker
        .client
        .invoke(command(request::UPDATE_CONSUMER_OFFSET, &commit))
        .await;
    assert_eq!(answer.code, 0, "{}", remark(&answer));
    let info = broker
        .client
        .ask(request::GET_BROKER_RUNTIME_INFO, &[])
        .await;
    let table: KVTable = json::from_slice(&info.body.to_bytes()).unwrap();
    assert_eq!(table.table["diskFull"], "true");
    assert!(table.table["commitLogDiskRatio"].parse::<f64>().unwrap() >= 0.01);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_emptied_though_delayed_messages_hold_it() {
    static FULL: AtomicBool = AtomicBool::new(false);
    let mut broker = TestBroker::start_with(|c| {
        small(c);
        if FULL.load(Ordering::Relaxed) {
            c.disk_warning = 1;
            c.clean_forcibly = true;
        }
    })
    .await;
    let delayed = Send::to("Later")
        .properties(&[("DELAY", "3")])
        .body("later");
    assert_eq!(broker.client.invoke(delayed.command()).await.code, 0);
    fill(&broker.client, "T", 40).await;
    broker.stop().await;
    FULL.store(true, Ordering::Relaxed);
    broker.start_again().await;
    eventually("the log begins later", || async {
        let broker = broker.service().broker();
        broker.replica.log_range().0 > SMALL as i64 && range(broker).0 > 0
    })
    .await;
    let answer = broker.client.invoke(Send::to("T").command()).await;
    assert_eq!(answer.code, 14, "messages are still refused");
    broker.stop().await;
    FULL.store(false, Ordering::Relaxed);
    broker.start_again().await;
    let bodies = broker.bodies("Later", 0, 1).await;
    assert_eq!(bodies, ["later"]);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(records(&broker.pull("Later", 0).await).len(), 1);
    broker.stop().await;
}

/// A byte of the oldest segment is another one.
fn damage(dir: &Path) {
    let log = dir.join("commitlog/segments");
    let mut files: Vec<_> = std::fs::read_dir(&log)
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|f| f.extension().is_none())
        .collect();
    files.sort();
    let file = std::fs::File::options()
        .write(true)
        .read(true)
        .open(&files[0])
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, SMALL / 2).unwrap();
    file.write_all_at(&[!byte[0]], SMALL / 2).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_message_is_an_error_and_not_the_end() {
    let mut broker = TestBroker::start_with(small).await;
    fill(&broker.client, "T", 40).await;
    broker.stop().await;
    damage(&broker.store_dir());
    broker.start_again().await;
    let mut codes = Vec::new();
    for offset in 0..40 {
        let pull = Pull::of("T").offset(offset).with("maxMsgNums", "1");
        let answer = broker.client.invoke(pull.command()).await;
        if answer.code == 1 {
            assert!(
                remark(&answer).contains("cannot read the queue"),
                "{}",
                remark(&answer)
            );
        }
        codes.push(answer.code);
    }
    assert!(codes.contains(&1), "{codes:?}");
    assert!(codes.iter().all(|c| matches!(c, 0 | 1)), "{codes:?}");
    assert!(codes.iter().filter(|c| **c == 0).count() >= 30, "{codes:?}");
    let sent = broker.send("T", "next").await;
    assert_eq!(sent.ext.get("queueOffset"), Some("40"));
    assert_eq!(broker.bodies("T", 40, 1).await, ["next"]);
    broker.stop().await;
}
