//! Pulling: PULL_MESSAGE and LITE_PULL_MESSAGE (11, 361).
//!
//! The master serves pulls under its lease and holds those that find nothing ([`crate::long_polling`]). A follower serves
//! what it has committed when `slaveReadEnable` is set; whatever else it is asked it passes on, so a consumer never sees
//! an offset refused because a follower is behind. Records leave as they lie, one slice each. Runs on the connection's
//! read task; what may have to come from disk runs on [`crate::cold_reads`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftmq_remoting::body::{MessageModel, SubscriptionGroupConfig, TopicConfig};
use raftmq_remoting::codes::{request, response};
use raftmq_remoting::command::{Body, RemotingCommand};
use raftmq_remoting::ext::ExtFields;
use raftmq_remoting::header::{Header, PullMessageRequestHeader, PullMessageResponseHeader};
use raftmq_remoting::message::sysflag::pull as flag;
use raftmq_store::{OffsetCommit, StoreError};

use crate::broker::{Broker, FAQ, perm};
use crate::call::Call;
use crate::caught_up::when_caught_up;
use crate::creation;
use crate::forward;
use crate::kept;
use crate::long_polling::Held;
use crate::message_filter::{BY_CLASS, MessageFilter, is_tag_type};
use crate::offset;

/// Queue entries looked at for one filtered pull, as in RocketMQ (16000 bytes of consume queue).
const MAX_FILTERED_ENTRIES: usize = 800;

/// A forwarded pull may be held by the master for its suspend time; this much more for both ways.
const FORWARD_GRACE: Duration = Duration::from_secs(5);

/// Longest hold a client may ask for; clients ask for 15 to 30 s.
const MAX_SUSPEND: Duration = Duration::from_secs(60);

/// Why a pull is refused.
struct Refusal {
    code: i32,
    remark: String,
    /// RocketMQ's `forbiddenType`: 1 broker, 2 group, 3 topic, 4 broadcasting, 5 subscription.
    forbidden: Option<i32>,
}

impl Refusal {
    fn new(code: i32, remark: impl Into<String>) -> Self {
        Self {
            code,
            remark: remark.into(),
            forbidden: None,
        }
    }

    fn forbidden(kind: i32, remark: impl Into<String>) -> Self {
        Self {
            code: response::NO_PERMISSION,
            remark: remark.into(),
            forbidden: Some(kind),
        }
    }
}

/// A pull whose checks are passed.
pub struct Pull {
    pub header: PullMessageRequestHeader,
    pub filter: MessageFilter,
    topic_sys_flag: i32,
    group_sys_flag: i32,
    slow_broker_id: i64,
}

/// How a read of the queue ended.
enum Outcome {
    Found {
        parts: Vec<Bytes>,
        next: i64,
        min: i64,
        max: i64,
        last_position: i64,
    },
    /// Code, status name, next offset, bounds.
    Nothing {
        code: i32,
        status: &'static str,
        next: i64,
        min: i64,
        max: i64,
    },
    /// The next record may have to come from disk.
    Cold,
}

/// PULL_MESSAGE, LITE_PULL_MESSAGE.
pub fn pull(broker: &Arc<Broker>, call: Call) {
    let header: PullMessageRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let leads = broker.leads();
    let reads_here = broker.config().slave_read && !broker.replica.role().removed;
    if !leads && (!reads_here || call.hop_term.is_some()) {
        return pass_on(broker, call, &header);
    }
    if leads && !broker.replica.is_serving() {
        return broker.room.wait(broker, call);
    }
    // A follower may not have applied yet what the client was told: what it would refuse is the master's to judge.
    let asked = (!leads).then(|| header.clone());
    let pull = match (check(broker, &call, header), asked) {
        (Ok(pull), _) => pull,
        (Err(_), Some(header)) => return pass_on(broker, call, &header),
        (Err(refusal), None) => {
            let mut answer = RemotingCommand::response(refusal.code).with_remark(refusal.remark);
            if let Some(kind) = refusal.forbidden {
                answer.ext.set_display("forbiddenType", kind);
            }
            return call.reply(answer);
        }
    };
    if pull.header.sys_flag & flag::COMMIT_OFFSET != 0 {
        commit(broker, &pull.header, leads);
    }
    run(broker, call, pull, true);
}

