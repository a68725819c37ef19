//! A topic's route as senders and consumers use it.

use std::collections::BTreeMap;

use raftmq_remoting::body::{MessageQueue, TopicRouteData};
use raftmq_remoting::message::perm;

/// The id of the master.
pub(crate) const MASTER_ID: i64 = 0;
/// Queues of an auto-created topic at most, as the Java client asks (`defaultTopicQueueNums`).
pub(crate) const DEFAULT_TOPIC_QUEUE_NUMS: i32 = 4;
/// A queue count beyond this is not believed: a route must not fill the memory.
const MAX_QUEUES_PER_BROKER: i32 = 65_536;

/// Where a topic is.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicRoute {
    pub data: TopicRouteData,
    /// Queues to send to: writable, at a set with a master. Ordered by set, then queue.
    pub publish: Vec<MessageQueue>,
    /// Queues to consume from. Sorted.
    pub subscribe: Vec<MessageQueue>,
    /// Addresses by set and broker id.
    pub brokers: BTreeMap<String, BTreeMap<i64, String>>,
    /// The topic does not exist yet: this is the route of the template topic.
    pub is_template: bool,
}

impl TopicRoute {
    pub(crate) fn new(topic: &str, data: TopicRouteData) -> Self {
        let brokers: BTreeMap<_, _> = data
            .broker_datas
            .iter()
            .map(|b| (b.broker_name.clone(), b.broker_addrs.clone()))
            .collect();
        let queues = |n: i32, broker: &str| {
            let broker = broker.to_owned();
            let topic = topic.to_owned();
            (0..n.clamp(0, MAX_QUEUES_PER_BROKER))
                .map(move |q| MessageQueue::new(topic.clone(), broker.clone(), q))
        };
        let has_master = |name: &str| {
            brokers
                .get(name)
                .is_some_and(|b| b.contains_key(&MASTER_ID))
        };
        let mut sets: Vec<_> = data.queue_datas.iter().collect();
        sets.sort_by(|a, b| a.broker_name.cmp(&b.broker_name));
        let publish = sets
            .iter()
            .filter(|q| perm::is_writable(q.perm) && has_master(&q.broker_name))
            .flat_map(|q| queues(q.write_queue_nums, &q.broker_name))
            .collect();
        let subscribe = sets
            .iter()
            .filter(|q| perm::is_readable(q.perm) && brokers.contains_key(&q.broker_name))
            .flat_map(|q| queues(q.read_queue_nums, &q.broker_name))
            .collect();
        Self {
            data,
            publish,
            subscribe,
            brokers,
            is_template: false,
        }
    }

    /// The route of a topic that the first send creates: that of the template topic, with fewer queues.
    pub(crate) fn from_template(topic: &str, mut data: TopicRouteData) -> Self {
        for queues in &mut data.queue_datas {
            queues.read_queue_nums = queues.read_queue_nums.min(DEFAULT_TOPIC_QUEUE_NUMS);
            queues.write_queue_nums = queues.read_queue_nums;
        }
        Self {
            is_template: true,
            ..Self::new(topic, data)
        }
    }

    /// The address of a set's master.
    pub fn master(&self, broker_name: &str) -> Option<&str> {
        self.brokers
            .get(broker_name)?
            .get(&MASTER_ID)
            .map(String::as_str)
    }

    /// The address of a set's master, or of its lowest id.
    pub fn any_addr(&self, broker_name: &str) -> Option<&str> {
        self.brokers
            .get(broker_name)?
            .values()
            .next()
            .map(String::as_str)
    }

    /// The address to pull from when the broker suggested `id`: that one, the next follower, or any.
    pub(crate) fn pull_addr(&self, broker_name: &str, id: i64) -> Option<&str> {
        let addrs = self.brokers.get(broker_name)?;
        let next = || addrs.get(&(id + 1)).filter(|_| id != MASTER_ID);
        addrs
            .get(&id)
            .or_else(next)
            .or_else(|| addrs.values().next())
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use raftmq_remoting::body::{BrokerData, QueueData};

    use super::*;

    fn data(sets: &[(&str, i32, &[i64])]) -> TopicRouteData {
        let mut data = TopicRouteData::default();
        for (name, perm, ids) in sets {
            data.broker_datas.push(BrokerData {
                broker_name: (*name).into(),
                broker_addrs: ids.iter().map(|id| (*id, format!("{name}{id}"))).collect(),
                ..BrokerData::default()
            });
            data.queue_datas.push(QueueData {
                broker_name: (*name).into(),
                perm: *perm,
                read_queue_nums: 8,
                write_queue_nums: 2,
                ..QueueData::default()
            });
        }
        data
    }

    #[test]
    fn queues_follow_permission_and_master() {
        let route = TopicRoute::new(
            "t",
            data(&[
                ("b", 6, &[0, 1]),
                ("a", 4, &[0]),
                ("c", 6, &[2]),
                ("d", 2, &[0]),
            ]),
        );
        let names = |queues: &[MessageQueue]| {
            queues
                .iter()
                .map(|q| format!("{}{}", q.broker_name, q.queue_id))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&route.publish), ["b0", "b1", "d0", "d1"]);
        assert_eq!(route.subscribe.len(), 24);
        assert!(route.subscribe.is_sorted());
        assert_eq!(
            (route.master("b"), route.master("c"), route.any_addr("c")),
            (Some("b0"), None, Some("c2"))
        );
    }

    #[test]
    fn a_template_gives_four_queues() {
        let route = TopicRoute::from_template("t", data(&[("b", 7, &[0])]));
        assert_eq!(
            (
                route.publish.len(),
                route.publish[0].topic.as_str(),
                route.is_template
            ),
            (4, "t", true)
        );
    }

    #[test]
    fn pulls_go_to_the_suggested_broker_or_near_it() {
        let route = TopicRoute::new("t", data(&[("b", 6, &[0, 2])]));
        let addr = |id| route.pull_addr("b", id).unwrap();
        assert_eq!(
            (addr(0), addr(1), addr(2), addr(3)),
            ("b0", "b2", "b2", "b0")
        );
        assert_eq!(route.pull_addr("x", 0), None);
    }

    #[test]
    fn absurd_queue_counts_are_cut() {
        let mut data = data(&[("b", 6, &[0])]);
        data.queue_datas[0].write_queue_nums = i32::MAX;
        data.queue_datas[0].read_queue_nums = -1;
        let route = TopicRoute::new("t", data);
        assert_eq!((route.publish.len(), route.subscribe.len()), (65_536, 0));
    }
}
