//! The disk side of a RaftMQ replica. Knows no network and no Raft: it stores entries, applies them, and lets
//! readers find messages.
//!
//! Three seams keep it testable: [`vfs::FileSystem`], [`kv::Kv`], and the segment writer, which is a state machine
//! driven by a thread in a broker and by hand in a test.

pub mod command;
pub mod commitlog;
pub mod consume_queue;
pub mod directory;
mod error;
pub mod housekeeping;
pub mod io_error;
pub mod key_index;
pub mod key_query;
pub mod kv;
pub mod machine;
mod mapped;
pub mod sabotage;
mod scrub;
pub mod snapshots;
pub mod state;
pub mod storable;
pub mod store;
#[cfg(test)]
mod tests;
pub mod time_index;
pub mod timers;
pub mod version;
pub mod vfs;

pub use command::{Command, OffsetCommit, PendingTransaction, TimerKey};
pub use error::{Result, StoreError};
pub use machine::{Applied, Arrived, Effects, Machine};
pub use store::{Env, Stop, Store};
