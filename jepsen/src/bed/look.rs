//! What can be seen of the set from outside: who leads, and whether it is whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use raftmq_benches::proc_stat::Usage;
use raftmq_remoting::body::RaftStatus;
use tokio::task::JoinSet;

use super::Bed;
use super::tools::off;

/// How often the set is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Bed {
    /// Who leads: what the replicas say of themselves, the one of the highest term; else, and for Java servers, what the name
    /// server says.
    pub async fn leader(&self) -> Option<usize> {
        let told = match self.is_ours() {
            true => self.own_words().await,
            false => None,
        };
        match told {
            Some((leader, _)) => Some(leader),
            None => self.master().await,
        }
    }

    /// The set as its leader sees it, and who that is.
    pub(super) async fn own_words(&self) -> Option<(usize, RaftStatus)> {
        let mut asked = JoinSet::new();
        for (replica, addr) in self.addrs.iter().cloned().enumerate() {
            let admin = Arc::clone(&self.admin);
            asked.spawn(async move { (replica, admin.raft_status(&addr).await) });
        }
        let answers = asked.join_all().await.into_iter();
        let leaders = answers.filter_map(|(replica, status)| Some((replica, status.ok()?)));
        leaders
            .filter(|(_, s)| !s.leader_name.is_empty() && s.leader_name == s.answered_by)
            .max_by_key(|(_, s)| s.term)
    }

    /// Who says of itself that it leads, and in which term.
    pub async fn own_leader(&self) -> Option<(usize, u64)> {
        let (leader, status) = self.own_words().await?;
        Some((leader, status.term))
    }

    /// What one replica has not got, or is not allowed to, yet.
    pub async fn missing_of(&self, replica: usize) -> Option<String> {
        let Some((leader, status)) = self.own_words().await else {
            return Some("nobody leads".to_owned());
        };
        let (end, has) = (self.log_end(leader).await, self.log_end(replica).await);
        if has.is_none() || has < end {
            return Some(format!("n{replica} has {has:?} of {end:?} bytes"));
        }
        let addr = self.addrs.get(replica)?;
        let mut here = status.replicas.iter();
        match here.find(|r| &r.client_addr == addr && r.reachable && r.voter) {
            None => Some(format!("n{replica} is no voter that can be reached")),
            Some(r) if !r.restriction.is_empty() => Some(r.restriction.clone()),
            Some(_) => None,
        }
    }

    /// Whom the name server has as master.
    async fn master(&self) -> Option<usize> {
        let info = self.admin.cluster_info().await.ok()?;
        let addrs = &info.broker_addr_table.get(&self.set)?.broker_addrs;
        let master = addrs.get(&0)?;
        self.addrs.iter().position(|a| a == master)
    }

    /// Where a replica's log ends, bytes; None when it does not answer.
    pub async fn log_end(&self, replica: usize) -> Option<i64> {
        self.told(replica, "commitLogMaxOffset").await
    }

    /// Where it begins.
    pub async fn log_start(&self, replica: usize) -> Option<i64> {
        self.told(replica, "commitLogMinOffset").await
    }

    async fn told(&self, replica: usize, name: &str) -> Option<i64> {
        let info = self.admin.runtime_info(self.addrs.get(replica)?).await;
        info.ok()?.get(name)?.parse().ok()
    }

    /// Changes settings of a running replica.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub async fn configure(
        &self,
        replica: usize,
        settings: &[(&str, &str)],
    ) -> Result<(), BenchError> {
        let addr = &self.addrs[replica];
        Ok(self.admin.update_broker_config(addr, settings).await?)
    }

    /// Whether all processes run that were not ended here.
    ///
    /// # Errors
    /// One has ended by itself; its last words are told.
    pub async fn check_processes(&self) -> Result<(), BenchError> {
        let cluster = self.cluster.clone();
        off(move || cluster.lock().check_processes()).await
    }

    /// Resident memory of a replica's process, bytes; None when it does not run.
    pub async fn resident_bytes(&self, replica: usize) -> Option<u64> {
        let cluster = self.cluster.clone();
        let pid = off(move || {
            let cluster = cluster.lock();
            Ok(cluster.brokers.get(replica).and_then(|b| b.process.pid()))
        });
        Some(Usage::of(pid.await.ok()??)?.rss)
    }

    /// Waits until every replica runs, is registered, may vote, and has what the leader had a moment before.
    ///
    /// # Errors
    /// It takes longer than `limit`; a process has ended by itself.
    pub async fn wait_whole(&self, limit: Duration) -> Result<(), BenchError> {
        let deadline = Instant::now() + limit;
        loop {
            let cluster = self.cluster.clone();
            off(move || cluster.lock().check_processes()).await?;
            let missing = match self.missing().await {
                None => return Ok(()),
                Some(missing) => missing,
            };
            if Instant::now() >= deadline {
                return Err(BenchError::Timeout {
                    what: missing,
                    seconds: limit.as_secs(),
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What keeps the set from being whole.
    async fn missing(&self) -> Option<String> {
        let Some(leader) = self.leader().await else {
            return Some("nobody leads".to_owned());
        };
        let Some(end) = self.log_end(leader).await else {
            return Some(format!("the leader n{leader} does not answer"));
        };
        for replica in 0..self.replicas() {
            match self.log_end(replica).await {
                None => return Some(format!("n{replica} does not answer")),
                Some(has) if has < end => {
                    return Some(format!("n{replica} has {has} of {end} bytes"));
                }
                Some(_) => {}
            }
        }
        if self.is_ours()
            && let Some(missing) = self.not_voting().await
        {
            return Some(missing);
        }
        let info = self.admin.cluster_info().await.ok();
        let known = info.and_then(|i| Some(i.broker_addr_table.get(&self.set)?.broker_addrs.len()));
        match known.unwrap_or(0) {
            n if n >= self.replicas() => None,
            n => Some(format!(
                "{n} of {} replicas are registered",
                self.replicas()
            )),
        }
    }

    /// A replica that is no voter, or not allowed to vote.
    async fn not_voting(&self) -> Option<String> {
        let Some((_, status)) = self.own_words().await else {
            return Some("nobody leads".to_owned());
        };
        for addr in &self.addrs {
            let mut here = status.replicas.iter();
            match here.find(|r| &r.client_addr == addr && r.reachable && r.voter) {
                None => return Some(format!("{addr} is no voter that can be reached")),
                Some(r) if !r.restriction.is_empty() => {
                    return Some(format!("{addr} may not vote: {}", r.restriction));
                }
                Some(_) => {}
            }
        }
        (status.replicas.len() > self.replicas())
            .then(|| format!("the set has {} replicas", status.replicas.len()))
    }
}
