//! Consumer offsets (14, 15) and queue bounds (29, 30, 31, 32).
//!
//! Commits nobody waits for (oneway, or riding on a pull) go to a bounded map that keeps the last value of each queue and
//! drops unchanged ones; one task proposes the map every [`FLUSH`]. A commit somebody waits for is proposed at once,
//! together with everything in the map, and answered when it is applied. Queries wait for the commits taken before them and
//! read applied state under the lease, never the map: an offset that was read never goes back because a master died. Runs on the master alone.
//!
//! An administrator's reset ([`crate::reset_offset`]) marks the queues in the state: until a pull has taken the new offset, what the
//! consumer commits is older than the reset, and is not stored by whoever leads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ahash::RandomState;
use parking_lot::Mutex;
use raftmq_raft::Boundary;
use raftmq_remoting::ByteStr;
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{
    GetEarliestMsgStoretimeRequestHeader, GetEarliestMsgStoretimeResponseHeader,
    GetMaxOffsetRequestHeader, GetMaxOffsetResponseHeader, GetMinOffsetRequestHeader,
    GetMinOffsetResponseHeader, HeaderError, QueryConsumerOffsetRequestHeader,
    QueryConsumerOffsetResponseHeader, SearchOffsetRequestHeader, SearchOffsetResponseHeader,
    UpdateConsumerOffsetRequestHeader,
};
use raftmq_remoting::message::StoredRecord;
use raftmq_store::{Command, OffsetCommit, StoreError};

use crate::broker::Broker;
use crate::call::Call;
use crate::caught_up::when_caught_up;
use crate::kept;

/// Period of proposals: a consumer persists its offsets every 5 s, so a batch gathers many of them.
const FLUSH: Duration = Duration::from_millis(75);

/// Queues with a commit that is not proposed yet. Beyond it commits nobody waits for are dropped: the client repeats
/// them every 5 s.
const MAX_PENDING: usize = 100_000;

/// Commits in one command, which bounds an entry's size.
const MAX_BATCH: usize = 8_192;

/// Queues that are reset at once, with those whose consumer has not come.
const MAX_RESETS: usize = 100_000;

/// Group, topic, queue.
type Key = (ByteStr, ByteStr, i32);

type Offsets = HashMap<Key, i64, RandomState>;

/// Commits on their way into the log.
#[derive(Default)]
pub struct OffsetCommits {
    pending: Mutex<Offsets>,
    /// Proposals of commits nobody waits for that are not applied yet.
    on_the_way: AtomicUsize,
}

impl OffsetCommits {
    /// Takes a commit nobody waits for.
    pub fn commit_soon(
        &self,
        broker: &Broker,
        group: &ByteStr,
        topic: &ByteStr,
        queue_id: i32,
        offset: i64,
    ) {
        if offset < 0 {
            return;
        }
        let key = (owned(group), owned(topic), queue_id);
        if broker.state().reset(group, topic, queue_id).is_some() {
            return;
        }
        let stored = broker.state().offset(group, topic, queue_id);
        let mut pending = self.pending.lock();
        if pending.contains_key(&key) || (stored != Some(offset) && pending.len() < MAX_PENDING) {
            pending.insert(key, offset);
        }
    }

    /// Proposes what is pending, then `call`'s own commit in the same order, and answers the call when it is applied.
    fn commit_now(&self, broker: &Arc<Broker>, call: Call, own: OffsetCommit) {
        // The lock is held while proposing, which only queues, so that proposals have the order of the commits.
        let mut pending = self.pending.lock();
        if is_reset(broker, &own) {
            let answer = RemotingCommand::response(response::SUCCESS);
            return call.reply(answer.with_remark("Offset has been previously reset"));
        }
        let mut offsets = drain(&mut pending);
        offsets.push(own);
        let commands = commits(offsets);
        broker.propose_for(call, commands, |_, call| call.ok());
    }

    /// Stores offsets for a group whatever is pending, and answers the call when they are applied. With `reset` the queues'
    /// consumers are sent there by their next pull, from whichever master.
    pub fn assign(
        &self,
        broker: &Arc<Broker>,
        call: Call,
        own: Vec<OffsetCommit>,
        reset: bool,
        answer: RemotingCommand,
    ) {
        let mut pending = self.pending.lock();
        let mut commands = commits(drain(&mut pending));
        if reset {
            let Some(forgotten) = room_for(broker, own.len()) else {
                let remark = "[OVERLOAD]too many queues were reset and are not consumed";
                return call.error(response::SYSTEM_BUSY, remark);
            };
            commands.extend(forgotten);
        }
        commands.extend(batches(own.clone(), |offsets| Command::AssignOffsets {
            offsets,
            reset,
        }));
        let proposal = broker.commands(commands, call.deadline);
        let shared = broker.clone();
        broker
            .replica
            .propose(proposal, move |result| match result {
                Ok(_) => {
                    for one in own.iter().filter(|_| reset) {
                        let (topic, group) = (&one.topic, &one.group);
                        shared.signals.held.wake_group(topic, one.queue_id, group);
                    }
                    call.reply(answer);
                }
                Err(e) => shared.failed(call, e),
            });
    }

