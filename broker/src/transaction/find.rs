//! Finding a pending half message by its unique id.
//!
//! Before the log gives up a part, the half messages in it are written again at its end; the producer, and whoever was asked about
//! one, knows the old position. The id is in the key index, and the log says what is behind it.

use raftmq_remoting::header::EndTransactionRequestHeader;
use raftmq_remoting::message::StoredRecord;
use raftmq_remoting::message::properties as prop;
use raftmq_store::StoreError;

use crate::broker::Broker;
use crate::names;

/// Copies of one half message that are looked at, the newest first: it is written again whenever the log gives up the one before.
const MAX_COPIES: usize = 64;

/// Where the half message lies that a header speaks of: where it says, unless that one was moved. May read the disk.
pub fn position(broker: &Broker, header: &EndTransactionRequestHeader) -> i64 {
    let told = header.commit_log_offset;
    if !matches!(broker.state().transaction(told), Ok(None)) {
        return told;
    }
    let id = header.transaction_id.as_ref().filter(|id| !id.is_empty());
    let id = id.unwrap_or(&header.msg_id);
    match pending(broker, id, &header.producer_group) {
        Ok(found) => found.unwrap_or(told),
        Err(e) => {
            tracing::error!(id = %id, error = %e, "a half message cannot be looked for");
            told
        }
    }
}

/// Where the pending half message of a producer group with this unique id lies. Reads the disk.
///
/// # Errors
/// I/O.
pub fn pending(broker: &Broker, id: &str, group: &str) -> Result<Option<i64>, StoreError> {
    let always = (0, i64::MAX);
    let copies = broker
        .replica
        .query_keys(names::TRANS_HALF, id, always, MAX_COPIES)?;
    for bytes in copies {
        let Ok(record) = StoredRecord::parse(&bytes) else {
            continue;
        };
        let is_it = record.property(prop::UNIQ_KEY) == Some(id)
            && record.property(prop::PGROUP) == Some(group);
        let position = record.physical_offset();
        if is_it && broker.state().transaction(position)?.is_some() {
            return Ok(Some(position));
        }
    }
    Ok(None)
}
