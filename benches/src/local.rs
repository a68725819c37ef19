//! A whole store without a set around it: every entry counts as committed when it is written. What a replica does
//! beside its requests is done here, too.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use raftmq_store::commitlog::draft::Draft;
use raftmq_store::commitlog::tail::RawEntry;
use raftmq_store::commitlog::{EntryId, LogOptions};
use raftmq_store::directory::DirectoryLock;
use raftmq_store::housekeeping::{self, Housekeeper};
use raftmq_store::{Effects, Env, Store, StoreError};

/// The term of all entries.
const TERM: u64 = 1;

/// Entries on their way to the disk; [`LocalStore::apply`] takes them.
pub struct Submitted {
    entries: Vec<RawEntry>,
    written: Receiver<Result<(), String>>,
}

impl Submitted {
    /// The entries.
    pub fn entries(&self) -> &[RawEntry] {
        &self.entries
    }

    /// Bytes of the entries.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|e| e.bytes.len() as u64).sum()
    }

    /// Waits until they are persisted.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`].
    pub fn wait(&self) -> Result<(), StoreError> {
        match self.written.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(StoreError::Poisoned(reason)),
            Err(_) => Err(StoreError::Poisoned("the log has ended".to_owned())),
        }
    }
}

/// A store on a real disk.
pub struct LocalStore {
    /// What was opened.
    pub store: Store,
    dir: PathBuf,
    next: u64,
    keeper: Option<(Sender<()>, JoinHandle<()>)>,
    _lock: DirectoryLock,
}

impl LocalStore {
    /// Opens or makes it.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(dir: &Path, options: &LogOptions) -> Result<Self, StoreError> {
        let (store, lock) = Store::open(dir, options)?;
        let next = store.log.bounds().1.map_or(0, |last| last.index + 1);
        Ok(Self {
            store,
            dir: dir.to_owned(),
            next,
            keeper: None,
            _lock: lock,
        })
    }

    /// Starts what a replica does every second: checkpoints, snapshots, merges. The log is not scrubbed.
    pub fn keep_house(&mut self) {
        let mut keeper = Housekeeper::new(&self.store, 0, Instant::now());
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(housekeeping::TICK) == Err(RecvTimeoutError::Timeout) {
                keeper.tick(Instant::now());
            }
        });
        self.keeper = Some((stop, thread));
    }

    /// Appends entries with one operation, stamped with the time `now_ms`.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`].
    pub fn submit(&mut self, drafts: Vec<Draft>, now_ms: i64) -> Result<Submitted, StoreError> {
        let mut batch = self.store.log.append();
        let mut entries = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let id = EntryId {
                term: TERM,
                index: self.next,
            };
            entries.push(batch.push_draft(id, draft, now_ms)?.0);
            self.next += 1;
        }
        let (tx, written) = channel();
        batch.submit(Box::new(move |result| {
            // Nobody waits when the program is about to end.
            let _ = tx.send(result);
        }));
        Ok(Submitted { entries, written })
    }

    /// Waits for the entries and applies them.
    ///
    /// # Errors
    /// I/O.
    pub fn apply(&self, submitted: &Submitted) -> Result<(), StoreError> {
        submitted.wait()?;
        self.apply_entries(&submitted.entries)
    }

    fn apply_entries(&self, entries: &[RawEntry]) -> Result<(), StoreError> {
        let mut machine = self.store.machine.lock();
        let mut effects = Effects::default();
        for entry in entries {
            machine.apply(entry, None, &mut effects)?;
        }
        if let Some(applied) = machine.applied() {
            self.store
                .log
                .set_committed(applied.position, applied.index);
        }
        machine.finish()
    }

    /// Applies what is in the log and was not noted as applied before a kill: in a set, Raft does that after a start.
    /// Returns the bytes of it.
    ///
    /// # Errors
    /// I/O or damage.
    pub fn apply_rest(&self) -> Result<u64, StoreError> {
        /// Bytes read at once.
        const CHUNK: usize = 4 << 20;
        let applied = self.store.machine.lock().applied();
        let mut next = applied.map_or(0, |a| a.index + 1);
        let mut bytes = 0;
        while next < self.next {
            let entries = self.store.log.read_entries(next, self.next, CHUNK)?;
            let Some(last) = entries.last() else {
                return Err(StoreError::corrupt("log", format!("no entry {next}")));
            };
            next = last.header.index + 1;
            bytes += entries.iter().map(|e| e.bytes.len() as u64).sum::<u64>();
            self.apply_entries(&entries)?;
        }
        Ok(bytes)
    }

    /// Writes everything out, as a broker that is asked to stop does.
    ///
    /// # Errors
    /// I/O.
    pub fn close(mut self) -> Result<(), StoreError> {
        if let Some((stop, thread)) = self.keeper.take() {
            drop(stop);
            if thread.join().is_err() {
                return Err(StoreError::Poisoned("housekeeping panicked".to_owned()));
            }
        }
        self.store.close(&Env::real(), &self.dir)
    }
}
