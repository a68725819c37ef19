//! Sending: SEND_MESSAGE, SEND_MESSAGE_V2 and SEND_BATCH_MESSAGE (10, 310, 320).
//!
//! Checks, in RocketMQ's order with RocketMQ's codes, and what the stored message looks like; [`crate::send_batch`] for batches. Runs on the connection's
//! read task; [`crate::send_store`] proposes and answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use raftmq_remoting::ByteStr;
use raftmq_remoting::body::{TopicConfig, TopicFilterType};
use raftmq_remoting::codes::response;
use raftmq_remoting::header::SendMessageRequestHeader;
use raftmq_remoting::message::properties as prop;
use raftmq_remoting::message::{NewMessage, body_crc, sysflag, unique_id};
use raftmq_remoting::version;
use raftmq_store::storable::MAX_ACCEPTED_PROPERTIES;

use crate::broker::{Broker, FAQ, now_ms, perm};
use crate::call::Call;
use crate::creation;
use crate::names::{self, RETRY_PREFIX};
use crate::random::random_below;
use crate::recall::{self, Wanted};
use crate::send_batch;
use crate::send_store::{self, Send, bad_timer, refuse};
use crate::stored_properties::{self, MAX_PROPERTIES, Timer, Wishes};
use crate::transaction;

/// From this client version on (V3_4_9) the request's own maxReconsumeTimes counts.
pub const VERSION_WITH_MAX_RECONSUME: i32 = 121;

/// Why a send is refused: response code and remark.
pub struct Refusal {
    pub code: i32,
    pub remark: String,
}

impl Refusal {
    pub fn new(code: i32, remark: impl Into<String>) -> Self {
        Self {
            code,
            remark: remark.into(),
        }
    }
}

