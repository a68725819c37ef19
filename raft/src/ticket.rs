//! What ties an entry to the requests that wait for it. A ticket goes with its draft through openraft; it is told
//! when the entry is stamped, when this replica has persisted it, when it is applied, or that it failed. Each
//! request is answered exactly once, whichever of these comes first for its acknowledgement level.

use std::any::Any;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::Responder;
use parking_lot::Mutex;
use raftmq_store::commitlog::draft::Placed;
use raftmq_store::sabotage::{self, Sabotage};

use crate::error::ProposeError;
use crate::options::AckLevel;
use crate::propose::{Pending, Proposer};
use crate::types::TypeConfig;

/// What a proposal became: committed, or held by the leader under its lease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// Places of its messages, in order.
    pub placed: Vec<Placed>,
    /// Committed, but not as widely as was asked for.
    pub short: Option<Short>,
}

/// How a committed entry fell short of `ackQuorum=all`: RocketMQ's codes 10, 12 and 11.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// The leader itself has not persisted it in time.
    FlushDiskTimeout,
    /// An in-sync voter has not persisted it in time.
    FlushSlaveTimeout,
    /// Every in-sync voter has it, but not all voters are in sync.
    SlaveNotAvailable,
}

/// The answer to one proposal.
pub type Done = Box<dyn FnOnce(Result<Stored, ProposeError>) + Send>;

enum Stage {
    /// In openraft's queue; nothing is stored yet.
    Proposed(Vec<Pending>),
    /// In the log, with this index.
    Appended(u64, Vec<Waiting>),
    /// Everyone is answered.
    Settled,
}

struct Waiting {
    placed: Vec<Placed>,
    ack: AckLevel,
    done: Option<Done>,
}

/// One entry's waiting requests.
pub struct Ticket {
    stage: Mutex<Stage>,
    deadline: Instant,
    proposer: Weak<Proposer>,
    /// Requests that were answered when the entry was applied, and not before.
    answered: AtomicUsize,
    bytes: usize,
}

impl Ticket {
    /// For the proposals that make one entry of `bytes`.
    pub fn new(
        proposals: Vec<Pending>,
        deadline: Instant,
        bytes: usize,
        proposer: Weak<Proposer>,
    ) -> Arc<Self> {
        Arc::new(Self {
            answered: AtomicUsize::new(0),
            stage: Mutex::new(Stage::Proposed(proposals)),
            deadline,
            proposer,
            bytes,
        })
    }

    /// When "outcome unknown" is due.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Size of the entry, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether every request is answered.
    pub fn is_settled(&self) -> bool {
        matches!(*self.stage.lock(), Stage::Settled)
    }

    fn is_appended(&self) -> bool {
        matches!(*self.stage.lock(), Stage::Appended(..))
    }

    /// The entry is in the log with this index; its messages got these places, in order. Whether somebody waits for no more
    /// than that this replica persists it.
    pub fn appended(&self, index: u64, placed: Vec<Placed>) -> bool {
        let mut stage = self.stage.lock();
        let Stage::Proposed(proposals) = std::mem::replace(&mut *stage, Stage::Settled) else {
            return false;
        };
        let default = self
            .proposer
            .upgrade()
            .map_or(AckLevel::Majority, |p| p.ack_level());
        let mut placed = placed.into_iter();
        let waiting = proposals.into_iter().map(|pending| Waiting {
            placed: placed
                .by_ref()
                .take(pending.proposal.messages.len())
                .collect(),
            ack: pending.proposal.ack.unwrap_or(default),
            done: Some(pending.done),
        });
        let waiting: Vec<Waiting> = waiting.collect();
        let leader_alone = waiting.iter().any(|w| w.ack == AckLevel::Leader);
        *stage = Stage::Appended(index, waiting);
        leader_alone
    }

    /// This replica has persisted the entry and holds its lease: requests of the leader level are answered.
    pub fn persisted_under_lease(&self) {
        let mut ready = Vec::new();
        let early = sabotage::on(Sabotage::AckBeforeCommit);
        if let Stage::Appended(_, waiting) = &mut *self.stage.lock() {
            for one in waiting
                .iter_mut()
                .filter(|w| w.ack == AckLevel::Leader || early)
            {
                if let Some(done) = one.done.take() {
                    ready.push((done, std::mem::take(&mut one.placed)));
                }
            }
        }
        for (done, placed) in ready {
            done(Ok(Stored {
                placed,
                short: None,
            }));
        }
    }

