//! Raft for one broker set: openraft over the commitlog of `raftmq-store`. The Raft log is the commitlog.
//!
//! The send path, in reading order: [`propose`] gathers requests into an entry, [`log_storage`] gives it its place,
//! [`network`] carries it to the followers, [`state_machine`] applies it, [`ticket`] answers those who wait.
//!
//! Architecture invariant: no type of openraft appears in what this crate exports.

mod about;
mod awake;
mod blocking;
mod clock;
mod core;
mod dial;
mod error;
mod founding;
pub mod ground;
mod hand;
mod identity;
mod in_sync;
mod join;
mod lag;
mod lease;
mod log_storage;
mod membership;
mod network;
mod options;
mod pause;
mod peer_server;
mod propose;
mod quarantine;
mod repair;
mod replica;
mod role;
mod snapshot;
mod state_machine;
mod status;
mod tend;
mod throttle;
mod ticket;
mod transfer;
mod types;
mod upgrade;
mod wire;

#[cfg(test)]
mod tests;

pub use error::{ChangeError, ProposeError, RaftError};
pub use options::{AckLevel, FlushEvery, FlushMode, Member, Node, Peer, Policy, ReplicaOptions};
pub use propose::Proposal;
pub use raftmq_store::commitlog::draft::Placed;
pub use raftmq_store::consume_queue::QueueEntry;
pub use raftmq_store::state::{DataVersion, State, SubscriptionGroupConfig, TopicConfig};
pub use raftmq_store::time_index::Boundary;
pub use raftmq_store::vfs::Space;
pub use raftmq_store::{Arrived, Command, OffsetCommit, StoreError, TimerKey};
pub use replica::{Leadership, Replica, TrimPoint};
pub use role::Role;
pub use state_machine::Observer;
pub use status::{ReplicaRole, ReplicaStatus, SetStatus};
pub use ticket::{Short, Stored};
