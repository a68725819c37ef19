//! RocksDB behind the key-value seam. Its write-ahead log is on and not synced per write: a killed process loses
//! nothing, and what a power cut costs is re-applied from the commitlog, which is the truth.

use std::path::Path;

use rocksdb::{ColumnFamilyDescriptor, DB, IteratorMode, Options, WriteBatch, WriteOptions};

use super::{Batch, Family, Kv, Pair};
use crate::error::{Result, StoreError};

/// Memory for recent writes, bytes a family: metadata is small, and six families share a broker with its page cache.
const WRITE_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// Log files RocksDB writes about itself.
const KEPT_INFO_LOGS: usize = 4;

/// The metadata store of a broker.
pub struct RocksKv {
    db: DB,
}

fn failed(error: rocksdb::Error) -> StoreError {
    StoreError::Metadata(error.into_string())
}

impl RocksKv {
    /// Opens or makes the database in `dir`.
    ///
    /// # Errors
    /// [`StoreError::Metadata`] with RocksDB's words, damage included.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_keep_log_file_num(KEPT_INFO_LOGS);
        options.set_max_background_jobs(2);
        options.set_paranoid_checks(true);
        let families = Family::ALL.map(|family| {
            let mut options = Options::default();
            options.set_write_buffer_size(WRITE_BUFFER_BYTES);
            ColumnFamilyDescriptor::new(family.name(), options)
        });
        let db = DB::open_cf_descriptors(&options, dir, families).map_err(failed)?;
        Ok(Self { db })
    }

    fn handle(&self, family: Family) -> Result<&rocksdb::ColumnFamily> {
        let missing =
            || StoreError::Metadata(format!("column family {} is missing", family.name()));
        self.db.cf_handle(family.name()).ok_or_else(missing)
    }
}

impl Kv for RocksKv {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.db.get_cf(self.handle(family)?, key).map_err(failed)
    }

    fn scan(&self, family: Family, from: &[u8], limit: usize) -> Result<Vec<Pair>> {
        let mode = IteratorMode::From(from, rocksdb::Direction::Forward);
        let pairs = self.db.iterator_cf(self.handle(family)?, mode).take(limit);
        pairs
            .map(|pair| {
                pair.map(|(k, v)| (k.into_vec(), v.into_vec()))
                    .map_err(failed)
            })
            .collect()
    }

    fn write(&self, batch: Batch) -> Result<()> {
        let mut out = WriteBatch::default();
        for (family, key, value) in &batch.changes {
            let handle = self.handle(*family)?;
            match value {
                Some(value) => out.put_cf(handle, key, value),
                None => out.delete_cf(handle, key),
            }
        }
        self.db
            .write_opt(out, &WriteOptions::default())
            .map_err(failed)
    }

    fn flush(&self) -> Result<()> {
        self.db.flush_wal(true).map_err(failed)
    }
}
