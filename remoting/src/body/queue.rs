//! Message queues: as values, as map keys, locked and with offsets.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use serde::de::{DeserializeOwned, Error};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::shapes;
use crate::json::OBJECT_KEY_MARK;

shapes! {
    /// One queue of a topic at a broker.
    #[derive(Default, Eq, Hash, PartialOrd, Ord)]
    pub struct MessageQueue {
        broker_name: String,
        queue_id: i32,
        topic: String,
    }

    /// Body of LOCK_BATCH_MQ (41) and UNLOCK_BATCH_MQ (42).
    #[derive(Default)]
    pub struct LockBatchRequestBody {
        client_id: String,
        consumer_group: String,
        mq_set: Vec<MessageQueue>,
        only_this_broker: bool,
    }

    #[derive(Default)]
    pub struct LockBatchResponseBody {
        #[serde(rename = "lockOKMQSet")]
        lock_ok_mq_set: Vec<MessageQueue>,
    }

    /// Response body of INVOKE_BROKER_TO_RESET_OFFSET (222), request body of 220.
    #[derive(Default)]
    pub struct ResetOffsetBody {
        offset_table: MessageQueueMap<i64>,
    }

    /// What a C++ client gets in place of [`ResetOffsetBody`].
    #[derive(Default)]
    pub struct ResetOffsetBodyForC {
        offset_table: Vec<MessageQueueForC>,
    }

    #[derive(Default)]
    pub struct MessageQueueForC {
        broker_name: String,
        offset: i64,
        queue_id: i32,
        topic: String,
    }

    /// Answer to 221 (one client's offsets) and 223 (all clients').
    #[derive(Default)]
    pub struct GetConsumerStatusBody {
        consumer_table: BTreeMap<String, MessageQueueMap<i64>>,
        message_queue_table: MessageQueueMap<i64>,
    }

    /// OFFSET_MOVED_EVENT message body.
    #[derive(Default)]
    pub struct OffsetMovedEvent {
        consumer_group: String,
        message_queue: MessageQueue,
        offset_new: i64,
        offset_request: i64,
    }
}

impl MessageQueue {
    pub fn new(topic: impl Into<String>, broker_name: impl Into<String>, queue_id: i32) -> Self {
        Self {
            broker_name: broker_name.into(),
            queue_id,
            topic: topic.into(),
        }
    }
}

/// A map keyed by message queues; on the wire its keys are JSON objects.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageQueueMap<V>(pub BTreeMap<MessageQueue, V>);

impl<V> Default for MessageQueueMap<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V> Deref for MessageQueueMap<V> {
    type Target = BTreeMap<MessageQueue, V>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<V> DerefMut for MessageQueueMap<V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<V> FromIterator<(MessageQueue, V)> for MessageQueueMap<V> {
    fn from_iter<T: IntoIterator<Item = (MessageQueue, V)>>(iter: T) -> Self {
        Self(iter.into_iter().collect())
    }
}

impl<V: Serialize> Serialize for MessageQueueMap<V> {
    /// Meant for [`crate::json::to_bytes`], which turns the marked keys into objects.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (queue, value) in &self.0 {
            let key = serde_json::to_string(queue).map_err(serde::ser::Error::custom)?;
            map.serialize_entry(&format!("{OBJECT_KEY_MARK}{key}"), value)?;
        }
        map.end()
    }
}

impl<'de, V: DeserializeOwned> Deserialize<'de> for MessageQueueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = BTreeMap::<String, V>::deserialize(deserializer)?;
        let parse = |(key, value): (String, V)| {
            let text = key.strip_prefix(OBJECT_KEY_MARK).unwrap_or(&key);
            Ok((serde_json::from_str(text).map_err(D::Error::custom)?, value))
        };
        raw.into_iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn queue_keys_are_objects_on_the_wire() {
        let body = ResetOffsetBody {
            offset_table: [(MessageQueue::new("t\"", "b", 3), 7)]
                .into_iter()
                .collect(),
        };
        let text = json::to_bytes(&body);
        assert_eq!(
            text,
            r#"{"offsetTable":{{"brokerName":"b","queueId":3,"topic":"t\""}:7}}"#
        );
        assert_eq!(json::from_slice::<ResetOffsetBody>(&text).unwrap(), body);
        let mut nested = GetConsumerStatusBody::default();
        nested.consumer_table.insert("c".into(), body.offset_table);
        assert_eq!(
            json::from_slice::<GetConsumerStatusBody>(&json::to_bytes(&nested)).unwrap(),
            nested
        );
    }
}
