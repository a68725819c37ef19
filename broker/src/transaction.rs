//! Transactions: half messages, their end (END_TRANSACTION, 37), and asking producers about those that do not end.
//!
//! A half message lies in RMQ_SYS_TRANS_HALF_TOPIC and, from its apply on, among the pending transactions of the state. It ends by one
//! entry that holds both what becomes of it (the real message, or nothing) and that it is done, in the master's own term: either
//! both happen or neither, and a transaction that is committed twice is delivered once. Where RocketMQ writes a half message again
//! for every check, the number of checks is state here, so its ids stay good until the log gives up that part: then it is written
//! again at the log's end, and found by its unique id ([`find`]). What is being ended or checked is claimed meanwhile; what has an
//! unknown outcome stays claimed for the rest of the term.
//!
//! A half message with a delay or a time of its own waits from its commit on, as a delayed message.

mod find;
mod resume;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use raftmq_raft::{AckLevel, Proposal, ProposeError};
use raftmq_remoting::ByteStr;
use raftmq_remoting::channel::Channel;
use raftmq_remoting::codes::{request, response};
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{CheckTransactionStateRequestHeader, EndTransactionRequestHeader};
use raftmq_remoting::message::properties as prop;
use raftmq_remoting::message::stamp;
use raftmq_remoting::message::{NewMessage, StoredRecord, offset_msg_id, sysflag};
use raftmq_store::{Command, PendingTransaction};

use crate::broker::{Broker, now_ms, perm};
use crate::call::Call;
use crate::creation::plain_topic;
use crate::names;
use crate::send::Refusal;
use crate::stored_properties::{self, MAX_PROPERTIES, Wishes};
use crate::timer::{blocking, copy, propose, propose_to_make_room};

pub use resume::resume;

/// Transactions looked at together.
const BATCH: usize = 256;
/// Bytes of messages in one proposal, about.
const BATCH_BYTES: usize = 1 << 20;
/// Longest sleep: the interval may be made shorter at any time.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// Transactions that somebody is ending or checking, and those of which this term does not know whether they were.
#[derive(Default)]
pub struct Claims {
    inner: Mutex<Claimed>,
}

#[derive(Default)]
struct Claimed {
    term: u64,
    positions: HashSet<i64>,
}

/// One transaction, claimed until this is dropped.
struct Claim {
    broker: Arc<Broker>,
    term: u64,
    position: i64,
    /// Whether the claim outlives this.
    stays: bool,
}

