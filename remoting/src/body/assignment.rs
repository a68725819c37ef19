//! Server-side rebalance and POP: QUERY_ASSIGNMENT (400), SET_MESSAGE_REQUEST_MODE (401), BATCH_ACK_MESSAGE (200151).

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{MessageModel, MessageQueue, named, shapes};

named! {
    pub enum MessageRequestMode {
        #[default]
        Pull = "PULL",
        Pop = "POP",
    }
}

shapes! {
    #[derive(Default)]
    pub struct QueryAssignmentRequestBody {
        client_id: String,
        consumer_group: String,
        message_model: MessageModel,
        /// AVG or AVG_BY_CIRCLE.
        strategy_name: String,
        topic: String,
    }

    #[derive(Default)]
    pub struct QueryAssignmentResponseBody {
        /// None: keep the current assignment.
        #[serde(skip_serializing_if = "Option::is_none")]
        message_queue_assignments: Option<Vec<MessageQueueAssignment>>,
    }

    #[derive(Default)]
    pub struct MessageQueueAssignment {
        #[serde(skip_serializing_if = "Option::is_none")]
        attachments: Option<BTreeMap<String, String>>,
        message_queue: MessageQueue,
        mode: MessageRequestMode,
    }

    #[derive(Default)]
    pub struct SetMessageRequestModeRequestBody {
        consumer_group: String,
        mode: MessageRequestMode,
        pop_share_queue_num: i32,
        topic: String,
    }

    #[derive(Default)]
    pub struct BatchAckMessageRequestBody {
        acks: Vec<BatchAck>,
        broker_name: String,
    }

    /// Acknowledges the offsets `start_offset + i` of one queue for each bit `i`.
    #[derive(Default)]
    pub struct BatchAck {
        #[serde(rename = "b")]
        bit_set: BitSet,
        #[serde(rename = "c")]
        consumer_group: String,
        #[serde(rename = "it")]
        invisible_time: i64,
        #[serde(rename = "pt")]
        pop_time: i64,
        #[serde(rename = "q")]
        queue_id: i32,
        /// "0" normal, "1" and "2" retry topics.
        #[serde(rename = "r")]
        retry: String,
        #[serde(rename = "rq")]
        revive_queue_id: i32,
        #[serde(rename = "so")]
        start_offset: i64,
        #[serde(rename = "t")]
        topic: String,
    }
}

/// A Java `BitSet`: little-endian bytes, base64 on the wire (an array of numbers is read too).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BitSet(Vec<u8>);

impl BitSet {
    pub fn contains(&self, bit: usize) -> bool {
        self.0.get(bit / 8).is_some_and(|b| b >> (bit % 8) & 1 == 1)
    }

    pub fn insert(&mut self, bit: usize) {
        if self.0.len() <= bit / 8 {
            self.0.resize(bit / 8 + 1, 0);
        }
        self.0[bit / 8] |= 1 << (bit % 8);
    }

    /// The bits that are set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len() * 8).filter(|bit| self.contains(*bit))
    }
}

impl FromIterator<usize> for BitSet {
    fn from_iter<T: IntoIterator<Item = usize>>(iter: T) -> Self {
        let mut set = Self::default();
        iter.into_iter().for_each(|bit| set.insert(bit));
        set
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = BASE64[(word >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.chunks(4) {
        let mut word = 0;
        for &c in chunk {
            word = word << 6 | BASE64.iter().position(|b| *b == c)? as u32;
        }
        match chunk.len() {
            4 => bytes.extend_from_slice(&word.to_be_bytes()[1..]),
            3 => bytes.extend_from_slice(&(word << 6).to_be_bytes()[1..3]),
            2 => bytes.extend_from_slice(&(word << 12).to_be_bytes()[1..2]),
            _ => return None,
        }
    }
    Some(bytes)
}

impl Serialize for BitSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64_encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for BitSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Bytes(Vec<i16>),
        }
        match Form::deserialize(deserializer)? {
            Form::Text(text) => base64_decode(&text)
                .map(Self)
                .ok_or_else(|| D::Error::custom("bad base64")),
            // Java bytes are signed.
            Form::Bytes(bytes) => Ok(Self(bytes.into_iter().map(|b| b as u8).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_round_trips() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64_encode(bytes), text);
            assert_eq!(base64_decode(text).as_deref(), Some(bytes));
        }
        assert_eq!(base64_decode("a"), None);
        assert_eq!(base64_decode("a!bc"), None);
    }

    #[test]
    fn a_bit_set_reads_from_text_and_numbers() {
        let set: BitSet = [0, 9, 31].into_iter().collect();
        assert_eq!(
            serde_json::from_str::<BitSet>(&serde_json::to_string(&set).unwrap()).unwrap(),
            set
        );
        let numbers: BitSet = serde_json::from_str("[1,2,0,-128]").unwrap();
        assert_eq!(numbers.iter().collect::<Vec<_>>(), [0, 9, 31]);
    }
}
