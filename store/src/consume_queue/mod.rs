//! Consume queues: per topic and queue id, which messages of the log belong to it. Derived from committed entries,
//! written by apply alone, read by any thread. Layout and file size are RocketMQ's: 20 bytes an entry (physical
//! offset i64, size u32, tags code i64), 300 000 entries a file, named by the first byte's position.
//!
//! Architecture invariant: nothing here is fsynced on the path that acknowledges. After a killed process the files
//! hold what was written; after a power cut they are rebuilt from the log.

mod queue;
mod table;

pub use queue::{ConsumeQueue, QueueEntry};
pub use table::QueueTable;

/// Bytes an entry.
pub const ENTRY_LEN: usize = 20;
/// Entries a file.
pub const ENTRIES_PER_FILE: u64 = 300_000;
