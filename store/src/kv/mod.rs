//! The ordered key-value seam under the metadata: RocksDB in a broker, a map in tests.

pub(crate) mod carried;
mod memory;
mod rocks;
mod sim;

pub use memory::MemoryKv;
pub use rocks::RocksKv;
pub use sim::KvDisk;

use std::path::Path;

use crate::error::Result;

/// Column families. Each holds one kind of replicated state (the names are on disk).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `applied`, membership, data versions: what the state machine says of itself.
    Meta,
    /// Topic name → topic config.
    Topics,
    /// Group name → subscription group config.
    Groups,
    /// `group \0 topic \0 queueId` → consumer offset.
    Offsets,
    /// `namespace \0 key` → value.
    KvConfig,
    /// `deliver_at_ms physical_offset`, big-endian → hash of topic and unique id of a timer of arbitrary time, otherwise empty: delayed
    /// messages by due time.
    Timers,
    /// `physical_offset` of a half message, big-endian → how often it was asked about and since when it lies there.
    Transactions,
    /// `group \0 topic \0 queueId` → the offset an administrator reset it to, until the queue's consumer has come for it.
    Resets,
}

impl Family {
    /// Every family; its place here stands in snapshots: new ones go to the end.
    pub const ALL: [Family; 8] = [
        Family::Meta,
        Family::Topics,
        Family::Groups,
        Family::Offsets,
        Family::KvConfig,
        Family::Timers,
        Family::Transactions,
        Family::Resets,
    ];

    /// Name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Family::Meta => "meta",
            Family::Topics => "topics",
            Family::Groups => "subscription_groups",
            Family::Offsets => "consumer_offsets",
            Family::KvConfig => "kv_config",
            Family::Timers => "timers",
            Family::Transactions => "transactions",
            Family::Resets => "offset_resets",
        }
    }
}

/// One change: a key's new value, or none any more.
pub(crate) type Change = (Family, Vec<u8>, Option<Vec<u8>>);

/// Changes that become visible, and survive a killed process, all at once.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) changes: Vec<Change>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, family: Family, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push((family, key.into(), Some(value.into())));
    }
    /// Removes a key.
    pub fn delete(&mut self, family: Family, key: impl Into<Vec<u8>>) {
        self.changes.push((family, key.into(), None));
    }
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// An ordered store with atomic batches.
pub trait Kv: Send + Sync {
    /// One value.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Up to `limit` pairs with keys ≥ `from`, in key order.
    fn scan(&self, family: Family, from: &[u8], limit: usize) -> Result<Vec<Pair>>;
    /// Applies a batch. On a full disk (an I/O error that says so) nothing has changed and it can be tried again.
    fn write(&self, batch: &Batch) -> Result<()>;
    /// Makes everything written durable against power loss.
    fn flush(&self) -> Result<()>;
    /// Keeps the present content as it is, with `dir` for files; short, so it may run between two batches. What it
    /// returns opens it, elsewhere and later; `dir` can be removed after that store is dropped.
    fn freeze(&self, dir: &Path) -> Result<Frozen>;
}

/// Pairs taken at once by [`for_each`].
const CHUNK: usize = 4096;

/// Visits all pairs of a family in key order, some at a time.
///
/// # Errors
/// The store's, or the visitor's.
pub fn for_each(
    kv: &dyn Kv,
    family: Family,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let mut from = Vec::new();
    loop {
        let pairs = kv.scan(family, &from, CHUNK)?;
        for (key, value) in &pairs {
            visit(key, value)?;
        }
        match pairs.last() {
            Some((key, _)) if pairs.len() == CHUNK => {
                from.clone_from(key);
                from.push(0);
            }
            _ => return Ok(()),
        }
    }
}

/// Opens the content of a [`Kv`] as it was when it was frozen.
pub type Frozen = Box<dyn FnOnce() -> Result<Box<dyn Kv>> + Send>;
