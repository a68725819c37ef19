//! The name server inside the broker's process, for `--standalone`.

use raftmq_broker::BrokerError;
use raftmq_namesrv::{NameServer, NamesrvConfig};

/// Where the broker of the same process finds it.
pub const ADDR: &str = "127.0.0.1:9876";

/// Starts a name server with its defaults: port 9876.
pub async fn start_name_server() -> Result<NameServer, BrokerError> {
    NameServer::start(NamesrvConfig::default())
        .await
        .map_err(|e| BrokerError::NameServer(e.to_string()))
}
