//! Giving a message back for another try: CONSUMER_SEND_MSG_BACK (36).
//!
//! The record is read at the physical offset the consumer got with it, which is the same on every replica, and stored
//! again for the group's retry topic with a delay, or for its dead letter topic when it was tried often enough.

use std::sync::Arc;

use bytes::Bytes;
use raftmq_remoting::ByteStr;
use raftmq_remoting::codes::response;
use raftmq_remoting::header::ConsumerSendMsgBackRequestHeader;
use raftmq_remoting::message::{NewMessage, StoredRecord, offset_msg_id, properties as prop};

use crate::broker::{Broker, FAQ, now_ms, perm};
use crate::call::Call;
use crate::creation;
use crate::names;
use crate::random::random_below;
use crate::send::VERSION_WITH_MAX_RECONSUME;
use crate::stored_properties::{self, MAX_PROPERTIES};

/// The first retry waits delay level 3 (10 s), the next level 4, and so on.
const FIRST_RETRY_LEVEL: i32 = 3;

/// CONSUMER_SEND_MSG_BACK.
pub fn send_back(broker: &Arc<Broker>, call: Call) {
    let header: ConsumerSendMsgBackRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let Some(group) = creation::group(broker, &header.group) else {
        let remark = format!("subscription group not exist, {} {FAQ}", header.group);
        return call.error(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark);
    };
    if !broker.writable() {
        let remark = format!(
            "the broker[{}] sending message is forbidden",
            broker.config().ip1
        );
        return call.error(response::NO_PERMISSION, remark);
    }
    if group.retry_queue_nums <= 0 {
        return call.ok();
    }
    let retry = names::retry_topic(&header.group);
    match broker.state().topic(&retry) {
        None => {
            let config =
                creation::plain_topic(&retry, group.retry_queue_nums, perm::READ | perm::WRITE);
            creation::create_topic_then(broker, config, call)
        }
        Some(topic) if !perm::is_writable(topic.perm) => call.error(
            response::NO_PERMISSION,
            format!("the topic[{retry}] sending message is forbidden"),
        ),
        Some(topic) => {
            let limit = match header.max_reconsume_times {
                Some(own) if call.cmd.version >= VERSION_WITH_MAX_RECONSUME => own,
                _ => group.retry_max_times,
            };
            let back = Back {
                header,
                retry,
                // Nobody reads from a queue that the topic does not have.
                queues: group.retry_queue_nums.min(topic.read_queue_nums).max(1),
                limit,
            };
            read_and_store(broker, call, back);
        }
    }
}

struct Back {
    header: ConsumerSendMsgBackRequestHeader,
    retry: String,
    queues: i32,
    limit: i32,
}

fn read_and_store(broker: &Arc<Broker>, call: Call, back: Back) {
    if broker.replica.is_hot(back.header.offset) {
        return store(broker, call, &back);
    }
    let shared = broker.clone();
    let work = move |(call, back): (Call, Back)| store(&shared, call, &back);
    if let Err((call, _)) = broker.cold_reads.run((call, back), work) {
        call.error(
            response::SYSTEM_BUSY,
            "[OVERLOAD]too many requests read from disk, start flow control",
        );
    }
}

fn store(broker: &Arc<Broker>, call: Call, back: &Back) {
    let not_found = |call: Call| {
        let remark = format!("look message by offset failed, {}", back.header.offset);
        call.error(response::SYSTEM_ERROR, remark)
    };
    let Ok(bytes) = broker.replica.read_record_at(back.header.offset) else {
        return not_found(call);
    };
    let Ok(record) = StoredRecord::parse(&bytes) else {
        return not_found(call);
    };
    let level = match back.header.delay_level {
        0 => FIRST_RETRY_LEVEL.saturating_add(record.reconsume_times()),
        level => level,
    };
    let dead = record.reconsume_times() >= back.limit || level < 0;
    if dead {
        let dlq = names::dlq_topic(&back.header.group);
        if broker.state().topic(&dlq).is_none() {
            let config = creation::plain_topic(&dlq, 1, perm::READ | perm::WRITE);
            return creation::create_topic_then(broker, config, call);
        }
    }
    let message = rewrite(
        broker,
        back,
        &bytes,
        &record,
        if dead { None } else { Some(level) },
    );
    if message.properties.len() > MAX_PROPERTIES {
        return call.error(
            response::MESSAGE_ILLEGAL,
            "the message's properties leave no room for a retry",
        );
    }
    let proposal = broker.proposal(&call, vec![message], true);
    let shared = broker.clone();
    let (topic, group) = (record.topic().to_owned(), back.header.group.clone());
    broker
        .replica
        .propose(proposal, move |result| match result {
            Ok(_) => {
                shared.stats.sent_back(&topic, &group, dead);
                call.ok();
            }
            Err(e) => shared.failed(call, e),
        });
}

/// The message as it is stored again: after `level`, or for the dead letter topic.
fn rewrite(
    broker: &Broker,
    back: &Back,
    bytes: &Bytes,
    record: &StoredRecord<'_>,
    level: Option<i32>,
) -> NewMessage {
    let origin_id = match record.property(prop::ORIGIN_MESSAGE_ID) {
        Some(id) => id.to_owned(),
        None => offset_msg_id(record.store_host(), record.physical_offset()),
    };
    let origin_topic = record
        .property(prop::RETRY_TOPIC)
        .unwrap_or_else(|| record.topic())
        .to_owned();
    let queue = random_below(back.queues);
    let queue_text = queue.to_string();
    let deliver_at;
    let mut add: Vec<(&str, &str)> = vec![
        (prop::ORIGIN_MESSAGE_ID, origin_id.as_str()),
        (prop::RETRY_TOPIC, origin_topic.as_str()),
    ];
    let waits = level.and_then(|level| broker.config().delay_levels.resolve(level));
    let (topic, queue_id) = match (level, waits) {
        (None, _) => (ByteStr::from(names::dlq_topic(&back.header.group)), 0),
        (Some(_), Some((level, delay_ms))) => {
            deliver_at = (now_ms() + delay_ms).to_string();
            add.extend([
                (prop::REAL_TOPIC, back.retry.as_str()),
                (prop::REAL_QID, queue_text.as_str()),
                (prop::TIMER_OUT_MS, deliver_at.as_str()),
            ]);
            (ByteStr::from_static(names::SCHEDULE), level - 1)
        }
        (Some(_), None) => (ByteStr::from(back.retry.as_str()), queue),
    };
    let dropped = [
        prop::DELAY,
        prop::REAL_TOPIC,
        prop::REAL_QID,
        prop::TIMER_OUT_MS,
        prop::WAIT,
    ];
    NewMessage {
        topic,
        queue_id,
        flag: record.flag(),
        sys_flag: record.sys_flag(),
        born_timestamp: record.born_timestamp(),
        born_host: record.born_host(),
        store_host: broker.store_host,
        reconsume_times: record.reconsume_times().saturating_add(1),
        prepared_transaction_offset: 0,
        body_crc: record.body_crc(),
        body: bytes.slice_ref(record.body()),
        properties: stored_properties::rebuild(record.properties(), &dropped, &add),
    }
}
