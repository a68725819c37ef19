//! Sends of several messages in one: the batch is taken apart, and all of it becomes records of one entry.

use std::sync::Arc;

use bytes::Bytes;
use raftmq_remoting::codes::response;
use raftmq_remoting::header::SendMessageRequestHeader;
use raftmq_remoting::message::{NewMessage, batch, body_crc, sysflag};

use crate::broker::Broker;
use crate::call::Call;
use crate::names::{self, DLQ_PREFIX, RETRY_PREFIX};
use crate::send::{Prepared, Refusal, too_big};
use crate::send_store::Send;
use crate::stored_properties::{self, MAX_PROPERTIES, Wishes};

/// Messages in one batch; a 4 MiB batch of the smallest useful messages stays below.
pub const MAX_BATCH_MESSAGES: usize = 65_536;

/// A batch, refused whole or stored whole.
pub fn prepare(
    broker: &Arc<Broker>,
    call: &Call,
    header: &SendMessageRequestHeader,
    sent: &[u8],
    body: Bytes,
    queue_id: i32,
) -> Result<Prepared, Refusal> {
    let name = header.topic.as_str();
    if name.len() > names::MAX_TOPIC {
        let remark = format!("message topic length too long {}", name.len());
        return Err(Refusal::new(response::MESSAGE_ILLEGAL, remark));
    }
    if name.starts_with(RETRY_PREFIX) || name.starts_with(DLQ_PREFIX) {
        let remark = format!("batch request does not support retry group {name}");
        return Err(Refusal::new(response::MESSAGE_ILLEGAL, remark));
    }
    let wishes = Wishes::read(sent);
    if wishes
        .delay
        .is_some_and(|d| d.parse::<i32>().is_ok_and(|level| level > 0))
    {
        return Err(too_big(broker));
    }
    if wishes.timer.is_some() || wishes.inner_batch {
        return Err(too_big(broker));
    }
    if wishes.transaction || sysflag::transaction_type(header.sys_flag) != 0 {
        let remark = format!(
            "the broker[{}] sending transaction message is forbidden",
            broker.config().ip1
        );
        return Err(Refusal::new(response::NO_PERMISSION, remark));
    }
    let items = batch::decode(body, MAX_BATCH_MESSAGES).map_err(|e| {
        Refusal::new(
            response::SYSTEM_ERROR,
            format!("the batch cannot be read: {e}"),
        )
    })?;
    if items.is_empty() {
        return Err(Refusal::new(
            response::MESSAGE_ILLEGAL,
            "the batch is empty",
        ));
    }
    let mut messages = Vec::with_capacity(items.len());
    for item in items {
        // The envelope's properties go to each message, as if they had been sent with it.
        let mut all = Vec::with_capacity(item.properties.len() + sent.len() + 1);
        all.extend_from_slice(&item.properties);
        if !all.is_empty() && all.last() != Some(&2) {
            all.push(2);
        }
        all.extend_from_slice(sent);
        let properties = stored_properties::build(&broker.stamps, &all, &[], &[]);
        if properties.len() > MAX_PROPERTIES {
            return Err(too_big(broker));
        }
        messages.push(NewMessage {
            topic: header.topic.clone(),
            queue_id,
            flag: item.flag,
            sys_flag: header.sys_flag,
            born_timestamp: header.born_timestamp,
            born_host: call.client,
            store_host: broker.store_host,
            reconsume_times: header.reconsume_times.unwrap_or(0),
            prepared_transaction_offset: 0,
            body_crc: body_crc(&item.body),
            body: item.body,
            properties,
        });
    }
    Ok(Prepared::Send(Send {
        messages,
        queue_id,
        transaction_id: None,
        recall_handle: None,
        wait: !wishes.no_wait,
    }))
}
