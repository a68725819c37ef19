//! openraft's state machine over the store's [`Machine`]. Runs on one task of the Raft runtime; what it applies is
//! committed. Order of effects for a batch of entries: consume queues and metadata are written, readers may see
//! it, waiting sends are answered, held pulls are woken.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use raftmq_store::commitlog::marks::Mark;
use raftmq_store::commitlog::{CommitLog, EntryId};
use raftmq_store::io_error::is_no_space;
use raftmq_store::snapshots::{Snapshot as Stored, Snapshots};
use raftmq_store::{Arrived, Effects, Machine, StoreError};

use crate::snapshot::{Snapshot, SnapshotFile, meta_of};
use crate::types::{
    Body, Entry, LogId, Meta, StoredMembership, TypeConfig, decode_stored, encode_stored,
    highest_id, log_id,
};

/// Told what was applied, in log order, on the apply task: must not block.
pub trait Observer: Send + Sync + 'static {
    /// These messages can be consumed now.
    fn messages_applied(&self, arrived: &[Arrived]);
    /// Called around what answers the requests of applied entries.
    fn answering(&self, run: &mut dyn FnMut()) {
        run();
    }
    /// Topics were made, changed or deleted.
    fn topics_changed(&self);
    /// Groups were made, changed or deleted.
    fn groups_changed(&self);
    /// Timers came or went.
    fn timers_changed(&self);
    /// KV configs were set or removed.
    fn kv_changed(&self) {}
}

/// Pause between two attempts on a full disk.
const LOOK_FOR_SPACE: std::time::Duration = std::time::Duration::from_millis(500);
/// Entries applied between two writes of the metadata.
const APPLY_CHUNK: usize = 64;

/// Applies committed entries.
pub struct StateMachine {
    machine: Arc<Mutex<Machine>>,
    log: CommitLog,
    snapshots: Arc<Snapshots>,
    /// The last one that was built because there was no base.
    built: Arc<Mutex<Option<Stored>>>,
    observer: Arc<dyn Observer>,
    view: Arc<AppliedView>,
}

/// What is applied, for those that cannot wait for the state machine's lock: a snapshot is installed and frozen under it.
#[derive(Default)]
pub struct AppliedView {
    applied: Mutex<Option<Mark>>,
    /// The membership as it is encoded in the metadata.
    membership: Mutex<Option<Arc<[u8]>>>,
    /// What a later version wrote, where applying has ended.
    newer: Mutex<Option<String>>,
    /// Records without an effect.
    left_out: AtomicU64,
}

impl AppliedView {
    /// Takes over what the machine has applied.
    pub fn note(&self, machine: &Machine) {
        *self.applied.lock() = machine.applied();
        self.left_out.store(machine.left_out(), Ordering::Relaxed);
        let now = machine.membership();
        let mut known = self.membership.lock();
        if known.as_deref() != now {
            *known = now.map(Arc::from);
        }
    }

    /// The last applied entry.
    pub fn applied(&self) -> Option<Mark> {
        *self.applied.lock()
    }

    /// Records of the log that no version could read or queue.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Why nothing more is applied: a committed command is newer than this binary. It has to be upgraded; until then it
    /// stores what the leader sends, counts for the majority, and neither leads nor serves.
    pub fn newer(&self) -> Option<String> {
        self.newer.lock().clone()
    }

    /// Highest node id ever given, and whether a node is a member; `None` before the first membership.
    pub fn member(&self, node_id: u64) -> Option<(u64, bool)> {
        let encoded = self.membership.lock().clone()?;
        let stored = decode_stored(&encoded).ok()?;
        Some((
            highest_id(&encoded),
            stored.membership().get_node(&node_id).is_some(),
        ))
    }
}

impl StateMachine {
    /// Over an opened store.
    pub fn new(
        machine: Arc<Mutex<Machine>>,
        log: CommitLog,
        snapshots: Arc<Snapshots>,
        observer: Arc<dyn Observer>,
        view: Arc<AppliedView>,
    ) -> Self {
        view.note(&machine.lock());
        Self {
            view,
            machine,
            log,
            snapshots,
            built: Arc::default(),
            observer,
        }
    }

