//! RocksDB behind the key-value seam. Its write-ahead log is on and not synced per write: a killed process loses
//! nothing, and what a power cut costs is re-applied from the commitlog, which is the truth.
//!
//! Nor does it lose anything to an fsync that failed before a start in the same boot. Opening writes what the write-ahead
//! log holds to new, fsynced files (RocksDB's default, `avoid_flush_during_recovery = false`), and a file whose fsync failed is
//! never named by the manifest. The log is given up only after [`Kv::flush`] succeeded; everything later is there to be
//! applied again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    ColumnFamilyDescriptor, DB, ErrorKind, IteratorMode, Options, WriteBatch, WriteOptions,
};

use super::{Batch, Family, Frozen, Kv, Pair};
use crate::error::{Result, StoreError};
use crate::io_error::{Meaning, is_no_space, meaning_of_text};

/// Memory for recent writes, bytes a family: metadata is small, and six families share a broker with its page cache.
const WRITE_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// Log files RocksDB writes about itself.
const KEPT_INFO_LOGS: usize = 4;

/// The metadata store of a broker.
pub struct RocksKv {
    dir: PathBuf,
    /// `None` after the disk was full: RocksDB takes nothing any more then, and is opened anew.
    db: RwLock<Option<DB>>,
}

fn failed(error: rocksdb::Error) -> StoreError {
    let kind = error.kind();
    let text = error.into_string();
    // First what the system said: RocksDB calls a file that it may not open now corrupt as well.
    match meaning_of_text(&text) {
        Meaning::NoSpace => {
            return StoreError::io("write metadata", std::io::ErrorKind::StorageFull.into());
        }
        Meaning::Refused | Meaning::Damage => return StoreError::Metadata(text),
        Meaning::Fatal => {}
    }
    let lost_file = kind == ErrorKind::IOError && text.contains("No such file or directory");
    match kind == ErrorKind::Corruption || lost_file {
        true => StoreError::MetadataDamaged(text),
        false => StoreError::Metadata(text),
    }
}

fn handle(db: &DB, family: Family) -> Result<&rocksdb::ColumnFamily> {
    let missing = || StoreError::Metadata(format!("column family {} is missing", family.name()));
    db.cf_handle(family.name()).ok_or_else(missing)
}

/// The families to open: RocksDB wants to hear of all there are, also of those that a later version made and that are
/// empty as long as the set's version is not raised.
fn names_in(dir: &Path) -> BTreeSet<String> {
    let known = Family::ALL.map(|family| family.name().to_owned());
    let there = DB::list_cf(&Options::default(), dir).unwrap_or_default();
    known.into_iter().chain(there).collect()
}

impl RocksKv {
    /// Opens or makes the database in `dir`.
    ///
    /// # Errors
    /// [`StoreError::MetadataDamaged`]; [`StoreError::Metadata`] with RocksDB's words; no space.
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self {
            dir: dir.to_path_buf(),
            db: RwLock::new(Some(Self::open_db(dir)?)),
        })
    }

    fn open_db(dir: &Path) -> Result<DB> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_keep_log_file_num(KEPT_INFO_LOGS);
        options.set_max_background_jobs(2);
        options.set_paranoid_checks(true);
        let families = names_in(dir).into_iter().map(|name| {
            let mut options = Options::default();
            options.set_write_buffer_size(WRITE_BUFFER_BYTES);
            ColumnFamilyDescriptor::new(name, options)
        });
        DB::open_cf_descriptors(&options, dir, families).map_err(failed)
    }

    /// Runs `work` on the database, opened anew if the disk was full before.
    fn with<T>(&self, work: impl FnOnce(&DB) -> Result<T>) -> Result<T> {
        {
            let db = self.db.read();
            if let Some(db) = db.as_ref() {
                return work(db);
            }
        }
        let mut db = self.db.write();
        if db.is_none() {
            *db = Some(Self::open_db(&self.dir)?);
        }
        match db.as_ref() {
            Some(db) => work(db),
            None => Err(StoreError::Metadata("not open".to_owned())),
        }
    }
}

impl Kv for RocksKv {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.with(|db| db.get_cf(handle(db, family)?, key).map_err(failed))
    }

    fn scan(&self, family: Family, from: &[u8], limit: usize) -> Result<Vec<Pair>> {
        self.with(|db| {
            let mode = IteratorMode::From(from, rocksdb::Direction::Forward);
            let pairs = db.iterator_cf(handle(db, family)?, mode).take(limit);
            pairs
                .map(|pair| {
                    pair.map(|(k, v)| (k.into_vec(), v.into_vec()))
                        .map_err(failed)
                })
                .collect()
        })
    }

    fn write(&self, batch: &Batch) -> Result<()> {
        let written = self.with(|db| {
            let mut out = WriteBatch::default();
            for (family, key, value) in &batch.changes {
                let handle = handle(db, *family)?;
                match value {
                    Some(value) => out.put_cf(handle, key, value),
                    None => out.delete_cf(handle, key),
                }
            }
            db.write_opt(out, &WriteOptions::default()).map_err(failed)
        });
        if written.as_ref().is_err_and(is_no_space) {
            *self.db.write() = None;
        }
        written
    }

    fn flush(&self) -> Result<()> {
        self.with(|db| db.flush_wal(true).map_err(failed))
    }

    fn freeze(&self, dir: &Path) -> Result<Frozen> {
        self.with(|db| {
            let checkpoint = Checkpoint::new(db).map_err(failed)?;
            checkpoint.create_checkpoint(dir).map_err(failed)
        })?;
        let dir = dir.to_path_buf();
        Ok(Box::new(move || {
            let names = names_in(&dir);
            let db = DB::open_cf_for_read_only(&Options::default(), &dir, names, false);
            Ok(Box::new(RocksKv {
                db: RwLock::new(Some(db.map_err(failed)?)),
                dir,
            }) as Box<dyn Kv>)
        }))
    }
}
