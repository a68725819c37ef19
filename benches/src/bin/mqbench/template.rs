//! Send requests, encoded once: what differs from one to the next has a fixed place and a fixed width, and is written over.

use bytes::Bytes;
use memchr::memmem;
use raftmq_benches::BenchError;
use raftmq_remoting::frame::encode_head;
use raftmq_remoting::header::SendMessageRequestHeader;
use raftmq_remoting::message::batch::{BatchItem, encode as encode_batch};
use raftmq_remoting::message::{properties, unique_id};
use raftmq_remoting::validate::AUTO_CREATE_TOPIC;
use raftmq_remoting::{ByteStr, RemotingCommand, SerializeType, request_code};

use super::link::Outbox;
use super::slots::FIRST_OPAQUE;
use super::stamp::{self, STAMP};

/// Producer group of the sends.
const GROUP: &str = "mqbench";
/// Digits of a time in milliseconds, until the year 2286.
pub const MILLIS_DIGITS: usize = 13;
/// Hexadecimal digits of a message's number, at the end of its UNIQ_KEY and its key.
const NUMBER_DIGITS: usize = 12;
/// Where a frame's header begins.
const HEADER: usize = 8;
/// Where a binary header has its opaque.
const BINARY_OPAQUE: usize = HEADER + 5;

/// What all messages of a run have in common.
pub struct Shape {
    pub body: Bytes,
    pub serialize: SerializeType,
    /// Messages of a request.
    pub batch: u32,
    pub oneway: bool,
    pub keys: bool,
    pub run_id: u64,
}

impl Shape {
    /// What follows the head of every request: the body behind the stamp. A batch is all head.
    pub fn tail(&self) -> Bytes {
        match self.batch {
            1 if self.body.len() >= STAMP => self.body.slice(STAMP..),
            _ => Bytes::new(),
        }
    }
}

/// What differs.
pub struct Values<'a> {
    pub opaque: i32,
    pub queue: u32,
    /// Decimal.
    pub born_ms: &'a [u8; MILLIS_DIGITS],
    /// Of the first message; 48 bits, each used once.
    pub number: u64,
    /// When the request was due, µs since the run began.
    pub due_us: u64,
}

/// A request to one queue or another of a topic.
pub struct Template {
    head: Vec<u8>,
    binary: bool,
    opaque: usize,
    queue: usize,
    queue_digits: usize,
    born: usize,
    messages: Vec<Message>,
    run_id: u64,
}

/// Where a message of the request has what differs.
#[derive(Default)]
struct Message {
    number: u64,
    /// The last digits of UNIQ_KEY and KEYS.
    numbers: Vec<usize>,
    stamp: Option<usize>,
}

