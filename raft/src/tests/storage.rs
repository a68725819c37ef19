//! The disk side of a set: damage repaired from the others, a power cut's lost end, snapshots after a trim.

use std::path::Path;
use std::time::{Duration, Instant};

use super::support::{bodies, message, open, options, peers, send, serving};
use crate::options::Peer;
use crate::replica::Replica;
use crate::{Command, FlushMode};

const SEGMENT: u64 = 64 * 1024;

async fn open_small(dir: &Path, peers: &[Peer], nth: usize) -> Replica {
    let mut options = options(dir, peers, nth);
    options.segment_size = SEGMENT;
    Replica::open(
        options,
        std::sync::Arc::new(super::support::Counter::default()),
    )
    .await
    .expect("opens")
}

/// Sends `count` messages of 2 KiB, each until it is acknowledged.
async fn fill(replicas: &[Option<Replica>], sent: &mut Vec<String>, count: usize) {
    for _ in 0..count {
        let body = format!("{:06}", sent.len()).repeat(350);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let leader = serving(replicas).await;
            let replica = replicas[leader].as_ref().expect("runs");
            match send(replica, vec![message(0, &body)], None).await {
                Ok(_) => break,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
        sent.push(body);
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn open_three(dir: &Path, peers: &[Peer]) -> Vec<Option<Replica>> {
    let mut replicas = Vec::new();
    for nth in 0..3 {
        replicas.push(Some(open_small(dir, peers, nth).await));
    }
    replicas
}

/// Waits until every replica has what the first has now; where that ends.
async fn until_all_have_it(replicas: &[Option<Replica>]) -> u64 {
    let end = replicas[0].as_ref().map_or(0, |r| r.log_range().1);
    until("all have it", || {
        replicas.iter().flatten().all(|r| r.log_range().1 >= end)
    })
    .await;
    end as u64
}

async fn close(replica: &mut Option<Replica>) {
    if let Some(replica) = replica.take() {
        replica.shutdown().await.expect("closes");
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("reads");
    bytes[at] ^= 0x20;
    std::fs::write(path, bytes).expect("writes");
}

fn segment(dir: &Path, name: &str, nth: u64) -> std::path::PathBuf {
    let base = nth * SEGMENT;
    dir.join(name)
        .join(format!("commitlog/segments/{base:020}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_repaired_from_the_other_replicas() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = open_three(dir.path(), &peers).await;
    let mut sent = Vec::new();
    fill(&replicas, &mut sent, 200).await;
    let follower = (serving(&replicas).await + 1) % 3;
    let name = format!("n{follower}");
    close(&mut replicas[follower]).await;
    // A flipped bit, a missing file, and one that lost its end.
    flip(&segment(dir.path(), &name, 1), 30_000);
    std::fs::remove_file(segment(dir.path(), &name, 2)).expect("removed");
    let short = std::fs::OpenOptions::new()
        .write(true)
        .open(segment(dir.path(), &name, 3))
        .expect("opens");
    short.set_len(20_000).expect("cut");
    fill(&replicas, &mut sent, 20).await;

    replicas[follower] = Some(open_small(dir.path(), &peers, follower).await);
    let replica = replicas[follower].clone().expect("runs");
    until("everything is there and whole", || {
        replica.damaged_ranges() == 0
            && replica
                .queue_range("T", 0)
                .is_some_and(|(_, max)| max == sent.len() as i64)
    })
    .await;
    // What nobody has read yet is found by the scrubber or by the first reader.
    until("every message can be read", || {
        let (min, max) = replica.queue_range("T", 0).unwrap_or_default();
        let entries = replica.read_queue("T", 0, min, (max - min) as usize);
        let entries = entries.unwrap_or_default();
        entries.len() == sent.len()
            && entries
                .iter()
                .all(|entry| replica.read_queued("T", 0, entry).is_ok())
    })
    .await;
    assert_eq!(bodies(&replica, 0), sent);
    for replica in &mut replicas {
        close(replica).await;
    }
    for nth in 0..4 {
        let good = std::fs::read(segment(
            dir.path(),
            &format!("n{}", (follower + 1) % 3),
            nth,
        ));
        let repaired = std::fs::read(segment(dir.path(), &name, nth));
        assert!(
            good.expect("reads") == repaired.expect("reads"),
            "segment {nth} is not byte-identical"
        );
    }
}

/// As after a power cut: another boot, and the last entries are gone.
fn lose_power(dir: &Path, name: &str, keep: u64) {
    let store = dir.join(name);
    std::fs::write(store.join("abort"), "another boot").expect("writes");
    let log = store.join("commitlog");
    for file in ["checkpoint", "marker"] {
        let _ = std::fs::remove_file(log.join(file));
    }
    let mut at = keep;
    for file in std::fs::read_dir(log.join("segments")).expect("lists") {
        let path = file.expect("an entry").path();
        let base = path
            .file_name()
            .and_then(|n| n.to_str()?.parse::<u64>().ok());
        let Some(base) = base else {
            std::fs::remove_file(&path).expect("removes a sparse index");
            continue;
        };
        at = keep.max(base);
        if at < base + SEGMENT {
            let mut bytes = std::fs::read(&path).expect("reads");
            bytes[(at - base) as usize..].fill(0);
            std::fs::write(&path, bytes).expect("writes");
        }
    }
    assert!(at >= keep);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_its_end_in_a_power_cut_does_not_elect_a_leader_without_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = open_three(dir.path(), &peers).await;
    let mut sent = Vec::new();
    fill(&replicas, &mut sent, 20).await;
    until_all_have_it(&replicas).await;
    // One replica is away while the rest is acknowledged by the two others.
    let leader = serving(&replicas).await;
    let (away, loser) = ((leader + 1) % 3, (leader + 2) % 3);
    close(&mut replicas[away]).await;
    let before = replicas[leader].as_ref().map_or(0, |r| r.log_range().1) as u64;
    fill(&replicas, &mut sent, 20).await;
    close(&mut replicas[loser]).await;
    close(&mut replicas[leader]).await;
    lose_power(dir.path(), &format!("n{loser}"), before);

    // The loser and the one that was away are a majority, and both lack acknowledged messages.
    replicas[away] = Some(open_small(dir.path(), &peers, away).await);
    replicas[loser] = Some(open_small(dir.path(), &peers, loser).await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(
        replicas.iter().flatten().all(|r| !r.is_serving()),
        "a leader without acknowledged messages"
    );
    assert!(dir.path().join(format!("n{loser}/quarantine")).exists());
    // With the third one everything is there again.
    replicas[leader] = Some(open_small(dir.path(), &peers, leader).await);
    let now = serving(&replicas).await;
    assert_eq!(bodies(replicas[now].as_ref().expect("runs"), 0), sent);
    let quarantine = dir.path().join(format!("n{loser}/quarantine"));
    until("the loser has caught up and votes again", || {
        !quarantine.exists()
    })
    .await;
    fill(&replicas, &mut sent, 5).await;
    for replica in &mut replicas {
        close(replica).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_power_cut_of_all_the_most_complete_log_is_elected() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = open_three(dir.path(), &peers).await;
    let mut sent = Vec::new();
    fill(&replicas, &mut sent, 20).await;
    let early = until_all_have_it(&replicas).await;
    fill(&replicas, &mut sent, 20).await;
    let full = serving(&replicas).await;
    for replica in &mut replicas {
        close(replica).await;
    }
    for nth in 0..3 {
        let keep = if nth == full { u64::MAX / 2 } else { early };
        if nth == full {
            std::fs::write(dir.path().join(format!("n{nth}/abort")), "another boot")
                .expect("writes");
        } else {
            lose_power(dir.path(), &format!("n{nth}"), keep);
        }
    }
    // The two that lost their end wait for the third one.
    for nth in (0..3).filter(|nth| *nth != full) {
        replicas[nth] = Some(open_small(dir.path(), &peers, nth).await);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(
        replicas.iter().flatten().all(|r| !r.is_serving()),
        "they wait for all"
    );
    replicas[full] = Some(open_small(dir.path(), &peers, full).await);
    let leader = serving(&replicas).await;
    assert_eq!(leader, full, "the most complete log");
    assert_eq!(bodies(replicas[leader].as_ref().expect("runs"), 0), sent);
    fill(&replicas, &mut sent, 5).await;
    for replica in &mut replicas {
        close(replica).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_away_past_the_trimmed_log_catches_up_through_a_snapshot() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = open_three(dir.path(), &peers).await;
    let mut sent = Vec::new();
    fill(&replicas, &mut sent, 10).await;
    let leader = serving(&replicas).await;
    let away = (leader + 1) % 3;
    close(&mut replicas[away]).await;
    // A boundary's snapshot is written by the housekeeping: one a second.
    for _ in 0..5 {
        fill(&replicas, &mut sent, 60).await;
        tokio::time::sleep(Duration::from_millis(1200)).await;
    }
    let leader = serving(&replicas).await;
    let replica = replicas[leader].clone().expect("runs");
    until("snapshots at the boundaries", || {
        replica.boundaries().len() >= 3
    })
    .await;
    let target = replica.boundaries()[2].position;
    let trim = Command::TrimTo { position: target };
    replica.propose_commands(vec![trim]).await.expect("applied");
    let running: Vec<Replica> = replicas.iter().flatten().cloned().collect();
    until("the log begins later on both", || {
        running.iter().all(|r| r.log_range().0 as u64 >= target)
    })
    .await;
    until("the queue follows", || {
        running
            .iter()
            .all(|r| r.queue_range("T", 0).is_some_and(|(min, _)| min > 10))
    })
    .await;

    replicas[away] = Some(open_small(dir.path(), &peers, away).await);
    let back = replicas[away].clone().expect("runs");
    until("it has everything that is kept", || {
        back.queue_range("T", 0)
            .is_some_and(|(min, max)| min > 10 && max == sent.len() as i64)
    })
    .await;
    let (min, _) = back.queue_range("T", 0).expect("a queue");
    assert_eq!(bodies(&back, 0), sent[min as usize..]);
    fill(&replicas, &mut sent, 10).await;
    until("it goes on with the others", || {
        back.queue_range("T", 0)
            .is_some_and(|(_, max)| max == sent.len() as i64)
    })
    .await;
    drop((back, replica, running));
    // And all of it survives a restart.
    for (nth, replica) in replicas.iter_mut().enumerate() {
        close(replica).await;
        *replica = Some(open_small(dir.path(), &peers, nth).await);
    }
    fill(&replicas, &mut sent, 3).await;
    let leader = serving(&replicas).await;
    let (min, max) = replicas[leader]
        .as_ref()
        .and_then(|r| r.queue_range("T", 0))
        .expect("a queue");
    assert_eq!(max, sent.len() as i64);
    assert_eq!(
        bodies(replicas[leader].as_ref().expect("runs"), 0),
        sent[min as usize..]
    );
    for replica in &mut replicas {
        close(replica).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_messages_and_recovers_without_a_restart() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(1);
    let replicas = vec![Some(open(dir.path(), &peers, 0).await)];
    serving(&replicas).await;
    let replica = replicas[0].as_ref().expect("runs");
    send(replica, vec![message(0, "before")], None)
        .await
        .expect("acknowledged");
    replica.set_full(true);
    let refused = send(replica, vec![message(0, "full")], None).await;
    assert_eq!(refused, Err(crate::ProposeError::DiskFull));
    assert_eq!(bodies(replica, 0), ["before"], "reads go on");
    replica.set_full(false);
    send(replica, vec![message(0, "after")], None)
        .await
        .expect("acknowledged");
    assert_eq!(bodies(replica, 0), ["before", "after"]);
    replica.shutdown().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_its_vote_is_refused() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(1);
    let mut replicas = vec![Some(open(dir.path(), &peers, 0).await)];
    serving(&replicas).await;
    send(
        replicas[0].as_ref().expect("runs"),
        vec![message(0, "x")],
        None,
    )
    .await
    .expect("acknowledged");
    close(&mut replicas[0]).await;
    std::fs::remove_file(dir.path().join("n0/commitlog/vote")).expect("removed");
    let mut again = options(dir.path(), &peers, 0);
    again.flush = FlushMode::Sync;
    let opened = Replica::open(
        again,
        std::sync::Arc::new(super::support::Counter::default()),
    )
    .await;
    assert!(opened.is_err_and(|e| e.to_string().contains("no vote")));
}

/// A small file system of its own; gone with the value.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    /// `None` where one may not mount.
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("temp dir");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .output();
        mounted
            .is_ok_and(|out| out.status.success())
            .then_some(Self(dir))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_any_space_left_is_survived() {
    let Some(disk) = Tmpfs::mount("32m") else {
        eprintln!("not tested: mounting a tmpfs needs root");
        return;
    };
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 12 << 20]).expect("written");
    let peers = peers(1);
    let mut options = options(disk.0.path(), &peers, 0);
    options.segment_size = 1 << 20;
    let replica = Replica::open(
        options,
        std::sync::Arc::new(super::support::Counter::default()),
    )
    .await
    .expect("opens");
    let replicas = [Some(replica.clone())];
    serving(&replicas).await;
    let mut sent = Vec::new();
    let refused = loop {
        let body = format!("{:06}", sent.len()).repeat(8_000);
        match send(&replica, vec![message(0, &body)], None).await {
            Ok(_) => sent.push(body),
            Err(error) => break error,
        }
        assert!(sent.len() < 1_000, "32 MiB are never full");
    };
    assert_eq!(refused, crate::ProposeError::DiskFull);
    // Not a byte is left: state changes still come in and wait.
    let mut rest = std::fs::File::create(disk.0.path().join("rest")).expect("made");
    while std::io::Write::write_all(&mut rest, &[1; 4096]).is_ok() {}
    let offsets = vec![Command::CommitOffsets {
        offsets: vec![crate::OffsetCommit {
            group: "g".into(),
            topic: "T".into(),
            queue_id: 0,
            offset: 3,
        }],
    }];
    let waiting = tokio::spawn({
        let replica = replica.clone();
        async move { replica.propose_commands(offsets).await }
    });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(bodies(&replica, 0), sent, "reads go on");
    std::fs::remove_file(&ballast).expect("removed");
    std::fs::remove_file(disk.0.path().join("rest")).expect("removed");
    let _ = waiting.await.expect("ends");
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = send(&replica, vec![message(0, "again")], None).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    sent.push("again".to_owned());
    assert_eq!(bodies(&replica, 0), sent);
    drop(replicas);
    replica.shutdown().await.expect("closes");
}
