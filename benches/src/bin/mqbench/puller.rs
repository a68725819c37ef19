//! What a consumer's lane says: a pull for each of its queues at a time, and the next one where the last one ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;

use memchr::memmem;
use raftmq_benches::BenchError;
use raftmq_remoting::frame::encode_head;
use raftmq_remoting::header::PullMessageRequestHeader;
use raftmq_remoting::message::sysflag::pull as flag;
use raftmq_remoting::message::{StoredRecord, body_crc};
use raftmq_remoting::{RemotingCommand, SerializeType, request_code, response_code};
use tokio::sync::Notify;

use super::answer::Answer;
use super::lane::Talk;
use super::link::Outbox;
use super::slots::FIRST_OPAQUE;
use super::stamp;
use super::stats::{Shared, Stats};
use super::template::decimal;

/// Digits of an offset.
const OFFSET_DIGITS: usize = 19;
/// Queues of a lane at most: their number is in the opaque.
pub const MAX_QUEUES: usize = 1 << QUEUE_BITS;
const QUEUE_BITS: u32 = 16;
const GENERATIONS: u32 = 1 << 14;
/// How long a broker may hold a pull, ms: that of a push consumer.
pub const HOLD_MS: u64 = 15_000;

/// What all pulls of a run have in common.
pub struct Pulls {
    pub serialize: SerializeType,
    /// Messages of one pull.
    pub batch: i32,
    /// Tags.
    pub expression: String,
    /// The broker waits for messages.
    pub hold: bool,
    /// Every message is decoded and its checksum compared.
    pub verify: bool,
    /// Queues that are not at their end.
    pub left: AtomicUsize,
    /// All are.
    pub all_done: Notify,
}

/// One queue, for one group.
pub struct Queue {
    request: Vec<u8>,
    offset_at: usize,
    opaque_at: usize,
    offset: i64,
    end: Option<i64>,
    began: Option<u64>,
    generation: u32,
}

impl Pulls {
    /// A queue to read from `offset`, up to `end` or for ever.
    ///
    /// # Errors
    /// The names are too long for a request.
    pub fn queue(
        &self,
        group: &str,
        queue: &raftmq_client::MessageQueue,
        offset: i64,
        end: Option<i64>,
    ) -> Result<Queue, BenchError> {
        let hold = if self.hold { flag::SUSPEND } else { 0 };
        let header = PullMessageRequestHeader {
            consumer_group: group.into(),
            topic: queue.topic.as_str().into(),
            queue_id: queue.queue_id,
            queue_offset: 10_i64.pow(OFFSET_DIGITS as u32 - 1),
            max_msg_nums: self.batch,
            sys_flag: flag::SUBSCRIPTION | hold,
            suspend_timeout_millis: if self.hold { HOLD_MS as i64 } else { 0 },
            subscription: Some(self.expression.as_str().into()),
            expression_type: Some("TAG".into()),
            ..PullMessageRequestHeader::default()
        };
        let mut command = RemotingCommand::request_with(request_code::PULL_MESSAGE, &header)
            .with_ext("bname", &queue.broker_name);
        command.serialize = self.serialize;
        command.opaque = FIRST_OPAQUE;
        let mut request = Vec::new();
        let wrong = |e: &dyn std::fmt::Display| BenchError::Usage(format!("pulls: {e}"));
        encode_head(&command, &mut request).map_err(|e| wrong(&e))?;
        let behind = |needle: &[u8]| {
            let at = memmem::find(&request, needle).ok_or_else(|| wrong(&"a field is missing"));
            Ok::<_, BenchError>(at? + needle.len())
        };
        let (opaque_at, offset_at) = match self.serialize {
            SerializeType::Json => (behind(b"\"opaque\":")?, behind(b"\"queueOffset\":\"")?),
            SerializeType::RocketMq => (8 + 5, behind(b"queueOffset\0\0\0\x13")?),
        };
        Ok(Queue {
            request: request.to_vec(),
            offset_at,
            opaque_at,
            offset: offset.max(0),
            end,
            began: None,
            generation: 0,
        })
    }
}

/// A lane's pulls.
pub struct Puller {
    shared: Arc<Shared>,
    pulls: Arc<Pulls>,
    queues: Vec<Queue>,
    /// Which are to be pulled from.
    ready: Vec<usize>,
    /// Which wait after an error.
    failed: Vec<usize>,
}

