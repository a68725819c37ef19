//! Opening a replica's directory as a whole: the lock against a second process, the log, the metadata, the consume
//! queues, and what has to be rebuilt after an unclean stop.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::commitlog::{CommitLog, LogOptions};
use crate::consume_queue::QueueTable;
use crate::error::{Result, StoreError};
use crate::kv::{Kv, RocksKv};
use crate::machine::Machine;
use crate::state::State;
use crate::vfs::{FileSystem, RealFs};

/// Everything on the disk of one replica.
pub struct Store {
    /// The Raft log with the messages.
    pub log: CommitLog,
    /// Applies entries; owned by the apply task.
    pub machine: Machine,
    /// Consume queues, for readers.
    pub queues: Arc<QueueTable>,
    /// Applied state, for readers.
    pub state: Arc<State>,
    /// Keeps the directory ours.
    pub lock: DirectoryLock,
}

/// Holds the `lock` file and the `abort` file of a directory.
#[derive(Debug)]
pub struct DirectoryLock {
    dir: PathBuf,
    _file: fs::File,
}

impl DirectoryLock {
    fn take(dir: &Path) -> Result<Self> {
        let path = dir.join("lock");
        let failed = |e| StoreError::io(format!("open {}", path.display()), e);
        fs::create_dir_all(dir).map_err(failed)?;
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(
            |_| StoreError::Refused(format!("{} is in use by another process", dir.display())),
        )?;
        Ok(Self {
            dir: dir.to_path_buf(),
            _file: file,
        })
    }

    /// Whether the last process ended without [`DirectoryLock::clean_stop`], and whether the machine has been
    /// started anew since. Marks the directory as in use.
    fn mark_running(&self) -> Result<Stop> {
        let path = self.dir.join("abort");
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        let last = fs::read_to_string(&path).ok();
        let stop = match last {
            None => Stop::Clean,
            Some(last) if last == boot => Stop::Killed,
            Some(_) => Stop::PowerLoss,
        };
        // What a power cut left behind stays marked until it is rebuilt, however often that is interrupted.
        let mark = if stop == Stop::PowerLoss {
            REBUILD
        } else {
            &boot
        };
        self.write_mark(mark)?;
        Ok(stop)
    }

    fn mark_rebuilt(&self) -> Result<()> {
        self.write_mark(&fs::read_to_string(BOOT_ID).unwrap_or_default())
    }

    fn write_mark(&self, mark: &str) -> Result<()> {
        let path = self.dir.join("abort");
        RealFs
            .replace(&path, mark.as_bytes())
            .map_err(|e| StoreError::io(format!("write {}", path.display()), e))
    }

    /// Makes everything below the directory durable, consume queues among it, and notes that nothing has to be checked.
    pub fn clean_stop(&self) {
        let synced = fs::File::open(&self.dir).and_then(|dir| Ok(rustix::fs::syncfs(&dir)?));
        if let Err(error) = synced {
            tracing::warn!(%error, "not everything is durable; the next start checks");
            return;
        }
        if let Err(error) = fs::remove_file(self.dir.join("abort")) {
            tracing::warn!(%error, "the abort file could not be removed; the next start checks more than it has to");
        }
    }
}

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// In the `abort` file while consume queues are being rebuilt; no boot has this id.
const REBUILD: &str = "rebuild";

/// How the last process on a directory ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Clean,
    /// The process died; the page cache survived.
    Killed,
    /// The machine went down; what was not fsynced may be gone.
    PowerLoss,
}

impl Store {
    /// Opens or makes the store in `dir`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when another process holds it or it was made with other constants; I/O; damage.
    pub fn open(dir: &Path, options: &LogOptions) -> Result<Store> {
        let vfs: Arc<dyn FileSystem> = Arc::new(RealFs);
        let lock = DirectoryLock::take(dir)?;
        let stop = lock.mark_running()?;
        let log = CommitLog::open(vfs.clone(), dir.join("commitlog"), options)?;
        let queues = Arc::new(QueueTable::open(vfs.clone(), dir.join("consumequeue"))?);
        let metadata = dir.join("metadata");
        let kv: Arc<dyn Kv> = Arc::new(RocksKv::open(&metadata)?);
        let state = Arc::new(State::load(kv.clone())?);
        let mut machine = Machine::load(kv, state.clone(), queues.clone())?;

        let (purged, last) = log.bounds();
        let behind = machine
            .applied()
            .filter(|a| last.is_none_or(|last| last.index < a.index));
        if let Some(applied) = behind {
            let lost = format!(
                "metadata is at entry {}, the log ends at {:?}",
                applied.index,
                last.map(|l| l.index)
            );
            if purged.is_some() {
                return Err(StoreError::corrupt(
                    dir.display().to_string(),
                    format!(
                        "{lost}, and the log no longer begins at its first entry: set this directory aside"
                    ),
                ));
            }
            tracing::warn!("{lost}: unsynced log was lost; all state is rebuilt from the log");
            queues.clear()?;
            drop((machine, state));
            vfs.remove_dir_all(&metadata)
                .map_err(|e| StoreError::io("remove the metadata store", e))?;
            log.close();
            drop((log, queues, lock));
            return Store::open(dir, options);
        }
        if stop == Stop::PowerLoss {
            tracing::warn!("unclean stop and a new boot: consume queues are rebuilt from the log");
            queues.clear()?;
            machine.rebuild_queues(&log)?;
            lock.mark_rebuilt()?;
        }
        log.rebuild_offsets(machine.applied().map(|a| a.index), queues.offsets())?;
        if let Some(applied) = machine.applied() {
            log.set_committed(applied.position, applied.index);
        }
        tracing::info!(?stop, applied = ?machine.applied(), end = log.end(), "store opened");
        Ok(Store {
            log,
            machine,
            queues,
            state,
            lock,
        })
    }
}
