//! The sub-commands, a file for each family.

pub mod cluster_list;
pub mod raft_status;
pub mod replicas;
