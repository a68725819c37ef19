//! What groups have consumed, for administrators: GET_ALL_CONSUMER_OFFSET (43), QUERY_CONSUME_TIME_SPAN (303),
//! QUERY_CORRECTION_OFFSET (308), CLONE_GROUP_OFFSET (314), GET_BROKER_CONSUME_STATS (317), QUERY_TOPICS_BY_CONSUMER (343) and
//! QUERY_SUBSCRIPTION_BY_CONSUMER (345).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use raftmq_remoting::body::{
    ConsumeStats, ConsumeStatsList, ConsumerOffsets, MessageQueue, OffsetWrapper,
    QueryConsumeTimeSpanBody, QueryCorrectionOffsetBody, QuerySubscriptionResponseBody,
    QueueTimeSpan, TopicConfig, TopicList,
};
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{
    CloneGroupOffsetRequestHeader, GetBrokerConsumeStatsRequestHeader,
    QueryConsumeTimeSpanRequestHeader, QueryCorrectionOffsetRequestHeader,
    QuerySubscriptionByConsumerRequestHeader, QueryTopicsByConsumerRequestHeader,
};
use raftmq_remoting::json;
use raftmq_store::{OffsetCommit, StoreError};
use serde::Serialize;

use crate::broker::{Broker, now_ms};
use crate::call::Call;
use crate::names;
use crate::offset::{earliest_store_time, on_disk, store_time_at, with_lease};

fn found<T: Serialize>(body: &T) -> RemotingCommand {
    RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(body))
}

/// Topics of which a group has an offset.
fn topics_of(broker: &Broker, group: &str) -> BTreeSet<String> {
    let offsets = broker.state().offsets_of(group);
    offsets.into_iter().map(|commit| commit.topic).collect()
}

/// QUERY_TOPICS_BY_CONSUMER.
pub fn topics(broker: &Arc<Broker>, call: Call) {
    let header: QueryTopicsByConsumerRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let body = TopicList {
        broker_addr: Some(broker.store_host.to_string()),
        topic_list: topics_of(broker, &header.group),
    };
    call.reply(found(&body));
}

/// QUERY_SUBSCRIPTION_BY_CONSUMER: without a subscription when the group is not online or does not want the topic.
pub fn subscription(broker: &Arc<Broker>, call: Call) {
    let header: QuerySubscriptionByConsumerRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let topic = header.topic.unwrap_or_default();
    let body = QuerySubscriptionResponseBody {
        subscription_data: broker.clients.subscription(&header.group, &topic),
        group: header.group,
        topic,
    };
    call.reply(found(&body));
}

/// GET_ALL_CONSUMER_OFFSET.
pub fn all_offsets(broker: &Arc<Broker>, call: Call) {
    let mut body = ConsumerOffsets::default();
    for OffsetCommit {
        group,
        topic,
        queue_id,
        offset,
    } in broker.state().all_offsets()
    {
        let queues = body.offset_table.entry(format!("{topic}@{group}"));
        queues.or_default().insert(queue_id, offset);
    }
    call.reply(found(&body));
}

/// QUERY_CONSUME_TIME_SPAN: when the messages of each queue were stored, and how far the group is behind.
pub fn time_span(broker: &Arc<Broker>, call: Call) {
    let header: QueryConsumeTimeSpanRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let Some(topic) = broker.state().topic(&header.topic) else {
        let remark = format!("topic[{}] not exist", header.topic);
        return call.error(response::TOPIC_NOT_EXIST, remark);
    };
    on_disk(broker, call, move |broker| {
        let mut body = QueryConsumeTimeSpanBody::default();
        for queue_id in 0..topic.write_queue_nums {
            let span = span_of(broker, &header, queue_id)?;
            body.consume_time_span_set.push(span);
        }
        Ok(found(&body))
    });
}

fn span_of(
    broker: &Broker,
    header: &QueryConsumeTimeSpanRequestHeader,
    queue_id: i32,
) -> Result<QueueTimeSpan, StoreError> {
    let (topic, group) = (&header.topic, &header.group);
    let stored_at = |offset: i64| store_time_at(broker, topic, queue_id, offset);
    let range = broker.replica.queue_range(topic, queue_id);
    let (_, max) = range.unwrap_or((0, 0));
    let first = earliest_store_time(broker, topic, queue_id)?;
    let consumed = broker.state().offset(group, topic, queue_id).unwrap_or(0);
    // Where the next one has expired, the first that is kept is waited for.
    let next = match consumed < max {
        true => stored_at(consumed)?.max(first),
        false => -1,
    };
    Ok(QueueTimeSpan {
        consume_time_stamp: match consumed > 0 {
            true => stored_at(consumed - 1)?,
            false => first,
        },
        delay_time: if next < 0 { 0 } else { now_ms() - next },
        max_time_stamp: if max > 0 { stored_at(max - 1)? } else { -1 },
        message_queue: MessageQueue::new(topic, &broker.config().name, queue_id),
        min_time_stamp: first,
    })
}

