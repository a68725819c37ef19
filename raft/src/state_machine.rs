//! openraft's state machine over the store's [`Machine`]. Runs on one task of the Raft runtime; what it applies is
//! committed. Order of effects for a batch of entries: consume queues and metadata are written, readers may see
//! it, waiting sends are answered, held pulls are woken.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use raftmq_store::commitlog::marks::Mark;
use raftmq_store::commitlog::{CommitLog, EntryId};
use raftmq_store::{Arrived, Effects, Machine};

use crate::options::Node;
use crate::types::{
    Body, CommittedLeaderId, Entry, LogId, StoredMembership, TypeConfig, decode_stored,
};
use crate::types::{encode_stored, log_id};

/// Told what was applied, in log order, on the apply task: must not block.
pub trait Observer: Send + Sync + 'static {
    /// These messages can be consumed now.
    fn messages_applied(&self, arrived: &[Arrived]);
    /// Topics were made, changed or deleted.
    fn topics_changed(&self);
    /// Groups were made, changed or deleted.
    fn groups_changed(&self);
    /// Timers came or went.
    fn timers_changed(&self);
}

/// Entries applied between two writes of the metadata.
const APPLY_CHUNK: usize = 64;

type Meta = SnapshotMeta<CommittedLeaderId, u64, Node>;

/// The last snapshot built or installed.
type CurrentSnapshot = Arc<Mutex<Option<(Meta, Vec<u8>)>>>;

/// Applies committed entries.
pub struct StateMachine {
    machine: Arc<Mutex<Machine>>,
    log: CommitLog,
    observer: Arc<dyn Observer>,
    snapshot: CurrentSnapshot,
}

impl StateMachine {
    /// Over an opened store.
    pub fn new(machine: Arc<Mutex<Machine>>, log: CommitLog, observer: Arc<dyn Observer>) -> Self {
        Self {
            machine,
            log,
            observer,
            snapshot: Arc::default(),
        }
    }

    fn apply_chunk(&self, chunk: &[Entry]) -> raftmq_store::Result<Effects> {
        let mut machine = self.machine.lock();
        let mut effects = Effects::default();
        for entry in chunk {
            let membership = |m| encode_stored(entry.log_id, m);
            let id = EntryId {
                term: entry.log_id.leader_id.term,
                index: entry.log_id.index,
            };
            match &entry.body {
                Body::Stored(raw, members) => {
                    machine.apply(
                        raw,
                        members.as_ref().map(membership).as_deref(),
                        &mut effects,
                    )?;
                }
                Body::Membership(members) => {
                    machine.apply_without_records(id, Some(&membership(members)))
                }
                Body::Blank | Body::Proposed(_) => machine.apply_without_records(id, None),
            }
        }
        // Readers may follow consume queue entries into the log from here on.
        if let Some(applied) = machine.applied() {
            self.log.set_committed(applied.position, applied.index);
        }
        machine.finish()?;
        Ok(effects)
    }

    fn tell(&self, effects: &Effects) {
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

    fn meta(machine: &Machine) -> io::Result<Meta> {
        let last_membership = machine
            .membership()
            .map(decode_stored)
            .transpose()?
            .unwrap_or_default();
        Ok(Meta {
            last_log_id: machine.applied().map(|a| log_id(a.term, a.index)),
            last_membership,
        })
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let meta = Self::meta(&self.machine.lock())?;
        Ok((meta.last_log_id, meta.last_membership))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.ready_chunks(APPLY_CHUNK);
        while let Some(chunk) = chunks.next().await {
            let mut batch = Vec::with_capacity(chunk.len());
            let mut responders = Vec::new();
            for item in chunk {
                let (entry, responder) = item?;
                batch.push(entry);
                responders.extend(responder);
            }
            let effects = self.apply_chunk(&batch)?;
            responders
                .into_iter()
                .for_each(|responder| responder.send(()));
            self.tell(&effects);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            machine: self.machine.clone(),
            snapshot: self.snapshot.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Vec<u8>) -> Result<(), io::Error> {
        {
            let mut machine = self.machine.lock();
            machine.restore(&snapshot)?;
            // The anchor is durable before openraft purges the log up to it.
            if let Some(applied) = machine.applied() {
                self.log.save_anchor(Mark {
                    index: applied.index,
                    term: applied.term,
                    position: applied.position,
                    crc: 0,
                    store_timestamp: 0,
                })?;
            }
        }
        *self.snapshot.lock() = Some((meta.clone(), snapshot));
        self.observer.topics_changed();
        self.observer.groups_changed();
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<Snapshot<CommittedLeaderId, u64, Node, Vec<u8>>>, io::Error> {
        let current = self.snapshot.lock().clone();
        Ok(current.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Dumps the applied state. The log is kept whole, so openraft asks for this only when it is told to.
pub struct Builder {
    machine: Arc<Mutex<Machine>>,
    snapshot: CurrentSnapshot,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(
        &mut self,
    ) -> Result<Snapshot<CommittedLeaderId, u64, Node, Vec<u8>>, io::Error> {
        let (meta, snapshot) = {
            let mut machine = self.machine.lock();
            machine.save()?;
            (StateMachine::meta(&machine)?, machine.dump()?)
        };
        *self.snapshot.lock() = Some((meta.clone(), snapshot.clone()));
        Ok(Snapshot { meta, snapshot })
    }
}
