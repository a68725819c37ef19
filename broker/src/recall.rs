//! Taking back timer messages: RECALL_MESSAGE (370), and the older way, a send with TIMER_DEL_UNIQKEY.
//!
//! RocketMQ stores a second message for the same second of the timer, which cancels the first when both are due. Here the timer is
//! removed at once, by an entry of the log in the master's own term: acknowledged means that no later master knows the timer
//! either. As with RocketMQ, taking back what is not there succeeds, as long as its time has not come. Timers that are being taken
//! back are claimed meanwhile ([`crate::timer::Claims`]), so that none is delivered under way.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use raftmq_raft::{AckLevel, Proposal, ProposeError, Stored};
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{RecallMessageRequestHeader, RecallMessageResponseHeader, extra};
use raftmq_remoting::message::properties as prop;
use raftmq_remoting::message::{NewMessage, StoredRecord};
use raftmq_store::{Command, TimerKey};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::broker::{Broker, now_ms};
use crate::call::Call;
use crate::names;
use crate::send::Refusal;
use crate::timer::{blocking, propose};

/// Requests under way at once.
const MAX_UNDER_WAY: usize = 1_024;

/// RocketMQ's timers tick once a second: whoever names a time means all of its second.
const SECOND_MS: i64 = 1_000;

/// A producer that tries a send again after its timeout makes a second timer of the same id, due that much later when its delay is
/// relative: those before the one that is named go too.
const RETRIES_MS: i64 = 10_000;

/// How often timers are looked for anew that were moved meanwhile.
const MAX_LOOKS: usize = 8;

const VERSION: &str = "v1";

/// As lenient as Java's decoder.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Bounds what is under way.
pub struct Recalls(Arc<Semaphore>);

impl Default for Recalls {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_UNDER_WAY)))
    }
}

impl Recalls {
    /// None: too many are under way.
    pub fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().ok()
    }
}

/// A timer message as its producer knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub topic: String,
    /// The unique id.
    pub id: String,
    /// When it is due, ms since 1970; the second counts.
    pub at_ms: i64,
}

impl Wanted {
    /// From a TIMER_DEL_UNIQKEY, `topic+id`; None: it names nothing.
    pub fn from_property(value: &str, at_ms: i64) -> Option<Self> {
        let (topic, id) = value.split_once('+')?;
        Some(Self {
            topic: topic.to_owned(),
            id: id.to_owned(),
            at_ms,
        })
    }

    /// Due times to look at.
    fn span(&self) -> (i64, i64) {
        let second = (self.at_ms - 1).div_euclid(SECOND_MS) * SECOND_MS;
        (second + 1 - RETRIES_MS, second + SECOND_MS)
    }
}

/// What a producer gets with the answer to its send, and gives back to take the message back.
pub fn handle(topic: &str, broker_name: &str, at_ms: i64, id: &str) -> String {
    BASE64.encode(format!("{VERSION} {topic} {broker_name} {at_ms} {id}"))
}

struct Handle {
    topic: String,
    broker_name: String,
    at_ms: i64,
    id: String,
}

impl Handle {
    fn read(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches(' ');
        let mut items = text.split(' ').map(str::to_owned);
        let version = items.next()?;
        let (topic, broker_name) = (items.next()?, items.next()?);
        let (at, id) = (items.next()?, items.next()?);
        (version == VERSION).then(|| Self {
            topic,
            broker_name,
            at_ms: at.parse().unwrap_or(-1),
            id,
        })
    }
}

/// RECALL_MESSAGE.
pub fn recall(broker: &Arc<Broker>, call: Call) {
    let header: RecallMessageRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let wanted = match check(broker, header) {
        Ok(wanted) => wanted,
        Err(refusal) => {
            return call.reply(answer(broker, refusal.code).with_remark(refusal.remark));
        }
    };
    let Some(place) = broker.recalls.enter() else {
        return call.error(response::SYSTEM_BUSY, crate::send_store::OVERLOAD);
    };
    let broker = broker.clone();
    broker.runtime.clone().spawn(async move {
        let done = take_back(&broker, &wanted, Vec::new(), call.deadline).await;
        reply(&broker, call, wanted, done);
        drop(place);
    });
}

fn answer(broker: &Broker, code: i32) -> RemotingCommand {
    RemotingCommand::response(code).with_ext(extra::MSG_REGION, &broker.config().region)
}

