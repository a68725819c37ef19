//! Resets of consumer offsets by an administrator: INVOKE_BROKER_TO_RESET_OFFSET (222).
//!
//! With `useServerSideResetOffset` the offsets are stored here, by a command like every commit, whether or not anybody
//! consumes; a consumer that is online is sent there by its next pull, whoever leads then. Without it the consumers are told
//! (RESET_CONSUMER_CLIENT_OFFSET, 220), and commit what they were told. Runs on the master alone.

use std::sync::Arc;

use raftmq_raft::Boundary;
use raftmq_remoting::body::{
    MessageQueue, MessageQueueForC, MessageQueueMap, ResetOffsetBody, ResetOffsetBodyForC,
};
use raftmq_remoting::codes::{request, response};
use raftmq_remoting::command::{LanguageCode, RemotingCommand};
use raftmq_remoting::header::ResetOffsetRequestHeader;
use raftmq_remoting::json;
use raftmq_store::{OffsetCommit, StoreError};

use crate::broker::Broker;
use crate::call::Call;
use crate::client_call::too_old;
use crate::kept;
use crate::offset::{unreadable, with_disk, with_lease};
use crate::send::Refusal;

/// Why there are no offsets to reset to.
enum Failed {
    Refused(Refusal),
    Read(StoreError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Read(error)
    }
}

fn refused<T>(code: i32, remark: String) -> Result<T, Failed> {
    Err(Failed::Refused(Refusal::new(code, remark)))
}

fn answer_failed(call: Call, failed: Failed) {
    match failed {
        Failed::Refused(refusal) => call.error(refusal.code, refusal.remark),
        Failed::Read(error) => unreadable(call, &error),
    }
}

/// INVOKE_BROKER_TO_RESET_OFFSET.
pub fn reset(broker: &Arc<Broker>, call: Call) {
    let header: ResetOffsetRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let server_side = broker.config().server_side_reset;
    let shared = broker.clone();
    with_lease(broker, call, move |call| {
        // What is read is compared with what was committed last.
        let read = move |broker: &Arc<Broker>, call: Call| {
            with_disk(broker, call, move |broker, call| match server_side {
                true => store(broker, call, &header),
                false => tell(broker, call, &header),
            });
        };
        let commits = &shared.offsets;
        commits.after_commits(&shared, call, read);
    });
}

fn store(broker: &Arc<Broker>, call: Call, header: &ResetOffsetRequestHeader) {
    let targets = match targets(broker, header) {
        Ok(targets) => targets,
        Err(failed) => return answer_failed(call, failed),
    };
    let commit = |(queue_id, offset): &(i32, i64)| OffsetCommit {
        group: header.group.clone(),
        topic: header.topic.clone(),
        queue_id: *queue_id,
        offset: *offset,
    };
    let commits: Vec<OffsetCommit> = targets.iter().map(commit).collect();
    tracing::info!(topic = %header.topic, group = %header.group, ?targets, "consumer offsets are reset");
    let body = body_of(broker, &header.topic, &targets);
    let answer = RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&body));
    let commits_of = &broker.offsets;
    commits_of.assign(broker, call, commits, true, answer);
}

/// Queues and their new offsets.
fn targets(broker: &Broker, header: &ResetOffsetRequestHeader) -> Result<Vec<(i32, i64)>, Failed> {
    let (topic, group) = (&header.topic, &header.group);
    let Some(config) = broker.state().topic(topic) else {
        let remark = format!("Topic {topic} does not exist");
        return refused(response::TOPIC_NOT_EXIST, remark);
    };
    if broker.state().group(group).is_none() && !broker.creations.group_pending(group) {
        let remark = format!("Group {group} does not exist");
        return refused(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark);
    }
    let queues = match header.queue_id {
        Some(queue_id) if queue_id >= 0 => queue_id..queue_id.saturating_add(1),
        _ => 0..config.read_queue_nums,
    };
    if queues.is_empty() || queues.start >= config.read_queue_nums.max(config.write_queue_nums) {
        return refused(response::SYSTEM_ERROR, "No queues to reset.".to_owned());
    }
    let wanted = header.offset.filter(|offset| *offset != -1);
    match (header.queue_id, wanted) {
        (Some(queue_id), Some(offset)) if queue_id >= 0 => {
            let range = broker.replica.queue_range(topic, queue_id);
            let (min, max) = range.unwrap_or((0, 0));
            if offset < min || offset > max + 1 {
                let remark =
                    format!("Target offset {offset} not in consume queue range [{min}-{max}]");
                return refused(response::SYSTEM_ERROR, remark);
            }
            Ok(vec![(queue_id, offset)])
        }
        _ => queues
            .map(|queue_id| {
                Ok((
                    queue_id,
                    at_time(broker, topic, queue_id, header.timestamp)?,
                ))
            })
            .collect(),
    }
}

