//! What a replica is told at start, and who the members of a set are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use raftmq_store::commitlog::FlushEvery;
use serde::{Deserialize, Serialize};

/// When a send is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckLevel {
    /// `ASYNC_MASTER`: the leader has persisted it and held its lease at that moment.
    Leader,
    /// `SYNC_MASTER`: a majority has persisted it, and the leader has applied it.
    Majority,
    /// `ackQuorum=all`: that, and every in-sync voter has persisted it.
    All,
}

/// What can be changed while the replica runs, by the set's settings. The leader's counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `brokerRole` and `ackQuorum`.
    pub ack: AckLevel,
    /// `minInSyncReplicas`: with [`AckLevel::All`], fewer in-sync voters take no messages.
    pub min_in_sync: usize,
    /// `inSyncTimeoutMs`: a voter that lags by more is left out of [`AckLevel::All`].
    pub in_sync_timeout: Duration,
    /// `asyncMaxUncommittedBytes`: with more than that not committed, [`AckLevel::Leader`] waits for the commit.
    pub async_max_uncommitted: u64,
    /// `replicaEvictAfterMs`: a voter that was silent for so long is replaced by a standby, when there is one.
    pub evict_after: Option<Duration>,
    /// `raftReplicas`: standbys become voters up to this number; 0 for none by themselves.
    pub voters: usize,
    /// `preferredLeaderId`: the name of the replica that leads when it can.
    pub preferred_leader: Option<String>,
    /// `autoFinalizeUpgrade`: the leader raises the set's version when every member knows a newer one.
    pub auto_finalize: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ack: AckLevel::Majority,
            min_in_sync: 1,
            in_sync_timeout: Duration::from_secs(1),
            async_max_uncommitted: 64 * 1024 * 1024,
            evict_after: None,
            voters: 0,
            preferred_leader: None,
            auto_finalize: false,
        }
    }
}

/// When an entry counts as persisted on one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushMode {
    /// `ASYNC_FLUSH`: after the write to the page cache; fsynced later ([`FlushEvery`]).
    Async,
    /// `SYNC_FLUSH`: after `fdatasync`.
    Sync,
}

/// One entry of the configured peer list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Name in the set, such as `n0`.
    pub name: String,
    /// `host:port` of its peer port.
    pub addr: String,
}

/// How a replica is opened. Durations are checked by [`ReplicaOptions::check`].
#[derive(Debug, Clone)]
pub struct ReplicaOptions {
    /// Directory of the store (`storePathRootDir`).
    pub store_dir: PathBuf,
    /// `mappedFileSizeCommitLog`, bytes; fixed when the set is created.
    pub segment_size: u64,
    /// `flushDiskType`.
    pub flush: FlushMode,
    /// When `ASYNC_FLUSH` fsyncs.
    pub flush_every: FlushEvery,
    /// `warmMapedFileEnable`: new log segments are filled with zeros ahead of their use.
    pub warm_segments: bool,
    /// Bytes of log a second whose checksums are looked at in the background; 0 for none.
    pub scrub_rate: u64,
    /// `maxHaTransferByteInSecond` with `haFlowControlEnable`: bytes a second for followers far behind; 0 for no limit.
    pub catch_up_rate: u64,
    /// Do not wait for the other replicas when the end of the log may be missing: an operator's decision.
    pub accept_data_loss: bool,
    /// `brokerClusterName`.
    pub cluster: String,
    /// `brokerName`: the name of the set.
    pub set: String,
    /// Own name in the set; empty lets the leader choose one when this replica joins.
    pub self_name: String,
    /// All founding replicas of the set, this one included; empty with `bootstrap`, and for one that joins a set that
    /// exists already.
    pub peers: Vec<Peer>,
    /// A new directory becomes a set of one replica.
    pub bootstrap: bool,
    /// Where the peer port listens.
    pub peer_bind: SocketAddr,
    /// How the other replicas reach it, `host:port`.
    pub peer_advertise: String,
    /// How clients and forwarding replicas reach this broker, `brokerIP1:listenPort`.
    pub client_advertise: String,
    /// Where it stands at the start; see [`Policy`].
    pub policy: Policy,
    /// Time between two heartbeats of the leader.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout; also the leader's lease.
    pub election_max: Duration,
    /// An appended send that is not committed by then is answered "outcome unknown"; below the client's 3 s.
    pub ack_timeout: Duration,
    /// Longest wait of a request for a leader.
    pub waiting_room: Duration,
    /// Most that waits for the log, bytes.
    pub waiting_room_bytes: usize,
}

impl ReplicaOptions {
    /// Checks what depends on each other.
    ///
    /// # Errors
    /// A sentence that names the values.
    pub fn check(&self) -> Result<(), String> {
        if self.election_min <= self.heartbeat * 2 {
            return Err(format!(
                "electionTimeoutMinMs={} must be more than twice heartbeatIntervalMs={}",
                self.election_min.as_millis(),
                self.heartbeat.as_millis()
            ));
        }
        if self.election_max <= self.election_min {
            return Err(format!(
                "electionTimeoutMaxMs={} must be more than electionTimeoutMinMs={}",
                self.election_max.as_millis(),
                self.election_min.as_millis()
            ));
        }
        let listed = self
            .peers
            .iter()
            .filter(|p| p.name == self.self_name)
            .count();
        if !self.peers.is_empty() && listed != 1 {
            return Err(format!(
                "raftSelfId={} must stand exactly once in raftPeers",
                self.self_name
            ));
        }
        Ok(())
    }
}

/// A replica as the replicated membership knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Node {
    /// Name in the set.
    pub name: String,
    /// `host:port` of the peer port.
    pub peer_addr: String,
    /// `host:port` for clients.
    pub client_addr: String,
    /// Its id at the name servers while it follows; > 0, never shared.
    pub broker_id: u64,
    /// Random id of its data directory.
    pub incarnation: String,
}

/// A replica with its Raft node id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// Raft node id; never used twice in a set.
    pub node_id: u64,
    /// Its id at the name servers while it follows.
    pub broker_id: u64,
    /// Name in the set.
    pub name: String,
    /// `host:port` for clients.
    pub client_addr: String,
    /// `host:port` of the peer port.
    pub peer_addr: String,
}

impl Member {
    /// From a membership's node.
    pub fn new(node_id: u64, node: &Node) -> Self {
        Self {
            node_id,
            broker_id: node.broker_id,
            name: node.name.clone(),
            client_addr: node.client_addr.clone(),
            peer_addr: node.peer_addr.clone(),
        }
    }
}
