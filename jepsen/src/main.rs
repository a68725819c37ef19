//! `raftmq-jepsen`: see the library.

fn main() {}
