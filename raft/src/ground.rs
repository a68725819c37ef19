//! What a replica stands on: files, the network between replicas, a wall clock. A broker's are the machine's. A simulation
//! brings its own for each replica, runs each on a runtime of one thread with a clock of its own, and decides when its disk
//! works ([`Replica::step`](crate::Replica::step)).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use raftmq_proto::raft::peer_client::PeerClient;
use raftmq_store::commitlog::Drive;
use raftmq_store::commitlog::marks::boot_id;
use raftmq_store::{Env, version};
pub use tonic::body::Body;
pub use tonic::codegen::http;
use tonic::codegen::{Service, StdError};
use tonic::transport::Channel;

/// See the module's text.
#[derive(Clone)]
pub struct Ground {
    /// Files and metadata store.
    pub env: Env,
    /// Which boot of the machine this is.
    pub boot: String,
    /// The wall clock, milliseconds since the epoch.
    pub now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// The way to the other replicas.
    pub net: Net,
    /// Who performs the writes. With [`Drive::Caller`] the replica lives on the runtime that opens it, without threads.
    pub drive: Drive,
    /// The newest set version this replica says it knows. A simulated replica may have an older program.
    pub newest_version: u32,
}

impl Ground {
    /// The machine.
    pub fn real() -> Self {
        let since_epoch = || SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            env: Env::real(),
            boot: boot_id(),
            now_ms: Arc::new(move || since_epoch().map_or(0, |d| d.as_millis() as i64)),
            net: Net::Tcp,
            drive: Drive::Threads,
            newest_version: version::NEWEST,
        }
    }
}

/// How replicas reach each other.
#[derive(Clone)]
pub enum Net {
    /// gRPC over TCP.
    Tcp,
    /// The same requests and responses, carried by a simulation.
    Simulated(Arc<dyn Wire>),
}

/// What comes of a request.
pub type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, StdError>> + Send>>;
/// A peer port: answers requests.
pub type Port = Arc<dyn Fn(http::Request<Body>) -> Answer + Send + Sync>;

/// A simulated network, as one replica sees it.
pub trait Wire: Send + Sync {
    /// Sends a request to a peer address.
    fn call(&self, to: &str, request: http::Request<Body>) -> Answer;
    /// Opens this replica's own peer port.
    fn listen(&self, port: Port);
}

/// A client for one peer.
pub(crate) type Peer = PeerClient<Link>;

/// A connection to one peer.
#[derive(Clone)]
pub enum Link {
    /// Over TCP.
    Tcp(Channel),
    /// Simulated.
    Simulated {
        /// The network.
        wire: Arc<dyn Wire>,
        /// The peer's address.
        to: String,
        /// Longest wait for an answer.
        patience: Option<Duration>,
    },
}

impl Service<http::Request<Body>> for Link {
    type Response = http::Response<Body>;
    type Error = StdError;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        match self {
            Self::Tcp(channel) => channel.poll_ready(cx).map_err(Into::into),
            Self::Simulated { .. } => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        match self {
            Self::Tcp(channel) => {
                let answer = channel.call(request);
                Box::pin(async { answer.await.map_err(Into::into) })
            }
            Self::Simulated { wire, to, patience } => {
                let answer = wire.call(to, request);
                match *patience {
                    Some(patience) => {
                        Box::pin(async move { tokio::time::timeout(patience, answer).await? })
                    }
                    None => answer,
                }
            }
        }
    }
}
