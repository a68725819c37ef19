//! Generated protobuf code.

mod codec;

/// Replica to replica: `proto/raft.proto`.
#[allow(missing_docs, clippy::all)]
pub mod raft {
    tonic::include_proto!("raftmq.raft");
}
