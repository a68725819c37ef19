//! Sends of several messages in one: the batch is taken apart, and all of it becomes records of one entry.

use std::sync::Arc;

use bytes::Bytes;
use raftmq_remoting::codes::response;
use raftmq_remoting::header::SendMessageRequestHeader;
use raftmq_remoting::message::batch::{self, BatchItem};
use raftmq_remoting::message::{NewMessage, body_crc, sysflag};
use raftmq_store::commitlog::format::MAX_ENTRY_LEN;

use crate::broker::Broker;
use crate::call::Call;
use crate::names::{self, DLQ_PREFIX, RETRY_PREFIX};
use crate::send::{Prepared, Refusal, too_big};
use crate::send_store::Send;
use crate::stored_properties::{self, MAX_PROPERTIES, Wishes};

/// Messages in one batch; a 4 MiB batch of the smallest useful messages stays below.
pub const MAX_BATCH_MESSAGES: usize = 65_536;

/// Bytes of a stored message besides topic, body and properties, at least.
const FIXED_BYTES: usize = 88;

/// Bytes a batch takes in the log, `each` of them for a message besides its body and properties; at least.
fn stored_bytes(items: &[BatchItem], each: usize) -> u64 {
    let own = |item: &BatchItem| (item.body.len() + item.properties.len()) as u64;
    let each = each as u64 * items.len() as u64;
    items.iter().map(own).sum::<u64>() + each
}

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
    // The envelope's properties and the broker's go to each message, so few bytes can stand for many.
    let each = FIXED_BYTES + header.topic.len() + sent.len() + broker.stamps.size();
    let limit = broker.config().segment_size.min(MAX_ENTRY_LEN as u64);
    if stored_bytes(&items, each) > limit {
        return Err(too_big(broker));
    }
    let mut messages = Vec::with_capacity(items.len());
    for item in items {
        // Bytes that are no text become the mark that a consumer would read them as; RocketMQ stores the bytes.
        let own = String::from_utf8_lossy(&item.properties);
        let pairs = [own.as_bytes(), sent];
        let properties = stored_properties::build_of(&broker.stamps, &pairs, &[], &[]);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of 1.5 MB with an envelope of 32 KB stood for 2 GB, built before they were refused.
    #[test]
    fn the_envelope_counts_for_every_message() {
        let empty = BatchItem {
            flag: 0,
            body: Bytes::from_static(b"x"),
            properties: Bytes::new(),
        };
        let items = vec![empty; MAX_BATCH_MESSAGES];
        let envelope = 32 << 10;
        assert!(stored_bytes(&items, envelope) > 2 << 30);
        assert!(stored_bytes(&items[..100], envelope) < MAX_ENTRY_LEN as u64);
    }
}
