//! Changes of a set's members: leadership handed over, a replica that joins, one that leaves. Ours only.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use raftmq_remoting::body::{RaftReplica, RaftStatus};

use super::Bed;
use super::tools::off;

/// Longest time for one step of the membership, catching up included.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// How often a step is tried or looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Bed {
    /// Has a replica become the leader, and tells who leads afterwards.
    ///
    /// # Errors
    /// It was refused, or came to nothing.
    pub async fn transfer(&self, to: usize) -> Result<String, BenchError> {
        let Some((leader, _)) = self.own_words().await else {
            return Err(BenchError::Usage("nobody leads".into()));
        };
        let addr = &self.addrs[leader];
        let after = self.admin.transfer_leader(addr, &format!("n{to}")).await?;
        Ok(after.leader_name)
    }

    /// The number of the replica that joins and leaves.
    pub fn spare(&self) -> usize {
        self.replicas()
    }

    /// Starts one more, empty replica, and makes it a voter.
    ///
    /// # Errors
    /// It cannot be started, or does not become one in time.
    pub async fn grow(&self) -> Result<(), BenchError> {
        self.members_changed.store(true, Ordering::Relaxed);
        let (cluster, spare, store) = (
            self.cluster.clone(),
            self.spare.clone(),
            self.home(self.spare()),
        );
        off(move || {
            let mut spare = spare.lock();
            if spare.is_none() {
                let _ = std::fs::remove_dir_all(&store);
                *spare = Some(cluster.lock().start_spare()?);
            }
            Ok(())
        })
        .await?;
        self.make_voter(self.spare()).await
    }

    /// Waits until a replica has joined and caught up, and makes it a voter if it is none.
    ///
    /// # Errors
    /// Not in time.
    pub async fn make_voter(&self, replica: usize) -> Result<(), BenchError> {
        self.until(replica, true).await
    }

    /// Takes a replica out of the set, kills it and deletes its store.
    ///
    /// # Errors
    /// Not in time.
    pub async fn shrink(&self, replica: usize) -> Result<(), BenchError> {
        self.members_changed.store(true, Ordering::Relaxed);
        self.until(replica, false).await?;
        if replica < self.replicas() {
            self.kill(&[replica]).await?;
            return self.wipe(replica).await;
        }
        let (spare, home) = (self.spare.clone(), self.home(replica));
        off(move || {
            drop(spare.lock().take());
            let _ = std::fs::remove_dir_all(home);
            Ok(())
        })
        .await
    }

    /// Makes every replica of the beginning a voter again, and nobody else.
    ///
    /// # Errors
    /// Not in time.
    pub async fn settle_members(&self) -> Result<(), BenchError> {
        let all: Vec<_> = (0..self.replicas()).collect();
        self.start_replicas(&all).await?;
        for replica in all {
            self.make_voter(replica).await?;
        }
        self.shrink(self.spare()).await?;
        self.members_changed.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Tries until a replica is a voter, or no member at all. A step may be refused for a while: one is under way, or the replica
    /// is behind.
    async fn until(&self, replica: usize, votes: bool) -> Result<(), BenchError> {
        let (deadline, name) = (Instant::now() + STEP_LIMIT, format!("n{replica}"));
        loop {
            if let Some((addr, status)) = self.leader_of_any().await {
                let member = newest(&status, &name);
                let id = member.map_or(String::new(), |m| m.node_id.to_string());
                let _ = match member {
                    None if !votes => return Ok(()),
                    Some(m) if votes && m.voter => return Ok(()),
                    Some(m) if votes && m.reachable => self.admin.add_replica(&addr, &id).await,
                    Some(_) if !votes => self.admin.remove_replica(&addr, &id, false).await,
                    _ => Ok(status),
                };
            }
            if Instant::now() >= deadline {
                let what = if votes { "is no voter" } else { "is a member" };
                return Err(BenchError::Timeout {
                    what: format!("{name} {what}"),
                    seconds: STEP_LIMIT.as_secs(),
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The leader's address and view; the spare may lead, too.
    async fn leader_of_any(&self) -> Option<(String, RaftStatus)> {
        if let Some((leader, status)) = self.own_words().await {
            return Some((self.addrs[leader].clone(), status));
        }
        let addr = self.spare.lock().as_ref()?.addr.clone();
        let status = self.admin.raft_status(&addr).await.ok()?;
        (status.leader_name == status.answered_by).then_some((addr, status))
    }
}

/// Two members may have one name for a while; the newest counts.
fn newest<'a>(status: &'a RaftStatus, name: &str) -> Option<&'a RaftReplica> {
    let named = status.replicas.iter().filter(|r| r.name == name);
    named.max_by_key(|r| r.node_id)
}
