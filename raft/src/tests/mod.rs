//! Tests of the replica as a whole, in one process: real stores in temporary directories, real peer ports.

mod cluster;
mod conformance;
mod hostile_peers;
mod membership;
mod sharp_edges;
mod storage;
mod support;
mod versions;
mod waiting_room;
