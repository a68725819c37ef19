//! Proposing what is sent, and its answer, which is made on a raft thread when the entry is stored as the acknowledgement level asks. No
//! task per send.
//!
//! RocketMQ bounds the queue in front of its sending threads and empties it of what waited too long. There are no such threads here, but the same
//! answers: too many sends under way (`sendThreadPoolQueueCapacity`) or too many bytes before the log are SYSTEM_BUSY, and nothing is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use raftmq_raft::{ProposeError, Short, Stored};
use raftmq_remoting::ByteStr;
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::frame::{Answer, Value};
use raftmq_remoting::header::extra;
use raftmq_remoting::message::{NewMessage, push_offset_msg_id};

use crate::broker::Broker;
use crate::call::Call;
use crate::config::Config;
use crate::recall::{self, RecallError, Wanted};
use crate::send::Refusal;

/// Remark of what is refused because too much is under way; as RocketMQ words it.
pub const OVERLOAD: &str = "[OVERLOAD]system busy, start flow control for a while";

/// Sends that are not answered yet.
#[derive(Default)]
pub struct UnderWay(AtomicUsize);

impl UnderWay {
    /// Their number.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is proposed for one send.
pub struct Send {
    pub messages: Vec<NewMessage>,
    /// The queue the client is told.
    pub queue_id: i32,
    /// The unique id of a single message.
    pub transaction_id: Option<String>,
    /// How it can be taken back.
    pub recall_handle: Option<String>,
    /// Answered as the acknowledgement level asks, not when the master holds it.
    pub wait: bool,
}

/// Every answer to a send has these two; Java reads them without looking whether they are there.
pub fn answer(broker: &Broker, code: i32) -> RemotingCommand {
    let config = broker.config();
    RemotingCommand::response(code)
        .with_ext(extra::MSG_REGION, &config.region)
        .with_ext(extra::TRACE_ON, trace_on(&config))
}

/// Answers a send that is not stored.
pub fn refuse(broker: &Broker, call: Call, refusal: Refusal) {
    let answer = answer(broker, refusal.code).with_remark(refusal.remark);
    call.reply(answer);
}

/// A timer that is too far ahead, or takes another one back too late.
pub fn bad_timer(broker: &Broker) -> Refusal {
    let most = broker.config().timer_max_delay_s * 1000;
    let remark = format!(
        "timer message illegal, the delay time should not be bigger than the max delay {most}ms; or if set del msg, \
         the delay time should be bigger than the current time"
    );
    Refusal::new(response::MESSAGE_ILLEGAL, remark)
}

/// Stores a send and answers it.
pub fn propose(broker: &Arc<Broker>, call: Call, topic: ByteStr, mut send: Send) {
    if broker.sends.count() >= broker.config().send_capacity {
        return broker.failed(call, ProposeError::Busy);
    }
    let messages = std::mem::take(&mut send.messages);
    let bytes: usize = messages.iter().map(|m| m.body.len()).sum();
    let count = messages.len() as u64;
    let proposal = broker.proposal(&call, messages, send.wait);
    let shared = broker.clone();
    let arrived = call.arrived;
    broker.sends.0.fetch_add(1, Ordering::Relaxed);
    broker.replica.propose(proposal, move |result| {
        shared.sends.0.fetch_sub(1, Ordering::Relaxed);
        match result {
            Ok(kept) => {
                shared.stats.stored(&topic, count, bytes as u64);
                shared.stats.put_latency.took(arrived.elapsed());
                answer_stored(&shared, call, &kept, &send);
            }
            Err(e) => {
                shared.stats.put_failed();
                shared.failed(call, e);
            }
        }
    });
}

/// Stores a message that takes another one back, together with the end of that one.
pub fn take_back(
    broker: &Arc<Broker>,
    call: Call,
    topic: ByteStr,
    mut send: Send,
    wanted: Option<Wanted>,
) {
    let Some(place) = broker.recalls.enter() else {
        return broker.failed(call, ProposeError::Busy);
    };
    // What names nothing finds nothing, and is stored all the same.
    let Some(wanted) = wanted else {
        return propose(broker, call, topic, send);
    };
    let broker = broker.clone();
    broker.runtime.clone().spawn(async move {
        let messages = std::mem::take(&mut send.messages);
        match recall::take_back(&broker, &wanted, messages, call.deadline).await {
            Ok(Some(kept)) => answer_stored(&broker, call, &kept, &send),
            Ok(None) => call.error(response::SYSTEM_ERROR, "the message was not stored"),
            Err(RecallError::TooLate) => {
                let refusal = bad_timer(&broker);
                refuse(&broker, call, refusal);
            }
            Err(RecallError::Contested) => {
                let remark = "the other message cannot be taken back now, try again";
                refuse(&broker, call, Refusal::new(response::SYSTEM_ERROR, remark));
            }
            Err(RecallError::Refused(e)) => broker.failed(call, e),
        }
        drop(place);
    });
}

/// Says where it is: [`SendMessageResponseHeader`](raftmq_remoting::header::SendMessageResponseHeader), and what [`answer`] adds.
fn answer_stored(broker: &Broker, call: Call, kept: &Stored, send: &Send) {
    let placed = &kept.placed;
    let mut msg_id = String::with_capacity(placed.len() * 33);
    for p in placed {
        if !msg_id.is_empty() {
            msg_id.push(',');
        }
        push_offset_msg_id(broker.store_host, p.physical_offset, &mut msg_id);
    }
    // All of these reach the application as a SendResult: the message is stored.
    let code = match kept.short {
        None => response::SUCCESS,
        Some(Short::FlushDiskTimeout) => response::FLUSH_DISK_TIMEOUT,
        Some(Short::FlushSlaveTimeout) => response::FLUSH_SLAVE_TIMEOUT,
        Some(Short::SlaveNotAvailable) => response::SLAVE_NOT_AVAILABLE,
    };
    let config = broker.config();
    let queue_offset = placed.first().map_or(0, |p| p.queue_offset);
    let mut fields = Vec::with_capacity(7);
    fields.extend([
        (extra::MSG_REGION, Value::Text(&config.region)),
        (extra::TRACE_ON, Value::Text(trace_on(&config))),
        ("msgId", Value::Text(&msg_id)),
        ("queueId", Value::Number(send.queue_id.into())),
        ("queueOffset", Value::Number(queue_offset)),
    ]);
    let optional = [
        ("transactionId", &send.transaction_id),
        ("recallHandle", &send.recall_handle),
    ];
    for (name, value) in optional {
        fields.extend(value.as_deref().map(|text| (name, Value::Text(text))));
    }
    call.reply_with(&Answer {
        code,
        fields: &fields,
    });
}

fn trace_on(config: &Config) -> &'static str {
    if config.trace_on { "true" } else { "false" }
}
