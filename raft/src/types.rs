//! openraft's type parameters. None of them leaves this crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderId;
use raftmq_store::commitlog::draft::Draft;
use raftmq_store::commitlog::format::EntryKind;
use raftmq_store::commitlog::tail::RawEntry;
use raftmq_store::{Result, StoreError};
use serde::{Deserialize, Serialize};

use crate::options::Node;
use crate::ticket::{Acknowledge, Ticket};

/// Term and node, one leader a term: openraft's default allows several, ordered by node.
pub type LeaderId = leader_id_std::LeaderId<u64, u64>;
/// What a committed leader is called in log ids: its term.
pub type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
/// Term and index.
pub type LogId = openraft::LogId<CommittedLeaderId>;
/// A vote.
pub type Vote = openraft::Vote<LeaderId>;
/// Who votes and who listens.
pub type Membership = openraft::Membership<u64, Node>;
/// A membership and where it stands in the log.
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, Node>;
/// What a snapshot is of, for openraft.
pub type Meta = openraft::storage::SnapshotMeta<CommittedLeaderId, u64, Node>;
/// The Raft handle.
pub type Raft = openraft::Raft<TypeConfig, crate::state_machine::StateMachine>;

/// openraft's type parameters for one broker set.
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Proposed;
    type R = ();
    type NodeId = u64;
    type Node = Node;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = EntryPayload<Proposed, u64, Node>;
    type Entry = Entry;
    type AsyncRuntime = openraft::TokioRuntime;
    type Responder<T>
        = Acknowledge<T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// What the propose loop hands to openraft: an unstamped entry and those who wait for it.
pub struct Proposed {
    pub draft: Draft,
    pub ticket: Arc<Ticket>,
}

impl fmt::Debug for Proposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "draft of {} bytes", self.draft.len())
    }
}

impl fmt::Display for Proposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A log entry on its way: proposed here, or complete as it lies in the log.
pub struct Entry {
    pub log_id: LogId,
    pub body: Body,
}

/// What an entry is made of.
pub enum Body {
    Blank,
    Membership(Membership),
    Proposed(Proposed),
    /// As it lies in the log; the membership is decoded for openraft.
    Stored(RawEntry, Option<Membership>),
}

impl Entry {
    /// An entry read from the log or received from the leader.
    pub fn stored(raw: RawEntry) -> Result<Self> {
        let membership = match raw.header.kind {
            EntryKind::Membership => Some(membership_of(&raw)?),
            _ => None,
        };
        Ok(Self {
            log_id: log_id(raw.header.term, raw.header.index),
            body: Body::Stored(raw, membership),
        })
    }
}

/// A log id from its parts.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

impl RaftEntry for Entry {
    type CommittedLeaderId = CommittedLeaderId;
    type Payload = EntryPayload<Proposed, u64, Node>;

    fn new(log_id: LogId, payload: Self::Payload) -> Self {
        let body = match payload {
            EntryPayload::Blank => Body::Blank,
            EntryPayload::Membership(membership) => Body::Membership(membership),
            EntryPayload::Normal(proposed) => Body::Proposed(proposed),
        };
        Self { log_id, body }
    }

    fn log_id_parts(&self) -> (&CommittedLeaderId, u64) {
        (&self.log_id.leader_id, self.log_id.index)
    }

    fn set_log_id(&mut self, new: LogId) {
        self.log_id = new;
    }

    fn get_membership(&self) -> Option<Membership> {
        match &self.body {
            Body::Membership(m) | Body::Stored(_, Some(m)) => Some(m.clone()),
            _ => None,
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.body {
            Body::Blank => "blank",
            Body::Membership(_) => "membership",
            Body::Proposed(_) => "proposed",
            Body::Stored(..) => "stored",
        };
        write!(f, "{} {what}", self.log_id)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Node ids are below this.
const MAX_NODE_ID: u64 = 1 << 62;

/// A membership on disk and on the wire.
#[derive(Serialize, Deserialize)]
struct MembershipForm {
    configs: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, Node>,
}

impl MembershipForm {
    fn of(membership: &Membership) -> Self {
        Self {
            configs: membership.get_joint_config().clone(),
            nodes: membership
                .nodes()
                .map(|(id, node)| (*id, node.clone()))
                .collect(),
        }
    }
}

impl MembershipForm {
    /// What openraft and this crate can work with, wherever the bytes came from: somebody votes, and the next node id exists.
    fn membership(self) -> std::result::Result<Membership, String> {
        let voters = self.configs.iter().all(|config| !config.is_empty());
        let ids = self.configs.iter().flatten().chain(self.nodes.keys());
        if self.configs.is_empty() || !voters || ids.max().is_some_and(|id| *id >= MAX_NODE_ID) {
            return Err("nobody votes, or a node id that is none".to_owned());
        }
        Membership::new(self.configs, self.nodes).map_err(|e| e.to_string())
    }
}

/// Encodes a membership for a log entry.
pub fn encode_membership(membership: &Membership) -> Vec<u8> {
    let form = MembershipForm::of(membership);
    serde_json::to_vec(&form)
        .unwrap_or_else(|e| unreachable!("a membership holds only strings and numbers: {e}"))
}

/// Decodes a membership.
pub fn decode_membership(bytes: &[u8]) -> Result<Membership> {
    let damaged = |e: String| StoreError::corrupt("membership", e);
    let form: MembershipForm = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    form.membership().map_err(damaged)
}

/// The membership in a log entry.
fn membership_of(raw: &RawEntry) -> Result<Membership> {
    use raftmq_store::commitlog::format::{Record, records};
    match records(&raw.bytes).next() {
        Some(Ok(Record::Command(bytes))) => decode_membership(bytes),
        _ => Err(StoreError::corrupt(
            format!("entry {}", raw.header.index),
            "a membership entry without one",
        )),
    }
}

/// A membership with its log id, in the metadata store.
#[derive(Serialize, Deserialize)]
struct StoredForm {
    term: u64,
    index: u64,
    membership: MembershipForm,
    /// Highest node id that any membership of the set ever had: the next member gets a higher one.
    #[serde(default)]
    highest_id: u64,
}

/// Encodes an applied membership; `before` is the one it follows.
pub fn encode_stored(id: LogId, membership: &Membership, before: Option<&[u8]>) -> Vec<u8> {
    let own = membership.nodes().map(|(id, _)| *id).max().unwrap_or(0);
    let form = StoredForm {
        term: id.leader_id.term,
        index: id.index,
        membership: MembershipForm::of(membership),
        highest_id: own.max(before.map_or(0, highest_id)),
    };
    serde_json::to_vec(&form)
        .unwrap_or_else(|e| unreachable!("a membership holds only strings and numbers: {e}"))
}

/// Decodes an applied membership.
pub fn decode_stored(bytes: &[u8]) -> Result<StoredMembership> {
    let damaged = |e: String| StoreError::corrupt("stored membership", e);
    let form: StoredForm = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    let membership = form.membership.membership().map_err(damaged)?;
    Ok(StoredMembership::new(
        Some(log_id(form.term, form.index)),
        membership,
    ))
}

/// Highest node id the set ever gave, from an encoded membership.
pub fn highest_id(stored: &[u8]) -> u64 {
    serde_json::from_slice::<StoredForm>(stored).map_or(0, |form| form.highest_id)
}
