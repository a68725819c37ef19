//! Reading the table: routes, the cluster, topic lists.

use std::collections::{BTreeMap, BTreeSet};

use raftmq_remoting::body::{BrokerMemberGroup, ClusterInfo, QueueData, TopicList, TopicRouteData};
use raftmq_remoting::message::{perm, sysflag};
use raftmq_remoting::validate::SYNC_MEMBER_TOPIC_PREFIX;

use super::{BrokerSet, MASTER_ID, RouteTable, TopicQueues};

/// Which topics a list of unit topics wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitTopics {
    /// GET_UNIT_TOPIC_LIST.
    Unit,
    /// GET_HAS_UNIT_SUB_TOPIC_LIST.
    Subscribed,
    /// GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST.
    SubscribedNotUnit,
}

impl RouteTable {
    /// The brokers and queues of a topic; None when nobody serves it. With `acting_master` the lowest id of a set that has
    /// lost its master and asks for it is shown as id 0, as long as its queues are not writable.
    pub fn route(&self, topic: &str, acting_master: bool) -> Option<TopicRouteData> {
        let state = self.state.read();
        let brokers = state.topics.get(topic)?;
        let mut route = TopicRouteData::default();
        let mut mappings = BTreeMap::new();
        for (name, at) in brokers {
            let Some(set) = state.sets.get(name) else {
                continue;
            };
            let mut data = set.data(name);
            if acting_master
                && !topic.starts_with(SYNC_MEMBER_TOPIC_PREFIX)
                && wants_acting_master(set, &at.queues)
                && let Some((_, addr)) = data.broker_addrs.pop_first()
            {
                data.broker_addrs.insert(MASTER_ID, addr);
            }
            for member in set
                .members
                .values()
                .filter(|m| !m.filter_servers.is_empty())
            {
                route
                    .filter_server_table
                    .insert(member.addr.clone(), member.filter_servers.clone());
            }
            if let Some(mapping) = &at.mapping {
                mappings.insert(name.clone(), mapping.clone());
            }
            route.broker_datas.push(data);
            route.queue_datas.push(at.queues.clone());
        }
        if route.broker_datas.is_empty() {
            return None;
        }
        route.topic_queue_mapping_by_broker = (!mappings.is_empty()).then_some(mappings);
        Some(route)
    }

    /// All broker sets and which cluster each is in.
    pub fn cluster_info(&self) -> ClusterInfo {
        let state = self.state.read();
        let mut clusters: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, set) in &state.sets {
            clusters
                .entry(set.cluster.clone())
                .or_default()
                .insert(name.clone());
        }
        ClusterInfo {
            broker_addr_table: state
                .sets
                .iter()
                .map(|(name, set)| (name.clone(), set.data(name)))
                .collect(),
            cluster_addr_table: clusters,
        }
    }

    /// The members of a set; none when it is unknown.
    pub fn member_group(&self, cluster: &str, broker_name: &str) -> BrokerMemberGroup {
        let state = self.state.read();
        let members = state.sets.get(broker_name).filter(|s| s.cluster == cluster);
        BrokerMemberGroup {
            broker_addrs: members
                .map(|s| s.data(broker_name).broker_addrs)
                .unwrap_or_default(),
            broker_name: broker_name.to_owned(),
            cluster: cluster.to_owned(),
        }
    }

    pub fn all_topics(&self) -> TopicList {
        let state = self.state.read();
        TopicList {
            broker_addr: None,
            topic_list: state.topics.keys().cloned().collect(),
        }
    }

    /// Topics with queues at a set of `cluster`.
    pub fn topics_of_cluster(&self, cluster: &str) -> TopicList {
        let state = self.state.read();
        let in_cluster = |name: &String| state.sets.get(name).is_some_and(|s| s.cluster == cluster);
        let topics = state
            .topics
            .iter()
            .filter(|(_, brokers)| brokers.keys().any(in_cluster));
        TopicList {
            broker_addr: None,
            topic_list: topics.map(|(topic, _)| topic.clone()).collect(),
        }
    }

    /// The topics named after clusters and brokers, and the address of a broker that knows the other system topics.
    pub fn system_topics(&self) -> TopicList {
        let state = self.state.read();
        let names = state
            .sets
            .iter()
            .flat_map(|(name, set)| [name.clone(), set.cluster.clone()]);
        let master = state.sets.values().find_map(|s| s.members.get(&MASTER_ID));
        let any = || state.sets.values().find_map(|s| s.members.values().next());
        TopicList {
            broker_addr: master.or_else(any).map(|m| m.addr.clone()),
            topic_list: names.collect(),
        }
    }

    pub fn unit_topics(&self, which: UnitTopics) -> TopicList {
        let wanted = |at: &TopicQueues| {
            let unit = at.queues.topic_sys_flag & sysflag::unit::UNIT != 0;
            let subscribed = at.queues.topic_sys_flag & sysflag::unit::UNIT_SUB != 0;
            match which {
                UnitTopics::Unit => unit,
                UnitTopics::Subscribed => subscribed,
                UnitTopics::SubscribedNotUnit => subscribed && !unit,
            }
        };
        let state = self.state.read();
        let topics = state
            .topics
            .iter()
            .filter(|(_, brokers)| brokers.values().any(wanted));
        TopicList {
            broker_addr: None,
            topic_list: topics.map(|(topic, _)| topic.clone()).collect(),
        }
    }
}

fn wants_acting_master(set: &BrokerSet, queues: &QueueData) -> bool {
    set.enable_acting_master
        && !set.members.contains_key(&MASTER_ID)
        && !perm::is_writable(queues.perm)
}