impl Claim {
    /// None: somebody else has it.
    fn take(broker: &Arc<Broker>, term: u64, position: i64) -> Option<Self> {
        let mut claimed = broker.transactions.inner.lock();
        if claimed.term < term {
            claimed.term = term;
            claimed.positions.clear();
        }
        // A round of an earlier term may still be at work: what it would end is this term's to end.
        let mine = claimed.term == term && claimed.positions.insert(position);
        mine.then(|| Self {
            broker: broker.clone(),
            term,
            position,
            stays: false,
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = self.broker.transactions.inner.lock();
        if !self.stays && claimed.term == self.term {
            claimed.positions.remove(&self.position);
        }
    }
}

/// Claims a transaction that was pending a moment ago. It may have ended before it was claimed, so it is read again: whoever went on
/// with what he had read would bring it back to life.
fn claim(broker: &Arc<Broker>, term: u64, position: i64) -> Option<(Claim, PendingTransaction)> {
    let claim = Claim::take(broker, term, position)?;
    let pending = broker.state().transaction(position).ok()??;
    Some((claim, pending))
}

/// The properties a half message gets besides: where it is to go.
pub fn half_properties<'a>(
    topic: &'a str,
    queue: &'a str,
    unique_key: &'a str,
) -> [(&'static str, &'a str); 3] {
    [
        (prop::REAL_TOPIC, topic),
        (prop::REAL_QID, queue),
        (prop::TRANSACTION_ID, unique_key),
    ]
}

/// END_TRANSACTION.
pub fn end(broker: &Arc<Broker>, call: Call) {
    let header: EndTransactionRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let commit = match header.commit_or_rollback {
        sysflag::TRANSACTION_COMMIT => true,
        sysflag::TRANSACTION_ROLLBACK => false,
        // It is asked about again.
        0 => return call.ok(),
        other => {
            let remark = format!("commitOrRollback is {other}, not 0, 8 or 12");
            return call.error(response::SYSTEM_ERROR, remark);
        }
    };
    let position = header.commit_log_offset;
    let is_there = || matches!(broker.state().transaction(position), Ok(Some(_)));
    if broker.replica.is_hot(position) && is_there() {
        return decide(broker, call, &header, position, commit);
    }
    let shared = broker.clone();
    let work = move |(call, header): (Call, _)| {
        let position = find::position(&shared, &header);
        decide(&shared, call, &header, position, commit);
    };
    if let Err((call, _)) = broker.cold_reads.run((call, header), work) {
        call.error(response::SYSTEM_BUSY, "[OVERLOAD]too many reads from disk");
    }
}

fn decide(
    broker: &Arc<Broker>,
    call: Call,
    header: &EndTransactionRequestHeader,
    position: i64,
    commit: bool,
) {
    let role = broker.replica.role();
    if !role.serving {
        return call.refuse("not the master any more");
    }
    let Some(mut claim) = Claim::take(broker, role.term, position) else {
        return call.error(
            response::SYSTEM_ERROR,
            "the transaction is being ended or checked",
        );
    };
    let message = match outcome(broker, header, position, commit) {
        Ok(message) => message,
        Err(refusal) => return call.error(refusal.code, refusal.remark),
    };
    let proposal = Proposal {
        messages: message.into_iter().collect(),
        commands: vec![Command::TransactionDone {
            positions: vec![position],
        }],
        ack: Some(AckLevel::Majority),
        only_term: Some(role.term),
        deadline: call.deadline,
    };
    let shared = broker.clone();
    broker.replica.propose(proposal, move |result| {
        claim.stays = matches!(result, Err(ProposeError::Unknown));
        drop(claim);
        match result {
            Ok(_) => call.ok(),
            Err(e) => shared.failed(call, e),
        }
    });
}

/// What becomes of the pending half message at a position that a header speaks of: a message for a commit. Or why there is none, in
/// RocketMQ's words.
fn outcome(
    broker: &Broker,
    header: &EndTransactionRequestHeader,
    position: i64,
    commit: bool,
) -> Result<Option<NewMessage>, Refusal> {
    const MISSING: &str = "Find prepared transaction message failed";
    let wrong = |remark: &str| Refusal::new(response::SYSTEM_ERROR, remark);
    let missing = |e: &dyn std::fmt::Display| wrong(&format!("{MISSING}: {e}"));
    let pending = match broker.state().transaction(position) {
        Ok(Some(pending)) => pending,
        Ok(None) => return Err(wrong(MISSING)),
        Err(e) => return Err(missing(&e)),
    };
    let read = broker.replica.read_record_at(position);
    let bytes = read.map_err(|e| missing(&e))?;
    let record = StoredRecord::parse(&bytes).map_err(|e| missing(&e))?;
    if !header.from_transaction_check && is_late(broker, &record, &pending) {
        let remark = "its check immunity time is over, the transaction ends by a check";
        return Err(Refusal::new(response::ILLEGAL_OPERATION, remark));
    }
    if record.property(prop::PGROUP) != Some(header.producer_group.as_str()) {
        return Err(wrong("The producer group wrong"));
    }
    // One that was moved has another place in its queue, too.
    let moved = position != header.commit_log_offset;
    if !moved && record.queue_offset() != header.tran_state_table_offset {
        return Err(wrong("The transaction state table offset wrong"));
    }
    commit.then(|| real(broker, &bytes, &record)).transpose()
}

/// Whether a half message that asks for a check immunity time is older than that, and than `transactionTimeOut`: its producer has
/// been asked, or will be, and what he says unasked may be older than his answer. Counted by the broker's clock.
fn is_late(broker: &Broker, record: &StoredRecord<'_>, pending: &PendingTransaction) -> bool {
    let Some(seconds) = record
        .property(prop::CHECK_IMMUNITY_TIME_IN_SECONDS)
        .filter(|s| !s.is_empty())
    else {
        return false;
    };
    let immune = seconds.parse::<i64>().unwrap_or(0).saturating_mul(1000);
    let limit = immune.max(broker.config().transaction_timeout_ms as i64);
    now_ms().saturating_sub(pending.since_ms) > limit
}

/// Where a half message is to go.
fn target<'r>(record: &StoredRecord<'r>) -> Option<(&'r str, i32)> {
    let queue = record.property(prop::REAL_QID)?.parse::<i32>().ok()?;
    Some((record.property(prop::REAL_TOPIC)?, queue.max(0)))
}