    /// Proposes what is pending.
    fn flush(&self, broker: &Arc<Broker>) {
        let mut pending = self.pending.lock();
        if pending.is_empty() {
            return;
        }
        let commands = commits(drain(&mut pending));
        let proposal = broker.commands(commands, Instant::now() + broker.config().ack_timeout());
        self.on_the_way.fetch_add(1, Ordering::AcqRel);
        let done = broker.clone();
        broker.replica.propose(proposal, move |result| {
            done.offsets.on_the_way.fetch_sub(1, Ordering::AcqRel);
            if let Err(e) = result {
                // The clients repeat their commits.
                tracing::debug!(error = %e, "consumer offsets were not committed");
            }
        });
    }

    /// Runs `read` after every commit that was taken before is applied: a consumer that takes a queue over asks for its
    /// offset right after the one before has sent it, oneway.
    pub fn after_commits(
        &self,
        broker: &Arc<Broker>,
        call: Call,
        read: impl FnOnce(&Arc<Broker>, Call) + Send + 'static,
    ) {
        let mut pending = self.pending.lock();
        if pending.is_empty() && self.on_the_way.load(Ordering::Acquire) == 0 {
            drop(pending);
            return read(broker, call);
        }
        let commands = commits(drain(&mut pending));
        broker.propose_for(call, commands, read);
    }

    fn clear(&self) {
        self.pending.lock().clear();
    }
}

/// A copy that does not keep the request's frame alive.
fn owned(text: &ByteStr) -> ByteStr {
    ByteStr::from(text.as_str())
}

fn drain(pending: &mut Offsets) -> Vec<OffsetCommit> {
    let commit = |((group, topic, queue_id), offset): (Key, i64)| OffsetCommit {
        group: group.into(),
        topic: topic.into(),
        queue_id,
        offset,
    };
    pending.drain().map(commit).collect()
}

fn commits(offsets: Vec<OffsetCommit>) -> Vec<Command> {
    batches(offsets, |offsets| Command::CommitOffsets { offsets })
}

fn batches(
    offsets: Vec<OffsetCommit>,
    command: impl Fn(Vec<OffsetCommit>) -> Command,
) -> Vec<Command> {
    let chunks = offsets.chunks(MAX_BATCH);
    chunks.map(|chunk| command(chunk.to_vec())).collect()
}

fn is_reset(broker: &Broker, commit: &OffsetCommit) -> bool {
    let state = broker.state();
    let (group, topic) = (&commit.group, &commit.topic);
    state.reset(group, topic, commit.queue_id).is_some()
}

/// What makes room for so many resets, when there are too many; None: nothing does.
fn room_for(broker: &Broker, more: usize) -> Option<Vec<Command>> {
    let count = broker.state().reset_count();
    if count + more <= MAX_RESETS {
        return Some(Vec::new());
    }
    // A consumer that starts asks for its offset, and need not be sent there.
    let mut offline = broker.state().resets();
    offline.retain(|one| broker.clients.client_ids(&one.group).is_empty());
    let room = count.saturating_sub(offline.len()) + more <= MAX_RESETS;
    room.then(|| batches(offline, |offsets| Command::ResetsTaken { offsets }))
}

/// The consumer of a queue that was reset has come: `taken` runs when its commits count again. Should nobody hear of it, the
/// consumer is sent there once more.
pub fn take_reset(
    broker: &Arc<Broker>,
    call: Call,
    reset: OffsetCommit,
    taken: impl FnOnce(&Arc<Broker>, Call) + Send + 'static,
) {
    let offsets = vec![reset];
    let deadline = Instant::now() + broker.config().ack_timeout();
    let proposal = broker.commands(vec![Command::ResetsTaken { offsets }], deadline);
    let shared = broker.clone();
    let done = move |result| match result {
        Ok(_) => taken(&shared, call),
        Err(e) => shared.failed(call, e),
    };
    broker.replica.propose(proposal, done);
}

