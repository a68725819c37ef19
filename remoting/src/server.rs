//! The server: accepts connections and hands their requests to a [`Handler`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::channel::{Channel, MAX_INFLIGHT_BYTES};
use crate::codes::response;
use crate::command::{FLAG_ONEWAY, FLAG_RESPONSE, RemotingCommand, SerializeType};
use crate::connection::{self, Group, now_ms};
use crate::frame::Answer;
use crate::logging::LogLimit;

/// A connection without traffic in either direction is closed after this, as stock servers do.
pub const DEFAULT_IDLE: Duration = Duration::from_secs(120);
/// Default bound on open connections: the usual file descriptor budget of one process.
pub const DEFAULT_MAX_CONNECTIONS: usize = 65_536;
/// Connections the kernel may queue before they are accepted; a reconnect storm of a few thousand clients fits.
const BACKLOG: u32 = 4096;
/// Pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a shutdown waits for connections to end.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);

/// Serves the requests of a server's connections, or the server's requests on a client's.
pub trait Handler: Send + Sync + 'static {
    /// Called on the connection's read task for every request, in arrival order. Must not block: answer now, or keep the
    /// request (or its [`Replier`]) and answer later. A panic answers code 1 and the connection goes on.
    fn handle(&self, request: Request);

    /// Called around the [`Handler::handle`]s of the requests that came with one read.
    fn together(&self, run: &mut dyn FnMut()) {
        run();
    }

    /// A connection is open; its requests follow.
    fn connected(&self, _channel: &Channel) {}

    /// A connection has ended; no request follows.
    fn disconnected(&self, _channel: &Channel) {}
}

/// A request and the means to answer it.
pub struct Request {
    pub cmd: RemotingCommand,
    pub channel: Channel,
    replier: Replier,
}

impl Request {
    pub(crate) fn new(cmd: RemotingCommand, channel: Channel, size: usize) -> Self {
        channel.charge(size);
        let replier = Replier {
            channel: channel.clone(),
            code: cmd.code,
            opaque: cmd.opaque,
            serialize: cmd.serialize,
            oneway: cmd.is_oneway(),
            size,
            answered: false,
        };
        Self {
            cmd,
            channel,
            replier,
        }
    }

    /// Answers the request; a no-op when it is oneway. Opaque and serialize type are set here.
    pub fn reply(self, response: RemotingCommand) {
        self.replier.reply(response);
    }

    /// The command and the means to answer it, apart.
    pub fn split(self) -> (RemotingCommand, Replier) {
        (self.cmd, self.replier)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("cmd", &self.cmd)
            .field("channel", &self.channel)
            .finish()
    }
}

/// Answers one request. Dropped unanswered it only gives the request's in-flight bytes back; dropped by a panic it answers
/// code 1.
#[derive(Debug)]
pub struct Replier {
    channel: Channel,
    code: i32,
    opaque: i32,
    serialize: SerializeType,
    oneway: bool,
    size: usize,
    answered: bool,
}

impl Replier {
    /// The connection the request came on.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Bytes this request is accounted for.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The request was made smaller: from now on it is accounted for `size` bytes, if that is less.
    pub fn shrink(&mut self, size: usize) {
        if let Some(less) = self.size.checked_sub(size) {
            self.channel.release(less);
            self.size = size;
        }
    }

    pub fn is_oneway(&self) -> bool {
        self.oneway
    }

    pub fn reply(mut self, response: RemotingCommand) {
        self.answer(response);
    }

    /// As [`Self::reply`], written down at once.
    pub fn reply_with(mut self, answer: &Answer<'_>) {
        self.answered = true;
        if !self.oneway {
            self.channel.answer(answer, self.opaque, self.serialize);
        }
    }

    fn answer(&mut self, mut response: RemotingCommand) {
        self.answered = true;
        if self.oneway {
            return;
        }
        response.opaque = self.opaque;
        response.serialize = self.serialize;
        response.flag = (response.flag | FLAG_RESPONSE) & !FLAG_ONEWAY;
        self.channel.send(response);
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        if !self.answered && !self.oneway {
            if std::thread::panicking() {
                let error = RemotingCommand::response(response::SYSTEM_ERROR)
                    .with_remark("the request handler failed");
                self.answer(error);
            } else {
                tracing::debug!(peer = %self.channel.remote(), code = self.code, "request not answered");
            }
        }
        self.channel.release(self.size);
    }
}

/// How a server listens.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Port 0 picks a free one.
    pub bind: SocketAddr,
    /// A connection without traffic in either direction for this long is closed.
    pub idle: Duration,
    /// Bytes of unanswered requests of one connection beyond which it is not read.
    pub max_inflight_bytes: usize,
    /// Further connections are closed at once.
    pub max_connections: usize,
    /// Memory that the connections share, with those of other servers that have the same one.
    pub budget: Arc<Budget>,
}

impl ServerOptions {
    /// The defaults, listening on `bind`.
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            idle: DEFAULT_IDLE,
            max_inflight_bytes: MAX_INFLIGHT_BYTES,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            budget: Arc::default(),
        }
    }
}

/// A listening server; dropping it stops accepting and closes its connections.
pub struct Server {
    local: SocketAddr,
    group: Arc<Group>,
    stop: CancellationToken,
}

impl Server {
    /// Listens and serves until shut down. Call it inside a Tokio runtime.
    pub async fn bind(options: ServerOptions, handler: Arc<dyn Handler>) -> io::Result<Self> {
        let socket = if options.bind.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(options.bind)?;
        let listener = socket.listen(BACKLOG)?;
        let local = listener.local_addr()?;
        let group = Arc::new(Group::default());
        let stop = CancellationToken::new();
        tokio::spawn(connection::keep(
            Arc::downgrade(&group),
            options.idle,
            options.budget.clone(),
        ));
        tokio::spawn(accept_loop(
            listener,
            options,
            handler,
            group.clone(),
            stop.clone(),
        ));
        Ok(Self { local, group, stop })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The open connections.
    pub fn channels(&self) -> Vec<Channel> {
        self.group.channels()
    }

    /// Stops accepting, closes all connections (queued responses are still written) and waits for them to end.
    pub async fn shutdown(self) {
        self.stop.cancel();
        let ended = async {
            while self.group.len() > 0 {
                self.group.close_all("the server shuts down");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(SHUTDOWN_WAIT, ended).await.is_err() {
            tracing::warn!(
                open = self.group.len(),
                "connections still open at shutdown"
            );
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.group.close_all("the server shuts down");
    }
}

async fn accept_loop(
    listener: TcpListener,
    options: ServerOptions,
    handler: Arc<dyn Handler>,
    group: Arc<Group>,
    stop: CancellationToken,
) {
    static LIMIT: LogLimit = LogLimit::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((_, peer)) if group.len() >= options.max_connections => {
                if let Some(more) = LIMIT.allow(now_ms()) {
                    let max = options.max_connections;
                    tracing::warn!(%peer, max, not_logged = more, "too many connections, this one is closed");
                }
            }
            Ok((stream, peer)) => {
                if let Err(e) = connection::start(
                    stream,
                    &group,
                    Some(handler.clone()),
                    options.max_inflight_bytes,
                    options.budget.clone(),
                ) {
                    tracing::debug!(%peer, error = %e, "connection lost at its start");
                }
            }
            Err(e) => {
                if let Some(more) = LIMIT.allow(now_ms()) {
                    tracing::warn!(error = %e, not_logged = more, "accept failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