/// The message that a commit stores.
fn real(broker: &Broker, bytes: &Bytes, record: &StoredRecord<'_>) -> Result<NewMessage, Refusal> {
    let wrong = |remark: String| Refusal::new(response::SYSTEM_ERROR, remark);
    let Some((topic, queue)) = target(record) else {
        return Err(wrong("the half message names no topic or queue".to_owned()));
    };
    if broker.state().topic(topic).is_none() {
        return Err(wrong(format!("topic[{topic}] not exist")));
    }
    let stored = record.properties();
    let mut dropped = vec![prop::TRAN_MSG, prop::TRANSACTION_CHECK_TIMES];
    let (place, properties) = match due(broker, record) {
        // Where it goes after that stands in it already.
        Some((place, at)) => {
            let at = at.to_string();
            let add = [(prop::TIMER_OUT_MS, at.as_str())];
            (place, stored_properties::rebuild(stored, &dropped, &add))
        }
        None => {
            dropped.extend([prop::REAL_TOPIC, prop::REAL_QID]);
            let properties = stored_properties::rebuild(stored, &dropped, &[]);
            ((topic, queue), properties)
        }
    };
    if properties.len() > MAX_PROPERTIES {
        return Err(wrong(
            "the half message's properties leave no room for its time".to_owned(),
        ));
    }
    let mut message = copy(broker, bytes, record, place, properties);
    message.sys_flag |= sysflag::TRANSACTION_COMMIT;
    message.prepared_transaction_offset = record.physical_offset();
    Ok(message)
}

/// Where a half message waits when it is committed now, and until when; None: it does not. Its limits were checked when it was sent.
fn due(broker: &Broker, record: &StoredRecord<'_>) -> Option<((&'static str, i32), i64)> {
    let wishes = Wishes::read(record.properties());
    let now = now_ms();
    let level = wishes.delay.and_then(|level| level.parse().ok());
    if let Some((level, delay_ms)) = broker.config().delay_levels.resolve(level.unwrap_or(0)) {
        return Some(((names::SCHEDULE, level - 1), now + delay_ms));
    }
    let at = wishes.timer?.deliver_at_ms(now)?;
    (at > now).then_some(((names::WHEEL_TIMER, 0), at))
}

/// Asks about transactions that do not end, while this replica leads; for the life of the broker.
pub async fn run(broker: Arc<Broker>) {
    let mut last = Instant::now();
    loop {
        let interval = Duration::from_millis(broker.config().transaction_check_interval_ms);
        let wait = interval.saturating_sub(last.elapsed());
        tokio::time::sleep(wait.min(MAX_SLEEP)).await;
        if last.elapsed() < interval {
            continue;
        }
        last = Instant::now();
        let role = broker.replica.role();
        if role.serving {
            round(&broker, role.term).await;
        }
    }
}

/// Looks at every pending transaction once.
async fn round(broker: &Arc<Broker>, term: u64) {
    let mut from = 0;
    loop {
        let shared = broker.clone();
        let Some(batch) = blocking(move || Batch::read(&shared, term, from)).await else {
            return;
        };
        let Some(next) = batch.next else { return };
        from = next;
        if !batch.claims.is_empty() && !check(broker, term, batch).await {
            return;
        }
    }
}

/// What is done about some pending transactions.
#[derive(Default)]
struct Batch {
    /// Where to look next; None at the end.
    next: Option<i64>,
    claims: Vec<Claim>,
    /// With this check counted, and what is sent to whom.
    checked: Vec<PendingTransaction>,
    questions: Vec<(Channel, RemotingCommand)>,
    /// Checked often enough: these go to TRANS_CHECK_MAX_TIME_TOPIC.
    given_up: Vec<i64>,
    messages: Vec<NewMessage>,
}

