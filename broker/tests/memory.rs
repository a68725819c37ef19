//! What strangers can make a broker's process hold, by its resident memory: the client ports' budget and the bounds of every
//! request code.
//!
//! `cargo test -p raftmq-broker --test memory -- --nocapture` prints the figures of a small round;
//! `RAFTMQ_MEMORY_FULL=1` makes it a minute, and 1 000 slow connections
//! (`-- --ignored`).

#[allow(dead_code)]
#[path = "broker/harness.rs"]
mod harness;

use std::time::{Duration, Instant};

use harness::{Send, TestBroker, command};
use raftmq_broker::dispatch::TABLE;
use raftmq_remoting::codes::request;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the process may grow by.
const GROWTH: usize = 256 << 20;

static PART: [u8; 64 << 10] = [b'x'; 64 << 10];

/// Anonymous memory of this process, bytes: mapped files are the kernel's to give back.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|l| l.starts_with("RssAnon:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1));
    kib.and_then(|k| k.parse::<usize>().ok()).expect("a number") << 10
}

/// One at a time: each looks at the memory of all.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn full() -> bool {
    std::env::var_os("RAFTMQ_MEMORY_FULL").is_some()
}

/// Sends all the time; the times they took, and the highest memory seen.
async fn go_on(broker: &TestBroker, until: impl Fn() -> bool) -> (Vec<Duration>, usize) {
    let client = broker.another_client();
    let (mut took, mut most) = (Vec::new(), 0);
    while !until() {
        let start = Instant::now();
        let answer = client.invoke(Send::to("T").command()).await;
        assert_eq!(answer.code, 0, "{:?}", answer.remark);
        took.push(start.elapsed());
        most = most.max(resident());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    took.sort();
    (took, most)
}

fn report(what: &str, took: &[Duration], before: usize, most: usize) {
    let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or_default();
    println!(
        "{what}: grew by {} MiB, {} sends went on, p99 {p99:?}, slowest {:?}",
        most.saturating_sub(before) >> 20,
        took.len(),
        took.last()
    );
    assert!(
        most.saturating_sub(before) < GROWTH,
        "{what}: {} MiB",
        (most - before) >> 20
    );
    assert!(took.len() > 10, "{what}: other clients' sends went on");
}

/// Half of a frame of 16 MiB, as fast as it is taken.
async fn half_a_frame(addr: String) {
    let Ok(mut stream) = TcpStream::connect(addr).await else {
        return;
    };
    let _ = stream.write_all(&(16_u32 << 20).to_be_bytes()).await;
    for _ in 0..(8 << 20) / PART.len() {
        if stream.write_all(&PART).await.is_err() {
            return;
        }
    }
    let _ = stream.read(&mut [0]).await;
}

/// This test binary again, as the enemy: in a process of its own its memory is not the broker's, nor are its turns.
fn enemy(test: &str, broker: &TestBroker) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--include-ignored"])
        .env("RAFTMQ_MEMORY_ENEMY", broker.addr())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the enemy starts")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "hundreds of connections that send as fast as they can: by itself, with --ignored"]
async fn slow_connections_with_half_sent_frames() {
    let (count, time) = if full() { (1_000, 60) } else { (300, 8) };
    let end = Instant::now() + Duration::from_secs(time);
    if let Ok(addr) = std::env::var("RAFTMQ_MEMORY_ENEMY") {
        for _ in 0..count {
            let addr = addr.clone();
            tokio::spawn(async move {
                loop {
                    half_a_frame(addr.clone()).await;
                }
            });
        }
        return tokio::time::sleep_until(end.into()).await;
    }
    let _alone = ALONE.lock().await;
    let broker = TestBroker::start().await;
    broker.send("T", "first").await;
    let before = resident();
    let mut enemy = enemy("slow_connections_with_half_sent_frames", &broker);
    let end = Instant::now() + Duration::from_secs(time);
    let (took, most) = go_on(&broker, || Instant::now() > end).await;
    let _ = enemy.kill();
    let _ = enemy.wait();
    report("half-sent frames", &took, before, most);
}

/// A JSON list of as many objects as there is room for.
fn objects(key: &str, bytes: usize) -> Vec<u8> {
    let mut body = format!("{{\"{key}\":[{{}}").into_bytes();
    while body.len() + 5 < bytes {
        body.extend_from_slice(b",{}");
    }
    body.extend_from_slice(b"]}");
    body
}

fn heartbeat(n: usize) -> Vec<u8> {
    let groups: Vec<String> = (0..10_000)
        .map(|g| format!("{{\"groupName\":\"P{n}-{g}\"}}"))
        .collect();
    let id = "c".repeat(if n.is_multiple_of(2) { 1 << 20 } else { 200 });
    let groups = groups.join(",");
    format!("{{\"clientID\":\"{id}\",\"producerDataSet\":[{groups}]}}").into_bytes()
}

fn locks(n: usize) -> Vec<u8> {
    let queues: Vec<String> = (0..15_000)
        .map(|q| format!("{{\"topic\":\"T{n}\",\"queueId\":{q}}}"))
        .collect();
    let id = "c".repeat(if n.is_multiple_of(2) { 1 << 20 } else { 200 });
    let queues = queues.join(",");
    format!("{{\"clientId\":\"{id}\",\"consumerGroup\":\"G{n}\",\"mqSet\":[{queues}]}}")
        .into_bytes()
}

/// 65 536 messages of nothing, with an envelope that would be copied to each of them.
fn batch() -> RemotingCommand {
    let item: Vec<u8> = [22_i32, 0, 0, 0, 0]
        .iter()
        .flat_map(|n| n.to_be_bytes())
        .collect();
    let one = [item, vec![0, 0]].concat();
    Send::to("T")
        .with("m", "true")
        .properties(&[("p", &"x".repeat(30_000))])
        .body(one.repeat(65_536))
        .code(request::SEND_BATCH_MESSAGE)
        .command()
}

/// The worst that is known of a request code, and much that is merely large.
fn worst(code: i32, n: usize) -> Vec<RemotingCommand> {
    let fields = |command: RemotingCommand| {
        (0..1_000).fold(command, |c, i| {
            c.with_ext(&format!("f{i}"), "x".repeat(500))
        })
    };
    let plain = || {
        command(
            code,
            &[("topic", "T"), ("consumerGroup", "G"), ("group", "G")],
        )
    };
    let key = match code {
        request::LOCK_BATCH_MQ | request::UNLOCK_BATCH_MQ => "mqSet",
        request::UPDATE_AND_CREATE_TOPIC_LIST => "topicConfigList",
        request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST => "groupConfigList",
        _ => "consumerDataSet",
    };
    let mut all = vec![
        plain().with_body(objects(key, 3 << 20)),
        fields(plain()).with_body(PART.to_vec()),
        plain().with_body(vec![0; 15 << 20]),
    ];
    match code {
        request::HEART_BEAT => all.extend((0..4).map(|i| plain().with_body(heartbeat(4 * n + i)))),
        request::LOCK_BATCH_MQ => all.extend((0..4).map(|i| plain().with_body(locks(4 * n + i)))),
        request::SEND_BATCH_MESSAGE => all.extend([batch(), batch()]),
        request::PULL_MESSAGE => {
            let held = harness::Pull::of("T")
                .offset(1 << 40)
                .held(20_000)
                .command();
            let large = fields(held).with_body(vec![0; 1 << 20]);
            all.extend(std::iter::repeat_n(large, 8));
        }
        _ => {}
    }
    all
}

/// Sends them over one connection and reads nothing.
async fn flood(addr: String, n: usize, connections: usize, end: Instant) {
    let mut round = 0;
    while Instant::now() < end {
        let Ok(mut stream) = TcpStream::connect(&addr).await else {
            return;
        };
        for entry in TABLE.iter().skip((n + round) % connections).step_by(8) {
            for (opaque, mut command) in worst(entry.code, n).into_iter().enumerate() {
                command.opaque = opaque as i32;
                let mut bytes = Vec::new();
                if frame::encode(&command, &mut bytes).is_err() {
                    continue;
                }
                drop(command);
                let written = tokio::time::timeout_at(end.into(), stream.write_all(&bytes));
                if !matches!(written.await, Ok(Ok(()))) {
                    break;
                }
            }
        }
        round += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "not held yet: an optimised build grows to some 830 MiB within ten seconds, most of it not counted by the budget"]
async fn worst_frames_of_every_request_code() {
    const CONNECTIONS: usize = 64;
    let time = Duration::from_secs(if full() { 60 } else { 10 });
    if let Ok(addr) = std::env::var("RAFTMQ_MEMORY_ENEMY") {
        let end = Instant::now() + time;
        let floods: Vec<_> = (0..CONNECTIONS)
            .map(|n| tokio::spawn(flood(addr.clone(), n, CONNECTIONS, end)))
            .collect();
        for flood in floods {
            let _ = flood.await;
        }
        return;
    }
    let _alone = ALONE.lock().await;
    let broker = TestBroker::start().await;
    broker.send("T", "first").await;
    let before = resident();
    let mut enemy = enemy("worst_frames_of_every_request_code", &broker);
    let end = Instant::now() + time;
    let (took, most) = go_on(&broker, || Instant::now() > end).await;
    let _ = enemy.kill();
    let _ = enemy.wait();
    report("worst frames", &took, before, most);
    // It still serves, and the budget is given back.
    broker.send("T", "last").await;
    let inbound = broker.service().broker().inbound.clone();
    let limit = Instant::now() + Duration::from_secs(20);
    while inbound.used() > 1 << 20 {
        assert!(
            Instant::now() < limit,
            "{} bytes are still charged",
            inbound.used()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Topics, groups and clients that come and go: a round leaves nothing behind. `RAFTMQ_SOAK_NAMES` says how many there are.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_come_and_go_leave_nothing() {
    const ROUND: usize = 50;
    let _alone = ALONE.lock().await;
    let names: usize = std::env::var("RAFTMQ_SOAK_NAMES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(300);
    let broker = TestBroker::start().await;
    let mut after_warm_up = 0;
    let rounds = names.div_ceil(ROUND).max(4);
    for round in 0..rounds {
        if round == rounds / 4 {
            after_warm_up = resident();
        }
        for n in round * ROUND..(round + 1) * ROUND {
            come_and_go(&broker, n).await;
        }
    }
    let known = broker.service().broker().clone();
    let end = Instant::now() + Duration::from_secs(20);
    while known.clients.bytes() > 0 || known.inbound.used() > 1 << 20 {
        assert!(
            Instant::now() < end,
            "{} bytes of clients",
            known.clients.bytes()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let state = known.state();
    assert!(
        state
            .topics()
            .iter()
            .all(|t| !t.topic_name.contains("soak"))
    );
    assert!(
        state
            .groups()
            .iter()
            .all(|g| !g.group_name.contains("soak"))
    );
    let grown = resident().saturating_sub(after_warm_up);
    println!("{} names: grew by {} KiB", rounds * ROUND, grown >> 10);
    // The newest entries of the log are in memory, 64 MiB at most.
    assert!(grown < 96 << 20, "{} MiB", grown >> 20);
}

async fn come_and_go(broker: &TestBroker, n: usize) {
    let (topic, group) = (format!("soak-{n}"), format!("soak-group-{n}"));
    let client = broker.another_client();
    let ok = |answer: RemotingCommand| assert_eq!(answer.code, 0, "{:?}", answer.remark);
    ok(client.invoke(Send::to(&topic).command()).await);
    let heartbeat = format!(
        r#"{{"clientID":"soak-{n}","producerDataSet":[{{"groupName":"{group}"}}],"consumerDataSet":[{{"groupName":"{group}",
            "subscriptionDataSet":[{{"topic":"{topic}","subString":"*","subVersion":1}}]}}]}}"#
    );
    ok(client.ask_with(request::HEART_BEAT, &[], heartbeat).await);
    let locks = format!(
        r#"{{"clientId":"soak-{n}","consumerGroup":"{group}","mqSet":[{{"topic":"{topic}","queueId":0}}]}}"#
    );
    ok(client
        .ask_with(request::LOCK_BATCH_MQ, &[], locks.clone())
        .await);
    let pull = harness::Pull::of(&topic).with("consumerGroup", &group);
    ok(client.invoke(pull.command()).await);
    ok(client.ask_with(request::UNLOCK_BATCH_MQ, &[], locks).await);
    client.close();
    let admin = &broker.client;
    for topic in [topic, format!("%RETRY%{group}")] {
        ok(admin
            .ask(
                request::DELETE_TOPIC_IN_BROKER,
                &[("topic", topic.as_str())],
            )
            .await);
    }
    let delete = [("groupName", group.as_str()), ("cleanOffset", "true")];
    ok(admin.ask(request::DELETE_SUBSCRIPTIONGROUP, &delete).await);
}
