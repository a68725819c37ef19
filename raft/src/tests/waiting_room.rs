//! A replica without a leader under an open loop of senders: the one thread of Raft must still get round to everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::{Counter, message, options, peers};
use crate::options::AckLevel;
use crate::propose::Proposal;
use crate::replica::Replica;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_sends_without_a_leader_leaves_the_raft_thread_its_time() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut options = options(dir.path(), &peers, 0);
    options.waiting_room_bytes = 1 << 30;
    options.waiting_room = Duration::from_secs(60);
    let alone = Replica::open(options, Arc::new(Counter::default())).await;
    let alone = alone.expect("opens");
    let stop = Arc::new(AtomicBool::new(false));
    let (sends, ends) = (alone.clone(), stop.clone());
    let flood = std::thread::spawn(move || {
        let mut n = 0u64;
        while !ends.load(Ordering::Relaxed) {
            let proposal = Proposal {
                messages: vec![message(0, "x")],
                commands: Vec::new(),
                ack: Some(AckLevel::Majority),
                only_term: None,
                deadline: Instant::now() + Duration::from_secs(60),
            };
            sends.propose(proposal, |_| {});
            n += 1;
            // As an open loop does: not faster than sockets bring them.
            if n.is_multiple_of(16) {
                std::thread::yield_now();
            }
        }
        n
    });
    // Some ten thousand wait by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let heart = alone.inner().handle.spawn(async {
        let mut longest = Duration::ZERO;
        for _ in 0..100 {
            let began = Instant::now();
            tokio::time::sleep(Duration::from_millis(10)).await;
            longest = longest.max(began.elapsed());
        }
        longest
    });
    let longest = heart.await.expect("ends");
    stop.store(true, Ordering::Relaxed);
    let sent = flood.join().expect("ends");
    assert!(sent > 10_000, "{sent} sends are no flood");
    assert!(
        longest < Duration::from_millis(200),
        "a task that sleeps 10 ms had its turn after {longest:?}, {sent} sent"
    );
    alone.shutdown().await.expect("closes");
}
