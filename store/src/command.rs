//! Replicated state changes: the records of an entry that are not messages. Everything that depends on time,
//! chance or configuration was decided by the proposer and stands in the command.
//!
//! On disk a command is JSON: readable in a dump, and fields can be added without a migration.

use raftmq_remoting::body::{SubscriptionGroupConfig, TopicConfig};
use serde::{Deserialize, Serialize};

use crate::error::{Result, StoreError};

/// A consumer offset to store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetCommit {
    /// Consumer group.
    #[serde(rename = "g")]
    pub group: String,
    /// Topic.
    #[serde(rename = "t")]
    pub topic: String,
    /// Queue of the topic.
    #[serde(rename = "q")]
    pub queue_id: i32,
    /// Next offset to consume, entries.
    #[serde(rename = "o")]
    pub offset: i64,
}

/// A pending timer: a message in SCHEDULE_TOPIC_XXXX and when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimerKey {
    /// Milliseconds since the epoch.
    #[serde(rename = "at")]
    pub deliver_at_ms: i64,
    /// Where the stored message lies.
    #[serde(rename = "p")]
    pub physical_offset: i64,
}

impl TimerKey {
    /// Sorts by due time on disk.
    pub fn encode(&self) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.deliver_at_ms.max(0).to_be_bytes());
        key[8..].copy_from_slice(&self.physical_offset.to_be_bytes());
        key
    }

    /// Reads a key back.
    pub fn decode(key: &[u8]) -> Option<Self> {
        let at = key.get(..8)?.try_into().ok()?;
        let offset = key.get(8..16)?.try_into().ok()?;
        Some(Self {
            deliver_at_ms: i64::from_be_bytes(at),
            physical_offset: i64::from_be_bytes(offset),
        })
    }
}

/// A half message whose transaction has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingTransaction {
    /// Where the half message lies.
    #[serde(rename = "p")]
    pub position: i64,
    /// How often its producers were asked about it.
    #[serde(rename = "n")]
    pub checks: u32,
    /// When it was stored, milliseconds since the epoch.
    #[serde(rename = "at")]
    pub since_ms: i64,
}

impl PendingTransaction {
    /// Its key in the metadata store.
    pub fn key(position: i64) -> [u8; 8] {
        position.to_be_bytes()
    }

    /// Its value there.
    pub fn value(&self) -> [u8; 12] {
        let mut value = [0; 12];
        value[..4].copy_from_slice(&self.checks.to_be_bytes());
        value[4..].copy_from_slice(&self.since_ms.to_be_bytes());
        value
    }

    /// Reads both back.
    pub fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        Some(Self {
            position: i64::from_be_bytes(key.try_into().ok()?),
            checks: u32::from_be_bytes(value.get(..4)?.try_into().ok()?),
            since_ms: i64::from_be_bytes(value.get(4..12)?.try_into().ok()?),
        })
    }
}

/// A state change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Makes or changes a topic.
    PutTopic {
        /// The whole new config.
        config: TopicConfig,
        /// Proposer's clock, for the data version.
        now_ms: i64,
    },
    /// Removes a topic, its queues and the offsets consumed from it. Made again, it starts at offset 0.
    DeleteTopic {
        /// Name.
        topic: String,
        /// Proposer's clock, for the data version.
        now_ms: i64,
    },
    /// Makes or changes a subscription group.
    PutGroup {
        /// The whole new config.
        config: SubscriptionGroupConfig,
        /// Proposer's clock, for the data version.
        now_ms: i64,
    },
    /// Removes a subscription group.
    DeleteGroup {
        /// Name.
        group: String,
        /// Whether its consumer offsets go too.
        clean_offset: bool,
        /// Proposer's clock, for the data version.
        now_ms: i64,
    },
    /// Stores consumer offsets, but for queues that were reset and whose consumer has not come for the new offset.
    CommitOffsets {
        /// Last value a key.
        offsets: Vec<OffsetCommit>,
    },
    /// Stores offsets that an administrator has chosen, whatever was committed or reset before.
    AssignOffsets {
        /// Last value a key.
        offsets: Vec<OffsetCommit>,
        /// Until [`Command::ResetsTaken`] what consumers commit to these queues is older than this, and not stored.
        reset: bool,
    },
    /// Consumers have come for these resets: from now on their commits count.
    ResetsTaken {
        /// A queue that was reset to another offset since stays reset.
        offsets: Vec<OffsetCommit>,
    },
    /// Sets a KV config.
    PutKv {
        /// Namespace.
        namespace: String,
        /// Key.
        key: String,
        /// Value.
        value: String,
    },
    /// Removes a KV config.
    DeleteKv {
        /// Namespace.
        namespace: String,
        /// Key.
        key: String,
    },
    /// Gives up the log before this position, and what is derived from it. Each replica goes to its newest snapshot at or
    /// before it.
    TrimTo {
        /// Byte position, a segment's first.
        position: u64,
    },
    /// Forgets delivered timers; stands in the same entry as the delivered messages.
    TimerDone {
        /// Which.
        keys: Vec<TimerKey>,
    },
    /// Forgets half messages; stands in the same entry as what becomes of them.
    TransactionDone {
        /// Where they lie.
        positions: Vec<i64>,
    },
    /// Producers are asked about these half messages, which still pend: what is known of them from now on.
    TransactionChecked {
        /// With this check counted.
        pending: Vec<PendingTransaction>,
    },
}

impl Command {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self)
            .unwrap_or_else(|e| unreachable!("commands hold only strings and numbers: {e}"))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for bytes that are no command of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|e| StoreError::corrupt("command", e.to_string()))
    }
}