/// Checks in RocketMQ's order with its codes and remarks.
fn check(broker: &Broker, header: RecallMessageRequestHeader) -> Result<Wanted, Refusal> {
    let illegal = |remark| Refusal::new(response::ILLEGAL_OPERATION, remark);
    const UNAVAILABLE: &str = "recall failed, broker service not available";
    let config = broker.config();
    if !config.recall {
        let remark = "recall failed, operation is forbidden: recallMessageEnable=false";
        return Err(Refusal::new(response::NO_PERMISSION, remark));
    }
    if !broker.writable() && !config.recall_when_not_writable {
        return Err(Refusal::new(response::SERVICE_NOT_AVAILABLE, UNAVAILABLE));
    }
    if broker.state().topic(&header.topic).is_none() {
        let remark = format!("recall failed, the topic[{}] not exist", header.topic);
        return Err(Refusal::new(response::TOPIC_NOT_EXIST, remark));
    }
    let handle =
        Handle::read(&header.recall_handle).ok_or_else(|| illegal("recall handle is invalid"))?;
    if handle.topic != header.topic {
        return Err(illegal("recall failed, topic not match"));
    }
    if handle.broker_name != config.name {
        return Err(illegal(UNAVAILABLE));
    }
    let left = handle.at_ms.saturating_sub(now_ms());
    if left <= 0 || left >= config.timer_max_delay_s * 1000 {
        return Err(illegal(TOO_LATE));
    }
    Ok(Wanted {
        topic: handle.topic,
        id: handle.id,
        at_ms: handle.at_ms,
    })
}

const TOO_LATE: &str = "recall failed, timestamp invalid";

fn reply(
    broker: &Arc<Broker>,
    call: Call,
    wanted: Wanted,
    done: Result<Option<Stored>, RecallError>,
) {
    match done {
        Ok(_) => {
            let header = RecallMessageResponseHeader { msg_id: wanted.id };
            call.reply(answer(broker, response::SUCCESS).with_header(&header));
        }
        Err(RecallError::TooLate) => {
            call.reply(answer(broker, response::ILLEGAL_OPERATION).with_remark(TOO_LATE))
        }
        Err(RecallError::Refused(ProposeError::Unknown) | RecallError::Contested) => {
            let remark = "recall failed, execute error";
            call.reply(answer(broker, response::SYSTEM_ERROR).with_remark(remark));
        }
        Err(RecallError::Refused(e)) => broker.failed(call, e),
    }
}

/// Why a timer was not taken back.
pub enum RecallError {
    /// It is not there any more, and its time has come.
    TooLate,
    /// It cannot be read, somebody else takes it back, or this term does not know whether it was delivered.
    Contested,
    /// As for other proposals: [`ProposeError::Unknown`] may or may not have happened.
    Refused(ProposeError),
}

/// Removes the pending timers of a message, and stores `messages` with the same entry; None when there was nothing to do.
pub async fn take_back(
    broker: &Arc<Broker>,
    wanted: &Wanted,
    messages: Vec<NewMessage>,
    deadline: Instant,
) -> Result<Option<Stored>, RecallError> {
    let role = broker.replica.role();
    if !role.serving {
        return Err(RecallError::Refused(ProposeError::WrongTerm));
    }
    let term = role.term;
    let entry = |messages, keys| Proposal {
        messages,
        commands: vec![Command::TimerDone { keys }],
        ack: Some(AckLevel::Majority),
        only_term: Some(term),
        deadline,
    };
    let ended = |result: Option<Result<Stored, ProposeError>>| {
        result
            .unwrap_or(Err(ProposeError::Stopped))
            .map_err(RecallError::Refused)
    };
    let mut keys = claim(broker, term, wanted).await?;
    if keys.is_empty() {
        // With ASYNC_MASTER a send is answered before it is applied; it is applied when an entry behind it is.
        ended(propose(broker, entry(Vec::new(), Vec::new())).await)?;
        keys = claim(broker, term, wanted).await?;
        if keys.is_empty() && now_ms() >= wanted.at_ms {
            return Err(RecallError::TooLate);
        }
    }
    if keys.is_empty() && messages.is_empty() {
        return Ok(None);
    }
    let result = propose(broker, entry(messages, keys.clone())).await;
    if !matches!(result, None | Some(Err(ProposeError::Unknown))) {
        broker.timers.lock().await.release(term, &keys);
    }
    ended(result).map(Some)
}