impl Puller {
    /// For at most [`MAX_QUEUES`] queues.
    pub fn new(shared: Arc<Shared>, pulls: Arc<Pulls>, queues: Vec<Queue>) -> Self {
        Self {
            shared,
            pulls,
            ready: (0..queues.len()).collect(),
            failed: Vec::new(),
            queues,
        }
    }

    /// Counts the messages of a pull.
    fn count(&self, records: &[u8], now: u64, stats: &mut Stats) {
        let steady = self.shared.pulse.is_steady(now);
        let mut count = |body: &[u8]| {
            stats.consumed += 1;
            stats.bytes += body.len() as u64;
            if let Some(due_us) = stamp::read(body, self.shared.run_id) {
                let taken = now.saturating_sub(due_us * 1000);
                stats.end_to_end.record(taken, 1, steady);
            }
        };
        if !self.pulls.verify {
            return stamp::bodies(records).for_each(count);
        }
        let mut bad = 0;
        for message in StoredRecord::all(records) {
            match message {
                Ok(m) if body_crc(m.body()) & 0x7FFF_FFFF == m.body_crc() & 0x7FFF_FFFF => {
                    count(m.body());
                }
                _ => bad += 1,
            }
        }
        stats.error("bad record", bad);
    }
}

impl Talk for Puller {
    const PULLS: bool = true;

    fn answer(&mut self, answer: &Answer<'_>, now: u64, stats: &mut Stats) {
        let Ok(id) = u32::try_from(i64::from(answer.opaque) - i64::from(FIRST_OPAQUE)) else {
            return;
        };
        let number = id as usize % MAX_QUEUES;
        let Some(queue) = self.queues.get_mut(number) else {
            return;
        };
        if queue.generation != id >> QUEUE_BITS {
            return;
        }
        let Some(began) = queue.began.take() else {
            return;
        };
        let next = answer.next_offset.map(|next| next.max(queue.offset));
        let end = queue.end;
        queue.offset = next.unwrap_or(queue.offset);
        let offset = queue.offset;
        let good = match answer.code {
            response_code::SUCCESS => {
                stats.pulls += 1;
                let steady = self.shared.pulse.is_steady(now);
                stats.pull.record(now.saturating_sub(began), 1, steady);
                self.count(answer.body, now, stats);
                next.is_some()
            }
            // Nothing that matches yet.
            response_code::PULL_RETRY_IMMEDIATELY => true,
            response_code::PULL_NOT_FOUND => self.pulls.hold,
            _ => false,
        };
        if !good {
            stats.error(&answer.what(), 1);
            self.failed.push(number);
        } else if end.is_none_or(|end| offset < end) {
            self.ready.push(number);
        } else if self.pulls.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.pulls.all_done.notify_one();
        }
    }

    fn fill(&mut self, out: &mut Outbox, _: &mut Context<'_>) {
        if self.ready.is_empty() {
            return;
        }
        let now = self.shared.now();
        for number in self.ready.drain(..) {
            let queue = &mut self.queues[number];
            queue.began = Some(now);
            queue.generation = (queue.generation + 1) % GENERATIONS;
            let opaque = FIRST_OPAQUE + (queue.generation << QUEUE_BITS | number as u32) as i32;
            let (request, at) = (&mut queue.request, queue.opaque_at);
            match self.pulls.serialize {
                SerializeType::Json => decimal(&mut request[at..at + 10], opaque as u64),
                SerializeType::RocketMq => {
                    request[at..at + 4].copy_from_slice(&opaque.to_be_bytes());
                }
            }
            let digits = &mut request[queue.offset_at..queue.offset_at + OFFSET_DIGITS];
            decimal(digits, queue.offset as u64);
            out.push(&queue.request);
        }
    }

    fn waits(&self) -> bool {
        !self.failed.is_empty()
    }

    fn tick(&mut self, before: u64, stats: &mut Stats) {
        self.ready.append(&mut self.failed);
        for (number, queue) in self.queues.iter_mut().enumerate() {
            if queue.began.is_some_and(|began| began < before) {
                queue.began = None;
                stats.error("timeout", 1);
                self.failed.push(number);
            }
        }
    }

    fn connected(&mut self, open: bool, stats: &mut Stats) {
        if open {
            return;
        }
        self.ready.append(&mut self.failed);
        for (number, queue) in self.queues.iter_mut().enumerate() {
            if queue.began.take().is_some() {
                stats.error("connection closed", 1);
                self.ready.push(number);
            }
        }
    }
}
