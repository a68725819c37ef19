//! Requests that go on to consumers: GET_CONSUMER_RUNNING_INFO (307), CONSUME_MESSAGE_DIRECTLY (309) and
//! INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223).
//!
//! Consumers send heartbeats to every replica, so whichever is asked can ask them. One that does not know a client, for
//! example because it has just started, passes the request on to the master.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftmq_remoting::body::GetConsumerStatusBody;
use raftmq_remoting::channel::{Channel, RemotingError};
use raftmq_remoting::codes::{request, response};
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{
    ConsumeMessageDirectlyResultRequestHeader, GetConsumerRunningInfoRequestHeader,
    GetConsumerStatusRequestHeader, HeaderError,
};
use raftmq_remoting::message::parse_offset_msg_id;
use raftmq_remoting::{json, version};
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::call::{Call, hop};
use crate::client_manager::Consumer;
use crate::forward;
use crate::offset::with_disk;

/// Time a client has to answer, as in RocketMQ.
pub const CLIENT_TIME: Duration = Duration::from_secs(10);

/// Time all clients of a group have: less than the 5 s that administrators wait.
const GROUP_TIME: Duration = Duration::from_secs(4);

/// From this client version on a broker may ask for running info and direct consumption (V3_1_8_SNAPSHOT).
const ASKED_SINCE: i32 = 62;

/// From this client version on it may reset offsets and ask for them (V3_0_7_SNAPSHOT).
pub const OFFSETS_SINCE: i32 = 28;

/// GET_CONSUMER_RUNNING_INFO.
pub fn running_info(broker: &Arc<Broker>, call: Call) {
    let header: GetConsumerRunningInfoRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let (group, client_id) = (&header.consumer_group, &header.client_id);
    if let Some((call, consumer)) = find(broker, call, group, client_id) {
        let body = call.cmd.body.to_bytes();
        let request = passed_on(&call.cmd, body);
        ask(call, group, consumer, request);
    }
}

/// CONSUME_MESSAGE_DIRECTLY: the client gets the stored message.
pub fn consume(broker: &Arc<Broker>, call: Call) {
    let header: ConsumeMessageDirectlyResultRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let Some(msg_id) = header.msg_id.clone() else {
        return call.bad_header(HeaderError::Missing("msgId"));
    };
    let client_id = header.client_id.clone().unwrap_or_default();
    let Some((call, consumer)) = find(broker, call, &header.consumer_group, &client_id) else {
        return;
    };
    let position = match parse_offset_msg_id(&msg_id) {
        Ok((_, position)) => position,
        Err(e) => return call.error(response::SYSTEM_ERROR, e.to_string()),
    };
    with_disk(broker, call, move |broker, call| {
        let Ok(message) = broker.replica.read_record_at(position) else {
            let remark = format!("can not find message by the offset, {position}");
            return call.error(response::SYSTEM_ERROR, remark);
        };
        let mut request = passed_on(&call.cmd, message);
        request.ext.set("brokerName", &broker.config().name);
        let topic = header.topic.as_ref().and_then(|t| broker.state().topic(t));
        if let Some(topic) = topic {
            request
                .ext
                .set_integer("topicSysFlag", topic.topic_sys_flag);
        }
        if let Some(group) = broker.state().group(&header.consumer_group) {
            request
                .ext
                .set_integer("groupSysFlag", group.group_sys_flag);
        }
        ask(call, &header.consumer_group, consumer, request);
    });
}

/// The consumer a call is for; None: the call was answered or passed on.
fn find(
    broker: &Arc<Broker>,
    call: Call,
    group: &str,
    client_id: &str,
) -> Option<(Call, Consumer)> {
    let Some(consumer) = broker.clients.consumer(group, client_id) else {
        let remark = format!("The Consumer <{group}> <{client_id}> not online");
        not_here(broker, call, CLIENT_TIME, response::SYSTEM_ERROR, remark);
        return None;
    };
    if consumer.version < ASKED_SINCE {
        let remark = format!(
            "The Consumer <{client_id}> Version <{}> too low to finish, please upgrade it to V3_1_8_SNAPSHOT",
            version::describe(consumer.version)
        );
        call.error(response::SYSTEM_ERROR, remark);
        return None;
    }
    Some((call, consumer))
}

