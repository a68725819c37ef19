//! A running cluster as it looks from outside: who leads, who is registered, how far the replicas are.

use std::time::{Duration, Instant};

use raftmq_client::{Message, MessageQueue, Producer, ProducerConfig};
use raftmq_remoting::body::TopicConfig;

use crate::cluster::Cluster;
use crate::error::BenchError;
use crate::programs::CLUSTER_NAME;

/// A topic that exists on every broker from its first start; the probe goes there.
const PROBE_TOPIC: &str = "BenchmarkTest";
/// How often a cluster is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest wait for the route of a new topic.
const ROUTE_LIMIT: Duration = Duration::from_secs(60);

impl Cluster {
    /// The address that the name server has as master of `set`.
    ///
    /// # Errors
    /// The name server does not answer.
    pub async fn master(&self, set: &str) -> Result<Option<String>, BenchError> {
        let info = self.admin().cluster_info().await?;
        let data = info.broker_addr_table.get(set);
        Ok(data.and_then(|b| b.broker_addrs.get(&0)).cloned())
    }

    /// How many brokers of `set` the name server knows.
    ///
    /// # Errors
    /// The name server does not answer.
    pub async fn registered(&self, set: &str) -> Result<usize, BenchError> {
        let info = self.admin().cluster_info().await?;
        Ok(info
            .broker_addr_table
            .get(set)
            .map_or(0, |b| b.broker_addrs.len()))
    }

    /// Waits until the name server routes to a master of every set that takes a message, and knows every replica.
    ///
    /// # Errors
    /// It takes longer than `limit`, or a process ended by itself.
    pub async fn wait_ready(&mut self, limit: Duration) -> Result<(), BenchError> {
        let deadline = Instant::now() + limit;
        let replicas = self.options.replicas;
        for set in self.sets() {
            loop {
                let missing = match (self.registered(&set).await, self.master(&set).await) {
                    (Ok(n), Ok(Some(_))) if n >= replicas => break,
                    (Ok(n), Ok(Some(_))) => {
                        format!("{} of the {replicas} replicas of {set} registered", n)
                    }
                    (Ok(_), Ok(None)) => format!("no master of {set} registered"),
                    (Err(e), _) | (_, Err(e)) => format!("no answer of the name server ({e})"),
                };
                self.pause_until(deadline, limit, missing).await?;
            }
        }
        for set in self.sets() {
            while let Err(e) = self.probe(&set).await {
                self.pause_until(deadline, limit, format!("{set} took no message ({e})"))
                    .await?;
            }
        }
        Ok(())
    }

    /// # Errors
    /// The deadline is over, or a process ended by itself.
    async fn pause_until(
        &mut self,
        deadline: Instant,
        limit: Duration,
        what: String,
    ) -> Result<(), BenchError> {
        self.check_processes()?;
        if Instant::now() >= deadline {
            return Err(BenchError::Timeout {
                what,
                seconds: limit.as_secs(),
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }

    async fn probe(&self, set: &str) -> Result<(), BenchError> {
        let mut config = ProducerConfig::new(self.namesrv_addr(), "raftmq-probe");
        config.send_timeout = Duration::from_secs(1);
        let producer = Producer::new(config)?;
        let queue = MessageQueue::new(PROBE_TOPIC, set, 0);
        let sent = producer
            .send_to(Message::new(PROBE_TOPIC, "probe"), queue)
            .await;
        producer.shutdown().await;
        sent?;
        Ok(())
    }

    /// Waits until `set` has another master than `old`.
    ///
    /// # Errors
    /// It takes longer than `limit`.
    pub async fn wait_new_master(
        &self,
        set: &str,
        old: &str,
        limit: Duration,
    ) -> Result<String, BenchError> {
        /// The figure this ends is a few hundred milliseconds.
        const LOOK_EVERY: Duration = Duration::from_millis(4);
        let deadline = Instant::now() + limit;
        loop {
            if let Ok(Some(master)) = self.master(set).await
                && master != old
            {
                return Ok(master);
            }
            if Instant::now() >= deadline {
                let what = format!("no other master of {set} than {old}");
                return Err(BenchError::Timeout {
                    what,
                    seconds: limit.as_secs(),
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Makes a topic of `queues` queues on every set and waits for its route.
    ///
    /// # Errors
    /// A set has no master, or there is no route after a minute.
    pub async fn create_topic(&self, topic: &str, queues: i32) -> Result<(), BenchError> {
        let config = TopicConfig {
            topic_name: topic.to_owned(),
            read_queue_nums: queues,
            write_queue_nums: queues,
            ..TopicConfig::default()
        };
        self.admin().create_topic(CLUSTER_NAME, &config).await?;
        let deadline = Instant::now() + ROUTE_LIMIT;
        while let Err(e) = self.admin().topic_route(topic).await {
            if Instant::now() >= deadline {
                return Err(e.into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Where the log of the broker at `addr` ends, bytes; None when it does not answer.
    pub async fn log_end(&self, addr: &str) -> Option<i64> {
        let info = self.admin().runtime_info(addr).await.ok()?;
        info.get("commitLogMaxOffset")?.parse().ok()
    }

    /// Whether every replica of `set` runs, is registered, and has what the master had a moment ago.
    pub async fn is_whole(&self, set: &str) -> bool {
        let Ok(Some(master)) = self.master(set).await else {
            return false;
        };
        let Some(end) = self.log_end(&master).await else {
            return false;
        };
        for broker in self.brokers.iter().filter(|b| b.set == set) {
            if self.log_end(&broker.addr).await.is_none_or(|e| e < end) {
                return false;
            }
        }
        self.registered(set)
            .await
            .is_ok_and(|n| n >= self.options.replicas)
    }

    /// Waits until [`Self::is_whole`].
    ///
    /// # Errors
    /// It takes longer than `limit`, or a process ended by itself.
    pub async fn wait_whole(&mut self, set: &str, limit: Duration) -> Result<(), BenchError> {
        let deadline = Instant::now() + limit;
        while !self.is_whole(set).await {
            self.pause_until(deadline, limit, format!("{set} is not whole"))
                .await?;
        }
        Ok(())
    }
}
