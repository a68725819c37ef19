//! The client: one connection per address, made on demand, shared by all callers and made again when it breaks.
//!
//! A connection attempt runs in a task of its own, so that a caller who gives up does not stop it for the others. After a
//! failed attempt the address rests for a moment that doubles up to [`MAX_BACKOFF`]; meanwhile requests to it fail at once,
//! as surely not sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::budget::Budget;
use crate::channel::{Channel, MAX_INFLIGHT_BYTES, RemotingError};
use crate::command::{LanguageCode, RemotingCommand};
use crate::connection::{self, Group};
use crate::server::{DEFAULT_IDLE, Handler};
use crate::version::CURRENT_VERSION;

/// First rest after a failed connection attempt.
pub const MIN_BACKOFF: Duration = Duration::from_millis(50);
/// Longest rest: a peer that is back is found again within this.
pub const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// Addresses remembered; beyond it those without a connection are forgotten.
const MAX_ADDRESSES: usize = 4096;

/// How a client connects.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    pub connect_timeout: Duration,
    /// A connection without traffic in either direction for this long is closed.
    pub idle: Duration,
    /// Announced in every request.
    pub language: LanguageCode,
    /// Announced in every request.
    pub version: i32,
    /// Bytes of unanswered requests from one server beyond which its connection is not read.
    pub max_inflight_bytes: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            idle: DEFAULT_IDLE,
            language: LanguageCode::Rust,
            version: CURRENT_VERSION,
            max_inflight_bytes: MAX_INFLIGHT_BYTES,
        }
    }
}

type Attempt = Option<Result<Channel, String>>;

enum Slot {
    Open(Channel),
    Connecting(watch::Receiver<Attempt>),
    Resting {
        until: Instant,
        backoff: Duration,
        why: String,
    },
}

struct Shared {
    options: ClientOptions,
    push: Option<Arc<dyn Handler>>,
    slots: Mutex<AHashMap<String, Slot>>,
    group: Arc<Group>,
    /// Without a limit: whom this process connects to it trusts not to flood it.
    budget: Arc<Budget>,
    keeper: AtomicBool,
    closed: AtomicBool,
}

impl Drop for Shared {
    /// The last clone is gone: nobody can use the connections any more.
    fn drop(&mut self) {
        self.group.close_all("the client is dropped");
    }
}

/// Connections by address. Clones share them; when the last clone is dropped they are closed.
#[derive(Clone)]
pub struct RemotingClient(Arc<Shared>);

impl RemotingClient {
    /// Requests from a server go to `push`; without one they are answered "not supported".
    pub fn new(options: ClientOptions, push: Option<Arc<dyn Handler>>) -> Self {
        Self(Arc::new(Shared {
            options,
            push,
            slots: Mutex::default(),
            group: Arc::default(),
            budget: Arc::new(Budget::unlimited()),
            keeper: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }))
    }

    /// The connection to `addr` (`host:port`), made now if there is none.
    pub async fn channel(&self, addr: &str) -> Result<Channel, RemotingError> {
        let mut attempt = match self.slot(addr)? {
            Ok(channel) => return Ok(channel),
            Err(attempt) => attempt,
        };
        let refused = |why: String| RemotingError::Connect {
            addr: addr.to_owned(),
            why,
        };
        let done = attempt
            .wait_for(Option::is_some)
            .await
            .map_err(|_| refused("attempt abandoned".into()))?;
        match done.as_ref() {
            Some(Ok(channel)) => Ok(channel.clone()),
            Some(Err(why)) => Err(refused(why.clone())),
            None => Err(refused("attempt abandoned".into())),
        }
    }