/// Answers that nobody is online, or leaves that to the master.
fn not_here(broker: &Arc<Broker>, call: Call, time: Duration, code: i32, remark: String) {
    if broker.leads() {
        return call.error(code, remark);
    }
    forward::to_leader_within(broker, call, time);
}

/// The request as the client gets it.
fn passed_on(cmd: &RemotingCommand, body: Bytes) -> RemotingCommand {
    let mut request = RemotingCommand::request(cmd.code).with_body(body);
    request.ext = cmd.ext.clone();
    for mark in [hop::COUNT, hop::TERM, hop::LEFT_MS, hop::CLIENT] {
        request.ext.remove(mark);
    }
    request
}

/// Asks the client and answers what it answers.
fn ask(call: Call, group: &str, consumer: Consumer, request: RemotingCommand) {
    let who = format!("<{group}> <{}>", consumer.client_id);
    let answered = move |result: Result<RemotingCommand, RemotingError>| match result {
        Ok(answer) => call.reply(answer),
        Err(e @ RemotingError::Timeout { .. }) => {
            let remark = format!("consumer {who} Timeout: {e}");
            call.error(response::CONSUME_MSG_TIMEOUT, remark);
        }
        Err(e) => {
            let remark = format!("invoke consumer {who} Exception: {e}");
            call.error(response::SYSTEM_ERROR, remark);
        }
    };
    consumer.channel.invoke_with(request, CLIENT_TIME, answered);
}

/// INVOKE_BROKER_TO_GET_CONSUMER_STATUS: the offsets that the clients of a group, or one of them, have in their memory.
pub fn status(broker: &Arc<Broker>, call: Call) {
    let header: GetConsumerStatusRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let mut consumers = broker.clients.consumers(&header.group);
    if consumers.is_empty() {
        let group = &header.group;
        let remark = format!("No Any Consumer online in the consumer group: [{group}]");
        return not_here(broker, call, GROUP_TIME, response::SYSTEM_ERROR, remark);
    }
    if let Some(remark) = too_old(&consumers) {
        return call.error(response::SYSTEM_ERROR, remark);
    }
    let one = header.client_addr.as_deref().unwrap_or_default().trim();
    consumers.retain(|c| one.is_empty() || *c.client_id == *one);
    let question = GetConsumerStatusRequestHeader {
        client_addr: None,
        ..header
    };
    broker.runtime.spawn(async move {
        let mut asked = JoinSet::new();
        for Consumer {
            client_id, channel, ..
        } in consumers
        {
            let code = request::GET_CONSUMER_STATUS_FROM_CLIENT;
            let request = RemotingCommand::request_with(code, &question);
            asked.spawn(async move { (client_id, offsets_of(channel, request).await) });
        }
        let mut body = GetConsumerStatusBody::default();
        while let Some(answer) = asked.join_next().await {
            if let Ok((client_id, Some(told))) = answer {
                let table = told.message_queue_table;
                body.consumer_table.insert((*client_id).to_owned(), table);
            }
        }
        call.reply(RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&body)));
    });
}

/// None: the client does not answer, or answers an error, and is left out.
async fn offsets_of(channel: Channel, request: RemotingCommand) -> Option<GetConsumerStatusBody> {
    let peer = channel.remote();
    let answer = match channel.invoke(request, GROUP_TIME).await {
        Ok(answer) if answer.code == response::SUCCESS => answer,
        Ok(answer) => {
            tracing::warn!(%peer, code = answer.code, "a client does not tell its offsets");
            return None;
        }
        Err(e) => {
            tracing::warn!(%peer, error = %e, "a client does not tell its offsets");
            return None;
        }
    };
    json::from_slice(&answer.body.to_bytes()).ok()
}

/// Why a group's offsets cannot be told or changed by its clients.
pub fn too_old(consumers: &[Consumer]) -> Option<String> {
    let old = consumers.iter().find(|c| c.version < OFFSETS_SINCE)?;
    let name = version::describe(old.version);
    Some(format!(
        "the client does not support this feature. version={name}"
    ))
}