    fn applied(&self) {
        let stage = std::mem::replace(&mut *self.stage.lock(), Stage::Settled);
        if let Stage::Appended(index, waiting) = stage {
            let proposer = self.proposer.upgrade();
            let now = waiting.iter().filter(|w| w.done.is_some());
            let now = now.filter(|w| w.ack != AckLevel::All).count();
            self.answered.store(now, Ordering::Release);
            for one in waiting {
                let Some(done) = one.done else { continue };
                let stored = Stored {
                    placed: one.placed,
                    short: None,
                };
                match &proposer {
                    Some(proposer) if one.ack == AckLevel::All => {
                        proposer.in_sync.wait(index, self.deadline, stored, done);
                    }
                    _ => done(Ok(stored)),
                }
            }
        }
        self.settled();
    }

    /// openraft did not append the entry: its requests wait for the next leader again.
    fn refused(&self) {
        let stage = std::mem::replace(&mut *self.stage.lock(), Stage::Settled);
        if let Stage::Proposed(proposals) = stage {
            match self.proposer.upgrade() {
                Some(proposer) => proposer.put_back(proposals),
                None => proposals
                    .into_iter()
                    .for_each(|p| (p.done)(Err(ProposeError::Stopped))),
            }
        }
        self.settled();
    }

    /// Nobody knows, or can wait for, what becomes of the entry.
    pub fn unknown(&self) {
        let stage = std::mem::replace(&mut *self.stage.lock(), Stage::Settled);
        match stage {
            Stage::Proposed(proposals) => {
                // Still in openraft's queue: it may yet be appended, so its outcome is as unknown.
                proposals
                    .into_iter()
                    .for_each(|p| (p.done)(Err(ProposeError::Unknown)));
            }
            Stage::Appended(_, waiting) => {
                for done in waiting.into_iter().filter_map(|w| w.done) {
                    done(Err(ProposeError::Unknown));
                }
            }
            Stage::Settled => {}
        }
        self.settled();
    }

    fn settled(&self) {
        if let Some(proposer) = self.proposer.upgrade() {
            proposer.wake();
        }
    }
}

/// openraft's responder: passes the outcome on to the ticket. Dropped unanswered, the outcome is unknown.
pub struct Acknowledge<T> {
    ticket: Option<Arc<Ticket>>,
    _result: PhantomData<fn(T)>,
}

impl<T> Acknowledge<T> {
    /// For one entry.
    pub fn new(ticket: Arc<Ticket>) -> Self {
        Self {
            ticket: Some(ticket),
            _result: PhantomData,
        }
    }
}

impl<T> Drop for Acknowledge<T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.unknown();
        }
    }
}

impl<T: Send + 'static> Responder<TypeConfig, T> for Acknowledge<T> {
    fn on_complete(mut self, result: T) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        // The trait is generic over the result; openraft calls it with that of a client write.
        let mut slot = Some(result);
        let slot: &mut dyn Any = &mut slot;
        match slot
            .downcast_mut::<Option<ClientWriteResult<TypeConfig>>>()
            .and_then(Option::take)
        {
            Some(Ok(_)) => ticket.applied(),
            Some(Err(ClientWriteError::ForwardToLeader(_))) => ticket.refused(),
            Some(Err(error)) => {
                tracing::debug!(%error, "an appended entry was not committed here");
                ticket.unknown();
            }
            None => ticket.unknown(),
        }
    }
}

/// Entries in flight, oldest first.
#[derive(Default)]
pub struct InFlight {
    tickets: VecDeque<Arc<Ticket>>,
    bytes: usize,
}

impl InFlight {
    /// Adds the newest.
    pub fn push(&mut self, ticket: Arc<Ticket>) {
        self.bytes += ticket.bytes();
        self.tickets.push_back(ticket);
    }

    /// Forgets settled ones from the oldest on, and those beyond their deadline after telling them. When none is left
    /// that were some before, says how many requests they were answered with.
    pub fn sweep(&mut self, now: Instant) -> Option<usize> {
        let mut answered = None;
        while let Some(oldest) = self.tickets.front() {
            if !oldest.is_settled() {
                if oldest.deadline() > now {
                    return None;
                }
                oldest.unknown();
            }
            self.bytes -= oldest.bytes();
            answered = Some(answered.unwrap_or(0) + oldest.answered.load(Ordering::Acquire));
            self.tickets.pop_front();
        }
        answered
    }

    /// Leadership is lost: the outcome of what is appended is unknown. What openraft has not appended yet it will
    /// refuse, and those requests wait for the next leader.
    pub fn fail_appended(&mut self) {
        for ticket in self.tickets.iter().filter(|t| t.is_appended()) {
            ticket.unknown();
        }
        self.tickets.retain(|ticket| !ticket.is_settled());
        self.bytes = self.tickets.iter().map(|t| t.bytes()).sum();
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Their size, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.tickets.front().map(|t| t.deadline())
    }
}
