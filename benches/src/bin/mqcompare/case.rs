//! What is compared: each case is a cluster of one broker set, ours or the Java one, with the settings that go with its name.

use std::path::PathBuf;

use raftmq_benches::programs::Servers;
use serde::{Deserialize, Serialize};

/// A cluster to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    #[serde(rename = "raftmq-1")]
    Raftmq1,
    #[serde(rename = "raftmq-3-sync")]
    Raftmq3Sync,
    #[serde(rename = "raftmq-3-async")]
    Raftmq3Async,
    /// As `Raftmq3Sync`, every byte between replicas 2 ms late.
    #[serde(rename = "raftmq-3-delayed")]
    Raftmq3Delayed,
    JavaAsync,
    #[serde(rename = "java-sync2")]
    JavaSync2,
    JavaDledger,
}

impl Case {
    /// Those of the whole matrix.
    pub const ALL: [Self; 6] = [
        Self::Raftmq1,
        Self::JavaAsync,
        Self::Raftmq3Sync,
        Self::JavaSync2,
        Self::JavaDledger,
        Self::Raftmq3Async,
    ];

    /// As in tables and directories.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raftmq1 => "raftmq-1",
            Self::Raftmq3Sync => "raftmq-3-sync",
            Self::Raftmq3Async => "raftmq-3-async",
            Self::Raftmq3Delayed => "raftmq-3-delayed",
            Self::JavaAsync => "java-async",
            Self::JavaSync2 => "java-sync2",
            Self::JavaDledger => "java-dledger",
        }
    }

    pub fn is_java(self) -> bool {
        matches!(self, Self::JavaAsync | Self::JavaSync2 | Self::JavaDledger)
    }

    /// Processes of the set.
    pub fn replicas(self) -> usize {
        match self {
            Self::Raftmq1 | Self::JavaAsync => 1,
            Self::JavaSync2 => 2,
            Self::Raftmq3Sync | Self::Raftmq3Async | Self::Raftmq3Delayed | Self::JavaDledger => 3,
        }
    }

    /// Delay between replicas, ms.
    pub fn peer_delay_ms(self) -> Option<u32> {
        (self == Self::Raftmq3Delayed).then_some(2)
    }

    /// The programs: ours from `bin_dir`, the Java ones by the script `java_run`.
    pub fn servers(self, bin_dir: PathBuf, java_run: PathBuf) -> Servers {
        match self {
            Self::JavaDledger => Servers::JavaDledger(java_run),
            Self::JavaAsync | Self::JavaSync2 => Servers::JavaMaster(java_run),
            _ => Servers::RaftMq(bin_dir),
        }
    }

    /// Besides what [`Servers`] gives.
    pub fn settings(self, flush: Flush) -> Vec<(String, String)> {
        let role = match self {
            Self::Raftmq3Sync | Self::Raftmq3Delayed => Some("SYNC_MASTER"),
            Self::Raftmq1 | Self::Raftmq3Async => Some("ASYNC_MASTER"),
            _ => None,
        };
        let role = role.map(|role| ("brokerRole", role));
        let settings = [("flushDiskType", flush.name())].into_iter().chain(role);
        settings
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
}

/// `flushDiskType` of all brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    Async,
    Sync,
}

impl Flush {
    pub fn name(self) -> &'static str {
        match self {
            Self::Async => "ASYNC_FLUSH",
            Self::Sync => "SYNC_FLUSH",
        }
    }
}
