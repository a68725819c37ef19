//! Replicated state changes: the records of an entry that are not messages. Everything that depends on time,
//! chance or configuration was decided by the proposer and stands in the command.
//!
//! On disk a command is JSON, readable in a dump: `{"Kind":{...}}`. Kinds, fields and names are frozen for each set version
//! ([`crate::version`]): [`Command::read`] tells what a newer version wrote from what no version did. A command that does
//! not begin with a brace is of an encoding to come, and newer, too.

mod frozen;
#[cfg(test)]
mod tests;

use raftmq_remoting::body::{SubscriptionGroupConfig, TopicConfig};
use serde::{Deserialize, Serialize};

pub(crate) use frozen::{GroupOut, GroupRow, TopicOut, TopicRow};

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
        #[serde(with = "frozen::Topic")]
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
        #[serde(with = "frozen::Group")]
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
    /// Raises the set version, never lowers it: every member knows it. Since version 1.
    SetVersion {
        /// What may be proposed from here on; see [`crate::version`].
        version: u32,
    },
}

/// Kinds by the names they have on disk, in the order of [`Command`].
const KINDS: [&str; 14] = [
    "PutTopic",
    "DeleteTopic",
    "PutGroup",
    "DeleteGroup",
    "CommitOffsets",
    "AssignOffsets",
    "ResetsTaken",
    "PutKv",
    "DeleteKv",
    "TrimTo",
    "TimerDone",
    "TransactionDone",
    "TransactionChecked",
    "SetVersion",
];

/// What the bytes of a command record are.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// A command of this version or an earlier one.
    Known(Command),
    /// A command of a later version: its kind, field or encoding. It must not be left out.
    Newer(String),
    /// Bytes that no version writes, with the reason. They mean nothing on every replica.
    Unreadable(String),
}

impl Command {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self)
            .unwrap_or_else(|e| unreachable!("commands hold only strings and numbers: {e}"))
    }

    /// What a record says. Total: the same bytes read alike wherever this version runs.
    pub fn read(bytes: &[u8]) -> Reading {
        let kind = match kind(bytes) {
            Ok(kind) => kind,
            Err(other) => return *other,
        };
        if !KINDS.contains(&kind) {
            return Reading::Newer(format!("a command {kind}"));
        }
        let mut unknown = None;
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let read = serde_ignored::deserialize(&mut json, |path| {
            unknown.get_or_insert_with(|| path.to_string());
        });
        let whole = read.and_then(|command| json.end().map(|()| command));
        match (whole, unknown) {
            (_, Some(field)) => Reading::Newer(format!("the field {field}")),
            (Ok(command), None) => Reading::Known(command),
            (Err(e), None) => {
                let why = e.to_string();
                match why.starts_with(frozen::UNKNOWN_NAME) {
                    true => Reading::Newer(format!("in {kind} the {why}")),
                    false => Reading::Unreadable(why),
                }
            }
        }
    }

    /// The topic that the record deletes, if it does. Cheap for every other record.
    pub(crate) fn deleted_topic(bytes: &[u8]) -> Option<String> {
        match kind(bytes) {
            Ok("DeleteTopic") => {}
            _ => return None,
        }
        match Self::read(bytes) {
            Reading::Known(Command::DeleteTopic { topic, .. }) => Some(topic),
            _ => None,
        }
    }
}

/// The kind's name, or what else the bytes are.
fn kind(bytes: &[u8]) -> std::result::Result<&str, Box<Reading>> {
    let unreadable = |why: &str| Err(Box::new(Reading::Unreadable(why.to_owned())));
    match bytes.first() {
        None => return unreadable("no bytes"),
        Some(b'{') => {}
        Some(encoding @ 1..=31) => {
            let what = format!("a command of encoding {encoding}");
            return Err(Box::new(Reading::Newer(what)));
        }
        Some(_) => return unreadable("no command begins like this"),
    }
    let name = bytes.get(2..).unwrap_or_default();
    let end = name.iter().position(|b| !b.is_ascii_alphanumeric());
    let end = end.unwrap_or(name.len());
    let quoted = bytes.get(1) == Some(&b'"') && name[end..].starts_with(b"\":");
    match std::str::from_utf8(&name[..end]) {
        Ok(kind) if quoted && !kind.is_empty() => Ok(kind),
        _ => unreadable("no kind of command"),
    }
}