impl Batch {
    fn read(broker: &Arc<Broker>, term: u64, from: i64) -> Self {
        let mut batch = Self::default();
        let found = match broker.state().transactions(from, BATCH) {
            Ok(found) => found,
            Err(e) => {
                tracing::error!(error = %e, "pending transactions cannot be read");
                return batch;
            }
        };
        let mut bytes = 0;
        for pending in found {
            batch.next = Some(pending.position + 1);
            if let Some((claim, pending)) = claim(broker, term, pending.position) {
                bytes += batch.add(broker, pending, claim);
            }
            if bytes > BATCH_BYTES {
                break;
            }
        }
        batch
    }

    /// The bytes it adds.
    fn add(&mut self, broker: &Broker, pending: PendingTransaction, claim: Claim) -> usize {
        let position = pending.position;
        let bytes = match broker.replica.read_record_at(position) {
            Ok(bytes) => bytes,
            Err(e) => {
                tracing::error!(position, error = %e, "a half message cannot be read");
                return 0;
            }
        };
        let Ok(record) = StoredRecord::parse(&bytes) else {
            tracing::error!(position, "a half message cannot be decoded");
            return 0;
        };
        let config = broker.config();
        let immune = record
            .property(prop::CHECK_IMMUNITY_TIME_IN_SECONDS)
            .and_then(|s| s.parse::<i64>().ok())
            .filter(|seconds| *seconds >= 0)
            .map_or(config.transaction_timeout_ms as i64, |s| {
                s.saturating_mul(1000)
            });
        if now_ms().saturating_sub(pending.since_ms) < immune {
            return 0;
        }
        self.claims.push(claim);
        if pending.checks >= config.transaction_check_max {
            tracing::warn!(
                position,
                checks = pending.checks,
                "a transaction without an end is given up"
            );
            let properties = bytes.slice_ref(record.properties());
            let target = (names::TRANS_CHECK_MAX, 0);
            self.messages
                .push(copy(broker, &bytes, &record, target, properties));
            self.given_up.push(position);
            return bytes.len();
        }
        self.checked.push(PendingTransaction {
            checks: pending.checks.saturating_add(1),
            ..pending
        });
        let group = record.property(prop::PGROUP).unwrap_or_default();
        let question = question(broker, &bytes, &record);
        if let (Some(channel), Some(question)) = (broker.clients.a_producer(group), question) {
            self.questions.push((channel, question));
            return bytes.len();
        }
        tracing::debug!(position, group, "nobody can be asked about a transaction");
        0
    }
}

/// CHECK_TRANSACTION_STATE about a half message.
fn question(broker: &Broker, bytes: &Bytes, record: &StoredRecord<'_>) -> Option<RemotingCommand> {
    let (topic, queue) = target(record)?;
    let properties = bytes.slice_ref(record.properties());
    let message = copy(broker, bytes, record, (topic, queue), properties);
    let mut body = BytesMut::with_capacity(message.encoded_len());
    message.try_encode_into(&mut body).ok()?;
    let (offset, position) = (record.queue_offset(), record.physical_offset());
    stamp(&mut body, offset, position, record.store_timestamp());
    let unique = record.property(prop::UNIQ_KEY).map(str::to_owned);
    let header = CheckTransactionStateRequestHeader {
        topic: Some(topic.to_owned()),
        tran_state_table_offset: offset,
        commit_log_offset: position,
        msg_id: unique.clone(),
        transaction_id: unique,
        offset_msg_id: Some(offset_msg_id(record.store_host(), position)),
    };
    let command = RemotingCommand::request_with(request::CHECK_TRANSACTION_STATE, &header);
    Some(command.with_body(body.freeze()))
}

