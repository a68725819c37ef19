//! openraft's log storage over the commitlog: one write, no second log.
//!
//! Order of effects for an entry on the leader:
//!
//! ```text
//! append() returns       stamped, readable by every LogReader (in memory), queued for the storage thread, or small and written
//! io_completed(Ok)       written (ASYNC_FLUSH) or fsynced (SYNC_FLUSH); ASYNC_MASTER sends are answered
//! commit, then apply     SYNC_MASTER sends are answered
//! ```
//!
//! All calls come from the Raft core's task, one after the other; votes and log writes share the storage thread's
//! queue and keep that order; what is written at once finds that queue empty.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use raftmq_store::StoreError;
use raftmq_store::commitlog::draft::Draft;
use raftmq_store::commitlog::writer::Done;
use raftmq_store::commitlog::{CommitLog, EntryId};
use raftmq_store::sabotage::{self, Sabotage};
use raftmq_store::snapshots::Snapshots;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock;
use crate::lease::Lease;
use crate::throttle::Throttle;
use crate::types::{Body, Entry, LeaderId, LogId, TypeConfig, Vote, encode_membership, log_id};

/// Bytes of entries in one replication request; bounds memory a follower, together with the window.
const MAX_READ_BYTES: usize = 1024 * 1024;
/// Pause before a replica that needs damaged entries is told once more that there are none.
const DAMAGED_PAUSE: Duration = Duration::from_millis(500);
/// Pause before the log says it again.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The commitlog as openraft sees it.
#[derive(Clone)]
pub struct LogStorage {
    log: CommitLog,
    lease: Arc<Lease>,
    snapshots: Arc<Snapshots>,
    catch_up: Arc<Throttle>,
    /// Messages that got their place here, ever.
    stamped: Arc<AtomicU64>,
    /// `asyncMaxUncommittedBytes`.
    async_max_uncommitted: Arc<AtomicU64>,
    /// Index of the last entry.
    appended: watch::Sender<u64>,
    /// When it was last said that somebody needs what is damaged.
    said_damaged: Arc<Mutex<Option<Instant>>>,
    /// The wall clock.
    now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
}

impl LogStorage {
    /// Over an opened commitlog.
    pub fn new(
        log: CommitLog,
        snapshots: Arc<Snapshots>,
        lease: Arc<Lease>,
        catch_up_rate: u64,
        stamped: Arc<AtomicU64>,
        async_max_uncommitted: Arc<AtomicU64>,
        now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> Self {
        let last = log.bounds().1.map_or(0, |last| last.index);
        Self {
            appended: watch::Sender::new(last),
            said_damaged: Arc::default(),
            log,
            snapshots,
            lease,
            catch_up: Arc::new(Throttle::new(catch_up_rate)),
            stamped,
            async_max_uncommitted,
            now_ms,
        }
    }

    /// Follows the index of the last entry.
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }
}

/// Wraps a waiter for the storage thread.
fn waiter() -> (Done, impl Future<Output = io::Result<()>>) {
    let (tx, rx) = tokio::sync::oneshot::channel();
    let done: Done = Box::new(move |result| {
        let _ = tx.send(result);
    });
    let wait = async {
        match rx.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(io::Error::other(reason)),
            Err(_) => Err(io::Error::other("the storage thread has ended")),
        }
    };
    (done, wait)
}

#[derive(Serialize, Deserialize)]
struct VoteForm {
    term: u64,
    node_id: u64,
    committed: bool,
}

pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    let form = VoteForm {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for,
        committed: vote.committed,
    };
    serde_json::to_vec(&form).unwrap_or_else(|e| unreachable!("a vote holds only numbers: {e}"))
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, StoreError> {
    let form: VoteForm =
        serde_json::from_slice(bytes).map_err(|e| StoreError::corrupt("vote", e.to_string()))?;
    Ok(Vote {
        leader_id: LeaderId {
            term: form.term,
            voted_for: form.node_id,
        },
        committed: form.committed,
    })
}