    fn may_wait_for_disk(&self, chunk: &[Entry]) -> bool {
        let stored = chunk.iter().filter_map(|entry| match &entry.body {
            Body::Stored(raw, _) => Some(raw),
            _ => None,
        });
        let sizes = stored.map(|raw| (raw.end(), raw.header.records as usize));
        let all = sizes.reduce(|(_, records), (end, more)| (end, records + more));
        all.is_some_and(|(end, records)| self.machine.lock().may_wait_for_disk(end, records))
    }

    /// Applies as many of these entries as this binary knows; all of them, but for [`StoreError::Newer`].
    fn apply_chunk(&self, chunk: &[Entry]) -> raftmq_store::Result<(usize, Effects)> {
        let mut machine = self.machine.lock();
        let mut effects = Effects::default();
        let mut applied = 0;
        for entry in chunk {
            let encoded = match &entry.body {
                Body::Membership(m) | Body::Stored(_, Some(m)) => {
                    Some(encode_stored(entry.log_id, m, machine.membership()))
                }
                _ => None,
            };
            let id = EntryId {
                term: entry.log_id.leader_id.term,
                index: entry.log_id.index,
            };
            match &entry.body {
                Body::Stored(raw, _) => {
                    match machine.apply(raw, encoded.as_deref(), &mut effects) {
                        Err(StoreError::Newer(what)) => {
                            self.end_applying(what);
                            break;
                        }
                        done => done?,
                    }
                }
                Body::Membership(_) | Body::Blank | Body::Proposed(_) => {
                    machine.apply_without_records(id, encoded.as_deref())
                }
            }
            applied += 1;
        }
        // Readers may follow consume queue entries into the log from here on.
        if let Some(applied) = machine.applied() {
            self.log.set_committed(applied.position, applied.index);
        }
        Ok((applied, effects))
    }

    fn end_applying(&self, what: String) {
        tracing::error!(
            what,
            "a committed entry is newer than this binary: nothing more is applied until it is upgraded"
        );
        *self.view.newer.lock() = Some(what);
    }

    /// Makes a chunk visible and saves it. A full disk is waited out: the entries are committed, and what retention or an
    /// operator frees is enough for them.
    async fn finish_chunk(&self) -> raftmq_store::Result<()> {
        loop {
            let finished = {
                let mut machine = self.machine.lock();
                let finished = machine.finish();
                // Not before readers see all of it.
                finished.inspect(|()| self.view.note(&machine))
            };
            match finished {
                Err(error) if is_no_space(&error) => {
                    tracing::error!(%error, "what is committed cannot be applied: the disk is full");
                    tokio::time::sleep(LOOK_FOR_SPACE).await;
                }
                other => return other,
            }
        }
    }

