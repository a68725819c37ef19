//! Administration: topics, groups, offsets, configuration ([`topics`], [`groups`], [`brokers`]), broker sets ([`raft`]).

mod brokers;
mod groups;
mod raft;
mod topics;

use std::time::Duration;

use raftmq_remoting::RemotingCommand;
use raftmq_remoting::body::ClusterInfo;

use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::instance::Instance;

/// Limit of an administrative request.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Administrative calls. They hold no state but connections.
pub struct Admin {
    instance: Instance,
}

impl Admin {
    /// # Errors
    /// The name server list (`a:9876;b:9876`) is malformed. Nothing is connected yet.
    pub fn new(namesrv_addrs: impl Into<String>) -> Result<Self, ClientError> {
        Self::with_config(ClientConfig {
            request_timeout: ADMIN_TIMEOUT,
            ..ClientConfig::new(namesrv_addrs)
        })
    }

    /// # Errors
    /// As [`Self::new`].
    pub fn with_config(config: ClientConfig) -> Result<Self, ClientError> {
        Ok(Self {
            instance: Instance::start(config)?,
        })
    }

    /// Sends any request to any server. An error code is [`ClientError::Broker`].
    pub async fn call(
        &self,
        addr: &str,
        cmd: RemotingCommand,
    ) -> Result<RemotingCommand, ClientError> {
        self.instance.call(addr, cmd).await
    }

    /// All broker sets and their clusters.
    pub async fn cluster_info(&self) -> Result<ClusterInfo, ClientError> {
        self.instance
            .names
            .cluster_info(
                &self.instance.remoting,
                self.instance.config.request_timeout,
            )
            .await
    }

    /// Broker name and address of every master of a cluster.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a cluster that no name server knows.
    pub async fn masters(&self, cluster: &str) -> Result<Vec<(String, String)>, ClientError> {
        let brokers = self.brokers(cluster).await?;
        Ok(brokers
            .into_iter()
            .filter(|(_, id, _)| *id == 0)
            .map(|(name, _, addr)| (name, addr))
            .collect())
    }

    /// Broker name, id and address of every broker of a cluster.
    ///
    /// # Errors
    /// As [`Self::masters`].
    pub async fn brokers(&self, cluster: &str) -> Result<Vec<(String, i64, String)>, ClientError> {
        let info = self.cluster_info().await?;
        let names = info.cluster_addr_table.get(cluster).ok_or_else(|| {
            ClientError::Invalid(format!("no name server knows the cluster {cluster}"))
        })?;
        let sets = names
            .iter()
            .filter_map(|name| info.broker_addr_table.get(name));
        Ok(sets
            .flat_map(|b| {
                b.broker_addrs
                    .iter()
                    .map(|(id, addr)| (b.broker_name.clone(), *id, addr.clone()))
            })
            .collect())
    }

    /// The masters of a cluster; at least one.
    async fn some_masters(&self, cluster: &str) -> Result<Vec<(String, String)>, ClientError> {
        let masters = self.masters(cluster).await?;
        if masters.is_empty() {
            return Err(ClientError::NotSent {
                why: format!("cluster {cluster} has no master"),
            });
        }
        Ok(masters)
    }

    /// Closes the connections.
    pub fn shutdown(&self) {
        self.instance.remoting.close();
    }
}
