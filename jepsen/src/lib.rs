//! Tries to break RaftMQ, and the Java servers beside it, and judges what clients saw.
//!
//! A run is a [`bed`] (a cluster of real processes whose network, disks and clocks can be disturbed), a [`nemesis`] that
//! disturbs them by a plan made from one seed, and a [`workload`] whose clients write down honestly what they asked for and
//! what came of it ([`history`]). [`checker`] reads the history and the replicas' files afterwards. [`sim`] does the same with
//! simulated machines, deterministically.

pub mod bed;
pub mod checker;
pub mod history;
pub mod nemesis;
pub mod random;
pub mod sim;
pub mod workload;