fn pass_on(broker: &Arc<Broker>, call: Call, header: &PullMessageRequestHeader) {
    forward::to_leader_within(broker, call, suspend(header) + FORWARD_GRACE);
}

fn suspend(header: &PullMessageRequestHeader) -> Duration {
    Duration::from_millis(header.suspend_timeout_millis.max(0) as u64).min(MAX_SUSPEND)
}

/// The offset that rides along with a pull.
fn commit(broker: &Arc<Broker>, header: &PullMessageRequestHeader, leads: bool) {
    if leads {
        broker.offsets.commit_soon(
            broker,
            &header.consumer_group,
            &header.topic,
            header.queue_id,
            header.commit_offset,
        );
        return;
    }
    let mut commit = RemotingCommand::request(request::UPDATE_CONSUMER_OFFSET);
    commit.ext.set("consumerGroup", &header.consumer_group);
    commit.ext.set("topic", &header.topic);
    commit.ext.set_display("queueId", header.queue_id);
    commit.ext.set_display("commitOffset", header.commit_offset);
    forward::oneway_to_leader(broker, commit);
}

fn check(
    broker: &Arc<Broker>,
    call: &Call,
    header: PullMessageRequestHeader,
) -> Result<Pull, Refusal> {
    if !broker.readable() {
        let remark = format!(
            "the broker[{}] pulling message is forbidden",
            broker.config().ip1
        );
        return Err(Refusal::forbidden(1, remark));
    }
    if call.cmd.code == request::LITE_PULL_MESSAGE && !broker.config().lite_pull {
        let remark = format!(
            "the broker[{}] for lite pull consumer is forbidden",
            broker.config().ip1
        );
        return Err(Refusal::forbidden(1, remark));
    }
    let group = creation::group(broker, &header.consumer_group).ok_or_else(|| {
        let remark = format!(
            "subscription group [{}] does not exist, {FAQ}",
            header.consumer_group
        );
        Refusal::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark)
    })?;
    if !group.consume_enable {
        let remark = format!(
            "subscription group no permission, {}",
            header.consumer_group
        );
        return Err(Refusal::forbidden(2, remark));
    }
    let topic = broker.state().topic(&header.topic).ok_or_else(|| {
        let remark = format!(
            "topic[{}] not exist, apply first please! {FAQ}",
            header.topic
        );
        Refusal::new(response::TOPIC_NOT_EXIST, remark)
    })?;
    if !perm::is_readable(topic.perm) {
        let remark = format!("the topic[{}] pulling message is forbidden", header.topic);
        return Err(Refusal::forbidden(3, remark));
    }
    if header.queue_id < 0 || header.queue_id >= topic.read_queue_nums {
        let remark = format!(
            "queueId[{}] is illegal, topic:[{}] topicConfig.readQueueNums:[{}] consumer:[{}]",
            header.queue_id, header.topic, topic.read_queue_nums, call.client
        );
        return Err(Refusal::new(response::INVALID_PARAMETER, remark));
    }
    let filter = filter(broker, &header, &group)?;
    Ok(admit(header, filter, &topic, &group))
}

fn admit(
    header: PullMessageRequestHeader,
    filter: MessageFilter,
    topic: &TopicConfig,
    group: &SubscriptionGroupConfig,
) -> Pull {
    Pull {
        header,
        filter,
        topic_sys_flag: topic.topic_sys_flag,
        group_sys_flag: group.group_sys_flag,
        slow_broker_id: group.which_broker_when_consume_slowly,
    }
}

