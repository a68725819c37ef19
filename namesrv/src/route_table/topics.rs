//! Editing topics by hand: deletion, single registration, write permission of a whole set.

use raftmq_remoting::body::QueueData;
use raftmq_remoting::message::perm;

use super::{MAX_TOPICS, RouteTable, TopicQueues};

impl RouteTable {
    /// DELETE_TOPIC_IN_NAMESRV: forgets a topic, everywhere or at the sets of one cluster. It comes back if a broker still
    /// registers it.
    pub fn delete_topic(&self, topic: &str, cluster: Option<&str>) {
        let mut state = self.state.write();
        let state = &mut *state;
        let Some(brokers) = state.topics.get_mut(topic) else {
            return;
        };
        if let Some(cluster) = cluster {
            brokers.retain(|name, _| state.sets.get(name).is_none_or(|s| s.cluster != cluster));
        } else {
            brokers.clear();
        }
        if brokers.is_empty() {
            state.topics.remove(topic);
        }
    }

    /// REGISTER_TOPIC_IN_NAMESRV: gives one topic its queues at the sets that `queues` names; unknown sets are left out.
    /// False when the table is full.
    pub fn register_topic(&self, topic: &str, queues: Vec<QueueData>) -> bool {
        let mut state = self.state.write();
        let state = &mut *state;
        let known = queues
            .into_iter()
            .filter(|q| state.sets.contains_key(&q.broker_name));
        let known: Vec<_> = known
            .map(|mut q| {
                if state
                    .sets
                    .get(&q.broker_name)
                    .is_some_and(|s| s.write_wiped)
                {
                    q.perm &= !perm::WRITE;
                }
                (
                    q.broker_name.clone(),
                    TopicQueues {
                        queues: q,
                        mapping: None,
                    },
                )
            })
            .collect();
        if known.is_empty() {
            return true;
        }
        if state.topics.len() >= MAX_TOPICS && !state.topics.contains_key(topic) {
            return false;
        }
        state
            .topics
            .entry(topic.to_owned())
            .or_default()
            .extend(known);
        true
    }

    /// WIPE_WRITE_PERM_OF_BROKER: nobody sends to this set until write permission is given back to it, whatever it registers, or
    /// until all of it has left. Returns its topics' number.
    pub fn wipe_write_permission(&self, broker_name: &str) -> usize {
        let mut state = self.state.write();
        if let Some(set) = state.sets.get_mut(broker_name) {
            set.write_wiped = true;
        }
        state.edit_permissions(broker_name, |p| p & !perm::WRITE)
    }

    /// ADD_WRITE_PERM_OF_BROKER: all its topics are readable and writable. Returns their number.
    pub fn add_write_permission(&self, broker_name: &str) -> usize {
        let mut state = self.state.write();
        if let Some(set) = state.sets.get_mut(broker_name) {
            set.write_wiped = false;
        }
        state.edit_permissions(broker_name, |_| perm::READ | perm::WRITE)
    }
}
