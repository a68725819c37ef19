//! Clients, topics, groups and how far consumers are behind, under RocketMQ's names. Lag is told by the master alone, so
//! that a sum over a set's replicas is right.

use std::collections::HashMap;

use metrics::gauge;
use raftmq_remoting::body::ConsumeType;
use raftmq_remoting::version;

use crate::broker::Broker;
use crate::exporter::{MAX_SERIES, consumer_labels};
use crate::names;

/// Sets all of them in the recorder of this scrape.
pub fn observe(broker: &Broker) {
    let state = broker.state();
    gauge!("rocketmq_broker_permission").set(f64::from(broker.config().permission));
    gauge!("rocketmq_topic_number").set(state.topics().len() as f64);
    gauge!("rocketmq_consumer_group_number").set(state.groups().len() as f64);
    gauge!("rocketmq_processor_watermark", "processor" => "send").set(broker.room.len() as f64);
    connections(broker);
    if broker.leads() {
        lag(broker);
    }
}

fn connections(broker: &Broker) {
    let (producers, consumers) = broker.clients.count_connections();
    for ((language, version), count) in producers.into_iter().take(MAX_SERIES) {
        let labels = [
            ("language", language.name().to_lowercase()),
            ("version", version::describe(version).to_lowercase()),
            ("protocol_type", "remoting".to_owned()),
        ];
        gauge!("rocketmq_producer_connections", &labels).increment(count as f64);
    }
    for ((group, mode, language, version), count) in consumers.into_iter().take(MAX_SERIES) {
        let mode = match mode {
            ConsumeType::Actively => "pull",
            ConsumeType::Pop => "pop",
            _ => "push",
        };
        let labels = [
            ("is_system", names::is_system_group(&group).to_string()),
            ("consumer_group", group),
            ("consume_mode", mode.to_owned()),
            ("language", language.name().to_lowercase()),
            ("version", version::describe(version).to_lowercase()),
            ("protocol_type", "remoting".to_owned()),
        ];
        gauge!("rocketmq_consumer_connections", &labels).increment(count as f64);
    }
}

/// Messages behind the committed offsets; a queue a group has never committed an offset of does not count.
fn lag(broker: &Broker) {
    let state = broker.state();
    let mut left = MAX_SERIES;
    for group in state.groups() {
        let group = &group.group_name;
        let mut topics: HashMap<String, i64> = HashMap::new();
        for commit in state.offsets_of(group) {
            let range = broker.replica.queue_range(&commit.topic, commit.queue_id);
            let behind = range.map_or(0, |(min, max)| max - commit.offset.clamp(min, max));
            *topics.entry(commit.topic).or_default() += behind;
        }
        for (topic, behind) in topics {
            if left == 0 {
                return;
            }
            left -= 1;
            let labels = consumer_labels(&broker.config(), &topic, group);
            gauge!("rocketmq_consumer_lag_messages", labels).set(behind as f64);
        }
    }
}