fn filter(
    broker: &Broker,
    header: &PullMessageRequestHeader,
    group: &SubscriptionGroupConfig,
) -> Result<MessageFilter, Refusal> {
    let allowed = |kind: &str| {
        if is_tag_type(kind) || broker.config().property_filter {
            return Ok(());
        }
        let remark = format!("The broker does not support consumer to filter message by {kind}");
        Err(Refusal::new(response::SYSTEM_ERROR, remark))
    };
    let unreadable = |reason: &dyn std::fmt::Display| {
        let remark = format!("parse the consumer's subscription failed: {reason}");
        Refusal::new(response::SUBSCRIPTION_PARSE_FAILED, remark)
    };
    if header.sys_flag & flag::CLASS_FILTER != 0 {
        return Err(unreadable(&BY_CLASS));
    }
    if header.sys_flag & flag::SUBSCRIPTION != 0 {
        let kind = header.expression_type.as_deref().unwrap_or_default();
        allowed(kind)?;
        return MessageFilter::new(kind, header.subscription.as_deref())
            .map_err(|e| unreadable(&e));
    }
    let Some(online) = broker
        .clients
        .group_view(&header.consumer_group, &header.topic)
    else {
        let remark = format!("the consumer's group info not exist{FAQ}");
        return Err(Refusal::new(response::SUBSCRIPTION_NOT_EXIST, remark));
    };
    if !group.consume_broadcast_enable && online.model == MessageModel::Broadcasting {
        let remark = format!(
            "the consumer group[{}] can not consume by broadcast way",
            header.consumer_group
        );
        return Err(Refusal::forbidden(4, remark));
    }
    let Some(subscription) = online.subscription else {
        let remark = format!("the consumer's subscription not exist{FAQ}");
        return Err(Refusal::new(response::SUBSCRIPTION_NOT_EXIST, remark));
    };
    if subscription.version < header.sub_version {
        let remark = "the consumer's subscription not latest";
        return Err(Refusal::new(response::SUBSCRIPTION_NOT_LATEST, remark));
    }
    allowed(&subscription.data.expression_type)?;
    subscription.filter.clone().map_err(|e| {
        let remark = format!(
            "The broker's consumer filter data is not exist!Your expression may be wrong! {e}"
        );
        Refusal::new(response::FILTER_DATA_NOT_EXIST, remark)
    })
}

/// Reads and answers, or holds the pull when it finds nothing and `may_hold`.
pub fn run(broker: &Arc<Broker>, call: Call, pull: Pull, may_hold: bool) {
    let h = &pull.header;
    if let Some(offset) = broker
        .state()
        .reset(&h.consumer_group, &h.topic, h.queue_id)
    {
        return reset(broker, call, pull, offset);
    }
    match read(broker, &pull, Heat::Memory) {
        Ok(Outcome::Cold) | Err(StoreError::OutOfRange { .. }) => {
            let shared = broker.clone();
            let work = move |(call, pull): (Call, Pull)| match read_disk(&shared, &pull) {
                Ok(outcome) => finish(&shared, call, pull, outcome, may_hold),
                Err(e) => failed(call, &pull, &e),
            };
            if let Err((call, _)) = broker.cold_reads.run((call, pull), work) {
                call.error(
                    response::SYSTEM_BUSY,
                    "[OVERLOAD]too many pulls read from disk, start flow control",
                );
            }
        }
        Ok(outcome) => finish(broker, call, pull, outcome, may_hold),
        Err(e) => failed(call, &pull, &e),
    }
}

/// Sends the consumer of a queue that was reset to the new offset. The reset is taken first: what the consumer commits after the
/// answer counts.
fn reset(broker: &Arc<Broker>, call: Call, pull: Pull, offset: i64) {
    if !broker.leads() {
        return pass_on(broker, call, &pull.header);
    }
    let reset = OffsetCommit {
        group: pull.header.consumer_group.to_string(),
        topic: pull.header.topic.to_string(),
        queue_id: pull.header.queue_id,
        offset,
    };
    offset::take_reset(broker, call, reset, move |broker, call| {
        let h = &pull.header;
        let range = broker.replica.queue_range(&h.topic, h.queue_id);
        let (min, max) = range.unwrap_or((0, 0));
        let code = response::PULL_OFFSET_MOVED;
        call.reply(answer(&pull, code, "OFFSET_RESET", offset, min, max, 0));
    });
}

fn failed(call: Call, pull: &Pull, error: &StoreError) {
    let h = &pull.header;
    tracing::error!(topic = %h.topic, queue = h.queue_id, offset = h.queue_offset, error = %error, "a pull cannot be read");
    call.error(
        response::SYSTEM_ERROR,
        format!("cannot read the queue: {error}"),
    );
}

/// Where a read may take records from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heat {
    Memory,
    Disk,
}

/// Reads wherever the messages are. Of those that expired meanwhile it says so, whether or not the queue's bounds have
/// followed already.
fn read_disk(broker: &Broker, pull: &Pull) -> Result<Outcome, StoreError> {
    let first = match read(broker, pull, Heat::Disk) {
        Err(StoreError::OutOfRange { .. }) => {
            kept::first_kept(broker, &pull.header.topic, pull.header.queue_id)?
        }
        other => return other,
    };
    if pull.header.queue_offset >= first {
        return read(broker, pull, Heat::Disk);
    }
    let range = broker
        .replica
        .queue_range(&pull.header.topic, pull.header.queue_id);
    Ok(Outcome::Nothing {
        code: response::PULL_OFFSET_MOVED,
        status: "OFFSET_TOO_SMALL",
        next: first,
        min: first,
        max: range.map_or(first, |(_, max)| max),
    })
}

