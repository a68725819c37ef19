//! Opening a replica's directory as a whole: the lock against a second process, the log, the metadata, what is derived
//! from the log, and what has to be made good after an unclean stop.
//!
//! The commitlog is the truth; everything else goes back to a point it surely holds and is brought up to date by reading
//! the log from there: consume queues from their last checkpoint, the key index from its last run, metadata that is
//! damaged or ahead of the log from a snapshot. Only the key index asks how the last process ended: its newest files are
//! not trusted after a power cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::commitlog::format::parse_segment_name;
use crate::commitlog::writer::FlushPolicy;
use crate::commitlog::{CommitLog, Drive, LogOptions};
use crate::consume_queue::QueueTable;
use crate::directory::DirectoryLock;
use crate::error::{Result, StoreError};
use crate::key_index::KeyIndex;
use crate::kv::{self, Family, Kv, RocksKv};
use crate::machine::{Applied, Machine, Parts};
use crate::scrub;
use crate::snapshots::Snapshots;
use crate::state::State;
use crate::vfs::{FileSystem, RealFs};

/// Everything on the disk of one replica.
pub struct Store {
    /// The Raft log with the messages.
    pub log: CommitLog,
    /// Applies entries.
    pub machine: Arc<Mutex<Machine>>,
    /// Consume queues, for readers.
    pub queues: Arc<QueueTable>,
    /// Messages by key.
    pub keys: Arc<KeyIndex>,
    /// Applied state, for readers.
    pub state: Arc<State>,
    /// States between two segments.
    pub snapshots: Arc<Snapshots>,
    /// How the last process ended.
    pub stop: Stop,
    /// The machine went down under a process with `ASYNC_FLUSH`: what that had not fsynced is gone. How this process is
    /// configured says nothing about it.
    pub unsynced: bool,
    /// The log ends before what it once held, or before what was applied from it: acknowledged messages may be missing
    /// at its end.
    pub lost_end: bool,
    /// The last entry that the consume queues held when they were opened: later than what is applied when the metadata
    /// went back.
    pub queued: Option<u64>,
}

/// How the last process on a directory ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// By itself, everything on disk.
    Clean,
    /// The process died; the page cache survived.
    Killed,
    /// The machine went down; what was not fsynced may be gone.
    PowerLoss,
}

/// Opens or makes a metadata store in a directory.
pub type OpenKv = Arc<dyn Fn(&Path) -> Result<Arc<dyn Kv>> + Send + Sync>;

/// What a store stands on.
#[derive(Clone)]
pub struct Env {
    /// The files.
    pub fs: Arc<dyn FileSystem>,
    /// Opens or makes the metadata store in a directory.
    pub open_kv: OpenKv,
}

impl Env {
    /// The operating system's files, and RocksDB.
    pub fn real() -> Self {
        Self {
            fs: Arc::new(RealFs),
            open_kv: Arc::new(|dir| Ok(Arc::new(RocksKv::open(dir)?))),
        }
    }
}

impl Store {
    /// Opens or makes the store in `dir` on a real disk, which no other process may hold.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when another process holds it or it was made with other constants; I/O; damage that
    /// cannot be made good from what is here.
    pub fn open(dir: &Path, options: &LogOptions) -> Result<(Store, DirectoryLock)> {
        let lock = DirectoryLock::take(dir)?;
        let store = Self::open_on(&Env::real(), dir, options)?;
        Ok((store, lock))
    }

