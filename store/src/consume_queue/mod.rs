//! Consume queues: per topic and queue id, which messages of the log belong to it. Derived from committed entries,
//! added by apply alone, read by any thread. Layout and file size are RocketMQ's: 20 bytes an entry (physical
//! offset i64, size u32, tags code i64), 300 000 entries a file, named by the first byte's position.
//!
//! Which entries a queue has is not read off its files but kept in the table file, as of an applied entry; what was
//! applied after that is made again from the log. The newest entries are in memory, and their files are written behind
//! them. All queues share one bounded set of descriptors.
//!
//! Architecture invariant: nothing here is fsynced on the path that acknowledges. A checkpoint makes the files
//! durable first and the table that speaks of them after that.

mod behind;
mod checkpoint;
mod descriptors;
mod dirty;
mod entry;
mod queue;
mod shared;
mod table;
mod table_file;
mod tail;
mod trim;

#[cfg(test)]
mod tests;

pub use behind::{MAX_IN_MEMORY, MAX_TAIL};
pub use checkpoint::TableCut;
pub use descriptors::MAX_OPEN_FILES;
pub use entry::QueueEntry;
pub use queue::ConsumeQueue;
pub use table::{Opened, QueueTable};

/// Bytes an entry.
pub const ENTRY_LEN: usize = 20;
/// Entries a file.
pub const ENTRIES_PER_FILE: u64 = 300_000;
/// Highest offset of a queue: byte positions in its files stay within an i64, as in RocketMQ.
pub const MAX_QUEUE_OFFSET: i64 = i64::MAX / ENTRY_LEN as i64 - ENTRIES_PER_FILE as i64;

/// Number of the file an offset lies in; offsets are never negative here.
fn file_of(offset: i64) -> u64 {
    offset as u64 / ENTRIES_PER_FILE
}

/// Position of an offset in its file, bytes.
fn position_of(offset: i64) -> u64 {
    offset as u64 % ENTRIES_PER_FILE * ENTRY_LEN as u64
}

/// First offset after the file that `offset` lies in.
fn file_end(offset: i64) -> i64 {
    ((file_of(offset) + 1) * ENTRIES_PER_FILE) as i64
}
