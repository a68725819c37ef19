//! What can go wrong in the name server, by what a caller can do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A name server that does not start.
#[derive(Debug, thiserror::Error)]
pub enum NamesrvError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: SocketAddr, source: io::Error },
}

/// A setting that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("not a properties text: {0}")]
    Syntax(String),
    #[error("{key}={value}: {wanted} is wanted")]
    Value {
        key: &'static str,
        value: String,
        wanted: String,
    },
    #[error(
        "{0}: TLS and access control are not available yet, and nothing starts without what its settings ask for"
    )]
    Security(String),
    #[error("unknown key {0}")]
    UnknownKey(String),
    #[error("{0} cannot be changed while the name server runs")]
    Fixed(&'static str),
    /// The key is named in `configBlackList`.
    #[error("Can not update config in black list.")]
    BlackList,
}

/// Key-value configuration that cannot be loaded or kept.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file is damaged: overwriting it would lose what it holds.
    #[error("{} is not a KV configuration: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("cannot write {}: {why}", path.display())]
    Write { path: PathBuf, why: String },
    #[error("too many changes wait to be written")]
    Busy,
    #[error("the KV configuration would exceed {max} bytes")]
    Full { max: usize },
    #[error("the name server is shutting down")]
    Closed,
}