/// Claims the pending timers of a message.
async fn claim(
    broker: &Arc<Broker>,
    term: u64,
    wanted: &Wanted,
) -> Result<Vec<TimerKey>, RecallError> {
    for _ in 0..MAX_LOOKS {
        let (shared, like) = (broker.clone(), wanted.clone());
        let found = blocking(move || find(&shared, &like)).await.flatten();
        let found = found.ok_or(RecallError::Contested)?;
        if found.is_empty() {
            return Ok(found);
        }
        let mut claims = broker.timers.lock().await;
        if !claims.enter(term) {
            return Err(RecallError::Refused(ProposeError::WrongTerm));
        }
        let (state, looked_at) = (broker.state().clone(), found.clone());
        let pending = blocking(move || state.timers().still_pending(looked_at).ok()).await;
        let pending = pending.flatten().ok_or(RecallError::Contested)?;
        if pending.iter().any(|key| claims.is_unknown(key)) {
            return Err(RecallError::Contested);
        }
        // Otherwise they were delivered or moved since.
        if pending.len() == found.len() {
            claims.add_unknown(found.clone());
            return Ok(found);
        }
    }
    Err(RecallError::Contested)
}

/// Pending timers of a message; None: they cannot be read.
fn find(broker: &Broker, wanted: &Wanted) -> Option<Vec<TimerKey>> {
    let (from, to) = wanted.span();
    let timers = broker.state().timers();
    let like = match timers.like(&wanted.topic, &wanted.id, from, to) {
        Ok(like) => like,
        Err(e) => {
            tracing::error!(error = %e, "pending timers cannot be read");
            return None;
        }
    };
    let mut found = Vec::with_capacity(like.len());
    for key in like {
        let position = key.physical_offset;
        let bytes = match broker.replica.read_record_at(position) {
            Ok(bytes) => bytes,
            Err(e) => {
                tracing::error!(position, error = %e, "a delayed message cannot be read");
                return None;
            }
        };
        let record = StoredRecord::parse(&bytes).ok()?;
        let is_it = record.topic() == names::WHEEL_TIMER
            && record.property(prop::REAL_TOPIC) == Some(&wanted.topic)
            && record.property(prop::UNIQ_KEY) == Some(&wanted.id);
        found.extend(is_it.then_some(key));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `RecallMessageHandle` of 5.3.3 writes it.
    const JAVA: &str = "djEgdG9waWMgYnJva2VyLTAgMTcyNzY5NzY3NzY3NyAwQUMzMDMwMA==";

    #[test]
    fn handles_are_javas() {
        assert_eq!(
            handle("topic", "broker-0", 1_727_697_677_677, "0AC30300"),
            JAVA
        );
        let read = Handle::read(JAVA.trim_end_matches('=')).unwrap();
        assert_eq!(
            (read.topic.as_str(), read.broker_name.as_str()),
            ("topic", "broker-0")
        );
        assert_eq!(
            (read.at_ms, read.id.as_str()),
            (1_727_697_677_677, "0AC30300")
        );
        let encoded = |text: &str| BASE64.encode(text);
        for bad in [
            String::new(),
            "~".to_owned(),
            "a".to_owned(),
            encoded("v2 topic broker-0 1 id"),
            encoded("v1 topic broker-0 1"),
            encoded("v1 topic broker-0 1 "),
            encoded("v1"),
        ] {
            assert!(Handle::read(&bad).is_none(), "{bad:?}");
        }
        let soon = Handle::read(&encoded("v1 topic broker-0 soon id and more")).unwrap();
        assert_eq!((soon.at_ms, soon.id.as_str()), (-1, "id"));
    }

    #[test]
    fn the_second_of_a_time_is_javas() {
        let span = |at_ms| {
            let any = String::new();
            let (topic, id) = (any.clone(), any);
            Wanted { topic, id, at_ms }.span()
        };
        assert_eq!(span(5_001), (5_001 - RETRIES_MS, 6_000));
        assert_eq!(span(6_000), (5_001 - RETRIES_MS, 6_000));
        assert_eq!(span(6_001), (6_001 - RETRIES_MS, 7_000));
    }
}
