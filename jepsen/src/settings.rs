//! What a run was asked to be, and what the checkers may demand of it. Kept beside the history, so that it can be judged again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whose servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    #[default]
    Raftmq,
    /// Apache's broker with DLedger.
    JavaDledger,
    /// Apache's master with slaves.
    JavaMaster,
}

/// Who must have a message before it is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Ack {
    /// A majority (SYNC_MASTER).
    #[default]
    Sync,
    /// The master (ASYNC_MASTER).
    Async,
    /// Every replica in sync.
    All,
}

/// What stored means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Flush {
    /// On the disk.
    #[default]
    Sync,
    /// In the page cache.
    Async,
}

/// Faults that may take what was not fsynced from a majority.
const POWER: [&str; 3] = ["power", "power:majority", "power:all"];
/// Faults that change what a broker takes for the time.
const CLOCKS: [&str; 3] = ["clock-jump", "clock-skew", "clock-strobe"];

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Settings {
    pub workload: String,
    pub servers: Whose,
    pub ack: Ack,
    pub flush: Flush,
    /// As on the command line: `kill:leader`.
    pub faults: Vec<String>,
    pub seed: u64,
    pub replicas: usize,
    pub queues: u32,
    pub concurrency: u32,
    /// Operations a second at most; 0 for as many as there are.
    pub rate: u32,
    /// With faults.
    pub seconds: u64,
    /// A set must take messages again so soon after the last fault, ms.
    pub recovery_limit_ms: u64,
    /// Fewer acknowledged operations make a run worthless.
    pub least_ops: u64,
    /// The log's oldest part is given up in this run: what lies before a queue's first offset is gone on purpose.
    pub trims: bool,
    /// A bug that was built in.
    pub sabotage: Option<String>,
    /// How often each fault took place.
    pub happened: BTreeMap<String, u64>,
    /// From the end of the faults until every replica had everything, ms.
    pub whole_ms: Option<u64>,
    /// Why the replicas did not become whole again, if they did not.
    pub not_whole: Option<String>,
    /// What the servers did under a fault that they must not do.
    pub problems: Vec<String>,
    /// Why the run is worth nothing, if it is not.
    pub harness_failure: Option<String>,
}

impl Settings {
    /// Whether messages that were replicated, and so may have been consumed, may be lost by design.
    pub fn committed_may_be_lost(&self) -> bool {
        self.flush == Flush::Async && self.faults.iter().any(|f| POWER.contains(&f.as_str()))
    }

    /// Whether acknowledged messages may be lost by design. How many is a number of the results then.
    pub fn acked_may_be_lost(&self) -> bool {
        self.ack == Ack::Async || self.committed_may_be_lost()
    }

    /// Whether a reader must see what was acknowledged before it asked.
    pub fn acked_is_visible(&self) -> bool {
        self.servers == Whose::Raftmq && !self.acked_may_be_lost()
    }

    /// Whether brokers' clocks were tampered with.
    pub fn clocks_lie(&self) -> bool {
        let name = |fault: &str| fault.split(':').next().is_some_and(|f| CLOCKS.contains(&f));
        self.faults.iter().any(|f| name(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_lost_depends_on_mode_and_faults() {
        let with = |ack, flush, faults: &[&str]| Settings {
            ack,
            flush,
            faults: faults.iter().map(|f| (*f).to_owned()).collect(),
            ..Settings::default()
        };
        let strict = with(Ack::Sync, Flush::Sync, &["power:all", "kill:all"]);
        assert!(!strict.acked_may_be_lost() && strict.acked_is_visible());
        let cached = with(Ack::Sync, Flush::Async, &["power:all"]);
        assert!(cached.committed_may_be_lost());
        for harmless in ["kill:all", "power:minority", "power-leader-fast"] {
            assert!(!with(Ack::Sync, Flush::Async, &[harmless]).acked_may_be_lost());
        }
        let leader = with(Ack::Async, Flush::Sync, &["kill:leader"]);
        assert!(leader.acked_may_be_lost() && !leader.committed_may_be_lost());
        assert!(with(Ack::Sync, Flush::Sync, &["clock-jump:leader"]).clocks_lie());
    }
}
