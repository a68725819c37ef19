//! Messages as RocketMQ stores and ships them: the commit log record, its properties, batches, ids and hashes.

pub mod batch;
mod hash;
mod id;
pub mod perm;
pub mod properties;
mod record;
pub mod sysflag;

pub use batch::{BatchError, BatchItem};
pub use hash::{body_crc, java_hash, tags_code};
pub use id::{IdError, offset_msg_id, parse_offset_msg_id, push_offset_msg_id, unique_id};
pub use record::{
    FIXED_LENGTH, MAGIC_BLANK, MAGIC_V1, MAGIC_V2, MAX_PROPERTIES_LENGTH, MAX_TOPIC_LENGTH,
    MAX_V1_TOPIC_LENGTH, NewMessage, PHYSICAL_OFFSET_POSITION, QUEUE_OFFSET_POSITION, RecordError,
    SYS_FLAG_POSITION, StoredRecord, stamp,
};
