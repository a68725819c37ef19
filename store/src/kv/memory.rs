//! The key-value store of tests: a sorted map.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use std::path::Path;

use super::{Batch, Family, Frozen, Kv, Pair};
use crate::error::Result;

type Sorted = BTreeMap<(Family, Vec<u8>), Vec<u8>>;

/// An ordered map in memory.
#[derive(Debug, Default)]
pub struct MemoryKv {
    map: RwLock<Sorted>,
}

impl Kv for MemoryKv {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.map.read().get(&(family, key.to_vec())).cloned())
    }

    fn scan(&self, family: Family, from: &[u8], limit: usize) -> Result<Vec<Pair>> {
        let map = self.map.read();
        let range = map.range((family, from.to_vec())..);
        let pairs = range.take_while(|((f, _), _)| *f == family).take(limit);
        Ok(pairs.map(|((_, k), v)| (k.clone(), v.clone())).collect())
    }

    fn write(&self, batch: &Batch) -> Result<()> {
        let mut map = self.map.write();
        for (family, key, value) in batch.changes.iter().cloned() {
            match value {
                Some(value) => map.insert((family, key), value),
                None => map.remove(&(family, key)),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn freeze(&self, _dir: &Path) -> Result<Frozen> {
        let map = RwLock::new(self.map.read().clone());
        Ok(Box::new(move || {
            Ok(Box::new(MemoryKv { map }) as Box<dyn Kv>)
        }))
    }
}
