//! The route table (`RouteInfoManager`): broker sets, their members, and the queues each set gives to a topic.
//!
//! One lock over plain maps; nothing waits or does I/O under it, and time comes in as a parameter, so every rule is tested
//! without a network. [`register`] takes brokers in, [`leave`] lets them go, [`query`] reads, [`topics`] edits topics.
//!
//! Invariants, checked by `State::check` in tests:
//! - a broker set has at least one member, and an address in it has one id;
//! - a topic has queues at one broker set or more, and each of those sets exists.

mod leave;
mod query;
mod register;
mod topics;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use raftmq_remoting::body::{BrokerData, DataVersion, QueueData};

pub use query::UnitTopics;
pub use register::{Registered, Registration, RegistrationError};

/// The id of the master.
pub const MASTER_ID: i64 = 0;
/// A broker that is silent for this long is gone, unless it registered with a time of its own.
pub const DEFAULT_HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(120);
/// Most members of all broker sets: far above any real cluster, small enough to stay harmless.
pub const MAX_MEMBERS: usize = 65_536;
/// Most topics: ten times the largest clusters known.
pub const MAX_TOPICS: usize = 2_000_000;

/// All routes. Every method takes the lock once.
#[derive(Default)]
pub struct RouteTable {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    /// Broker sets by broker name.
    sets: BTreeMap<String, BrokerSet>,
    /// What each broker set gives to a topic: topic, then broker name.
    topics: BTreeMap<String, BTreeMap<String, TopicQueues>>,
}

/// The brokers that share a name: a master and its followers.
#[derive(Default)]
struct BrokerSet {
    cluster: String,
    zone: Option<String>,
    /// The set wants its lowest id to stand in for a lost master.
    enable_acting_master: bool,
    /// An operator took write permission away: until it is given back, or nobody of the set is left, registrations do not bring
    /// it back. Whoever leads a set registers anew with each new topic.
    write_wiped: bool,
    /// By broker id; an address occurs once.
    members: BTreeMap<i64, Member>,
}

/// One registered broker process.
struct Member {
    addr: String,
    ha_addr: String,
    data_version: DataVersion,
    /// The last registration, heartbeat or version query.
    seen: Instant,
    timeout: Duration,
    /// The connection of the last registration.
    connection: u64,
    filter_servers: Vec<String>,
}

struct TopicQueues {
    queues: QueueData,
    /// The static topic's mapping at this broker, as it was registered.
    mapping: Option<serde_json::Value>,
}

/// Tells members of a set that its lowest broker id changed (NOTIFY_MIN_BROKER_ID_CHANGE).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinIdChange {
    pub broker_name: String,
    pub min_broker_id: i64,
    pub min_broker_addr: String,
    /// The member that went, if one did.
    pub offline_addr: Option<String>,
    pub ha_addr: Option<String>,
    /// Connections to tell.
    pub connections: Vec<u64>,
}

impl BrokerSet {
    fn id_of(&self, addr: &str) -> Option<i64> {
        self.members
            .iter()
            .find(|(_, m)| m.addr == addr)
            .map(|(id, _)| *id)
    }

    fn member_mut(&mut self, addr: &str) -> Option<&mut Member> {
        self.members.values_mut().find(|m| m.addr == addr)
    }

    fn min_id(&self) -> Option<i64> {
        self.members.keys().next().copied()
    }

    fn data(&self, broker_name: &str) -> BrokerData {
        BrokerData {
            broker_addrs: self
                .members
                .iter()
                .map(|(id, m)| (*id, m.addr.clone()))
                .collect(),
            broker_name: broker_name.to_owned(),
            cluster: self.cluster.clone(),
            enable_acting_master: self.enable_acting_master,
            zone_name: self.zone.clone(),
        }
    }

    /// What to tell the set after its lowest id changed; `offline` is the member that went.
    fn min_id_change(&self, broker_name: &str, offline: Option<String>) -> Option<MinIdChange> {
        let (min_id, min) = self.members.first_key_value()?;
        // A member that came tells the others; a member that went is told to all that are left.
        let told = |id: &i64| offline.is_some() || self.members.len() == 1 || id != min_id;
        Some(MinIdChange {
            broker_name: broker_name.to_owned(),
            min_broker_id: *min_id,
            min_broker_addr: min.addr.clone(),
            ha_addr: self.members.get(&MASTER_ID).map(|m| m.ha_addr.clone()),
            connections: self
                .members
                .iter()
                .filter(|(id, _)| told(id))
                .map(|(_, m)| m.connection)
                .collect(),
            offline_addr: offline,
        })
    }
}

impl State {
    fn member_count(&self) -> usize {
        self.sets.values().map(|s| s.members.len()).sum()
    }

    #[cfg(test)]
    fn check(&self) {
        for (name, set) in &self.sets {
            assert!(!set.members.is_empty(), "set {name} is empty");
            let mut addrs: Vec<_> = set.members.values().map(|m| &m.addr).collect();
            addrs.sort();
            addrs.dedup();
            assert_eq!(
                addrs.len(),
                set.members.len(),
                "set {name} has an address with two ids"
            );
        }
        for (topic, brokers) in &self.topics {
            assert!(!brokers.is_empty(), "topic {topic} has no queues");
            for (broker, at) in brokers {
                assert!(
                    self.sets.contains_key(broker),
                    "topic {topic} at the unknown set {broker}"
                );
                assert_eq!(&at.queues.broker_name, broker);
            }
        }
    }
}
