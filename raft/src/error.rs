//! Errors of the replica: why a proposal was not acknowledged, and why the replica ended.

use raftmq_store::StoreError;

use crate::options::Member;

/// Why a proposal failed, and what that means for what it carried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nothing is stored; this replica leads: forward there.
    #[error("not the leader; {} leads", .0.name)]
    NotLeader(Member),
    /// Nothing is stored; the waiting room closed before there was a leader.
    #[error("no leader")]
    NoLeader,
    /// Nothing is stored; too much waits already.
    #[error("too many requests wait for the log")]
    Busy,
    /// Nothing is stored; it waited for the log beyond its deadline, and who sent it has given up.
    #[error("it waited too long for the log")]
    Late,
    /// Nothing is stored; the term is not the one asked for.
    #[error("the term has changed")]
    WrongTerm,
    /// Appended; whether it is or will be committed is not known.
    #[error("in-sync replicas not enough, outcome unknown")]
    Unknown,
    /// Nothing is stored; one entry cannot hold it.
    #[error("larger than a log entry may be")]
    TooLarge,
    /// Nothing is stored; the set's replicas could not apply it, with the reason.
    #[error("cannot be stored: {0}")]
    Unstorable(String),
    /// Nothing is stored; `ackQuorum=all` with fewer voters in sync than `minInSyncReplicas`.
    #[error("in-sync replicas not enough")]
    NotEnoughInSync,
    /// Nothing is stored; the disk is too full for messages.
    #[error("the disk is full")]
    DiskFull,
    /// Nothing is stored; the replica is stopping.
    #[error("the replica has stopped")]
    Stopped,
}

/// Why leadership was not handed over, or the membership not changed. Nothing has changed, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// This replica leads: ask there.
    #[error("not the leader; {} leads", .0.name)]
    NotLeader(Member),
    /// Nobody leads.
    #[error("no leader")]
    NoLeader,
    /// Later: another change of the membership is not finished.
    #[error("another change of the membership is not finished")]
    Busy,
    /// It cannot be done as things are.
    #[error("{0}")]
    Refused(String),
    /// It was begun, and what became of it is not known.
    #[error("{0}; the outcome is not known")]
    Unknown(String),
}

/// Why a replica could not start or has ended.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// The disk side failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The peer port could not be opened.
    #[error("peer port {addr}: {source}")]
    Listen {
        /// Address from the configuration.
        addr: String,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
    /// No start of this program on this directory can succeed: starting again is of no use.
    #[error("{0}")]
    Hopeless(String),
    /// The loss of the log's end was to be accepted, and it is not in doubt.
    #[error("the end of the log is not in doubt")]
    NothingToAccept,
    /// The Raft core ended; the replica must not go on.
    #[error("raft core: {0}")]
    Fatal(String),
}