    /// The open channel, or the attempt to wait for.
    fn slot(&self, addr: &str) -> Result<Result<Channel, watch::Receiver<Attempt>>, RemotingError> {
        let shared = &self.0;
        let refused = |why: String| RemotingError::Connect {
            addr: addr.to_owned(),
            why,
        };
        if shared.closed.load(Ordering::Acquire) {
            return Err(refused("the client is closed".into()));
        }
        let mut slots = shared.slots.lock();
        let mut backoff = MIN_BACKOFF;
        match slots.get(addr) {
            Some(Slot::Open(channel)) if !channel.is_closed() => return Ok(Ok(channel.clone())),
            Some(Slot::Connecting(attempt)) => return Ok(Err(attempt.clone())),
            Some(Slot::Resting { until, why, .. }) if Instant::now() < *until => {
                return Err(refused(why.clone()));
            }
            Some(Slot::Resting { backoff: last, .. }) => backoff = (*last * 2).min(MAX_BACKOFF),
            _ => {}
        }
        if slots.len() >= MAX_ADDRESSES {
            let now = Instant::now();
            slots.retain(|_, slot| match slot {
                Slot::Open(channel) => !channel.is_closed(),
                Slot::Connecting(_) => true,
                Slot::Resting { until, .. } => now < *until,
            });
        }
        if !shared.keeper.swap(true, Ordering::AcqRel) {
            tokio::spawn(connection::keep(
                Arc::downgrade(&shared.group),
                shared.options.idle,
                shared.budget.clone(),
            ));
        }
        let (tx, rx) = watch::channel(None);
        slots.insert(addr.to_owned(), Slot::Connecting(rx.clone()));
        drop(slots);
        tokio::spawn(connect(shared.clone(), addr.to_owned(), backoff, tx));
        Ok(Err(rx))
    }

    /// Sends a request and waits for its response; `timeout` covers the connection attempt too.
    pub async fn invoke(
        &self,
        addr: &str,
        mut cmd: RemotingCommand,
        timeout: Duration,
    ) -> Result<RemotingCommand, RemotingError> {
        let start = Instant::now();
        let channel = match tokio::time::timeout(timeout, self.channel(addr)).await {
            Ok(channel) => channel?,
            Err(_) => {
                return Err(RemotingError::Connect {
                    addr: addr.to_owned(),
                    why: "timed out".into(),
                });
            }
        };
        self.announce(&mut cmd);
        channel
            .invoke(cmd, timeout.saturating_sub(start.elapsed()))
            .await
    }

    /// Sends a request that wants no response, connecting first if need be.
    pub async fn oneway(&self, addr: &str, mut cmd: RemotingCommand) -> Result<(), RemotingError> {
        let channel = self.channel(addr).await?;
        self.announce(&mut cmd);
        channel.oneway(cmd);
        Ok(())
    }

    fn announce(&self, cmd: &mut RemotingCommand) {
        cmd.language = self.0.options.language;
        cmd.version = self.0.options.version;
    }

    /// Closes all connections and refuses new ones.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.slots.lock().clear();
        self.0.group.close_all("the client is closed");
    }
}

async fn connect(
    shared: Arc<Shared>,
    addr: String,
    backoff: Duration,
    result: watch::Sender<Attempt>,
) {
    let limit = shared.options.connect_timeout;
    let made = match tokio::time::timeout(limit, TcpStream::connect(&addr)).await {
        Ok(Ok(stream)) => connection::start(
            stream,
            &shared.group,
            shared.push.clone(),
            shared.options.max_inflight_bytes,
            shared.budget.clone(),
        )
        .map_err(|e| e.to_string()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("no connection within {} ms", limit.as_millis())),
    };
    let slot = match &made {
        Ok(channel) => Slot::Open(channel.clone()),
        Err(why) => {
            tracing::debug!(%addr, why, "connection attempt failed");
            Slot::Resting {
                until: Instant::now() + backoff,
                backoff,
                why: why.clone(),
            }
        }
    };
    {
        let mut slots = shared.slots.lock();
        if shared.closed.load(Ordering::Acquire) {
            drop(slots);
            if let Ok(channel) = &made {
                channel.close("the client is closed");
            }
        } else {
            slots.insert(addr, slot);
        }
    }
    // Callers may have given up; then nobody waits for the result.
    let _ = result.send(Some(made));
}