/// SEND_MESSAGE, SEND_MESSAGE_V2, SEND_BATCH_MESSAGE.
pub fn send(broker: &Arc<Broker>, call: Call) {
    let header = match SendMessageRequestHeader::decode_for(call.cmd.code, &call.cmd.ext) {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let topic = match find_topic(broker, &header) {
        Ok(Found::Topic(topic)) => topic,
        Ok(Found::Create(config)) => return creation::create_topic_then(broker, config, call),
        Err(refusal) => return refuse(broker, call, refusal),
    };
    let prepared = check_queue(&header, &topic, call.client)
        .and_then(|queue_id| prepare(broker, &call, &header, &topic, queue_id));
    match prepared {
        Ok(Prepared::Send(send)) => send_store::propose(broker, call, header.topic, send),
        Ok(Prepared::TakeBack(send, wanted)) => {
            send_store::take_back(broker, call, header.topic, send, wanted)
        }
        Ok(Prepared::CreateFirst(config)) => creation::create_topic_then(broker, config, call),
        Err(refusal) => refuse(broker, call, refusal),
    }
}

pub enum Found {
    Topic(Arc<TopicConfig>),
    Create(TopicConfig),
}

/// The topic a send goes to, or how to create it.
pub fn find_topic(broker: &Broker, header: &SendMessageRequestHeader) -> Result<Found, Refusal> {
    let name = header.topic.as_str();
    if !broker.writable() {
        let remark = format!(
            "the broker[{}] sending message is forbidden",
            broker.config().ip1
        );
        return Err(Refusal::new(response::NO_PERMISSION, remark));
    }
    // A topic that exists has a good name.
    let existing = broker.state().topic(name);
    if existing.is_none() {
        names::check_topic(name).map_err(|why| Refusal::new(response::INVALID_PARAMETER, why))?;
    }
    if names::forbidden_to_send(name) {
        let remark = format!("Sending message to topic[{name}] is forbidden.");
        return Err(Refusal::new(response::NO_PERMISSION, remark));
    }
    if let Some(topic) = existing {
        if !perm::is_writable(topic.perm) {
            let remark = format!("the topic[{name}] sending message is forbidden");
            return Err(Refusal::new(response::NO_PERMISSION, remark));
        }
        return Ok(Found::Topic(topic));
    }
    if let Some(config) = from_template(broker, header) {
        return Ok(Found::Create(config));
    }
    if name.starts_with(RETRY_PREFIX) {
        return Ok(Found::Create(creation::plain_topic(
            name,
            1,
            perm::READ | perm::WRITE,
        )));
    }
    Err(Refusal::new(
        response::TOPIC_NOT_EXIST,
        format!("topic[{name}] not exist, apply first please!{FAQ}"),
    ))
}

/// The topic a send creates: as many queues as the client asks for, at most as many as the template has.
fn from_template(broker: &Broker, header: &SendMessageRequestHeader) -> Option<TopicConfig> {
    let template = broker.state().topic(&header.default_topic)?;
    let inherited = perm::is_inherited(template.perm)
        && (broker.config().auto_create_topic || header.default_topic != names::TEMPLATE);
    if !inherited {
        return None;
    }
    let queues = header
        .default_topic_queue_nums
        .min(template.write_queue_nums)
        .max(0);
    let mut config = creation::plain_topic(&header.topic, queues, template.perm & !perm::INHERIT);
    config.topic_filter_type = template.topic_filter_type;
    config.topic_sys_flag = if header.unit_mode { 1 } else { 0 };
    Some(config)
}

/// The queue a send goes to; a negative wish is any.
pub fn check_queue(
    header: &SendMessageRequestHeader,
    topic: &TopicConfig,
    client: SocketAddr,
) -> Result<i32, Refusal> {
    let limit = topic.write_queue_nums.max(topic.read_queue_nums);
    if header.queue_id >= limit {
        let remark = format!(
            "request queueId[{}] is illegal, topic[{}] readQueueNums={} writeQueueNums={} Producer: {client}",
            header.queue_id, topic.topic_name, topic.read_queue_nums, topic.write_queue_nums
        );
        return Err(Refusal::new(response::INVALID_PARAMETER, remark));
    }
    if header.queue_id >= 0 {
        return Ok(header.queue_id);
    }
    Ok(random_below(topic.write_queue_nums.max(1)))
}

/// What becomes of a send that passed its checks.
pub enum Prepared {
    Send(Send),
    /// A message that takes another one back.
    TakeBack(Send, Option<Wanted>),
    /// The dead letter topic does not exist yet.
    CreateFirst(TopicConfig),
}

/// A body or properties beyond the limits, and other messages that RocketMQ words so.
pub fn too_big(broker: &Broker) -> Refusal {
    let remark = format!(
        "the message is illegal, maybe msg body or properties length not matched. msg body length limit {}B, msg \
         properties length limit 32KB.",
        broker.config().max_message_size
    );
    Refusal::new(response::MESSAGE_ILLEGAL, remark)
}

fn prepare(
    broker: &Arc<Broker>,
    call: &Call,
    header: &SendMessageRequestHeader,
    topic: &TopicConfig,
    queue_id: i32,
) -> Result<Prepared, Refusal> {
    let body = call.cmd.body.to_bytes();
    if body.is_empty() {
        return Err(Refusal::new(
            response::MESSAGE_ILLEGAL,
            "the message body is empty",
        ));
    }
    if body.len() > broker.config().max_message_size {
        return Err(too_big(broker));
    }
    let sent = header
        .properties
        .as_ref()
        .map_or(&b""[..], |p| p.as_bytes());
    if header.sys_flag & sysflag::INNER_BATCH != 0 {
        return Err(too_big(broker));
    }
    if header.batch {
        send_batch::prepare(broker, call, header, sent, body, queue_id)
    } else {
        prepare_single(broker, call, header, topic, sent, body, queue_id)
    }
}

fn prepare_single(
    broker: &Arc<Broker>,
    call: &Call,
    header: &SendMessageRequestHeader,
    topic: &TopicConfig,
    sent: &[u8],
    body: Bytes,
    queue_id: i32,
) -> Result<Prepared, Refusal> {
    let wishes = Wishes::read(sent);
    if wishes.inner_batch {
        return Err(too_big(broker));
    }
    let reconsume_times = header.reconsume_times.unwrap_or(0);
    let dead = is_exhausted(broker, call, header, reconsume_times)?;
    let delay_level: i32 = match wishes.delay {
        Some(text) if !dead => text.parse().map_err(|_| {
            Refusal::new(
                response::SYSTEM_ERROR,
                format!("property DELAY is not a number: {text:?}"),
            )
        })?,
        _ => 0,
    };
    let consume_retry = reconsume_times > 0 && delay_level > 0;
    let half = wishes.transaction && !consume_retry;
    let refused = broker.config().reject_transaction;
    if (half && refused) || (!half && sysflag::transaction_type(header.sys_flag) != 0) {
        let remark = format!(
            "the broker[{}] sending transaction message is forbidden",
            broker.config().ip1
        );
        return Err(Refusal::new(response::NO_PERMISSION, remark));
    }
    let timer = match wishes.timer {
        // A half message waits from its commit on.
        Some(timer) if delay_level <= 0 && !dead => {
            timer_of(broker, timer, wishes.takes_back.is_some() && !half)?
        }
        _ => None,
    };

    let own_key;
    let unique_key = match wishes.unique_key {
        Some(key) => key,
        None => {
            own_key = unique_id();
            own_key.as_str()
        }
    };
    let transaction_id = Some(unique_key.to_owned());
    let mut add: Vec<(&str, &str)> = vec![(prop::UNIQ_KEY, unique_key)];
    let mut drop: &[&str] = &[];
    let (mut target, mut target_queue, told_queue) = (header.topic.clone(), queue_id, queue_id);
    let (real_queue, deliver_at);
    let (mut recall_handle, mut takes_back) = (None, None);
    if half {
        real_queue = queue_id.to_string();
        add.extend(transaction::half_properties(
            header.topic.as_str(),
            &real_queue,
            unique_key,
        ));
        (target, target_queue) = transaction::half_target();
        drop = match delay_level {
            ..=0 => &[prop::TRANSACTION_CHECK_TIMES],
            _ => &DROPPED_OF_DELAYED_HALF,
        };
    } else if dead {
        let group = header
            .topic
            .as_str()
            .strip_prefix(RETRY_PREFIX)
            .unwrap_or_default();
        let dlq = names::dlq_topic(group);
        if broker.state().topic(&dlq).is_none() {
            return Ok(Prepared::CreateFirst(creation::plain_topic(
                &dlq,
                1,
                perm::READ | perm::WRITE,
            )));
        }
        target = ByteStr::from(dlq);
        target_queue = 0;
        drop = &[prop::DELAY];
    } else if let Some((level, delay_ms)) = broker.config().delay_levels.resolve(delay_level) {
        real_queue = queue_id.to_string();
        deliver_at = (now_ms() + delay_ms).to_string();
        add.extend([
            (prop::REAL_TOPIC, header.topic.as_str()),
            (prop::REAL_QID, real_queue.as_str()),
            (prop::TIMER_OUT_MS, deliver_at.as_str()),
        ]);
        target = ByteStr::from_static(names::SCHEDULE);
        target_queue = level - 1;
        drop = &[
            prop::TIMER_DELAY_SEC,
            prop::TIMER_DELAY_MS,
            prop::TIMER_DELIVER_MS,
        ];
    } else if let Some(at) = timer {
        real_queue = queue_id.to_string();
        deliver_at = at.to_string();
        add.extend([
            (prop::REAL_TOPIC, header.topic.as_str()),
            (prop::REAL_QID, real_queue.as_str()),
        ]);
        match wishes.takes_back {
            // Without a due time it is no timer itself.
            Some(other) => takes_back = Some(Wanted::from_property(other, at)),
            None => {
                add.push((prop::TIMER_OUT_MS, deliver_at.as_str()));
                if !header.topic.starts_with(RETRY_PREFIX) {
                    let name = &broker.config().name;
                    recall_handle = Some(recall::handle(&header.topic, name, at, unique_key));
                }
            }
        }
        target = ByteStr::from_static(names::WHEEL_TIMER);
        target_queue = 0;
    }
    let properties = stored_properties::build(&broker.stamps, sent, drop, &add);
    // A half message gets more when it is committed or moved.
    let most = match wishes.transaction {
        true => MAX_ACCEPTED_PROPERTIES,
        false => MAX_PROPERTIES,
    };
    if properties.len() > most {
        return Err(too_big(broker));
    }
    let multi_tag = topic.topic_filter_type == TopicFilterType::MultiTag;
    let message = NewMessage {
        topic: target,
        queue_id: target_queue,
        flag: header.flag,
        sys_flag: header.sys_flag & !sysflag::TRANSACTION_MASK
            | if multi_tag { sysflag::MULTI_TAGS } else { 0 },
        born_timestamp: header.born_timestamp,
        born_host: call.client,
        store_host: broker.store_host,
        reconsume_times,
        prepared_transaction_offset: 0,
        body_crc: body_crc(&body),
        body,
        properties,
    };
    let told_queue = if dead { target_queue } else { told_queue };
    let send = Send {
        messages: vec![message],
        queue_id: told_queue,
        transaction_id,
        recall_handle,
        wait: !wishes.no_wait,
    };
    Ok(match takes_back {
        Some(wanted) => Prepared::TakeBack(send, wanted),
        None => Prepared::Send(send),
    })
}

/// When a message with a timer of its own is due; None: now, which is too late to take another one back.
fn timer_of(broker: &Broker, timer: Timer<'_>, takes_back: bool) -> Result<Option<i64>, Refusal> {
    let config = broker.config();
    if !config.timer_wheel {
        let remark = "accurate timer message is not enabled, timerWheelEnable is false";
        return Err(Refusal::new(response::SYSTEM_ERROR, remark));
    }
    let now = now_ms();
    let most = config.timer_max_delay_s * 1000;
    match timer.deliver_at_ms(now) {
        Some(at) if at <= now && !takes_back => Ok(None),
        Some(at) if at > now && at - now <= most => Ok(Some(at)),
        _ => Err(bad_timer(broker)),
    }
}

/// A consume retry that was retried often enough goes to the dead letter topic of its group.
fn is_exhausted(
    broker: &Arc<Broker>,
    call: &Call,
    header: &SendMessageRequestHeader,
    reconsume_times: i32,
) -> Result<bool, Refusal> {
    let Some(group) = header.topic.as_str().strip_prefix(RETRY_PREFIX) else {
        return Ok(false);
    };
    if group.is_empty() {
        return Ok(false);
    }
    let Some(config) = creation::group(broker, group) else {
        let remark = format!("subscription group not exist, {group} {FAQ}");
        return Err(Refusal::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
    };
    let limit = match header.max_reconsume_times {
        Some(own) if call.cmd.version >= VERSION_WITH_MAX_RECONSUME => own,
        _ => config.retry_max_times,
    };
    // An orderly consumer gives a message back only when it was tried often enough.
    let in_order = || broker.locks.any_held(group, Instant::now());
    Ok(reconsume_times > limit || in_order())
}

/// A level counts before a time of its own.
const DROPPED_OF_DELAYED_HALF: [&str; 4] = [
    prop::TRANSACTION_CHECK_TIMES,
    prop::TIMER_DELAY_SEC,
    prop::TIMER_DELAY_MS,
    prop::TIMER_DELIVER_MS,
];

const _: () = assert!(version::CURRENT_VERSION >= VERSION_WITH_MAX_RECONSUME);