    /// As [`Store::open`] on any file system.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(env: &Env, dir: &Path, options: &LogOptions) -> Result<Store> {
        let fs = env.fs.clone();
        fs.make_dir(dir)
            .map_err(|e| StoreError::io(format!("make {}", dir.display()), e))?;
        // Names that the last process changed and did not live to sync, before anything builds on them.
        fs.sync_dir(dir)
            .map_err(|e| StoreError::io(format!("sync {}", dir.display()), e))?;
        let (stop, ran_with) = mark_running(fs.as_ref(), dir, options)?;
        let snapshots = Arc::new(Snapshots::open(fs.clone(), dir.join("snapshots"))?);
        let oldest = snapshots.marks().first().copied();
        let log = CommitLog::open(fs.clone(), dir.join("commitlog"), options, oldest)?;
        let opened = Self::open_derived(env, dir, options, &log, snapshots, stop);
        let opened = opened.map(|store| Store {
            unsynced: stop == Stop::PowerLoss && ran_with == FlushPolicy::Async,
            ..store
        });
        if opened.is_err() {
            log.close();
        }
        opened
    }

    /// The log alone, of a store that cannot be opened because its log is damaged where it has to be read: to repair it.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_log(env: &Env, dir: &Path, options: &LogOptions) -> Result<CommitLog> {
        let snapshots = Snapshots::open(env.fs.clone(), dir.join("snapshots"))?;
        let oldest = snapshots.marks().first().copied();
        let log = CommitLog::open(env.fs.clone(), dir.join("commitlog"), options, oldest)?;
        Ok(log)
    }

    fn open_derived(
        env: &Env,
        dir: &Path,
        options: &LogOptions,
        log: &CommitLog,
        snapshots: Arc<Snapshots>,
        stop: Stop,
    ) -> Result<Store> {
        let fs = &env.fs;
        let (kv, state) = open_metadata(env, &dir.join("metadata"), stop)?;
        let opened = QueueTable::open(fs.clone(), dir.join("consumequeue"))?;
        let queues = Arc::new(opened.table);
        let index = dir.join("index");
        if stop == Stop::PowerLoss {
            let safe = opened.as_of.map_or(0, |(_, position)| position);
            drop_unsafe_index(fs.as_ref(), &index, options.segment_size, safe)?;
        }
        let keys = KeyIndex::open(fs.clone(), index, options.segment_size)?;
        if options.drive == Drive::Threads {
            keys.write_beside()?;
        }
        let keys = Arc::new(keys);
        let mut machine = Machine::load(Parts {
            kv: kv.clone(),
            state: state.clone(),
            queues: queues.clone(),
            keys: keys.clone(),
            snapshots: snapshots.clone(),
            segment_size: options.segment_size,
        })?;
        let installed = finish_install(log, &snapshots, &mut machine)?;
        // After a kill the marker proves what had been written: state ahead of that was never acknowledged here.
        let ahead = is_ahead(log, &machine)?;
        let lost_end =
            log.cut_short() || (ahead && stop == Stop::PowerLoss) || fs.exists(&doubt_path(dir));
        if lost_end {
            // Before anything that shows it is made good.
            fs.replace(&doubt_path(dir), b"the end of the log may be missing\n")
                .map_err(|e| StoreError::io("note the doubt", e))?;
        }
        restore_state(log, &snapshots, kv.as_ref(), &mut machine, ahead, dir)?;

        let end = log.end();
        let start = log.start();
        // A table of entries that the log lost tells nothing: they may have deleted topics whose messages are back now.
        let as_of = opened.as_of.filter(|(_, position)| *position <= end);
        let mut queued = match installed {
            true => machine.applied().map(|a| (a.index, a.position)),
            false => as_of,
        };
        if queued.is_none() {
            tracing::info!("consume queues are rebuilt from the log");
            queues.clear()?;
            let purged = log.bounds().0;
            let base = purged.and_then(|p| snapshots.oldest_from(p.index));
            if purged.is_some() && base.is_none() {
                return Err(StoreError::corrupt(
                    dir.display().to_string(),
                    "the consume queues cannot be rebuilt: no snapshot is left, and the log no longer begins at its first entry; set this directory aside; a new replica has to take its place",
                ));
            }
            if let Some(base) = base {
                machine.start_queues(&mut snapshots.read(&base)?)?;
                queued = Some((base.header.mark.index, base.header.mark.position));
            }
        }
        if keys.covered() > end {
            keys.clear()?;
        }
        if keys.covered() < start {
            keys.reset(start)?;
        }
        let queued = queued.map(|(index, _)| index);
        machine.replay(log, queued, keys.covered())?;
        let replayed = machine.applied().map(|a| a.index);
        // Of both, the later one is what the queues now say; a state that went back catches up by itself.
        let known = queued.max(replayed);
        let damaged = queues.damaged();
        if let (Some(last), false) = (known, damaged.is_empty())
            && let Err(error) = scrub::repair_queues(log, &queues, &damaged, last)
        {
            tracing::warn!(%error, "damaged consume queues cannot be rebuilt yet");
        }
        log.rebuild_offsets(known, queues.offsets())?;
        if let Some(index) = known {
            queues.checkpoint(queues.cut(index, log.position_after(index)?))?;
        }
        machine.set_queued(known);
        if let Some(applied) = machine.applied() {
            log.set_committed(applied.position, applied.index);
        }
        if let Some(purged) = log.bounds().0
            && let Some(base) = snapshots.oldest_from(purged.index)
        {
            if base.header.mark.index == purged.index {
                snapshots.move_base(base.header.mark.position);
            } else {
                // Not the next one: the log would be given up to there, and with it what may be nowhere else.
                tracing::error!(
                    start,
                    "the snapshot at the log's start is lost: the log is kept"
                );
            }
        }
        tracing::info!(
            ?stop,
            applied = machine.applied().map(|a| a.index),
            start,
            end,
            "store opened"
        );
        Ok(Store {
            log: log.clone(),
            machine: Arc::new(Mutex::new(machine)),
            queues,
            keys,
            state,
            snapshots,
            stop,
            unsynced: false,
            lost_end,
            queued: known,
        })
    }

    /// What follows from the way the last process ended is settled: notes that this boot has the directory.
    ///
    /// # Errors
    /// I/O.
    pub fn settle(env: &Env, dir: &Path, options: &LogOptions) -> Result<()> {
        write_abort(env.fs.as_ref(), dir, options)?;
        for doubt in [doubt_path(dir), doubt_path(&dir.join("commitlog"))] {
            if env.fs.exists(&doubt) {
                let failed = |e| StoreError::io(format!("remove {}", doubt.display()), e);
                env.fs.remove_file(&doubt).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Writes everything out. The next start has nothing to make good, and knows it.
    ///
    /// # Errors
    /// I/O: the next start checks then.
    pub fn close(&self, env: &Env, dir: &Path) -> Result<()> {
        let cut = {
            let mut machine = self.machine.lock();
            machine.save()?;
            machine.kv().flush()?;
            machine.cut()?
        };
        self.log.close();
        self.keys.flush()?;
        if let Some(cut) = cut {
            self.queues.checkpoint(cut)?;
        }
        if let Some(reason) = self.log.progress().poisoned() {
            return Err(StoreError::Poisoned(reason));
        }
        let failed = |e| StoreError::io("make the store durable", e);
        env.fs.sync_all(dir).map_err(failed)?;
        env.fs.remove_file(&abort_path(dir)).map_err(failed)?;
        env.fs.sync_dir(dir).map_err(failed)
    }
}

/// The state of an installed snapshot, when the last process was killed before it was all in place; true then.
fn finish_install(log: &CommitLog, snapshots: &Snapshots, machine: &mut Machine) -> Result<bool> {
    let Some(anchor) = log.anchor()? else {
        return Ok(false);
    };
    let purged = log.bounds().0.map_or(0, |p| p.index);
    if purged >= anchor.index && log.bounds().0.is_some() {
        return Ok(false);
    }
    let Some(snapshot) = snapshots
        .newest_until(anchor.index)
        .filter(|s| s.header.mark == anchor)
    else {
        return Err(StoreError::corrupt(
            "snapshot",
            "the one that was being installed is gone: set this directory aside; a new replica has to take its place",
        ));
    };
    tracing::info!(
        index = anchor.index,
        "the installation of a snapshot is finished"
    );
    machine.install(snapshots.read(&snapshot)?, snapshots.read(&snapshot)?)?;
    log.restart_at(anchor)?;
    snapshots.keep_only(anchor.position)?;
    Ok(true)
}

/// Whether the metadata knows of an entry that the log does not hold.
fn is_ahead(log: &CommitLog, machine: &Machine) -> Result<bool> {
    let last = log.bounds().1.map(|l| l.index);
    match machine.applied() {
        Some(applied) => Ok(last.is_none_or(|last| applied.index > last) || !is_in(log, &applied)?),
        None => Ok(false),
    }
}

/// Goes to a snapshot when the metadata is missing, behind or ahead of the log.
fn restore_state(
    log: &CommitLog,
    snapshots: &Snapshots,
    kv: &dyn Kv,
    machine: &mut Machine,
    ahead: bool,
    dir: &Path,
) -> Result<()> {
    let (purged, last) = log.bounds();
    let last_index = last.map(|l| l.index);
    if let Some(last) = last_index {
        snapshots.remove_beyond(last)?;
    }
    let missing = match machine.applied() {
        None => purged.is_some() || !is_empty(kv)?,
        // A power cut took what was applied, and the log that could bring it back is purged.
        Some(applied) => purged.is_some_and(|p| applied.index < p.index),
    };
    if !ahead && !missing {
        return Ok(());
    }
    let from = last_index.and_then(|last| snapshots.newest_until(last));
    tracing::warn!(
        applied = machine.applied().map(|a| a.index),
        log_ends = last_index,
        back_to = from.as_ref().map(|s| s.header.mark.index),
        "the metadata does not fit the log: it is restored and brought up to date from the log"
    );
    match from {
        Some(snapshot) if purged.is_none_or(|p| p.index <= snapshot.header.mark.index) => {
            machine.restore(snapshots.read(&snapshot)?)
        }
        _ if purged.is_none() => machine.wipe(),
        _ => Err(StoreError::corrupt(
            dir.display().to_string(),
            "the metadata cannot be restored: no snapshot is left, and the log no longer begins at its first entry; set this directory aside; a new replica has to take its place",
        )),
    }
}

/// Whether the log holds the very entry that was applied last. After a power cut an entry may lie there that had been
/// truncated before: the one in its place was never synced.
fn is_in(log: &CommitLog, applied: &Applied) -> Result<bool> {
    if log.bounds().0.is_some_and(|p| applied.index <= p.index) || applied.crc == 0 {
        return Ok(true);
    }
    let entries = match log.read_entries(applied.index, applied.index + 1, 1) {
        // Damaged, and to be repaired.
        Err(StoreError::Corrupt { .. }) => return Ok(true),
        entries => entries?,
    };
    let found = entries.first().map(|e| (e.header.term, e.header.crc));
    Ok(found == Some((applied.term, applied.crc)))
}

/// After a power cut, index files may speak of messages whose log was never synced: those from the segment on in which
/// `safe` lies are made anew.
fn drop_unsafe_index(fs: &dyn FileSystem, dir: &Path, segment_size: u64, safe: u64) -> Result<()> {
    if !fs.exists(dir) {
        return Ok(());
    }
    let failed = |e| StoreError::io("look through the key index", e);
    for name in fs.list(dir).map_err(failed)? {
        let base = parse_segment_name(&name);
        if base.is_some_and(|base| base + segment_size > safe) {
            fs.remove_dir_all(&dir.join(name)).map_err(failed)?;
        }
    }
    fs.sync_dir(dir).map_err(failed)
}

fn is_empty(kv: &dyn Kv) -> Result<bool> {
    for family in Family::ALL {
        if !kv.scan(family, &[], 1)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Opens the metadata store and loads what is in it. A damaged one is set aside: its content comes from a snapshot and the
/// log. Nothing else sets it aside: a full disk or a lack of descriptors says nothing about it.
fn open_metadata(env: &Env, dir: &Path, stop: Stop) -> Result<(Arc<dyn Kv>, Arc<State>)> {
    let error = match load_metadata(env, dir, stop) {
        Err(StoreError::MetadataDamaged(why)) => why,
        loaded => return loaded,
    };
    let aside = (0..)
        .map(|n| dir.with_extension(format!("damaged-{n}")))
        .find(|path| !env.fs.exists(path))
        .unwrap_or_else(|| PathBuf::from("damaged"));
    tracing::error!(%error, aside = %aside.display(), "the metadata store is damaged: it is set aside and rebuilt");
    if env.fs.exists(dir) {
        env.fs
            .rename(dir, &aside)
            .map_err(|e| StoreError::io("set the metadata store aside", e))?;
    }
    load_metadata(env, dir, stop)
}

fn load_metadata(env: &Env, dir: &Path, stop: Stop) -> Result<(Arc<dyn Kv>, Arc<State>)> {
    let kv = (env.open_kv)(dir)?;
    // Damage that opening does not notice. A process that met it while it ran has ended: all of it is read then.
    for family in Family::ALL {
        match stop {
            Stop::Clean => kv.scan(family, &[], 1).map(|_| ())?,
            Stop::Killed | Stop::PowerLoss => {
                kv::for_each(kv.as_ref(), family, |_, _| Ok(()))?;
            }
        }
    }
    let state = Arc::new(State::load(kv.clone())?);
    Ok((kv, state))
}

fn abort_path(dir: &Path) -> PathBuf {
    dir.join("abort")
}

/// Reads from the `abort` file how the last process ended and with which flush mode it ran, and marks the directory as in
/// use in this boot.
fn mark_running(
    fs: &dyn FileSystem,
    dir: &Path,
    options: &LogOptions,
) -> Result<(Stop, FlushPolicy)> {
    let path = abort_path(dir);
    if fs.exists(&path) {
        let noted = fs.read(&path).unwrap_or_default();
        let noted = String::from_utf8_lossy(&noted);
        let (boot, mode) = noted.trim_end().split_once('\n').unwrap_or((&noted, ""));
        // Versions before this line was written are judged by the present mode.
        let ran_with = match mode.trim() {
            "flushDiskType=ASYNC_FLUSH" => FlushPolicy::Async,
            "flushDiskType=SYNC_FLUSH" => FlushPolicy::Sync,
            _ => options.flush,
        };
        // A power cut is remembered until what follows from it is settled, however often the start is interrupted.
        let stop = match boot.trim() == options.boot.trim() {
            true => Stop::Killed,
            false => Stop::PowerLoss,
        };
        return Ok((stop, ran_with));
    }
    write_abort(fs, dir, options)?;
    Ok((Stop::Clean, options.flush))
}

fn write_abort(fs: &dyn FileSystem, dir: &Path, options: &LogOptions) -> Result<()> {
    let path = abort_path(dir);
    let mode = match options.flush {
        FlushPolicy::Sync => "SYNC_FLUSH",
        FlushPolicy::Async => "ASYNC_FLUSH",
    };
    let noted = format!("{}\nflushDiskType={mode}\n", options.boot.trim());
    fs.replace(&path, noted.as_bytes())
        .map_err(|e| StoreError::io(format!("write {}", path.display()), e))
}

fn doubt_path(dir: &Path) -> PathBuf {
    dir.join("doubt")
}