fn read(broker: &Broker, pull: &Pull, heat: Heat) -> Result<Outcome, StoreError> {
    let began = Instant::now();
    let outcome = read_queue(broker, pull, heat);
    if let Ok(Outcome::Found { .. }) = &outcome {
        broker.stats.get_latency.took(began.elapsed());
    }
    outcome
}

fn read_queue(broker: &Broker, pull: &Pull, heat: Heat) -> Result<Outcome, StoreError> {
    let h = &pull.header;
    let offset = h.queue_offset;
    let nothing = |code, status, next, min, max| {
        Ok(Outcome::Nothing {
            code,
            status,
            next,
            min,
            max,
        })
    };
    let (min, max) = broker
        .replica
        .queue_range(&h.topic, h.queue_id)
        .unwrap_or((0, 0));
    if max == 0 {
        let code = if offset == 0 {
            response::PULL_NOT_FOUND
        } else {
            response::PULL_OFFSET_MOVED
        };
        return nothing(code, "NO_MESSAGE_IN_QUEUE", 0, min, max);
    }
    if offset < min {
        return nothing(
            response::PULL_OFFSET_MOVED,
            "OFFSET_TOO_SMALL",
            min,
            min,
            max,
        );
    }
    if offset == max {
        return nothing(
            response::PULL_NOT_FOUND,
            "OFFSET_OVERFLOW_ONE",
            offset,
            min,
            max,
        );
    }
    if offset > max {
        return nothing(
            response::PULL_OFFSET_MOVED,
            "OFFSET_OVERFLOW_BADLY",
            max,
            min,
            max,
        );
    }

    let (count_limit, bytes_limit) = match heat {
        Heat::Memory => (
            broker.config().max_count_memory,
            broker.config().max_bytes_memory,
        ),
        Heat::Disk => (
            broker.config().max_count_disk,
            broker.config().max_bytes_disk,
        ),
    };
    let count_limit = count_limit.min(h.max_msg_nums.max(1) as usize);
    let scan = if pull.filter.wants_all() {
        count_limit
    } else {
        MAX_FILTERED_ENTRIES
    };
    let entries = broker
        .replica
        .read_queue(&h.topic, h.queue_id, offset, scan)?;
    if entries.is_empty() {
        return nothing(
            response::PULL_NOT_FOUND,
            "OFFSET_FOUND_NULL",
            offset,
            min,
            max,
        );
    }
    let mut parts = Vec::with_capacity(entries.len().min(count_limit));
    let (mut bytes, mut next, mut last_position) = (0, offset, 0);
    for entry in &entries {
        if pull.filter.may_match(entry.tags_code) {
            let size = entry.size as usize;
            if !parts.is_empty() && (parts.len() >= count_limit || bytes + size > bytes_limit) {
                break;
            }
            if heat == Heat::Memory && !broker.replica.is_hot(entry.physical_offset) {
                if parts.is_empty() {
                    return Ok(Outcome::Cold);
                }
                break;
            }
            match broker.replica.read_queued(&h.topic, h.queue_id, entry) {
                Ok(record) if !pull.filter.matches(&record) => {
                    next = entry.queue_offset + 1;
                    continue;
                }
                Ok(record) => parts.push(record),
                // What lies before the damage is good.
                Err(StoreError::Corrupt { .. }) if !parts.is_empty() => break,
                Err(e) => return Err(e),
            }
            bytes += size;
            last_position = entry.physical_offset;
        }
        next = entry.queue_offset + 1;
    }
    if parts.is_empty() {
        return nothing(
            response::PULL_RETRY_IMMEDIATELY,
            "NO_MATCHED_MESSAGE",
            next,
            min,
            max,
        );
    }
    Ok(Outcome::Found {
        parts,
        next,
        min,
        max,
        last_position,
    })
}

