//! Messages by key: what the key index says, checked against the messages themselves.

use std::ops::ControlFlow;

use bytes::Bytes;
use raftmq_remoting::message::{StoredRecord, properties};

use crate::commitlog::CommitLog;
use crate::error::{Result, StoreError};
use crate::key_index::KeyIndex;

/// Candidates looked at for one query: hashes rarely collide, but a popular key may be outside of the time range.
const MAX_CANDIDATES: usize = 100_000;

/// Stored messages of a topic with this key or unique id whose store time lies in the range, newest first.
///
/// # Errors
/// I/O. Damaged or expired messages are left out. Reads files: not for async threads.
pub fn query(
    keys: &KeyIndex,
    log: &CommitLog,
    topic: &str,
    key: &str,
    (begin_ms, end_ms): (i64, i64),
    max: usize,
) -> Result<Vec<Bytes>> {
    let mut found = Vec::new();
    let mut looked_at = 0;
    if max == 0 {
        return Ok(found);
    }
    keys.query(topic, key, begin_ms, end_ms, &mut |position| {
        looked_at += 1;
        let record = match log.read_record_at(position) {
            Ok(record) => record,
            Err(StoreError::OutOfRange { .. } | StoreError::Corrupt { .. }) => {
                return Ok(ControlFlow::Continue(()));
            }
            Err(error) => return Err(error),
        };
        if has_key(&record, topic, key, begin_ms, end_ms) {
            found.push(record);
        }
        Ok(match found.len() >= max || looked_at >= MAX_CANDIDATES {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    })?;
    Ok(found)
}

fn has_key(record: &[u8], topic: &str, key: &str, begin_ms: i64, end_ms: i64) -> bool {
    let Ok(view) = StoredRecord::parse(record) else {
        return false;
    };
    let keys = view.property(properties::KEYS).unwrap_or_default();
    let mut keys = properties::split_keys(keys);
    view.topic() == topic
        && (begin_ms..=end_ms).contains(&view.store_timestamp())
        && (view.property(properties::UNIQ_KEY) == Some(key) || keys.any(|k| k == key))
}
