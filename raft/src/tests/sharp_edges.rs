//! What openraft leaves to its user, each held by a test: leader restore, one leader a term, purge beyond the log,
//! votes after a restart, founding only from nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::vote::RaftLeaderId;
use raftmq_proto::raft as pb;
use raftmq_proto::raft::peer_client::PeerClient;
use raftmq_store::commitlog::writer::FlushPolicy;
use raftmq_store::commitlog::{EntryId, LogOptions};
use raftmq_store::{Store, version};

use super::support::{bodies, message, open, options, peers, send, serving};
use crate::about::About;
use crate::core::config;
use crate::network::endpoint;
use crate::types::LeaderId;
use crate::wire::Call;

#[test]
fn the_settings_that_keep_raft_safe_here() {
    let dir = tempfile::tempdir().expect("temp dir");
    let config = config(&options(dir.path(), &peers(3), 0)).expect("valid");
    assert_eq!(config.enable_leader_restore, Some(false));
    assert_eq!(config.enable_pre_vote, Some(true));
    assert!(
        !config.enable_elect,
        "campaigning starts after the quiet time"
    );
}

#[test]
fn a_term_has_one_leader() {
    let (a, b) = (LeaderId::new(5, 1), LeaderId::new(5, 2));
    assert_eq!(
        a.partial_cmp(&b),
        None,
        "two candidates of a term are not ordered: the second is refused"
    );
}

#[test]
fn a_purge_beyond_the_log_is_refused() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = LogOptions::new(64 * 1024, FlushPolicy::Async);
    let (store, _lock) = Store::open(dir.path(), &log).expect("opens");
    let refused = store
        .log
        .purge(EntryId { term: 3, index: 10 }, None, Box::new(|_| {}));
    assert!(
        refused.is_err(),
        "openraft asks for this when the log is shorter than the applied state"
    );
    store.log.close();
}

async fn ask_for_vote(
    addr: &str,
    call: &Call,
    term: u64,
) -> Result<pb::VoteResponse, tonic::Status> {
    let channel = endpoint(addr, Duration::from_secs(1))
        .expect("an address")
        .connect()
        .await
        .expect("connects");
    let mut client = PeerClient::new(channel);
    let request = pb::VoteRequest {
        vote: Some(pb::Vote {
            term,
            node_id: 3,
            committed: false,
        }),
        last: Some(pb::LogId {
            term: term - 1,
            index: 1_000_000,
        }),
        leadership_transfer: false,
        pre_vote: false,
    };
    client
        .request_vote(call.sign(request).expect("signs"))
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_voter_gives_no_vote_while_an_old_lease_may_run() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = Vec::new();
    for nth in 0..3 {
        replicas.push(Some(open(dir.path(), &peers, nth).await));
    }
    let leader = serving(&replicas).await;
    send(
        replicas[leader].as_ref().expect("runs"),
        vec![message(0, "x")],
        None,
    )
    .await
    .expect("acknowledged");
    let identity = std::fs::read_to_string(dir.path().join("n0/identity")).expect("an identity");
    let cluster_id = identity
        .split("\"cluster_id\": \"")
        .nth(1)
        .and_then(|s| s.split('"').next())
        .expect("an id");
    let call = Call {
        set: "broker-t".into(),
        cluster_id: cluster_id.to_owned(),
        from: 3,
        to: 1,
        about: Arc::new(About::own(1024 * 1024, version::NEWEST)),
    };
    for replica in replicas.iter_mut() {
        replica
            .take()
            .expect("runs")
            .shutdown()
            .await
            .expect("closes");
    }

    let opened = Instant::now();
    let replica = open(dir.path(), &peers, 0).await;
    let early = ask_for_vote(&peers[0].addr, &call, 90).await;
    assert!(
        opened.elapsed() < Duration::from_millis(400),
        "the test itself was fast enough"
    );
    assert_eq!(early.expect_err("refused").code(), tonic::Code::Unavailable);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let late = ask_for_vote(&peers[0].addr, &call, 91)
        .await
        .expect("answered");
    assert!(
        late.granted,
        "after the quiet time a better candidate gets the vote"
    );
    let other = Call {
        cluster_id: "another".into(),
        ..call.clone()
    };
    let stranger = ask_for_vote(&peers[0].addr, &other, 92).await;
    assert_eq!(
        stranger.expect_err("refused").code(),
        tonic::Code::PermissionDenied
    );
    let wrong_target = ask_for_vote(&peers[0].addr, &Call { to: 2, ..call }, 93).await;
    assert_eq!(
        wrong_target.expect_err("refused").code(),
        tonic::Code::PermissionDenied
    );
    replica.shutdown().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_with_a_silent_peer_founds_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let two = [
        open(dir.path(), &peers, 0).await,
        open(dir.path(), &peers, 1).await,
    ];
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(two.iter().all(|r| r.role().leader.is_none()));
    let third = open(dir.path(), &peers, 2).await;
    let all = [Some(two[0].clone()), Some(two[1].clone()), Some(third)];
    serving(&all).await;
    for replica in all.into_iter().flatten() {
        replica.shutdown().await.expect("closes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_directory_does_not_vote_as_its_old_self() {
    let dir = tempfile::tempdir().expect("temp dir");
    let peers = peers(3);
    let mut replicas = Vec::new();
    for nth in 0..3 {
        replicas.push(Some(open(dir.path(), &peers, nth).await));
    }
    let leader = serving(&replicas).await;
    send(
        replicas[leader].as_ref().expect("runs"),
        vec![message(0, "kept")],
        None,
    )
    .await
    .expect("acknowledged");
    // Everything stops; two of three directories are wiped: they must not found a new, empty set over the old one.
    for replica in replicas.iter_mut() {
        replica
            .take()
            .expect("runs")
            .shutdown()
            .await
            .expect("closes");
    }
    let kept = (0..3).find(|n| *n != leader).expect("a follower");
    for nth in (0..3).filter(|n| *n != kept) {
        std::fs::remove_dir_all(dir.path().join(&peers[nth].name)).expect("wiped");
    }
    let mut again = Vec::new();
    for nth in 0..3 {
        again.push(open(dir.path(), &peers, nth).await);
    }
    tokio::time::sleep(Duration::from_millis(2000)).await;
    assert!(
        again.iter().all(|r| !r.is_serving()),
        "no majority of the old set is there"
    );
    for nth in (0..3).filter(|n| *n != kept) {
        assert_eq!(
            again[nth].role().members,
            [],
            "a wiped directory is a member of nothing"
        );
    }
    // It was a follower; whether it had applied the message is not asked here, only that its log is still there.
    assert!(again[kept].log_range().1 > 0);
    let _ = bodies(&again[kept], 0);
    for replica in again {
        replica.shutdown().await.expect("closes");
    }
}