fn finish(broker: &Arc<Broker>, call: Call, pull: Pull, outcome: Outcome, may_hold: bool) {
    match outcome {
        Outcome::Found {
            parts,
            next,
            min,
            max,
            last_position,
        } => {
            let count = parts.len() as u64;
            let suggest = suggest(broker, &pull, last_position);
            let body = Body::Parts(parts);
            let h = &pull.header;
            broker
                .stats
                .pulled(&h.topic, &h.consumer_group, count, body.len() as u64);
            call.reply(
                answer(&pull, response::SUCCESS, "FOUND", next, min, max, suggest).with_body(body),
            );
        }
        Outcome::Nothing { .. } if !broker.leads() => {
            // A follower may be behind: only the master says that there is nothing.
            pass_on(broker, call, &pull.header);
        }
        Outcome::Nothing {
            code,
            status,
            next,
            min,
            max,
        } => {
            if pull.header.queue_offset > max && may_hold {
                // Once: with an offset that nobody ever had, too, there is an answer.
                return when_caught_up(broker, call, |broker, call| run(broker, call, pull, false));
            }
            let wants_hold = pull.header.sys_flag & flag::SUSPEND != 0;
            if code == response::PULL_NOT_FOUND && wants_hold && may_hold {
                return hold(broker, call, pull);
            }
            broker.stats.missed();
            call.reply(answer(&pull, code, status, next, min, max, 0));
        }
        Outcome::Cold => failed_cold(call),
    }
}

/// A read that was allowed to use the disk does not ask for it again.
fn failed_cold(call: Call) {
    call.error(response::SYSTEM_BUSY, "the queue cannot be read now");
}

/// Requests up to this size are held as they are, bytes; what is longer shares its memory with fields nobody reads.
const HELD_AS_IT_IS: usize = 4 << 10;

/// Makes a request that will be held hold nothing but what a pull needs: neither body nor fields that are not a pull's.
fn slim(call: &mut Call, pull: &mut Pull) {
    call.drop_body();
    if call.charged() <= HELD_AS_IT_IS {
        return;
    }
    // Written down and read again, so that its texts share the memory of no others.
    let mut ext = ExtFields::new();
    pull.header.encode(&mut ext);
    if let Ok(header) = PullMessageRequestHeader::decode(&ext) {
        call.replace_fields(ext);
        pull.header = header;
    }
}

fn hold(broker: &Arc<Broker>, mut call: Call, mut pull: Pull) {
    slim(&mut call, &mut pull);
    let mut time = suspend(&pull.header);
    if !broker.config().long_polling {
        time = time.min(Duration::from_millis(broker.config().short_polling_ms));
    }
    let held = Held {
        until: Instant::now() + time,
        call,
        pull,
    };
    broker.signals.held.hold(broker, held);
}

/// Answers a held pull that lost its master: pull again, at once, from wherever the master is now.
pub fn release(call: Call, pull: &Pull, (min, max): (i64, i64)) {
    let offset = pull.header.queue_offset;
    call.reply(answer(
        pull,
        response::PULL_RETRY_IMMEDIATELY,
        "PULL_RETRY_IMMEDIATELY",
        offset,
        min,
        max,
        0,
    ));
}

fn answer(
    pull: &Pull,
    code: i32,
    status: &str,
    next: i64,
    min: i64,
    max: i64,
    suggest: i64,
) -> RemotingCommand {
    let header = PullMessageResponseHeader {
        suggest_which_broker_id: suggest,
        next_begin_offset: next,
        min_offset: min,
        max_offset: max,
        offset_delta: None,
        topic_sys_flag: Some(pull.topic_sys_flag),
        group_sys_flag: Some(pull.group_sys_flag),
        forbidden_type: None,
    };
    RemotingCommand::response(code)
        .with_remark(status)
        .with_header(&header)
}

/// Which replica the client should pull from next: the master, unless followers may serve and the client is so far
/// behind that its messages have left the master's memory.
fn suggest(broker: &Broker, pull: &Pull, last_position: i64) -> i64 {
    const MASTER: i64 = 0;
    if !broker.config().slave_read || !broker.stats.is_far_behind(broker, last_position) {
        return MASTER;
    }
    let role = broker.replica.role();
    if !role.serving {
        return role.me.broker_id as i64;
    }
    let others = || {
        role.members
            .iter()
            .filter(|m| m.node_id != role.me.node_id)
            .map(|m| m.broker_id as i64)
    };
    others()
        .find(|id| *id == pull.slow_broker_id)
        .or_else(|| others().next())
        .unwrap_or(MASTER)
}