    fn tell(&self, effects: &Effects) {
        if effects.touched.kv {
            self.observer.kv_changed();
        }
        if effects.touched.topics {
            self.observer.topics_changed();
        }
        if effects.touched.groups {
            self.observer.groups_changed();
        }
        if !effects.arrived.is_empty() {
            self.observer.messages_applied(&effects.arrived);
        }
        if effects.touched.timers {
            self.observer.timers_changed();
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    // As the store has it, also when applying has ended before what openraft counts as applied.
    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let machine = self.machine.lock();
        let membership = machine.membership().map(decode_stored).transpose()?;
        let applied = machine.applied().map(|a| log_id(a.term, a.index));
        Ok((applied, membership.unwrap_or_default()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.ready_chunks(APPLY_CHUNK);
        while let Some(chunk) = chunks.next().await {
            // openraft goes on; this replica's state stays where it is, and is continued by a newer binary.
            if self.view.newer().is_some() {
                return Ok(());
            }
            let mut batch = Vec::with_capacity(chunk.len());
            let mut responders = Vec::new();
            for item in chunk {
                let (entry, responder) = item?;
                batch.push(entry);
                responders.extend(responder);
            }
            // There may be one Raft thread only: what waits for the disk must not hold up heartbeats.
            let (applied, effects) = match self.may_wait_for_disk(&batch) {
                true => crate::blocking::in_place(|| self.apply_chunk(&batch))?,
                false => self.apply_chunk(&batch)?,
            };
            self.finish_chunk().await?;
            if applied < batch.len() {
                // Nobody is told of what has not happened: what was proposed here has an unknown outcome.
                responders.clear();
            }
            self.observer.answering(&mut || {
                let answered = responders.drain(..);
                answered.for_each(|responder| responder.send(()));
            });
            self.tell(&effects);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            machine: self.machine.clone(),
            snapshots: self.snapshots.clone(),
            built: self.built.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &Meta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        tracing::info!(last = ?meta.last_log_id, "a snapshot is installed");
        let (machine, log, snapshots) = (
            self.machine.clone(),
            self.log.clone(),
            self.snapshots.clone(),
        );
        let installed =
            crate::blocking::run(move || install(&machine, &log, &snapshots, &snapshot));
        installed.await.map_err(io::Error::other)??;
        self.view.note(&self.machine.lock());
        self.observer.kv_changed();
        self.observer.topics_changed();
        self.observer.groups_changed();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let purged = self.log.bounds().0;
        // Without its base, the next one: a new replica then begins there.
        let next = || purged.and_then(|p| self.snapshots.oldest_from(p.index));
        let current = self.snapshots.base().or_else(next);
        match current.or_else(|| self.built.lock().clone()) {
            Some(stored) => Ok(Some(open(&self.snapshots, &stored)?)),
            // Whoever asks needs one: openraft takes none for the end of this replica.
            None if purged.is_some() => {
                let mut builder = self.get_snapshot_builder().await;
                builder.build_snapshot().await.map(Some)
            }
            None => Ok(None),
        }
    }
}

/// Order of effects: the file is here, the anchor says that the log may begin anew after it, the state is replaced. A
/// process killed in between finishes at its next start. openraft purges the log then.
fn install(
    machine: &Mutex<Machine>,
    log: &CommitLog,
    snapshots: &Snapshots,
    file: &SnapshotFile,
) -> raftmq_store::Result<()> {
    let snapshot = snapshots.adopt(&file.path)?;
    log.save_anchor(snapshot.header.mark)?;
    let mut machine = machine.lock();
    machine.install(snapshots.read(&snapshot)?, snapshots.read(&snapshot)?)?;
    // What is appended from now on continues the queues where the snapshot left them.
    let applied = machine.applied().map(|a| a.index);
    log.rebuild_offsets(applied, machine.queue_offsets())?;
    snapshots.keep_only(snapshot.header.mark.position)
}

fn open(snapshots: &Snapshots, stored: &Stored) -> raftmq_store::Result<Snapshot> {
    Ok(Snapshot {
        meta: meta_of(stored)?,
        snapshot: SnapshotFile::kept(snapshots.fs().clone(), stored.path.clone()),
    })
}

/// "Builds" the base snapshot, which is there already: the state at the oldest retained position of the log. Only a log
/// that was purged and has no snapshot left gets one of the present state.
pub struct Builder {
    machine: Arc<Mutex<Machine>>,
    snapshots: Arc<Snapshots>,
    built: Arc<Mutex<Option<Stored>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        if let Some(base) = self.snapshots.base() {
            return Ok(open(&self.snapshots, &base)?);
        }
        let (machine, snapshots) = (self.machine.clone(), self.snapshots.clone());
        let built = crate::blocking::run(move || -> raftmq_store::Result<Stored> {
            let pending = {
                let mut machine = machine.lock();
                let applied = machine.applied().unwrap_or_default();
                machine.freeze(applied)?
            };
            let position = pending.header.mark.position;
            snapshots.write(pending)?;
            let written = snapshots.newest_until(u64::MAX);
            let written = written.filter(|s| s.header.mark.position == position);
            written
                .ok_or_else(|| StoreError::corrupt("snapshot", "gone right after it was written"))
        });
        let built = built.await.map_err(io::Error::other)??;
        *self.built.lock() = Some(built.clone());
        Ok(open(&self.snapshots, &built)?)
    }
}