/// Proposes pending commits; for the life of the broker.
pub async fn run(broker: Arc<Broker>) {
    let mut tick = tokio::time::interval(FLUSH);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if broker.leads() {
            broker.offsets.flush(&broker);
        } else {
            // Proposed by nobody any more; the clients send theirs to the new master.
            broker.offsets.clear();
        }
    }
}

/// A read on the master is only as good as its lease: without it the request waits until somebody holds it.
pub fn with_lease(broker: &Arc<Broker>, call: Call, read: impl FnOnce(Call)) {
    if broker.replica.is_serving() {
        read(call)
    } else {
        broker.room.wait(broker, call)
    }
}

/// QUERY_CONSUMER_OFFSET.
pub fn query(broker: &Arc<Broker>, call: Call) {
    let h: QueryConsumerOffsetRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let waiting = broker.clone();
    with_lease(broker, call, |call| {
        let read = move |broker: &Arc<Broker>, call: Call| read_offset(broker, call, &h);
        waiting.offsets.after_commits(&waiting, call, read);
    });
}

fn read_offset(broker: &Arc<Broker>, call: Call, h: &QueryConsumerOffsetRequestHeader) {
    with_lease(broker, call, |call| {
        let found = |offset: i64| {
            RemotingCommand::response(response::SUCCESS)
                .with_header(&QueryConsumerOffsetResponseHeader { offset })
        };
        if let Some(offset) = broker
            .state()
            .offset(&h.consumer_group, &h.topic, h.queue_id)
        {
            return call.reply(found(offset));
        }
        if h.set_zero_if_not_found == Some(false) {
            let remark = "Not found, do not set to zero, maybe this group boot first";
            return call.error(response::QUERY_NOT_FOUND, remark);
        }
        // A new group starts from the beginning of a queue that still lies in memory from its first message on.
        match starts_in_memory(broker, &h.topic, h.queue_id) {
            true => call.reply(found(0)),
            false => call.error(
                response::QUERY_NOT_FOUND,
                "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first",
            ),
        }
    });
}

fn starts_in_memory(broker: &Broker, topic: &str, queue_id: i32) -> bool {
    match broker.replica.queue_range(topic, queue_id) {
        Some((0, max)) if max > 0 => {}
        _ => return false,
    }
    match broker.replica.read_queue(topic, queue_id, 0, 1) {
        Ok(entries) => entries
            .first()
            .is_some_and(|e| !broker.stats.is_far_behind(broker, e.physical_offset)),
        Err(e) => {
            tracing::error!(topic, queue_id, error = %e, "the first entry of a queue cannot be read");
            false
        }
    }
}

/// UPDATE_CONSUMER_OFFSET.
pub fn update(broker: &Arc<Broker>, call: Call) {
    let h: UpdateConsumerOffsetRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(HeaderError::Missing("commitOffset")) => {
            let topic = call.cmd.ext.get("topic").unwrap_or_default();
            let remark = format!("Offset is null, topic is {topic}");
            return call.error(response::INVALID_PARAMETER, remark);
        }
        Err(e) => return call.bad_header(e),
    };
    let group_exists = broker.state().group(&h.consumer_group).is_some()
        || broker.creations.group_pending(&h.consumer_group);
    if !group_exists {
        let remark = format!("Group {} not exist!", h.consumer_group);
        return call.error(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark);
    }
    if broker.state().topic(&h.topic).is_none() {
        return call.error(
            response::TOPIC_NOT_EXIST,
            format!("Topic {} not exist!", h.topic),
        );
    }
    if h.queue_id < 0 {
        let remark = format!("queueId[{}] is illegal, topic is {}", h.queue_id, h.topic);
        return call.error(response::INVALID_PARAMETER, remark);
    }
    if call.is_oneway() {
        broker.offsets.commit_soon(
            broker,
            &h.consumer_group,
            &h.topic,
            h.queue_id,
            h.commit_offset,
        );
        return;
    }
    let commit = OffsetCommit {
        group: h.consumer_group.into(),
        topic: h.topic.into(),
        queue_id: h.queue_id,
        offset: h.commit_offset.max(0),
    };
    broker.offsets.commit_now(broker, call, commit);
}

/// GET_MAX_OFFSET: the offset the next message gets.
pub fn max(broker: &Arc<Broker>, call: Call) {
    let h: GetMaxOffsetRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    when_caught_up(broker, call, move |broker, call| {
        with_lease(broker, call, |call| {
            let offset = broker
                .replica
                .queue_range(&h.topic, h.queue_id)
                .map_or(0, |(_, max)| max);
            let header = GetMaxOffsetResponseHeader { offset };
            call.reply(RemotingCommand::response(response::SUCCESS).with_header(&header));
        });
    });
}

