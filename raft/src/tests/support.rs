//! What the tests share: options for small fast sets, messages, an observer that counts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftmq_remoting::ByteStr;
use raftmq_remoting::message::{NewMessage, body_crc};
use tokio::sync::oneshot;

use crate::options::{AckLevel, FlushEvery, FlushMode, Peer, Policy, ReplicaOptions};
use crate::propose::Proposal;
use crate::replica::Replica;
use crate::state_machine::Observer;
use crate::{Arrived, Placed, ProposeError};

/// Counts what was applied.
#[derive(Default)]
pub struct Counter(pub AtomicUsize);

impl Observer for Counter {
    fn messages_applied(&self, arrived: &[Arrived]) {
        self.0.fetch_add(arrived.len(), Ordering::SeqCst);
    }
    fn topics_changed(&self) {}
    fn groups_changed(&self) {}
    fn timers_changed(&self) {}
}

/// A free port of this machine.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Peers n0..n(count-1) on free ports.
pub fn peers(count: usize) -> Vec<Peer> {
    (0..count)
        .map(|i| Peer {
            name: format!("n{i}"),
            addr: format!("127.0.0.1:{}", free_port()),
        })
        .collect()
}

/// Options of one replica of a set.
pub fn options(dir: &Path, peers: &[Peer], nth: usize) -> ReplicaOptions {
    let own = &peers[nth];
    ReplicaOptions {
        store_dir: dir.join(&own.name),
        segment_size: 1024 * 1024,
        flush: FlushMode::Async,
        flush_every: FlushEvery {
            interval: Duration::from_millis(100),
            ..FlushEvery::default()
        },
        warm_segments: false,
        scrub_rate: 8 << 20,
        catch_up_rate: 0,
        accept_data_loss: false,
        cluster: "TestCluster".into(),
        set: "broker-t".into(),
        self_name: own.name.clone(),
        peers: peers.to_vec(),
        bootstrap: peers.len() == 1,
        peer_bind: own.addr.parse().expect("an address"),
        peer_advertise: own.addr.clone(),
        client_advertise: format!("127.0.0.1:{}", 20_000 + nth),
        policy: Policy::default(),
        heartbeat: Duration::from_millis(50),
        election_min: Duration::from_millis(200),
        election_max: Duration::from_millis(400),
        ack_timeout: Duration::from_millis(2500),
        waiting_room: Duration::from_secs(2),
        waiting_room_bytes: 16 * 1024 * 1024,
    }
}

/// Opens one replica.
pub async fn open(dir: &Path, peers: &[Peer], nth: usize) -> Replica {
    Replica::open(options(dir, peers, nth), Arc::new(Counter::default()))
        .await
        .expect("opens")
}

/// Opens all replicas of a set.
pub async fn open_all(dir: &Path, peers: &[Peer]) -> Vec<Option<Replica>> {
    let mut replicas = Vec::new();
    for nth in 0..peers.len() {
        replicas.push(Some(open(dir, peers, nth).await));
    }
    replicas
}

/// A message to topic `T`.
pub fn message(queue_id: i32, body: &str) -> NewMessage {
    let body = Bytes::copy_from_slice(body.as_bytes());
    NewMessage {
        topic: ByteStr::from("T"),
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: ([127, 0, 0, 1], 1).into(),
        store_host: ([127, 0, 0, 1], 2).into(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body_crc: body_crc(&body),
        body,
        properties: Bytes::from_static(b"TAGS\x01a\x02"),
    }
}

/// Proposes messages and waits.
pub async fn send(
    replica: &Replica,
    messages: Vec<NewMessage>,
    ack: Option<AckLevel>,
) -> Result<Vec<Placed>, ProposeError> {
    let (tx, rx) = oneshot::channel();
    let proposal = Proposal {
        messages,
        commands: Vec::new(),
        ack,
        only_term: None,
        deadline: Instant::now() + Duration::from_secs(3),
    };
    replica.propose(proposal, move |result| {
        let _ = tx.send(result);
    });
    rx.await.expect("an answer").map(|stored| stored.placed)
}

/// Waits until one of the replicas serves; its place in the list.
pub async fn serving(replicas: &[Option<Replica>]) -> usize {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = replicas
            .iter()
            .position(|r| r.as_ref().is_some_and(Replica::is_serving));
        if let Some(nth) = found {
            return nth;
        }
        assert!(Instant::now() < deadline, "no leader within 20 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Bodies of a queue, as consumers read them.
pub fn bodies(replica: &Replica, queue_id: i32) -> Vec<String> {
    let (min, max) = replica.queue_range("T", queue_id).unwrap_or((0, 0));
    let entries = replica
        .read_queue("T", queue_id, min, (max - min) as usize)
        .expect("reads");
    let body = |entry: &crate::QueueEntry| {
        let bytes = replica
            .read_record(entry.physical_offset, entry.size)
            .expect("reads");
        let view = raftmq_remoting::message::StoredRecord::parse(&bytes).expect("a record");
        assert_eq!(
            (view.queue_offset(), view.physical_offset()),
            (entry.queue_offset, entry.physical_offset)
        );
        String::from_utf8_lossy(view.body()).into_owned()
    };
    entries.iter().map(body).collect()
}
