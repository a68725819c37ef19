//! openraft's own suite over our storage. It appends to an empty log at any index, applies entries that were never
//! appended, and purges beyond the last entry as after an installed snapshot; the wrapper plays that snapshot by
//! writing its anchor, which a broker's log demands.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, RaftLogReader, StorageError};
use raftmq_store::Store;
use raftmq_store::commitlog::marks::Mark;
use raftmq_store::commitlog::writer::FlushPolicy;
use raftmq_store::commitlog::{CommitLog, LogOptions};
use tempfile::TempDir;

use super::support::Counter;
use crate::lease::Lease;
use crate::log_storage::LogStorage;
use crate::state_machine::StateMachine;
use crate::types::{Entry, LogId, TypeConfig, Vote};

struct Anchored {
    inner: LogStorage,
    log: CommitLog,
}

impl RaftLogReader<TypeConfig> for Anchored {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.inner.try_get_log_entries(range).await
    }
    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.inner.read_vote().await
    }
}

impl RaftLogStorage<TypeConfig> for Anchored {
    type LogReader = LogStorage;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        self.inner.get_log_state().await
    }
    async fn get_log_reader(&mut self) -> LogStorage {
        self.inner.get_log_reader().await
    }
    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.inner.save_vote(vote).await
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
        self.inner.append(entries, callback).await
    }
    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.inner.truncate_after(last).await
    }
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.log.save_anchor(Mark {
            index: upto.index,
            term: upto.leader_id.term,
            position: self.log.end(),
            ..Mark::default()
        })?;
        self.inner.purge(upto).await
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, Anchored, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Anchored, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("temp dir");
        let options = LogOptions::new(64 * 1024, FlushPolicy::Async);
        let (store, _lock) = Store::open(dir.path(), &options).expect("opens");
        let lease = Arc::new(Lease::new(Duration::from_secs(1)));
        let log = store.log.clone();
        let machine = StateMachine::new(
            store.machine.clone(),
            log.clone(),
            store.snapshots.clone(),
            Arc::<Counter>::default(),
            Arc::default(),
        );
        let anchored = Anchored {
            inner: LogStorage::new(
                log.clone(),
                store.snapshots.clone(),
                lease,
                0,
                Arc::default(),
                Arc::default(),
                Arc::new(|| 0),
            ),
            log,
        };
        Ok((dir, anchored, machine))
    }
}

#[test]
fn openraft_storage_conformance() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(Suite::test_all(Builder))
        .expect("conforms");
}