/// The first offset stored at a time or later; negative: the next one to be written.
fn at_time(broker: &Broker, topic: &str, queue_id: i32, time: i64) -> Result<i64, StoreError> {
    let Some((_, max)) = broker.replica.queue_range(topic, queue_id) else {
        return Ok(0);
    };
    if time < 0 {
        return Ok(max);
    }
    kept::when_bounds_follow(|| {
        broker
            .replica
            .offset_at(topic, queue_id, time, Boundary::Lower)
    })
}

fn body_of(broker: &Broker, topic: &str, targets: &[(i32, i64)]) -> ResetOffsetBody {
    let name = &broker.config().name;
    let of = |(queue_id, offset): &(i32, i64)| (MessageQueue::new(topic, name, *queue_id), *offset);
    let offset_table: MessageQueueMap<i64> = targets.iter().map(of).collect();
    ResetOffsetBody { offset_table }
}

/// Has the consumers reset their offsets themselves.
fn tell(broker: &Arc<Broker>, call: Call, header: &ResetOffsetRequestHeader) {
    let targets = match consumed_targets(broker, header) {
        Ok(targets) => targets,
        Err(failed) => return answer_failed(call, failed),
    };
    let consumers = broker.clients.consumers(&header.group);
    if consumers.is_empty() {
        let remark = format!(
            "Consumer not online, so can not reset offset, Group: {} Topic: {} Timestamp: {}",
            header.group, header.topic, header.timestamp
        );
        return call.error(response::CONSUMER_NOT_ONLINE, remark);
    }
    if let Some(remark) = too_old(&consumers) {
        return call.error(response::SYSTEM_ERROR, remark);
    }
    let body = body_of(broker, &header.topic, &targets);
    let told = match call.cmd.language {
        LanguageCode::Cpp => json::to_bytes(&for_c(&body)),
        _ => json::to_bytes(&body),
    };
    let order = ResetOffsetRequestHeader {
        queue_id: Some(-1),
        offset: None,
        is_force: false,
        ..header.clone()
    };
    for consumer in consumers {
        let command = RemotingCommand::request_with(request::RESET_CONSUMER_CLIENT_OFFSET, &order);
        consumer.channel.oneway(command.with_body(told.clone()));
    }
    call.reply(RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&body)));
}

/// Without force only offsets behind the present ones count.
fn consumed_targets(
    broker: &Broker,
    header: &ResetOffsetRequestHeader,
) -> Result<Vec<(i32, i64)>, Failed> {
    let (topic, group) = (&header.topic, &header.group);
    let Some(config) = broker.state().topic(topic) else {
        let remark =
            format!("[reset-offset] reset offset failed, no topic in this broker. topic={topic}");
        return refused(response::TOPIC_NOT_EXIST, remark);
    };
    let mut targets = Vec::new();
    for queue_id in 0..config.write_queue_nums {
        let Some(consumed) = broker.state().offset(group, topic, queue_id) else {
            let remark = format!("THe consumer group <{group}> not exist");
            return refused(response::SYSTEM_ERROR, remark);
        };
        let found = at_time(broker, topic, queue_id, header.timestamp)?;
        let target = match header.is_force {
            true => found,
            false => found.min(consumed),
        };
        targets.push((queue_id, target));
    }
    Ok(targets)
}

fn for_c(body: &ResetOffsetBody) -> ResetOffsetBodyForC {
    let of = |(queue, offset): (&MessageQueue, &i64)| MessageQueueForC {
        broker_name: queue.broker_name.clone(),
        offset: *offset,
        queue_id: queue.queue_id,
        topic: queue.topic.clone(),
    };
    ResetOffsetBodyForC {
        offset_table: body.offset_table.iter().map(of).collect(),
    }
}