/// GET_MIN_OFFSET.
pub fn min(broker: &Arc<Broker>, call: Call) {
    let h: GetMinOffsetRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    with_lease(broker, call, |call| {
        let offset = broker
            .replica
            .queue_range(&h.topic, h.queue_id)
            .map_or(0, |(min, _)| min);
        let header = GetMinOffsetResponseHeader { offset };
        call.reply(RemotingCommand::response(response::SUCCESS).with_header(&header));
    });
}

/// SEARCH_OFFSET_BY_TIMESTAMP.
pub fn search(broker: &Arc<Broker>, call: Call) {
    let h: SearchOffsetRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let upper = h
        .boundary_type
        .as_deref()
        .is_some_and(|b| b.eq_ignore_ascii_case("upper"));
    let boundary = if upper {
        Boundary::Upper
    } else {
        Boundary::Lower
    };
    with_lease(broker, call, |call| {
        if broker.replica.queue_range(&h.topic, h.queue_id).is_none() {
            let header = SearchOffsetResponseHeader { offset: 0 };
            return call.reply(RemotingCommand::response(response::SUCCESS).with_header(&header));
        }
        on_disk(broker, call, move |broker| {
            let offset = kept::when_bounds_follow(|| {
                broker
                    .replica
                    .offset_at(&h.topic, h.queue_id, h.timestamp, boundary)
            })?;
            Ok(RemotingCommand::response(response::SUCCESS)
                .with_header(&SearchOffsetResponseHeader { offset }))
        });
    });
}

/// GET_EARLIEST_MSG_STORETIME: -1 for an empty queue.
pub fn earliest(broker: &Arc<Broker>, call: Call) {
    let h: GetEarliestMsgStoretimeRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    with_lease(broker, call, |call| {
        on_disk(broker, call, move |broker| {
            let timestamp = earliest_store_time(broker, &h.topic, h.queue_id)?;
            let header = GetEarliestMsgStoretimeResponseHeader { timestamp };
            Ok(RemotingCommand::response(response::SUCCESS).with_header(&header))
        });
    });
}

/// Store time of the oldest message in a queue, -1 when there is none. May read the disk.
pub fn earliest_store_time(broker: &Broker, topic: &str, queue_id: i32) -> Result<i64, StoreError> {
    let Some((min, max)) = broker.replica.queue_range(topic, queue_id) else {
        return Ok(-1);
    };
    if min >= max {
        return Ok(-1);
    }
    match store_time_at(broker, topic, queue_id, min)? {
        -1 => {
            let first = kept::first_kept(broker, topic, queue_id)?;
            store_time_at(broker, topic, queue_id, first)
        }
        time => Ok(time),
    }
}

/// Store time of the message at an offset, -1 when there is none or it has expired. May read the disk.
pub fn store_time_at(
    broker: &Broker,
    topic: &str,
    queue_id: i32,
    offset: i64,
) -> Result<i64, StoreError> {
    let entries = broker.replica.read_queue(topic, queue_id, offset, 1)?;
    let Some(entry) = entries.first() else {
        return Ok(-1);
    };
    let record = match broker.replica.read_queued(topic, queue_id, entry) {
        Ok(record) => record,
        Err(StoreError::OutOfRange { .. }) => return Ok(-1),
        Err(e) => return Err(e),
    };
    Ok(StoredRecord::parse(&record).map_or(-1, |r| r.store_timestamp()))
}

/// Answers a call from a blocking thread.
pub fn on_disk(
    broker: &Arc<Broker>,
    call: Call,
    work: impl FnOnce(&Arc<Broker>) -> Result<RemotingCommand, StoreError> + Send + 'static,
) {
    with_disk(broker, call, |broker, call| match work(broker) {
        Ok(answer) => call.reply(answer),
        Err(e) => unreadable(call, &e),
    });
}

/// Answers that what a call asks for cannot be read.
pub fn unreadable(call: Call, error: &StoreError) {
    tracing::error!(code = call.cmd.code, %error, "a request cannot be read");
    call.error(response::SYSTEM_ERROR, format!("cannot read: {error}"))
}

/// Goes on with a call on a blocking thread.
pub fn with_disk(
    broker: &Arc<Broker>,
    call: Call,
    work: impl FnOnce(&Arc<Broker>, Call) + Send + 'static,
) {
    let shared = broker.clone();
    let run = move |call: Call| work(&shared, call);
    if let Err(call) = broker.cold_reads.run(call, run) {
        call.error(
            response::SYSTEM_BUSY,
            "[OVERLOAD]too many requests read from disk, start flow control",
        );
    }
}
