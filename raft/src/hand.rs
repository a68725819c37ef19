//! A replica driven by hand: without threads of its own ([`Drive::Caller`](raftmq_store::commitlog::Drive::Caller)), so that a
//! simulation says when its disk works, and looks at it in between. Call all of it on the replica's runtime.

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use raftmq_store::commitlog::CommitLog;
use raftmq_store::commitlog::marks::Mark;

use crate::clock;
use crate::replica::Replica;

impl Replica {
    /// Performs the writes that wait, and tells who waits for them; returns how many groups there were.
    pub fn step(&self) -> usize {
        self.inner().store.log.step()
    }

    /// What the flusher and the housekeeper do in a broker, once.
    ///
    /// # Errors
    /// A failed fsync: the replica ends.
    pub fn keep_house(&self) -> Result<(), crate::StoreError> {
        let inner = self.inner();
        inner.store.log.flush()?;
        let mut keeper = inner.housekeeping.by_hand.lock();
        if keeper.as_mut().is_some_and(|k| k.tick(clock::now())) {
            inner.base_moved.notify_one();
        }
        Ok(())
    }

    /// Writes the checkpoint of the log.
    pub fn checkpoint(&self) {
        if let Err(error) = self.inner().store.log.checkpoint() {
            tracing::warn!(%error, "checkpoint not written");
        }
    }

    /// The log.
    pub fn log(&self) -> &CommitLog {
        &self.inner().store.log
    }

    /// The last applied entry.
    pub fn applied(&self) -> Option<Mark> {
        self.inner().applied.applied()
    }

    /// The term in which the core counts itself as leader, whether it serves or not.
    pub fn leads_in(&self) -> Option<u64> {
        let (raft, _) = self.inner().peers.core.get()?;
        let metrics = raft.metrics();
        let seen = metrics.borrow_watched();
        (seen.state == ServerState::Leader).then_some(seen.current_term)
    }

    /// Why this replica may not vote or lead at the moment.
    pub fn restriction(&self) -> Option<String> {
        self.inner().peers.guard.restriction()
    }

    /// Why the replica has ended for good; `None` while it runs.
    pub fn ended(&self) -> Option<String> {
        self.inner().stopped.borrow().clone()
    }
}
