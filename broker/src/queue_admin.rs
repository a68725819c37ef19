//! A look into a consume queue of this replica: QUERY_CONSUME_QUEUE (321).

use std::sync::Arc;

use raftmq_remoting::body::{ConsumeQueueData, QueryConsumeQueueResponseBody};
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{HeaderError, QueryConsumeQueueRequestHeader};
use raftmq_remoting::json;

use crate::broker::Broker;
use crate::call::Call;
use crate::message_filter::is_tag_type;
use crate::offset::on_disk;

/// Most entries in one answer.
const MAX_ENTRIES: usize = 4_096;

/// QUERY_CONSUME_QUEUE.
pub fn query(broker: &Arc<Broker>, call: Call) {
    let header: QueryConsumeQueueRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let Some(topic) = header.topic.clone() else {
        return call.bad_header(HeaderError::Missing("topic"));
    };
    let queue_id = header.queue_id;
    let Some((min, max)) = broker.replica.queue_range(&topic, queue_id) else {
        let remark = format!("{queue_id}@{topic} is not exist!");
        return call.error(response::SYSTEM_ERROR, remark);
    };
    on_disk(broker, call, move |broker| {
        let mut body = QueryConsumeQueueResponseBody {
            min_queue_index: min,
            max_queue_index: max,
            ..Default::default()
        };
        if let Some(group) = &header.consumer_group {
            body.subscription_data = broker.clients.subscription(group, &topic);
            body.filter_data = Some(match &body.subscription_data {
                None => format!("{group}@{topic} is not online!"),
                // Tags need no data besides the subscription; an expression is all there is of an SQL filter.
                Some(data) if is_tag_type(&data.expression_type) => "null".to_owned(),
                Some(data) => data.sub_string.clone(),
            });
        }
        let mut answer = RemotingCommand::response(response::SUCCESS);
        if (min..max).contains(&header.index) {
            let count = usize::try_from(header.count).unwrap_or(0).min(MAX_ENTRIES);
            let entries = broker
                .replica
                .read_queue(&topic, queue_id, header.index, count)?;
            let shown = entries.iter().map(|entry| ConsumeQueueData {
                physic_offset: entry.physical_offset,
                physic_size: entry.size as i32,
                tags_code: entry.tags_code,
                ..Default::default()
            });
            body.queue_data = shown.collect();
        } else {
            let remark = format!("Index {} of {queue_id}@{topic} is not exist!", header.index);
            answer = answer.with_remark(remark);
        }
        Ok(answer.with_body(json::to_bytes(&body)))
    });
}
