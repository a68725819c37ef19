//! Messages: one to send, and one that was received.

use std::borrow::Cow;
use std::io::Read;
use std::net::SocketAddr;

use bytes::Bytes;
use flate2::read::ZlibDecoder;
use raftmq_remoting::body::MessageQueue;
use raftmq_remoting::message::{StoredRecord, offset_msg_id, properties, sysflag, unique_id};
use raftmq_remoting::validate;

use crate::error::ClientError;

/// Largest body after inflation, in bytes: four frames.
const MAX_INFLATED: u64 = 64 * 1024 * 1024;

/// A message to send.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub topic: String,
    pub body: Bytes,
    /// Free for the application.
    pub flag: i32,
    properties: Vec<(Cow<'static, str>, String)>,
}

impl Message {
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            body: body.into(),
            flag: 0,
            properties: Vec::new(),
        }
    }

    /// Sets the tag that subscriptions filter by.
    pub fn tags(self, tags: impl Into<String>) -> Self {
        self.property(properties::TAGS, tags)
    }

    /// Sets the key under which the message can be looked up; several are joined with blanks.
    pub fn keys(self, keys: impl Into<String>) -> Self {
        self.property(properties::KEYS, keys)
    }

    /// Delivers after a delay level from 1 (1 s) to 18 (2 h).
    pub fn delay_level(self, level: u8) -> Self {
        self.property(properties::DELAY, level.to_string())
    }

    /// Sets any property, replacing an older value.
    pub fn property(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Self {
        let (name, value) = (name.into(), value.into());
        match self.properties.iter_mut().find(|(n, _)| *n == name) {
            Some((_, v)) => *v = value,
            None => self.properties.push((name, value)),
        }
        self
    }

    pub fn get_property(&self, name: &str) -> Option<&str> {
        self.properties
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The properties as they travel, and the message's unique id, which is made now unless the message has one.
    pub(crate) fn encode_properties(&self) -> Result<(Bytes, String), ClientError> {
        if let Some((n, v)) = self.properties.iter().find(|(n, v)| {
            n.is_empty() || !properties::is_encodable(n) || !properties::is_encodable(v)
        }) {
            return Err(ClientError::Invalid(format!(
                "property {n:?}={v:?} cannot be encoded"
            )));
        }
        let mut encoded = properties::Builder::with_capacity(128);
        for (name, value) in self.properties.iter().filter(|(_, v)| !v.is_empty()) {
            encoded.push(name, value);
        }
        let id = match self
            .get_property(properties::UNIQ_KEY)
            .filter(|id| !id.is_empty())
        {
            Some(id) => id.to_owned(),
            None => {
                let id = unique_id();
                encoded.push(properties::UNIQ_KEY, &id);
                id
            }
        };
        Ok((encoded.build(), id))
    }
}

/// A message that was pulled. Body and properties share the memory of the answer they came in.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedMessage {
    /// The topic it was sent to; a retry shows the original topic here.
    pub topic: String,
    /// The queue it was read from.
    pub queue: MessageQueue,
    pub queue_offset: i64,
    /// Position in the commit log of its broker set.
    pub physical_offset: i64,
    /// The sender's unique id, or the offset id where there is none.
    pub msg_id: String,
    /// Names the record's place: broker address and physical offset.
    pub offset_msg_id: String,
    pub flag: i32,
    pub sys_flag: i32,
    /// Sender's clock, milliseconds.
    pub born_timestamp: i64,
    /// Broker's clock, milliseconds.
    pub store_timestamp: i64,
    pub born_host: SocketAddr,
    pub store_host: SocketAddr,
    /// How often it was given back.
    pub reconsume_times: i32,
    /// Inflated.
    pub body: Bytes,
    properties: Bytes,
}

impl ReceivedMessage {
    pub fn property(&self, name: &str) -> Option<&str> {
        properties::get(&self.properties, name)
    }

    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        properties::iter(&self.properties)
    }

    pub fn tags(&self) -> Option<&str> {
        self.property(properties::TAGS)
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        properties::keys(&self.properties)
    }

    /// All records of an answer's body, in order.
    ///
    /// # Errors
    /// A record is damaged; none is returned then, so that none is skipped silently.
    pub fn decode_all(records: &Bytes, broker_name: &str) -> Result<Vec<Self>, String> {
        StoredRecord::all(records)
            .map(|record| {
                Self::from_record(records, &record.map_err(|e| e.to_string())?, broker_name)
            })
            .collect()
    }

    fn from_record(
        records: &Bytes,
        record: &StoredRecord<'_>,
        broker_name: &str,
    ) -> Result<Self, String> {
        let at = record.physical_offset();
        if !record.body_crc_ok() {
            return Err(format!("the body of the record at {at} has a bad checksum"));
        }
        let mut body = records.slice_ref(record.body());
        if record.sys_flag() & sysflag::COMPRESSED != 0 {
            body = inflate(&body, record.sys_flag())
                .map_err(|e| format!("the body of the record at {at}: {e}"))?;
        }
        let is_retry = validate::is_retry_topic(record.topic());
        let original = record
            .property(properties::RETRY_TOPIC)
            .filter(|_| is_retry);
        let topic = original.unwrap_or(record.topic());
        let offset_msg_id = offset_msg_id(record.store_host(), at);
        Ok(Self {
            topic: topic.to_owned(),
            queue: MessageQueue::new(record.topic(), broker_name, record.queue_id()),
            queue_offset: record.queue_offset(),
            physical_offset: at,
            msg_id: record
                .property(properties::UNIQ_KEY)
                .map_or_else(|| offset_msg_id.clone(), str::to_owned),
            offset_msg_id,
            flag: record.flag(),
            sys_flag: record.sys_flag(),
            born_timestamp: record.born_timestamp(),
            store_timestamp: record.store_timestamp(),
            born_host: record.born_host(),
            store_host: record.store_host(),
            reconsume_times: record.reconsume_times(),
            body,
            properties: records.slice_ref(record.properties()),
        })
    }
}

fn inflate(body: &[u8], sys_flag: i32) -> Result<Bytes, String> {
    let kind = sys_flag & sysflag::COMPRESSION_MASK;
    if kind != 0 && kind != sysflag::COMPRESSION_ZLIB {
        return Err(format!(
            "compression type {kind:#x} is not supported, only ZLIB"
        ));
    }
    let mut out = Vec::new();
    let read = ZlibDecoder::new(body)
        .take(MAX_INFLATED + 1)
        .read_to_end(&mut out)
        .map_err(|e| e.to_string())?;
    if read as u64 > MAX_INFLATED {
        return Err(format!("inflates to more than {MAX_INFLATED} bytes"));
    }
    Ok(out.into())
}
