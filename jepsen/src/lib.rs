//! Tries to break RaftMQ, and the Java servers beside it, and judges what clients saw.
//!
//! A run is a [`bed`] (a cluster of real processes whose network, disks and clocks can be disturbed), a [`nemesis`] that
//! disturbs them by a plan made from one seed, and a [`workload`] whose clients write down honestly what they asked for and
//! what came of it ([`history`], [`value`]). [`checker`] reads the history ([`ops`]) and the replicas' files afterwards. [`sim`]
//! does the same with simulated machines, deterministically.

pub mod bed;
pub mod checker;
pub mod cli;
pub mod edn;
pub mod enemy;
pub mod history;
pub mod nemesis;
pub mod ops;
pub mod random;
pub mod report;
pub mod run;
pub mod settings;
pub mod sim;
pub mod value;
pub mod workload;
