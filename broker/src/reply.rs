//! Replies of the request-reply pattern: SEND_REPLY_MESSAGE (324, 325).
//!
//! A request is a plain message that names the client that waits (REPLY_TO_CLIENT). The reply to it goes through the broker to
//! that client's connection (PUSH_REPLY_MESSAGE_TO_CLIENT, 326), and with `storeReplyMessageEnable` into its topic besides,
//! whether or not it could be handed over. Runs on the master alone: clients that only produce send heartbeats to nobody else.

use std::sync::Arc;

use bytes::Bytes;
use raftmq_remoting::ByteStr;
use raftmq_remoting::channel::RemotingError;
use raftmq_remoting::codes::{request, response};
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{
    ReplyMessageRequestHeader, SendMessageRequestHeader, SendMessageResponseHeader,
};
use raftmq_remoting::message::properties::{self, self as prop};
use raftmq_remoting::message::{NewMessage, body_crc, offset_msg_id, sysflag};

use crate::broker::{Broker, now_ms};
use crate::call::Call;
use crate::client_call::CLIENT_TIME;
use crate::creation;
use crate::send::{self, Found};
use crate::send_store;
use crate::stored_properties::{self, MAX_PROPERTIES};

/// SEND_REPLY_MESSAGE, SEND_REPLY_MESSAGE_V2.
pub fn reply(broker: &Arc<Broker>, call: Call) {
    let header = match SendMessageRequestHeader::decode_for(call.cmd.code, &call.cmd.ext) {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let topic = match send::find_topic(broker, &header) {
        Ok(Found::Topic(topic)) => topic,
        Ok(Found::Create(config)) => return creation::create_topic_then(broker, config, call),
        Err(refusal) => return send_store::refuse(broker, call, refusal),
    };
    match send::check_queue(&header, &topic, call.client) {
        Ok(queue_id) => push(broker, call, header, queue_id),
        Err(refusal) => send_store::refuse(broker, call, refusal),
    }
}

fn push(broker: &Arc<Broker>, call: Call, header: SendMessageRequestHeader, queue_id: i32) {
    let sent = header.properties.clone().map(ByteStr::into_bytes);
    let sent = sent.unwrap_or_default();
    let Some(client) = properties::get(&sent, prop::REPLY_TO_CLIENT).map(str::to_owned) else {
        let why = format!(
            "reply message properties[{}] is null",
            prop::REPLY_TO_CLIENT
        );
        return finish(broker, call, header, queue_id, Some(why));
    };
    let Some(channel) = broker.clients.producer(&client) else {
        let why = format!("push reply message fail, channel of <{client}> not found.");
        return finish(broker, call, header, queue_id, Some(why));
    };
    let pushed = pushed_header(broker, &call, &header, &sent);
    let command = RemotingCommand::request_with(request::PUSH_REPLY_MESSAGE_TO_CLIENT, &pushed)
        .with_body(call.cmd.body.to_bytes());
    let shared = broker.clone();
    let answered = move |result: Result<RemotingCommand, RemotingError>| {
        let taken = matches!(&result, Ok(answer) if answer.code == response::SUCCESS);
        if let Err(e) = &result {
            tracing::debug!(%client, error = %e, "a reply could not be handed over");
        }
        // RocketMQ's words, with its missing blank.
        let why = (!taken).then(|| format!("push reply message to {client}fail."));
        finish(&shared, call, header, queue_id, why);
    };
    channel.invoke_with(command, CLIENT_TIME, answered);
}

fn pushed_header(
    broker: &Broker,
    call: &Call,
    header: &SendMessageRequestHeader,
    sent: &[u8],
) -> ReplyMessageRequestHeader {
    let now = now_ms();
    let text = properties::set(sent, prop::PUSH_REPLY_TIME, &now.to_string());
    ReplyMessageRequestHeader {
        producer_group: header.producer_group.clone(),
        topic: header.topic.clone(),
        default_topic: header.default_topic.clone(),
        default_topic_queue_nums: header.default_topic_queue_nums,
        queue_id: header.queue_id,
        sys_flag: header.sys_flag,
        born_timestamp: header.born_timestamp,
        flag: header.flag,
        properties: ByteStr::from_utf8(text).ok(),
        reconsume_times: header.reconsume_times,
        unit_mode: header.unit_mode,
        born_host: call.client.to_string(),
        store_host: broker.store_host.to_string(),
        store_timestamp: now,
    }
}

/// Stores the reply where that is wanted and answers; `failed` says why it was not handed over.
fn finish(
    broker: &Arc<Broker>,
    call: Call,
    header: SendMessageRequestHeader,
    queue_id: i32,
    failed: Option<String>,
) {
    let told = move |id: String, queue_offset: i64| SendMessageResponseHeader {
        msg_id: id,
        queue_id,
        queue_offset,
        ..Default::default()
    };
    let outcome = match failed {
        // Clients do not read an answer without these.
        None => send_store::answer(broker, response::SUCCESS).with_header(&told("0".to_owned(), 0)),
        Some(why) => send_store::answer(broker, response::SYSTEM_ERROR).with_remark(why),
    };
    let message = match broker.config().store_replies {
        true => stored_form(broker, &call, header, queue_id),
        false => None,
    };
    let Some(message) = message else {
        return call.reply(outcome);
    };
    let shared = broker.clone();
    let proposal = broker.proposal(&call, vec![message], true);
    broker
        .replica
        .propose(proposal, move |result| match result {
            Ok(kept) => {
                let place = kept.placed.first().map(|p| {
                    let id = offset_msg_id(shared.store_host, p.physical_offset);
                    told(id, p.queue_offset)
                });
                call.reply(match place {
                    Some(place) => outcome.with_header(&place),
                    None => outcome,
                });
            }
            // What counts is the client that waits.
            Err(e) => {
                tracing::warn!(error = %e, "a reply was not stored");
                call.reply(outcome)
            }
        });
}

/// None: it is handed over, but cannot be stored.
fn stored_form(
    broker: &Broker,
    call: &Call,
    header: SendMessageRequestHeader,
    queue_id: i32,
) -> Option<NewMessage> {
    let body = call.cmd.body.to_bytes();
    let sent = header
        .properties
        .map_or_else(Bytes::new, ByteStr::into_bytes);
    let properties = stored_properties::build(&broker.stamps, &sent, &[], &[]);
    let limit = broker.config().max_message_size;
    if body.is_empty() || body.len() > limit || properties.len() > MAX_PROPERTIES {
        tracing::warn!(topic = %header.topic, bytes = body.len(), "a reply cannot be stored");
        return None;
    }
    Some(NewMessage {
        topic: header.topic,
        queue_id,
        flag: header.flag,
        sys_flag: header.sys_flag & !sysflag::TRANSACTION_MASK,
        born_timestamp: header.born_timestamp,
        born_host: call.client,
        store_host: broker.store_host,
        reconsume_times: header.reconsume_times.unwrap_or(0),
        prepared_transaction_offset: 0,
        body_crc: body_crc(&body),
        body,
        properties,
    })
}
