//! A metadata store that can be killed and lose power: batches are atomic, and without a flush a power loss leaves any
//! prefix of them. That is what RocksDB promises with a write-ahead log that is not synced.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Batch, Change, Family, Frozen, Kv, MemoryKv, Pair};
use crate::Result;

#[derive(Default)]
struct Disk {
    batches: Vec<Vec<Change>>,
    synced: usize,
}

/// What outlives the process.
#[derive(Default)]
pub struct KvDisk {
    disk: Mutex<Disk>,
}

impl KvDisk {
    /// What is left after a power loss; `pick(n)` gives a number below n.
    pub fn lose_power(&self, pick: impl FnOnce(usize) -> usize) {
        let mut disk = self.disk.lock();
        let unsynced = disk.batches.len() - disk.synced;
        let kept = disk.synced + pick(unsynced + 1);
        disk.batches.truncate(kept);
        disk.synced = kept;
    }

    /// Everything is gone: the directory was damaged and set aside.
    pub fn forget(&self) {
        *self.disk.lock() = Disk::default();
    }

    /// Opens it.
    ///
    /// # Errors
    /// None, as long as memory writes.
    pub fn open(self: &Arc<Self>) -> Result<Arc<dyn Kv>> {
        let memory = MemoryKv::default();
        for changes in &self.disk.lock().batches {
            let batch = Batch {
                changes: changes.clone(),
            };
            memory.write(&batch)?;
        }
        Ok(Arc::new(SimKv {
            disk: self.clone(),
            memory,
        }))
    }
}

struct SimKv {
    disk: Arc<KvDisk>,
    memory: MemoryKv,
}

impl Kv for SimKv {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.memory.get(family, key)
    }
    fn scan(&self, family: Family, from: &[u8], limit: usize) -> Result<Vec<Pair>> {
        self.memory.scan(family, from, limit)
    }
    fn write(&self, batch: &Batch) -> Result<()> {
        self.disk.disk.lock().batches.push(batch.changes.clone());
        self.memory.write(batch)
    }
    fn flush(&self) -> Result<()> {
        let mut disk = self.disk.disk.lock();
        disk.synced = disk.batches.len();
        Ok(())
    }
    fn freeze(&self, dir: &Path) -> Result<Frozen> {
        self.memory.freeze(dir)
    }
}