/// QUERY_CORRECTION_OFFSET: the least that any group but those in `filterGroups` has consumed of each queue; a queue of which
/// `compareGroup` has consumed less needs no correction.
pub fn correction(broker: &Arc<Broker>, call: Call) {
    let header: QueryCorrectionOffsetRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    with_lease(broker, call, |call| {
        let left_out = header.filter_groups.as_deref().unwrap_or_default();
        let left_out: HashSet<&str> = left_out.split(',').collect();
        let mut least: BTreeMap<i32, i64> = BTreeMap::new();
        for one in broker.state().all_offsets() {
            if one.topic != header.topic || left_out.contains(one.group.as_str()) {
                continue;
            }
            let range = broker.replica.queue_range(&one.topic, one.queue_id);
            if one.offset >= range.map_or(0, |(min, _)| min) {
                let offset = least.entry(one.queue_id).or_insert(one.offset);
                *offset = one.offset.min(*offset);
            }
        }
        for (queue_id, offset) in &mut least {
            let compared = broker.state();
            let compared = compared.offset(&header.compare_group, &header.topic, *queue_id);
            if compared.is_some_and(|compared| *offset > compared) {
                *offset = i64::MAX;
            }
        }
        let body = QueryCorrectionOffsetBody {
            correction_offsets: least,
        };
        call.reply(found(&body));
    });
}

/// CLONE_GROUP_OFFSET: a group's offsets, of one topic or of all, become another's, too.
pub fn clone_offsets(broker: &Arc<Broker>, call: Call) {
    let header: CloneGroupOffsetRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    if !names::is_group_name(&header.dest_group) {
        let remark = format!("{:?} is no name of a group", header.dest_group);
        return call.error(response::SYSTEM_ERROR, remark);
    }
    let copy = move |broker: &Arc<Broker>, call: Call| {
        let one = header.topic.as_deref().unwrap_or_default().trim();
        let wanted = |topic: &str| {
            (one.is_empty() || one == topic)
                && broker.state().topic(topic).is_some()
                && (header.offline || !broker.clients.gave_up(&header.src_group, topic))
        };
        let mut offsets = broker.state().offsets_of(&header.src_group);
        offsets.retain(|commit| wanted(&commit.topic));
        for commit in &mut offsets {
            commit.group.clone_from(&header.dest_group);
        }
        if offsets.is_empty() {
            return call.ok();
        }
        let answer = RemotingCommand::response(response::SUCCESS);
        let commits = &broker.offsets;
        commits.assign(broker, call, offsets, false, answer);
    };
    let shared = broker.clone();
    with_lease(broker, call, move |call| {
        shared.offsets.after_commits(&shared, call, copy);
    });
}

/// GET_BROKER_CONSUME_STATS: every group's offsets, of ordered topics only when asked so.
pub fn broker_stats(broker: &Arc<Broker>, mut call: Call) {
    // RocketMQ takes it for false when it is missing.
    if call.cmd.ext.get("isOrder").is_none() {
        call.cmd.ext.set("isOrder", "false");
    }
    let header: GetBrokerConsumeStatsRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    on_disk(broker, call, move |broker| {
        let mut body = ConsumeStatsList {
            broker_addr: broker.store_host.to_string(),
            ..Default::default()
        };
        let mut groups = broker.state().groups();
        groups.sort_by(|a, b| a.group_name.cmp(&b.group_name));
        for group in groups {
            let group = &group.group_name;
            let mut of_topics = Vec::new();
            for topic in topics_of(broker, group) {
                let config = broker.state().topic(&topic);
                let wanted = |config: &Arc<TopicConfig>| {
                    (config.order || !header.is_order) && !broker.clients.gave_up(group, &topic)
                };
                if let Some(config) = config.filter(wanted) {
                    let stats = stats_of(broker, group, &config)?;
                    let queues = stats.offset_table.values();
                    // Clients commit any number.
                    let behind = queues.map(|q| q.broker_offset.saturating_sub(q.consumer_offset));
                    body.total_diff = behind.fold(body.total_diff, i64::saturating_add);
                    of_topics.push(stats);
                }
            }
            let of_group = BTreeMap::from([(group.clone(), of_topics)]);
            body.consume_stats_list.push(of_group);
        }
        Ok(found(&body))
    });
}

fn stats_of(
    broker: &Broker,
    group: &str,
    config: &TopicConfig,
) -> Result<ConsumeStats, StoreError> {
    let topic = &config.topic_name;
    let mut stats = ConsumeStats::default();
    for queue_id in 0..config.write_queue_nums {
        let range = broker.replica.queue_range(topic, queue_id);
        let (min, max) = range.unwrap_or((0, 0));
        let consumed = broker.state().offset(group, topic, queue_id).unwrap_or(0);
        let last = match consumed > min && consumed <= max {
            true => store_time_at(broker, topic, queue_id, consumed - 1)?.max(0),
            false => 0,
        };
        let wrapper = OffsetWrapper {
            broker_offset: max,
            consumer_offset: consumed,
            last_timestamp: last,
            pull_offset: consumed,
        };
        let queue = MessageQueue::new(topic, &broker.config().name, queue_id);
        stats.offset_table.insert(queue, wrapper);
    }
    Ok(stats)
}
