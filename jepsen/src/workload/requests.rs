//! The operations of all workloads: each is one request, noted when it begins and when it ends.

use raftmq_client::ReceivedMessage;
use raftmq_remoting::header::{
    ConsumerSendMsgBackRequestHeader, GetMaxOffsetRequestHeader, GetMaxOffsetResponseHeader,
    PullMessageRequestHeader, PullMessageResponseHeader, QueryConsumerOffsetRequestHeader,
    QueryConsumerOffsetResponseHeader, SendMessageRequestHeader, SendMessageResponseHeader,
    UpdateConsumerOffsetRequestHeader, extra,
};
use raftmq_remoting::message::sysflag::pull as flag;
use raftmq_remoting::validate::AUTO_CREATE_TOPIC;
use raftmq_remoting::{ByteStr, RemotingCommand, request_code, response_code};

use super::client::{Failure, Queue, Thread};
use super::value;
use crate::settings::Whose;
use crate::value::Value;

/// The group of all consumers of a run.
pub const GROUP: &str = "jepsen";
/// Messages of a pull, at most.
const MOST_PULLED: i32 = 256;
/// Bytes of a message.
const SIZE: usize = 48;
/// Delay levels and their times, ms, as brokers have them by default.
pub const DELAYS: [(u32, u32); 3] = [(1, 1_000), (2, 5_000), (3, 10_000)];

/// What a poll found.
pub struct Polled {
    pub messages: Vec<ReceivedMessage>,
    pub next: i64,
    pub min: i64,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    Done,
    Refused,
    Unknown,
}

pub(super) fn unreadable(why: impl ToString) -> Failure {
    Failure {
        maybe: true,
        code: None,
        why: why.to_string(),
    }
}

impl Thread {
    fn queue(&self, q: u32) -> Queue {
        let queues = &self.shared.queues;
        queues.get(q as usize).cloned().unwrap_or(Queue {
            topic: String::new(),
            id: 0,
        })
    }

    /// Sends a message; with a delay level it is delivered later.
    pub async fn send(&mut self, q: u32, message: u64, level: Option<(u32, u32)>) -> Wrote {
        self.may_write().await;
        let via = self.via();
        let asked = Value {
            v: Some(message),
            delay: level.map(|(_, ms)| ms),
            ..Value::queue(q, via)
        };
        let mut properties = String::from("WAIT\u{1}true\u{2}");
        if let Some((level, _)) = level {
            properties.push_str(&format!("DELAY\u{1}{level}\u{2}"));
        }
        let cmd = self.send_request(q, message, properties, 0);
        self.begin("send", &asked);
        let answer = self.ask(via, cmd, self.stored()).await;
        let answer = answer.and_then(|answer| {
            let header = answer.header::<SendMessageResponseHeader>();
            Ok((answer.code, header.map_err(unreadable)?))
        });
        match answer {
            Ok((code, header)) => {
                let value = Value {
                    // A delayed one is elsewhere until it is due.
                    offset: level.is_none().then_some(header.queue_offset),
                    code: (code != response_code::SUCCESS).then_some(code),
                    ..Value::default()
                };
                self.ok("send", &value);
                Wrote::Done
            }
            Err(failure) => {
                self.failed("send", &failure, false).await;
                wrote(&failure)
            }
        }
    }

    /// A send of `message` to the queue of this number.
    pub(super) fn send_request(
        &self,
        q: u32,
        message: u64,
        properties: String,
        sys_flag: i32,
    ) -> RemotingCommand {
        let queue = self.queue(q);
        let header = SendMessageRequestHeader {
            producer_group: ByteStr::from_static(GROUP),
            topic: queue.topic.into(),
            default_topic: ByteStr::from_static(AUTO_CREATE_TOPIC),
            default_topic_queue_nums: 1,
            queue_id: queue.id,
            sys_flag,
            reconsume_times: Some(0),
            properties: Some(properties.into()),
            broker_name: Some(self.shared.place.set.as_str().into()),
            ..SendMessageRequestHeader::default()
        };
        let mut cmd = RemotingCommand::request(request_code::SEND_MESSAGE_V2)
            .with_body(value::body(message, SIZE));
        header.encode_v2(&mut cmd.ext);
        cmd
    }