/// A range of indexes as `[from, to)`.
fn ends(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(from) => from + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(to) => to + 1,
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogStorage {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = ends(&range);
        self.read_all(from, to).await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        // In pieces: a replica that starts far behind applies more than memory holds.
        let (from, to) = ends(&range);
        let to = to.min(self.log.bounds().1.map_or(0, |last| last.index + 1));
        let state = Some((self.clone(), from));
        let pieces = futures_util::stream::unfold(state, move |state| async move {
            let (log, next) = state?;
            if next >= to {
                return None;
            }
            match log.read(next, to, MAX_READ_BYTES, false).await {
                Ok(piece) => {
                    let whole = piece
                        .first()
                        .is_some_and(|first| first.log_id.index == next);
                    let Some(newest) = piece.last().filter(|_| whole) else {
                        let error = io::Error::other(format!("the log ends before entry {next}"));
                        return Some((vec![Err(error)], None));
                    };
                    let next = newest.log_id.index + 1;
                    Some((piece.into_iter().map(Ok).collect(), Some((log, next))))
                }
                Err(error) => Some((vec![Err(error)], None)),
            }
        });
        Box::pin(pieces.flat_map(futures_util::stream::iter))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let read = self.read(start, end, MAX_READ_BYTES, true).await;
        // Purged under way: openraft takes nothing for a heartbeat and looks again. Never entries with a gap before them.
        let purged = self.log.bounds().0.is_some_and(|p| start <= p.index);
        match read {
            Ok(entries) if entries.first().is_none_or(|e| e.log_id.index == start) => Ok(entries),
            // Damaged: noted by now. Another replica leads soon, and this one is repaired; who has nobody to hand over to
            // goes on without the one that needs this. openraft asks again at once.
            Err(error) if error.kind() == io::ErrorKind::InvalidData && !purged => {
                self.say_damaged(start, &error);
                tokio::time::sleep(DAMAGED_PAUSE).await;
                Ok(Vec::new())
            }
            Err(error) if !purged => Err(error),
            _ => Ok(Vec::new()),
        }
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let mut vote = self
            .log
            .vote()
            .map(|bytes| decode_vote(&bytes))
            .transpose()?;
        if sabotage::on(Sabotage::ForgetVote)
            && let Some(vote) = &mut vote
        {
            vote.leader_id = LeaderId {
                term: vote.leader_id.term.saturating_sub(1),
                voted_for: 0,
            };
            vote.committed = false;
        }
        Ok(vote)
    }
}

impl LogStorage {
    /// Not at every question: they come twice a second for as long as it takes.
    fn say_damaged(&self, start: u64, error: &io::Error) {
        let mut said = self.said_damaged.lock();
        if said.is_none_or(|at| clock::since(at) >= SAY_AGAIN) {
            *said = Some(clock::now());
            tracing::error!(
                from_entry = start,
                %error,
                "a replica needs entries that are damaged here: it is not replicated to until they are repaired or expire"
            );
        }
    }

    /// Everything in the range that the log holds. A read may end early (at a limit, or where memory and files meet);
    /// what openraft applies must not: it would take the rest for applied.
    async fn read_all(&self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let (purged, last) = self.log.bounds();
        let to = to.min(last.map_or(0, |last| last.index + 1));
        let mut next = from.max(purged.map_or(0, |purged| purged.index + 1));
        let mut all = Vec::new();
        while next < to {
            let more = self.read(next, to, MAX_READ_BYTES, false).await?;
            // A log whose first entries were never here begins later; nowhere else may there be a gap.
            let gap = more.first().is_none_or(|first| first.log_id.index != next);
            let Some(newest) = more.last().filter(|_| !gap || all.is_empty()) else {
                return Err(io::Error::other(format!(
                    "the log ends before entry {next} of {to}"
                )));
            };
            next = newest.log_id.index + 1;
            all.extend(more);
        }
        Ok(all)
    }

