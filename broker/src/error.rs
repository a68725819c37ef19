//! What can keep a broker from starting or make it stop.

use std::path::PathBuf;

use thiserror::Error;

/// Errors of this crate. A request that cannot be served is not one of them: it is answered with a response code.
#[derive(Debug, Error)]
pub enum BrokerError {
    #[error("bad setting {key}={value}: expected {expected}")]
    BadSetting {
        key: String,
        value: String,
        expected: String,
    },

    #[error("cannot read the settings file {path}: {reason}")]
    ConfigFile { path: PathBuf, reason: String },

    #[error(
        "brokerIP1={ip} is a loopback address and the name server {namesrv} is on another machine: clients would be sent \
         to themselves. Set brokerIP1 to the address clients reach this broker at"
    )]
    LoopbackAdvertised { ip: String, namesrv: String },

    #[error(
        "{dir} is empty and there is neither raftPeers nor namesrvAddr: to create a set of one replica start with --bootstrap \
         (or --standalone for a name server in the same process); for a replicated set list its replicas in raftPeers; to join \
         a set that exists give brokerName and namesrvAddr"
    )]
    NotBorn { dir: PathBuf },

    #[error("{switch} cannot do what it says: {reason}. Start without it")]
    UselessSwitch {
        switch: &'static str,
        reason: String,
    },

    #[error("cannot listen on {addr}: {source}")]
    Listen {
        addr: String,
        source: std::io::Error,
    },

    #[error("name server: {0}")]
    NameServer(String),

    #[error(transparent)]
    Raft(#[from] raftmq_raft::RaftError),

    #[error("{what}: {source}")]
    Io {
        what: String,
        source: std::io::Error,
    },
}
