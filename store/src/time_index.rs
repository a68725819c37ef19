//! Queue offset by store time: a binary search over a consume queue that reads each probed message's timestamp.
//! Store times never decrease along the log, so they never decrease along a queue.

use crate::commitlog::CommitLog;
use crate::consume_queue::ConsumeQueue;
use crate::error::{Result, StoreError};
use raftmq_remoting::message::StoredRecord;

/// Which of several messages with the asked time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// The first message at or after the time.
    Lower,
    /// The last message at or before the time.
    Upper,
}

/// The queue offset for a time. Before all messages: the first offset; after all: `Lower` gives the next offset
/// to be written, `Upper` the last message's offset.
///
/// # Errors
/// I/O or damage. Reads messages: not for async threads.
pub fn offset_at(
    log: &CommitLog,
    queue: &ConsumeQueue,
    timestamp_ms: i64,
    boundary: Boundary,
) -> Result<i64> {
    let (min, max) = (queue.min(), queue.max());
    let (mut low, mut high) = (min, max);
    // First offset whose time is beyond the boundary.
    while low < high {
        let middle = low + (high - low) / 2;
        let stored = match queue.read(middle, 1)?.first() {
            Some(entry) => {
                let bytes = log.read_record(entry.physical_offset as u64, entry.size)?;
                let view = StoredRecord::parse(&bytes).map_err(|e| {
                    StoreError::corrupt(
                        format!("message at {}", entry.physical_offset),
                        e.to_string(),
                    )
                })?;
                view.store_timestamp()
            }
            None => {
                return Err(StoreError::corrupt(
                    "consume queue",
                    format!("no entry {middle}"),
                ));
            }
        };
        let before = match boundary {
            Boundary::Lower => stored < timestamp_ms,
            Boundary::Upper => stored <= timestamp_ms,
        };
        if before {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(match boundary {
        Boundary::Lower => low,
        Boundary::Upper => (low - 1).max(min),
    })
}
