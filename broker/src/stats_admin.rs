//! Numbers about topics and consumers: GET_TOPIC_STATS_INFO (202), GET_CONSUME_STATS (208), QUERY_TOPIC_CONSUME_BY_WHO
//! (300), VIEW_BROKER_STATS_DATA (315).

use std::collections::BTreeSet;
use std::sync::Arc;

use raftmq_remoting::body::{
    ConsumeStats, GroupList, MessageQueue, OffsetWrapper, TopicOffset, TopicStatsTable,
};
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{
    GetConsumeStatsRequestHeader, GetTopicStatsInfoRequestHeader,
    QueryTopicConsumeByWhoRequestHeader, ViewBrokerStatsDataRequestHeader,
};
use raftmq_remoting::json;
use raftmq_store::StoreError;

use crate::broker::Broker;
use crate::call::Call;
use crate::offset::{on_disk, store_time_at};

/// GET_TOPIC_STATS_INFO.
pub fn topic_stats(broker: &Arc<Broker>, call: Call) {
    let header: GetTopicStatsInfoRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let Some(topic) = broker.state().topic(&header.topic) else {
        return call.error(
            response::TOPIC_NOT_EXIST,
            format!("topic[{}] not exist", header.topic),
        );
    };
    on_disk(broker, call, move |broker| {
        let mut table = TopicStatsTable {
            topic_put_tps: broker.stats.items.put_tps(&header.topic),
            ..TopicStatsTable::default()
        };
        for queue_id in 0..topic.read_queue_nums.max(topic.write_queue_nums) {
            let (min, max) = broker
                .replica
                .queue_range(&header.topic, queue_id)
                .unwrap_or((0, 0));
            let last = if max > min {
                store_time_at(broker, &header.topic, queue_id, max - 1)?.max(0)
            } else {
                0
            };
            let queue = MessageQueue::new(&header.topic, &broker.config().name, queue_id);
            table
                .offset_table
                .insert(queue, TopicOffset::new(min, max, last));
        }
        Ok(RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&table)))
    });
}

/// GET_CONSUME_STATS.
pub fn consume_stats(broker: &Arc<Broker>, call: Call) {
    let header: GetConsumeStatsRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    on_disk(broker, call, move |broker| {
        let stats = stats_of(broker, &header)?;
        Ok(RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&stats)))
    });
}

fn stats_of(
    broker: &Broker,
    header: &GetConsumeStatsRequestHeader,
) -> Result<ConsumeStats, StoreError> {
    let group = &header.consumer_group;
    let asked = |text: &Option<String>| {
        text.as_deref()
            .filter(|t| !t.trim().is_empty())
            .map(str::to_owned)
    };
    let topics: BTreeSet<String> = if let Some(list) = asked(&header.topic_list) {
        list.split(';')
            .map(str::trim)
            .filter(|t| !t.is_empty())
            .map(str::to_owned)
            .collect()
    } else if let Some(topic) = asked(&header.topic) {
        BTreeSet::from([topic])
    } else {
        broker
            .state()
            .offsets_of(group)
            .into_iter()
            .map(|commit| commit.topic)
            .collect()
    };
    let online = broker.clients.consumer_connection(group);
    let mut stats = ConsumeStats::default();
    for topic in topics {
        let Some(config) = broker.state().topic(&topic) else {
            continue;
        };
        // A group that is online and does not subscribe to the topic any more has only old offsets there.
        let given_up = online.as_ref().is_some_and(|c| {
            !c.subscription_table.is_empty() && !c.subscription_table.contains_key(&topic)
        });
        if given_up {
            continue;
        }
        stats.consume_tps += broker.stats.items.get_tps(&topic, group);
        for queue_id in 0..config.read_queue_nums {
            let (min, max) = broker
                .replica
                .queue_range(&topic, queue_id)
                .unwrap_or((0, 0));
            let consumed = broker.state().offset(group, &topic, queue_id).unwrap_or(0);
            let last = if consumed > min && consumed <= max {
                store_time_at(broker, &topic, queue_id, consumed - 1)?.max(0)
            } else {
                0
            };
            let wrapper = OffsetWrapper {
                broker_offset: max,
                consumer_offset: consumed,
                last_timestamp: last,
                pull_offset: consumed,
            };
            stats.offset_table.insert(
                MessageQueue::new(&topic, &broker.config().name, queue_id),
                wrapper,
            );
        }
    }
    Ok(stats)
}

/// QUERY_TOPIC_CONSUME_BY_WHO: groups online and groups with an offset.
pub fn consumed_by(broker: &Arc<Broker>, call: Call) {
    let header: QueryTopicConsumeByWhoRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let mut group_list: BTreeSet<String> = broker
        .clients
        .groups_of_topic(&header.topic)
        .into_iter()
        .collect();
    group_list.extend(broker.state().groups_with_offsets(&header.topic));
    let body = json::to_bytes(&GroupList { group_list });
    call.reply(RemotingCommand::response(response::SUCCESS).with_body(body));
}

/// VIEW_BROKER_STATS_DATA, of this replica. What nothing was counted of is an error, which RocketMQ's tools take as "nothing
/// happened yet".
pub fn view_stats(broker: &Arc<Broker>, call: Call) {
    let header: ViewBrokerStatsDataRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let (name, key) = (&header.stats_name, &header.stats_key);
    match broker.stats.items.view(name, key, &broker.config().cluster) {
        Some(data) => {
            call.reply(
                RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&data)),
            );
        }
        None => {
            let remark = format!("The stats <{name}> <{key}> not exist");
            call.error(response::SYSTEM_ERROR, remark);
        }
    }
}
