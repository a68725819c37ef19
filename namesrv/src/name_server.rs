//! The running name server: the listener, its state, and the task that looks for silent brokers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq_remoting::{Server, ServerOptions};
use tokio_util::task::AbortOnDropHandle;

use crate::config::NamesrvConfig;
use crate::error::NamesrvError;
use crate::handler::NamesrvHandler;
use crate::kv_config::KvConfig;
use crate::route_table::RouteTable;

/// A name server that listens.
pub struct NameServer {
    server: Server,
    handler: Arc<NamesrvHandler>,
    eviction: AbortOnDropHandle<()>,
}

impl NameServer {
    /// Loads the key-value configuration and listens. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// The KV file, or the one that keeps changed settings, is damaged, or the address cannot be bound.
    pub async fn start(config: NamesrvConfig) -> Result<Self, NamesrvError> {
        let kv = KvConfig::open(&config.kv_config_path)?;
        let changes = KvConfig::open(&config.changes_path())?;
        let bind = config.listen_addr();
        let idle = Duration::from_secs(config.server_channel_max_idle_time_seconds);
        let handler = Arc::new(NamesrvHandler::new(config, kv, changes));
        let options = ServerOptions {
            idle,
            ..ServerOptions::new(bind)
        };
        let server = Server::bind(options, handler.clone())
            .await
            .map_err(|source| NamesrvError::Listen { addr: bind, source })?;
        tracing::info!(address = %server.local_addr(), "name server listens");
        let eviction = AbortOnDropHandle::new(tokio::spawn(evict_silent_brokers(handler.clone())));
        Ok(Self {
            server,
            handler,
            eviction,
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// What is registered.
    pub fn routes(&self) -> &RouteTable {
        self.handler.routes()
    }

    /// Closes all connections and writes what waits to be written.
    pub async fn shutdown(self) {
        self.eviction.abort();
        self.server.shutdown().await;
        let handler = self.handler;
        if tokio::task::spawn_blocking(move || handler.close())
            .await
            .is_err()
        {
            tracing::error!("the KV configuration was not closed");
        }
    }
}

async fn evict_silent_brokers(handler: Arc<NamesrvHandler>) {
    loop {
        tokio::time::sleep(handler.scan_interval()).await;
        handler.evict(Instant::now());
    }
}