    /// Codes that acknowledge a message.
    pub(super) fn stored(&self) -> &'static [i32] {
        // Ours answer these for what is committed; the others for what may yet be lost.
        const OURS: [i32; 4] = [
            response_code::SUCCESS,
            response_code::FLUSH_DISK_TIMEOUT,
            response_code::FLUSH_SLAVE_TIMEOUT,
            response_code::SLAVE_NOT_AVAILABLE,
        ];
        match self.shared.settings.servers {
            Whose::Raftmq => &OURS,
            Whose::JavaDledger | Whose::JavaMaster => &OURS[..1],
        }
    }

    /// Reads messages from an offset on. None when it failed.
    pub async fn poll(&mut self, q: u32, via: u8, from: i64, shape: Shape) -> Option<Polled> {
        let asked = Value {
            from: Some(from),
            last: shape == Shape::Last,
            follows: shape == Shape::Follows,
            ..Value::queue(q, via)
        };
        let queue = self.queue(q);
        let header = PullMessageRequestHeader {
            consumer_group: ByteStr::from_static(GROUP),
            topic: queue.topic.into(),
            queue_id: queue.id,
            queue_offset: from,
            max_msg_nums: MOST_PULLED,
            sys_flag: flag::SUBSCRIPTION,
            subscription: Some(ByteStr::from_static("*")),
            expression_type: Some(ByteStr::from_static("TAG")),
            ..PullMessageRequestHeader::default()
        };
        let cmd = RemotingCommand::request_with(request_code::PULL_MESSAGE, &header)
            .with_ext(extra::BROKER_NAME, &self.shared.place.set);
        let mut answers = vec![
            response_code::SUCCESS,
            response_code::PULL_NOT_FOUND,
            response_code::PULL_RETRY_IMMEDIATELY,
            response_code::PULL_OFFSET_MOVED,
        ];
        // In the end a topic that is gone is as good as an empty one: everything in it is lost.
        if shape == Shape::Last {
            answers.push(response_code::TOPIC_NOT_EXIST);
        }
        self.begin("poll", &asked);
        let polled = match self.ask(via, cmd, &answers).await {
            Ok(answer) if answer.code == response_code::TOPIC_NOT_EXIST => Ok(Polled {
                messages: Vec::new(),
                next: from,
                min: 0,
            }),
            Ok(answer) => self.read(&answer),
            Err(failure) => Err(failure),
        };
        match polled {
            Ok(polled) => {
                let seen = polled.messages.iter();
                // A message of nobody here has a number nobody has.
                let seen = seen.map(|m| {
                    (
                        m.queue_offset,
                        value::of_body(&m.body).unwrap_or(u64::MAX >> 11),
                    )
                });
                let value = Value {
                    next: Some(polled.next),
                    min: Some(polled.min),
                    msgs: Value::stretches(seen),
                    ..Value::default()
                };
                self.ok("poll", &value);
                Some(polled)
            }
            Err(failure) => {
                self.failed("poll", &failure, true).await;
                None
            }
        }
    }

    fn read(&self, answer: &RemotingCommand) -> Result<Polled, Failure> {
        let header: PullMessageResponseHeader = answer.header().map_err(unreadable)?;
        let messages = if answer.code == response_code::SUCCESS {
            ReceivedMessage::decode_all(&answer.body.to_bytes(), &self.shared.place.set)
                .map_err(unreadable)?
        } else {
            Vec::new()
        };
        Ok(Polled {
            messages,
            next: header.next_begin_offset,
            min: header.min_offset,
        })
    }

    /// Reads a queue's end.
    pub async fn max_offset(&mut self, q: u32) {
        let via = self.via_knowing();
        let queue = self.queue(q);
        let header = GetMaxOffsetRequestHeader {
            topic: queue.topic.into(),
            queue_id: queue.id,
            committed: None,
        };
        let cmd = RemotingCommand::request_with(request_code::GET_MAX_OFFSET, &header);
        self.begin("max-offset", &Value::queue(q, via));
        let answer = self.ask(via, cmd, &[response_code::SUCCESS]).await;
        let answer =
            answer.and_then(|a| a.header::<GetMaxOffsetResponseHeader>().map_err(unreadable));
        match answer {
            Ok(header) => {
                let value = Value {
                    offset: Some(header.offset),
                    ..Value::default()
                };
                self.ok("max-offset", &value);
            }
            Err(failure) => self.failed("max-offset", &failure, true).await,
        }
    }

    /// Writes the group's offset of a queue id of the first topic, which is register `k`.
    pub async fn commit(&mut self, k: u32, offset: i64, oneway: bool) -> Wrote {
        self.may_write().await;
        let via = self.via_knowing();
        let asked = Value {
            offset: Some(offset),
            oneway,
            ..Value::register(k, via)
        };
        let header = UpdateConsumerOffsetRequestHeader {
            consumer_group: ByteStr::from_static(GROUP),
            topic: self.queue(0).topic.into(),
            queue_id: i32::try_from(k).unwrap_or(i32::MAX),
            commit_offset: offset,
        };
        let cmd = RemotingCommand::request_with(request_code::UPDATE_CONSUMER_OFFSET, &header)
            .with_ext(extra::BROKER_NAME, &self.shared.place.set);
        self.begin("commit", &asked);
        let done = if oneway {
            self.tell(via, cmd).await
        } else {
            self.ask(via, cmd, &[response_code::SUCCESS])
                .await
                .map(drop)
        };
        match done {
            Ok(()) => {
                self.ok("commit", &Value::default());
                Wrote::Done
            }
            Err(failure) => {
                self.failed("commit", &failure, false).await;
                wrote(&failure)
            }
        }
    }

    /// Reads register `k`: Some(None) when nothing was ever written, None when it failed.
    pub async fn query(&mut self, k: u32) -> Option<Option<i64>> {
        let via = self.via_knowing();
        let header = QueryConsumerOffsetRequestHeader {
            consumer_group: ByteStr::from_static(GROUP),
            topic: self.queue(0).topic.into(),
            queue_id: i32::try_from(k).unwrap_or(i32::MAX),
            set_zero_if_not_found: Some(false),
        };
        let cmd = RemotingCommand::request_with(request_code::QUERY_CONSUMER_OFFSET, &header)
            .with_ext(extra::BROKER_NAME, &self.shared.place.set);
        let answers = [response_code::SUCCESS, response_code::QUERY_NOT_FOUND];
        self.begin("query", &Value::register(k, via));
        let answer = self.ask(via, cmd, &answers).await.and_then(|answer| {
            if answer.code == response_code::QUERY_NOT_FOUND {
                return Ok(None);
            }
            let header = answer.header::<QueryConsumerOffsetResponseHeader>();
            Ok(Some(header.map_err(unreadable)?.offset))
        });
        match answer {
            Ok(offset) => {
                let value = Value {
                    offset,
                    ..Value::default()
                };
                self.ok("query", &value);
                Some(offset)
            }
            Err(failure) => {
                self.failed("query", &failure, true).await;
                None
            }
        }
    }

    /// Gives a message back: it comes again after the first delay level, or is dead after `most` times.
    pub async fn send_back(&mut self, message: &ReceivedMessage, most: u32) -> Wrote {
        self.may_write().await;
        let via = self.via();
        let asked = Value {
            v: value::of_body(&message.body),
            times: u32::try_from(message.reconsume_times).ok(),
            via: Some(via),
            ..Value::default()
        };
        let header = ConsumerSendMsgBackRequestHeader {
            offset: message.physical_offset,
            group: ByteStr::from_static(GROUP),
            delay_level: 1,
            origin_msg_id: Some(message.msg_id.clone()),
            origin_topic: Some(message.topic.clone()),
            unit_mode: false,
            max_reconsume_times: i32::try_from(most).ok(),
        };
        let mut cmd = RemotingCommand::request_with(request_code::CONSUMER_SEND_MSG_BACK, &header)
            .with_ext(extra::BROKER_NAME, &self.shared.place.set);
        cmd.version = raftmq_remoting::version::CURRENT_VERSION;
        self.begin("send-back", &asked);
        match self.ask(via, cmd, &[response_code::SUCCESS]).await {
            Ok(_) => {
                self.ok("send-back", &Value::default());
                Wrote::Done
            }
            Err(failure) => {
                self.failed("send-back", &failure, false).await;
                wrote(&failure)
            }
        }
    }
}

/// Where a poll stands among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It begins somewhere.
    Seeks,
    /// It goes on where the last one of this process ended.
    Follows,
    /// It belongs to the final reads.
    Last,
}

fn wrote(failure: &Failure) -> Wrote {
    if failure.maybe {
        Wrote::Unknown
    } else {
        Wrote::Refused
    }
}