impl Template {
    /// A request to a topic of `queues` queues.
    ///
    /// # Errors
    /// It would be longer than a frame may be.
    pub fn new(
        shape: &Shape,
        set: &str,
        topic: &str,
        tag: Option<&str>,
        queues: u32,
    ) -> Result<Self, BenchError> {
        let too_long = |e: &dyn std::fmt::Display| BenchError::Usage(format!("messages: {e}"));
        let queue_digits = queues.saturating_sub(1).max(1).ilog10() as usize + 1;
        let (unique, key) = (unique_id(), format!("K{:016X}000000000000", shape.run_id));
        let mut encoded = properties::Builder::with_capacity(128);
        encoded
            .push(properties::UNIQ_KEY, &unique)
            .push("WAIT", "true");
        if shape.keys {
            encoded.push(properties::KEYS, &key);
        }
        if let Some(tag) = tag {
            encoded.push(properties::TAGS, tag);
        }
        let encoded = encoded.build();
        let item = BatchItem {
            flag: 0,
            body: shape.body.clone(),
            properties: encoded.clone(),
        };
        let body = match shape.batch {
            1 => shape.body.clone(),
            n => encode_batch((0..n).map(|_| &item)).map_err(|e| too_long(&e))?,
        };
        let header = SendMessageRequestHeader {
            producer_group: ByteStr::from_static(GROUP),
            topic: topic.into(),
            default_topic: ByteStr::from_static(AUTO_CREATE_TOPIC),
            default_topic_queue_nums: 4,
            // The smallest number of so many digits.
            queue_id: 10_i32.pow(queue_digits as u32 - 1),
            born_timestamp: 10_i64.pow(MILLIS_DIGITS as u32 - 1),
            properties: ByteStr::from_utf8(encoded).ok(),
            reconsume_times: Some(0),
            batch: shape.batch > 1,
            broker_name: Some(set.into()),
            ..SendMessageRequestHeader::default()
        };
        let code = match shape.batch {
            1 => request_code::SEND_MESSAGE_V2,
            _ => request_code::SEND_BATCH_MESSAGE,
        };
        let mut command = RemotingCommand::request(code).with_body(body.clone());
        command.serialize = shape.serialize;
        command.opaque = FIRST_OPAQUE;
        if shape.oneway {
            command.mark_oneway();
        }
        header.encode_v2(&mut command.ext);
        let mut head = Vec::new();
        encode_head(&command, &mut head).map_err(|e| too_long(&e))?;
        let body_at = head.len();
        head.extend_from_slice(&body[..body.len() - shape.tail().len()]);

        let binary = shape.serialize == SerializeType::RocketMq;
        let not_found = || too_long(&"a field is missing");
        let behind = |needle: &[u8]| {
            let at = memmem::find(&head[..body_at], needle).ok_or_else(not_found)?;
            Ok::<_, BenchError>(at + needle.len())
        };
        let field = |letter: u8, digits: usize| match binary {
            true => behind(&[0, 1, letter, 0, 0, 0, digits as u8]),
            false => behind(&[b'"', letter, b'"', b':', b'"']),
        };
        // The header's own UNIQ_KEY is that of the first message; then those of the messages of a batch.
        let stamped = shape.body.len() >= STAMP;
        let ends = |from: usize, text: &str| {
            memmem::find_iter(&head[from..], text.as_bytes())
                .map(move |at| from + at + text.len() - NUMBER_DIGITS)
                .collect::<Vec<_>>()
        };
        let mut messages = vec![Message {
            number: 0,
            numbers: [ends(0, &unique), ends(0, &key)]
                .concat()
                .into_iter()
                .filter(|at| *at < body_at)
                .collect(),
            stamp: (stamped && shape.batch == 1).then_some(body_at),
        }];
        if shape.batch > 1 {
            let each = body.len() / shape.batch as usize;
            messages.extend((0..u64::from(shape.batch)).map(|number| {
                let start = body_at + number as usize * each;
                let own = |at: &usize| (start..start + each).contains(at);
                Message {
                    number,
                    numbers: [ends(start, &unique), ends(start, &key)]
                        .concat()
                        .into_iter()
                        .filter(own)
                        .collect(),
                    stamp: stamped.then_some(start + BATCH_BODY),
                }
            }));
        }
        Ok(Self {
            opaque: if binary {
                BINARY_OPAQUE
            } else {
                behind(b"\"opaque\":")?
            },
            queue: field(b'e', queue_digits)?,
            queue_digits,
            born: field(b'g', MILLIS_DIGITS)?,
            binary,
            messages,
            run_id: shape.run_id,
            head: head.to_vec(),
        })
    }

    /// Bytes this takes.
    pub fn len(&self) -> usize {
        self.head.len()
    }

    /// Adds the request to what is to be written.
    pub fn write(&self, out: &mut Outbox, values: &Values<'_>) {
        let head = out.push(&self.head);
        match self.binary {
            true => {
                head[self.opaque..self.opaque + 4].copy_from_slice(&values.opaque.to_be_bytes())
            }
            false => decimal(
                &mut head[self.opaque..self.opaque + 10],
                values.opaque as u64,
            ),
        }
        let queue = &mut head[self.queue..self.queue + self.queue_digits];
        decimal(queue, values.queue.into());
        head[self.born..self.born + MILLIS_DIGITS].copy_from_slice(values.born_ms);
        for message in &self.messages {
            for at in &message.numbers {
                hexadecimal(
                    &mut head[*at..*at + NUMBER_DIGITS],
                    values.number + message.number,
                );
            }
            if let Some(at) = message.stamp {
                stamp::write(&mut head[at..at + STAMP], self.run_id, values.due_us);
            }
        }
    }
}

