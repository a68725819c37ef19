//! What comes to the peer port may be made up: it is refused, and the replica goes on.

use std::sync::Arc;
use std::time::Duration;

use raftmq_proto::raft as pb;
use raftmq_proto::raft::peer_client::PeerClient;
use raftmq_store::version;
use tonic::transport::Channel;

use super::support::{bodies, message, open_all, peers, send, serving};
use crate::about::About;
use crate::network::endpoint;
use crate::replica::Replica;
use crate::wire::Call;

/// A stranger who knows everything about the set.
struct Stranger {
    client: PeerClient<Channel>,
    call: Call,
    vote: pb::Vote,
}

impl Stranger {
    async fn before(replica: &Replica) -> Self {
        let role = replica.role();
        let endpoint = endpoint(&role.me.peer_addr, Duration::from_secs(1)).expect("an address");
        let another = role.members.iter().find(|m| m.node_id != role.me.node_id);
        let from = another.expect("three members").node_id;
        Self {
            client: PeerClient::new(endpoint.connect().await.expect("connects")),
            call: Call {
                set: "broker-t".into(),
                cluster_id: replica.cluster_id().expect("founded"),
                from,
                to: role.me.node_id,
                about: Arc::new(About::own(1024 * 1024, version::NEWEST)),
            },
            vote: pb::Vote {
                term: role.term,
                node_id: role.leader.as_ref().expect("a leader").node_id,
                committed: true,
            },
        }
    }

    fn sign<T>(&self, message: T) -> tonic::Request<T> {
        self.call.sign(message).expect("signs")
    }

    /// Sends one append; what comes back, if anything.
    async fn append(&mut self, request: pb::AppendRequest) -> Option<pb::AppendResponse> {
        let request = self.sign(futures_util::stream::iter([request]));
        let answers = self.client.append(request).await;
        answers
            .expect("taken")
            .into_inner()
            .message()
            .await
            .ok()
            .flatten()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_replica_sends_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let replicas = open_all(dir.path(), &peers).await;
    let leader = serving(&replicas).await;
    let led = replicas[leader].clone().expect("runs");
    for i in 0..20 {
        let body = format!("{i}");
        send(&led, vec![message(0, &body)], None)
            .await
            .expect("acknowledged");
    }
    let follower = replicas[(leader + 1) % 3].clone().expect("runs");
    for replica in [&led, &follower] {
        let mut stranger = Stranger::before(replica).await;

        let huge = pb::VoteRequest {
            vote: Some(pb::Vote {
                term: u64::MAX,
                node_id: 2,
                committed: false,
            }),
            last: Some(pb::LogId {
                term: u64::MAX - 1,
                index: u64::MAX,
            }),
            leadership_transfer: true,
            pre_vote: false,
        };
        let request = stranger.sign(huge);
        let refused = stranger
            .client
            .request_vote(request)
            .await
            .expect_err("refused");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);

        // Positions at which no entry begins: nothing is damaged.
        for position in [1, 57, 100, u64::MAX, replica.log_range().1 as u64 - 1] {
            let request = stranger.sign(pb::ReadLogRequest {
                position,
                max_bytes: u32::MAX,
            });
            let refused = stranger
                .client
                .read_log(request)
                .await
                .expect_err("refused");
            assert_eq!(
                refused.code(),
                tonic::Code::NotFound,
                "{position}: {refused}"
            );
        }
        assert_eq!(replica.damaged_ranges(), 0);
        let request = stranger.sign(pb::ReadLogRequest {
            position: 0,
            max_bytes: 1 << 20,
        });
        let read = stranger
            .client
            .read_log(request)
            .await
            .expect("from the first entry");
        let entries = read.into_inner().entries;
        assert!(entries.len() > 20);

        // Entries with one missing between them, twice the same, and more than a request has.
        let gap = vec![entries[3].clone(), entries[5].clone()];
        let twice = vec![entries[3].clone(), entries[3].clone()];
        let many = vec![bytes::Bytes::new(); 100_000];
        for entries in [gap, twice, many] {
            let request = pb::AppendRequest {
                vote: Some(stranger.vote),
                previous: Some(pb::LogId { term: 1, index: 2 }),
                committed: None,
                entries,
            };
            assert_eq!(stranger.append(request).await, None);
        }

        let founders = vec![
            pb::Founder {
                node_id: u64::MAX,
                name: "n0".into(),
                incarnation: "x".into(),
            };
            2
        ];
        let request = pb::FoundRequest {
            set: "broker-t".into(),
            cluster_id: "another".into(),
            founders,
            ..Default::default()
        };
        let answer = stranger
            .client
            .found(request)
            .await
            .map(|a| a.into_inner().refused);
        assert!(answer.is_err() || answer.is_ok_and(|why| !why.is_empty()));

        // Snapshots: of a leader that is deposed, and of bytes that are none.
        for (term, data) in [(0, 0), (stranger.vote.term, 3 << 20)] {
            let head = pb::SnapshotChunk {
                vote: Some(pb::Vote {
                    term,
                    ..stranger.vote
                }),
                last: Some(pb::LogId { term: 1, index: 5 }),
                ..Default::default()
            };
            let chunk = pb::SnapshotChunk {
                data: vec![7; data].into(),
                ..Default::default()
            };
            let chunks = futures_util::stream::iter([head, chunk]);
            let request = stranger.sign(chunks);
            let answer = stranger.client.install_snapshot(request).await;
            match term {
                0 => {
                    let vote = answer.expect("told").into_inner().vote.expect("a vote");
                    assert_eq!(vote.term, stranger.vote.term);
                }
                _ => assert_eq!(answer.expect_err("refused").code(), tonic::Code::DataLoss),
            }
        }
        let snapshots = dir.path().join(&replica.role().me.name).join("snapshots");
        let left = std::fs::read_dir(snapshots).expect("listed").flatten();
        let left: Vec<_> = left.map(|e| e.file_name()).collect();
        assert!(
            left.iter()
                .all(|n| !n.to_string_lossy().starts_with("incoming")),
            "{left:?}"
        );
    }
    let led = replicas[serving(&replicas).await].clone().expect("runs");
    send(&led, vec![message(0, "after")], None)
        .await
        .expect("acknowledged");
    assert_eq!(bodies(&led, 0).len(), 21);
}
