//! How brokers leave: by UNREGISTER_BROKER, by a closed connection, by silence.

use std::collections::BTreeMap;
use std::time::Instant;

use raftmq_remoting::body::DataVersion;
use raftmq_remoting::message::perm;

use super::{MASTER_ID, MinIdChange, RouteTable, State};

impl RouteTable {
    /// Removes an address from a set; the set's topics go with its last member.
    pub fn unregister(&self, broker_name: &str, addr: &str) -> Option<MinIdChange> {
        self.state.write().leave(broker_name, addr, "unregistered")
    }

    /// Removes every broker whose last registration came on this connection.
    pub fn connection_closed(&self, connection: u64) -> Vec<MinIdChange> {
        let registered = |s: &State| {
            s.sets
                .values()
                .any(|set| set.members.values().any(|m| m.connection == connection))
        };
        // Most connections are clients': they need no more than a look.
        if !registered(&self.state.read()) {
            return Vec::new();
        }
        self.leave_where("its connection closed", |m| m.connection == connection)
    }

    /// Removes every broker that has been silent for longer than its timeout.
    pub fn evict(&self, now: Instant) -> Vec<MinIdChange> {
        self.leave_where("silent for too long", |m| {
            now.saturating_duration_since(m.seen) > m.timeout
        })
    }

    fn leave_where(&self, why: &str, gone: impl Fn(&super::Member) -> bool) -> Vec<MinIdChange> {
        let mut state = self.state.write();
        let leaving: Vec<(String, String)> = state
            .sets
            .iter()
            .flat_map(|(name, set)| set.members.values().map(move |m| (name, m)))
            .filter(|(_, m)| gone(m))
            .map(|(name, m)| (name.clone(), m.addr.clone()))
            .collect();
        leaving
            .into_iter()
            .filter_map(|(name, addr)| state.leave(&name, &addr, why))
            .collect()
    }

    /// BROKER_HEARTBEAT: the broker is alive. False when it is not registered.
    pub fn heartbeat(&self, broker_name: &str, addr: &str, now: Instant) -> bool {
        let mut state = self.state.write();
        let member = state
            .sets
            .get_mut(broker_name)
            .and_then(|s| s.member_mut(addr));
        member.is_some_and(|m| {
            m.seen = now;
            true
        })
    }

    /// QUERY_DATA_VERSION: the version of the broker's last registration, if it is registered. Counts as a heartbeat.
    pub fn data_version(&self, broker_name: &str, addr: &str, now: Instant) -> Option<DataVersion> {
        let mut state = self.state.write();
        let member = state.sets.get_mut(broker_name)?.member_mut(addr)?;
        member.seen = now;
        Some(member.data_version)
    }
}

impl State {
    fn leave(&mut self, broker_name: &str, addr: &str, why: &str) -> Option<MinIdChange> {
        let min_before = self.sets.get(broker_name)?.min_id();
        let (id, ha_addr) = self.remove_member(broker_name, addr)?;
        tracing::info!(broker = broker_name, id, addr, why, "broker left");
        let set = self.sets.get(broker_name)?;
        let mut change = set.min_id_change(broker_name, Some(addr.to_owned()))?;
        if set.enable_acting_master && id == MASTER_ID {
            self.edit_permissions(broker_name, |p| p & !perm::WRITE);
        }
        change.ha_addr = Some(ha_addr).filter(|_| id == MASTER_ID);
        (min_before == Some(id)).then_some(change)
    }

    /// Takes an address out of its set, and the set's topics with its last member. Returns its id and HA address.
    pub(super) fn remove_member(&mut self, broker_name: &str, addr: &str) -> Option<(i64, String)> {
        let set = self.sets.get_mut(broker_name)?;
        let id = set.id_of(addr)?;
        let member = set.members.remove(&id)?;
        if set.members.is_empty() {
            self.sets.remove(broker_name);
            self.drop_queues(broker_name, |_| true);
        }
        Some((id, member.ha_addr))
    }

    /// Takes a set's queues from the topics that `goes` names.
    pub(super) fn drop_queues(&mut self, broker_name: &str, goes: impl Fn(&str) -> bool) {
        self.topics.retain(|topic, brokers| {
            if goes(topic) {
                brokers.remove(broker_name);
            }
            !brokers.is_empty()
        });
    }

    /// Changes the permission of every topic at a set; returns how many topics the set has.
    pub(super) fn edit_permissions(
        &mut self,
        broker_name: &str,
        edit: impl Fn(i32) -> i32,
    ) -> usize {
        let at_set = self
            .topics
            .values_mut()
            .filter_map(|brokers: &mut BTreeMap<_, _>| brokers.get_mut(broker_name));
        at_set
            .map(|at: &mut super::TopicQueues| at.queues.perm = edit(at.queues.perm))
            .count()
    }
}
