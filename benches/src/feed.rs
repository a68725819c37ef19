//! Messages for a store, as a busy leader would put them into its log.

use bytes::Bytes;
use raftmq_remoting::message::{NewMessage, body_crc, properties};
use raftmq_store::StoreError;
use raftmq_store::commitlog::draft::Draft;

/// Messages of one entry: what a busy leader gathers.
pub const MESSAGES_PER_ENTRY: usize = 64;
/// Bytes of a stored message beside body, topic and keys, about; a draft that is a little too small grows.
const RECORD_OVERHEAD: usize = 256;

/// An endless row of messages that go round the queues of some topics. Each has a unique id that [`unique_id`] tells
/// from its number.
pub struct Feed {
    topics: Vec<String>,
    queues: u64,
    body: Bytes,
    body_crc: u32,
    keys: bool,
    number: u64,
}

/// The unique id of the message `number` of a feed, as long as a client's.
pub fn unique_id(number: u64) -> String {
    format!("{number:032X}")
}

/// The key of the message `number` of a feed made [`Feed::with_keys`].
pub fn key(number: u64) -> String {
    format!("order-{number}")
}

/// The name of the `nth` topic of a feed.
pub fn topic(nth: usize) -> String {
    format!("Bench{nth:06}")
}

impl Feed {
    /// For `topics` topics of `queues` queues, with bodies of `body_len` bytes.
    pub fn new(topics: usize, queues: u32, body_len: usize) -> Self {
        let body = Bytes::from(vec![b'x'; body_len]);
        Self {
            topics: (0..topics.max(1)).map(topic).collect(),
            queues: u64::from(queues.max(1)),
            body_crc: body_crc(&body),
            body,
            keys: false,
            number: 0,
        }
    }

    /// Gives every message a key besides its unique id.
    pub fn with_keys(mut self) -> Self {
        self.keys = true;
        self
    }

    /// Number of the next message.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next message.
    pub fn message(&mut self) -> NewMessage {
        let number = self.number;
        self.number += 1;
        let topics = self.topics.len() as u64;
        // Topic by topic, then the next queue of each.
        let topic = self.topics[(number % topics) as usize].as_str();
        let queue = number / topics % self.queues;
        let mut encoded = properties::Builder::with_capacity(64);
        encoded.push(properties::UNIQ_KEY, &unique_id(number));
        if self.keys {
            encoded.push(properties::KEYS, &key(number));
        }
        encoded.push(properties::WAIT, "true");
        NewMessage {
            topic: topic.into(),
            queue_id: i32::try_from(queue).unwrap_or(0),
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1_700_000_000_000,
            born_host: ([127, 0, 0, 1], 40_000).into(),
            store_host: ([127, 0, 0, 1], 10_911).into(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body_crc: self.body_crc,
            properties: encoded.build(),
            body: self.body.clone(),
        }
    }

    /// An entry of the next `messages` messages.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`].
    pub fn draft(&mut self, messages: usize) -> Result<Draft, StoreError> {
        let mut draft = Draft::new(messages * (self.body.len() + RECORD_OVERHEAD));
        for _ in 0..messages {
            draft.push_message(&self.message())?;
        }
        Ok(draft)
    }
}