/// Bytes of a batch's message before its body.
const BATCH_BODY: usize = 20;

/// Fills `place` with the last digits.
pub fn decimal(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn hexadecimal(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789ABCDEF"[(value & 15) as usize];
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use raftmq_remoting::frame::decode_frame;
    use raftmq_remoting::message::batch;

    use super::*;

    fn request(shape: &Shape, number: u64, queues: u32, queue: u32) -> RemotingCommand {
        let template = Template::new(shape, "broker-a", "T", Some("tag3"), queues).unwrap();
        let mut out = Outbox::new(Default::default());
        template.write(
            &mut out,
            &Values {
                opaque: 2_000_000_123,
                queue,
                born_ms: b"1700000000123",
                number,
                due_us: 77,
            },
        );
        let mut bytes = out.push(&[]).to_vec();
        assert!(bytes.is_empty());
        bytes = out.unwritten().to_vec();
        bytes.extend_from_slice(&shape.tail());
        let length = u32::from_be_bytes(*bytes.first_chunk().unwrap());
        assert_eq!(length as usize, bytes.len() - 4);
        decode_frame(Bytes::from(bytes).slice(4..)).unwrap()
    }

    fn shape(serialize: SerializeType, size: usize, batch: u32) -> Shape {
        Shape {
            body: vec![b'x'; size].into(),
            serialize,
            batch,
            oneway: batch == 1,
            keys: true,
            run_id: 5,
        }
    }

    #[test]
    fn everything_that_differs_is_where_it_belongs() {
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            for size in [1, STAMP, 100] {
                let shape = shape(serialize, size, 1);
                let mut ids = BTreeSet::new();
                for (number, queues, queue) in [(0, 8, 7), (1, 1000, 12), (0xABCD_EF01_2345, 1, 0)]
                {
                    let command = request(&shape, number, queues, queue);
                    assert_eq!(command.code, request_code::SEND_MESSAGE_V2);
                    assert_eq!((command.opaque, command.is_oneway()), (2_000_000_123, true));
                    let header =
                        SendMessageRequestHeader::decode_for(command.code, &command.ext).unwrap();
                    assert_eq!(header.queue_id, queue as i32);
                    assert_eq!(header.born_timestamp, 1_700_000_000_123);
                    assert!(!header.batch);
                    let encoded = header.properties.unwrap();
                    let get = |name| {
                        properties::get(encoded.as_bytes(), name)
                            .unwrap()
                            .to_owned()
                    };
                    assert_eq!(get("TAGS"), "tag3");
                    assert!(get("UNIQ_KEY").ends_with(&format!("{number:012X}")));
                    assert!(ids.insert(get("KEYS")));
                    let body = command.body.to_bytes();
                    assert_eq!(body.len(), size);
                    assert_eq!(stamp::read(&body, 5), (size >= STAMP).then_some(77));
                }
            }
        }
    }

    #[test]
    fn batches_hold_messages_of_their_own() {
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            let command = request(&shape(serialize, 50, 5), 40, 8, 3);
            assert_eq!(command.code, request_code::SEND_BATCH_MESSAGE);
            let header = SendMessageRequestHeader::decode_for(command.code, &command.ext).unwrap();
            assert!(header.batch);
            let items = batch::decode(command.body.to_bytes(), 10).unwrap();
            assert_eq!(items.len(), 5);
            for (number, item) in (40..).zip(&items) {
                let id = properties::get(&item.properties, "UNIQ_KEY").unwrap();
                assert!(id.ends_with(&format!("{number:012X}")));
                let key = properties::get(&item.properties, "KEYS").unwrap();
                assert!(key.ends_with(&format!("{number:012X}")));
                assert_eq!(stamp::read(&item.body, 5), Some(77));
                assert_eq!(item.body.len(), 50);
            }
        }
    }
}