    /// `throttled` is for a follower far behind, not for what is applied here.
    async fn read(
        &self,
        from: u64,
        to: u64,
        max_bytes: usize,
        throttled: bool,
    ) -> io::Result<Vec<Entry>> {
        let to = to.min(self.log.bounds().1.map_or(0, |last| last.index + 1));
        let raw = match self.log.read_tail(from, to, max_bytes) {
            Some(entries) => entries,
            None if from >= to => Vec::new(),
            None => {
                // Behind what is in memory: files are read beside the async threads.
                let log = self.log.clone();
                let read =
                    crate::blocking::run(move || log.read_entries(from, to, max_bytes)).await;
                let entries = read.map_err(io::Error::other)??;
                if throttled {
                    let bytes = entries.iter().map(|e| e.bytes.len() as u64).sum();
                    self.catch_up.pay(bytes).await;
                }
                entries
            }
        };
        Ok(raw
            .into_iter()
            .map(Entry::stored)
            .collect::<Result<_, _>>()?)
    }
}

impl RaftLogStorage<TypeConfig> for LogStorage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let (purged, last) = self.log.bounds();
        let id = |id: EntryId| log_id(id.term, id.index);
        Ok(LogState {
            last_purged_log_id: purged.map(id),
            last_log_id: last.map(id),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, wait) = waiter();
        self.log.save_vote(encode_vote(vote), done);
        wait.await
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let now_ms = (self.now_ms)();
        let mut batch = self.log.append();
        let mut tickets = Vec::new();
        let mut newest = None;
        let mut leader_alone = false;
        for entry in entries {
            let id = EntryId {
                term: entry.log_id.leader_id.term,
                index: entry.log_id.index,
            };
            newest = Some(id.index);
            match entry.body {
                Body::Stored(raw, _) => batch.push_encoded(id, raw)?,
                Body::Blank => {
                    batch.push_draft(id, Draft::blank(), now_ms)?;
                }
                Body::Membership(membership) => {
                    batch.push_draft(
                        id,
                        Draft::membership(&encode_membership(&membership)),
                        now_ms,
                    )?;
                }
                Body::Proposed(proposed) => {
                    let (_, placed) = batch.push_draft(id, proposed.draft, now_ms)?;
                    self.stamped
                        .fetch_add(placed.len() as u64, Ordering::Relaxed);
                    leader_alone |= proposed.ticket.appended(id.index, placed);
                    tickets.push(proposed.ticket);
                }
            }
        }
        let (lease, log) = (self.lease.clone(), self.log.clone());
        let most = self.async_max_uncommitted.clone();
        let persisted = Box::new(move |result: Result<(), String>| {
            let persisted = result.is_ok();
            callback.io_completed(result.map_err(io::Error::other));
            // With too much that is not committed, the leader's word alone does not count: those sends wait for the commit.
            let bounded = || log.uncommitted() <= most.load(Ordering::Relaxed);
            let may = || bounded() && lease.is_valid() || sabotage::on(Sabotage::AckBeforeCommit);
            if persisted && !tickets.is_empty() && may() {
                tickets
                    .iter()
                    .for_each(|ticket| ticket.persisted_under_lease());
            }
        });
        match leader_alone {
            // They are answered when it is persisted: not by the core's task.
            true => batch.submit_to_thread(persisted),
            false => batch.submit(persisted),
        }
        if let Some(newest) = newest {
            self.appended.send_replace(newest);
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let (done, wait) = waiter();
        self.log
            .truncate_after(last_log_id.map(|id| id.index), done)?;
        wait.await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let (done, wait) = waiter();
        let upto = EntryId {
            term: upto.leader_id.term,
            index: upto.index,
        };
        let known = self.snapshots.base().map(|base| base.header.mark);
        self.log.purge(upto, known, done)?;
        wait.await
    }
}
