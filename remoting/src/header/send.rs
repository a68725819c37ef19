//! Sending: SEND_MESSAGE in its long and its single-letter form, replies of the request-reply pattern, recall.

use super::{Field, Header, HeaderError};
use crate::bytestr::ByteStr;
use crate::codes::request;
use crate::ext::{ExtFields, FieldsReader, Name};
use crate::headers;

/// One table for both forms of the send header: Rust field, type, long name, letter, required.
macro_rules! send_header {
    ($($(#[$meta:meta])* $field:ident: $ty:ty = $long:literal | $letter:literal $($required:ident)?),* $(,)?) => {
        headers! {
            /// SEND_MESSAGE (10), SEND_MESSAGE_V2 (310), SEND_BATCH_MESSAGE (320), SEND_REPLY_MESSAGE (324, 325).
            ///
            /// [`Header::decode`] and [`Header::encode`] use the long names; see [`Self::decode_for`].
            pub struct SendMessageRequestHeader {
                $($(#[$meta])* $field: $ty = $long $($required)?),*
            }
        }

        impl SendMessageRequestHeader {
            fn decode_letters(ext: &ExtFields) -> Result<Self, HeaderError> {
                let fields = FieldsReader::new(ext);
                Ok(Self {
                    $($field: <$ty as Field>::read(&fields, const { Name::new($letter) }, crate::required!($($required)?))?,)*
                })
            }

            /// Sets the single-letter fields of 310, 320 and 325.
            pub fn encode_v2(&self, ext: &mut ExtFields) {
                $(Field::write(&self.$field, ext, $letter);)*
            }
        }
    };
}

send_header! {
    producer_group: ByteStr = "producerGroup" | "a" required,
    topic: ByteStr = "topic" | "b" required,
    /// The template for a topic created by this send, TBW102.
    default_topic: ByteStr = "defaultTopic" | "c" required,
    default_topic_queue_nums: i32 = "defaultTopicQueueNums" | "d" required,
    /// Negative: the broker picks one.
    queue_id: i32 = "queueId" | "e" required,
    sys_flag: i32 = "sysFlag" | "f" required,
    /// Client clock, milliseconds.
    born_timestamp: i64 = "bornTimestamp" | "g" required,
    flag: i32 = "flag" | "h" required,
    /// Encoded as in [`crate::message::properties`].
    properties: Option<ByteStr> = "properties" | "i",
    reconsume_times: Option<i32> = "reconsumeTimes" | "j",
    unit_mode: bool = "unitMode" | "k",
    max_reconsume_times: Option<i32> = "maxReconsumeTimes" | "l",
    /// The body is a batch ([`crate::message::batch`]); this decides, not the request code.
    batch: bool = "batch" | "m",
    broker_name: Option<ByteStr> = "bname" | "n",
}

impl SendMessageRequestHeader {
    /// Reads the form that `code` implies: letters for 310, 320 and 325, long names otherwise.
    ///
    /// # Errors
    /// As [`Header::decode`]; the error names the field as it is on the wire.
    pub fn decode_for(code: i32, ext: &ExtFields) -> Result<Self, HeaderError> {
        match code {
            request::SEND_MESSAGE_V2
            | request::SEND_BATCH_MESSAGE
            | request::SEND_REPLY_MESSAGE_V2 => Self::decode_letters(ext),
            _ => Self::decode(ext),
        }
    }

    /// Sets the long-name fields of 10 and 324.
    pub fn encode_v1(&self, ext: &mut ExtFields) {
        self.encode(ext);
    }
}

headers! {
    /// Answer to every send; codes 0, 10, 11 and 12 carry it. MSG_REGION and TRACE_ON go along
    /// ([`super::extra`]).
    pub struct SendMessageResponseHeader {
        /// offsetMsgId; for a batch comma-joined, one per inner message.
        msg_id: String = "msgId" required,
        queue_id: i32 = "queueId" required,
        /// Of the first message of a batch.
        queue_offset: i64 = "queueOffset" required,
        transaction_id: Option<String> = "transactionId",
        batch_uniq_id: Option<String> = "batchUniqId",
        recall_handle: Option<String> = "recallHandle",
    }

    /// PUSH_REPLY_MESSAGE_TO_CLIENT (326).
    pub struct ReplyMessageRequestHeader {
        producer_group: ByteStr = "producerGroup" required,
        topic: ByteStr = "topic" required,
        default_topic: ByteStr = "defaultTopic" required,
        default_topic_queue_nums: i32 = "defaultTopicQueueNums" required,
        queue_id: i32 = "queueId" required,
        sys_flag: i32 = "sysFlag" required,
        born_timestamp: i64 = "bornTimestamp" required,
        flag: i32 = "flag" required,
        properties: Option<ByteStr> = "properties",
        reconsume_times: Option<i32> = "reconsumeTimes",
        unit_mode: bool = "unitMode",
        born_host: String = "bornHost" required,
        store_host: String = "storeHost" required,
        store_timestamp: i64 = "storeTimestamp" required,
    }

    /// RECALL_MESSAGE (370).
    pub struct RecallMessageRequestHeader {
        producer_group: Option<String> = "producerGroup",
        topic: String = "topic" required,
        recall_handle: String = "recallHandle" required,
    }

    pub struct RecallMessageResponseHeader {
        msg_id: String = "msgId" required,
    }
}
