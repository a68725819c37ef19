//! Clusters of real processes on one machine, and load for them.
//!
//! [`cluster`] starts a name server and broker sets from the binaries beside this program and ends them again;
//! [`process`] is one of them, [`programs`] which they are, [`netns`] a network that can be cut, [`proc_stat`] what one costs, and [`alarm`] a timer for loads; [`prober`] asks a set all the time
//! whether it takes messages; [`tally`] knows of every message of a run what became of
//! it; [`traffic`] is the producer and the consumer that feed the tally; [`chart`] draws what was measured. `mqdemo`, `mqbench` and
//! `mqfailover` are made of these.
//!
//! Besides: a replica's store without a broker. [`local`] opens and fills one, [`feed`] makes the messages, and
//! [`page_cache`] lets the next reader find the disk cold. `storebench` and the micro-benchmarks are made of these.

pub mod alarm;
pub mod chart;
pub mod cluster;
mod error;
pub mod feed;
pub mod local;
pub mod netns;
pub mod page_cache;
pub mod prober;
pub mod proc_stat;
pub mod process;
pub mod programs;
pub mod samples;
pub mod stop;
pub mod tally;
pub mod traffic;
mod watch;

pub use cluster::{Cluster, ClusterOptions};
pub use error::BenchError;
pub use tally::Tally;
