//! Why a run cannot go on.

use std::path::PathBuf;

use raftmq_client::ClientError;
use raftmq_store::StoreError;

/// A run that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A file or directory cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    /// A server program is not where it should be.
    #[error("{0} is not there; build the workspace first: cargo build --release --workspace")]
    NoProgram(PathBuf),
    /// A server could not be started.
    #[error("{name} cannot be started: {source}")]
    Spawn {
        name: String,
        source: std::io::Error,
    },
    /// A port that is wanted is taken.
    #[error("port {0} on 127.0.0.1 is taken")]
    PortTaken(u16),
    /// A server ended by itself.
    #[error("{name} ended ({status}); its last words:\n{log}")]
    Ended {
        name: String,
        status: String,
        log: String,
    },
    /// Something did not come about in time.
    #[error("{what} within {seconds} s")]
    Timeout { what: String, seconds: u64 },
    /// A call of the client failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The arguments make no sense.
    #[error("{0}")]
    Usage(String),
}

impl BenchError {
    /// For `map_err`: an I/O error at `path`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