/// Counts the checks, then asks; false when the round should end.
async fn check(broker: &Arc<Broker>, term: u64, batch: Batch) -> bool {
    let Batch {
        mut claims,
        checked,
        questions,
        given_up,
        messages,
        ..
    } = batch;
    let mut commands = vec![Command::TransactionChecked { pending: checked }];
    if !given_up.is_empty() {
        if broker.state().topic(names::TRANS_CHECK_MAX).is_none() {
            let config = plain_topic(names::TRANS_CHECK_MAX, 1, perm::READ | perm::WRITE);
            commands.push(Command::PutTopic {
                config,
                now_ms: now_ms(),
            });
        }
        commands.push(Command::TransactionDone {
            positions: given_up,
        });
    }
    let outcome = propose(broker, entry(broker, term, messages, commands)).await;
    match outcome {
        Some(Ok(_)) => {
            drop(claims);
            for (channel, question) in questions {
                channel.oneway(question);
            }
            true
        }
        Some(Err(ProposeError::Unknown)) | None => {
            claims.iter_mut().for_each(|claim| claim.stays = true);
            false
        }
        Some(Err(e)) => {
            tracing::debug!(error = %e, "transactions were not checked, trying again");
            false
        }
    }
}

fn entry(
    broker: &Broker,
    term: u64,
    messages: Vec<NewMessage>,
    commands: Vec<Command>,
) -> Proposal {
    Proposal {
        messages,
        commands,
        ack: Some(AckLevel::Majority),
        only_term: Some(term),
        deadline: Instant::now() + broker.config().ack_timeout(),
    }
}

/// The first position before `position` that a pending transaction needs; outer None: it cannot be told.
pub async fn first_before(broker: &Arc<Broker>, position: u64) -> Option<Option<u64>> {
    let state = broker.state().clone();
    // From the very first: what lies before this replica's own start may be on another one.
    let found = blocking(move || state.transactions(0, 1)).await?;
    match found {
        Ok(found) => {
            let first = found.first().map(|p| p.position as u64);
            Some(first.filter(|first| *first < position))
        }
        Err(e) => {
            tracing::error!(error = %e, "pending transactions cannot be read");
            None
        }
    }
}

/// Writes every pending half message before `position` again at the log's end; false when some are left.
pub async fn move_all(broker: &Arc<Broker>, term: u64, position: u64) -> bool {
    loop {
        match first_before(broker, position).await {
            Some(None) => return true,
            Some(Some(first)) if move_some(broker, term, first as i64, position).await => {}
            _ => return false,
        }
    }
}

async fn move_some(broker: &Arc<Broker>, term: u64, from: i64, before: u64) -> bool {
    let shared = broker.clone();
    let read = blocking(move || read_to_move(&shared, term, from, before)).await;
    let Some((mut claims, messages)) = read else {
        return false;
    };
    if claims.is_empty() {
        return false;
    }
    let done = Command::TransactionDone {
        positions: claims.iter().map(|claim| claim.position).collect(),
    };
    let outcome = propose_to_make_room(broker, entry(broker, term, messages, vec![done])).await;
    if matches!(outcome, Some(Err(ProposeError::Unknown)) | None) {
        claims.iter_mut().for_each(|claim| claim.stays = true);
    }
    matches!(outcome, Some(Ok(_)))
}

fn read_to_move(
    broker: &Arc<Broker>,
    term: u64,
    from: i64,
    before: u64,
) -> (Vec<Claim>, Vec<NewMessage>) {
    let (mut claims, mut messages, mut size) = (Vec::new(), Vec::new(), 0);
    for pending in broker.state().transactions(from, BATCH).unwrap_or_default() {
        if pending.position as u64 >= before || size > BATCH_BYTES {
            break;
        }
        let Some((claim, pending)) = claim(broker, term, pending.position) else {
            continue;
        };
        let Ok(bytes) = broker.replica.read_record_at(pending.position) else {
            continue;
        };
        let Ok(record) = StoredRecord::parse(&bytes) else {
            continue;
        };
        let checks = pending.checks.to_string();
        let add = [(prop::TRANSACTION_CHECK_TIMES, checks.as_str())];
        let mut properties = stored_properties::rebuild(record.properties(), &[], &add);
        if properties.len() > MAX_PROPERTIES {
            // One of an earlier version, which left no room: its producers are asked from the beginning.
            properties = bytes.slice_ref(record.properties());
        }
        let target = (names::TRANS_HALF, 0);
        messages.push(copy(broker, &bytes, &record, target, properties));
        claims.push(claim);
        size += bytes.len();
    }
    (claims, messages)
}

/// The queue and topic of a half message at its send.
pub fn half_target() -> (ByteStr, i32) {
    (ByteStr::from_static(names::TRANS_HALF), 0)
}
