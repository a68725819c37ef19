//! `Channel`: one TCP connection as seen by the rest of the program, on either side.
//!
//! A channel sends: [`Channel::send`] queues a frame and never blocks, [`Channel::invoke`] also waits for the response. Both
//! sides may send requests; each numbers its own. Responses are matched by opaque on the read task. Timeouts are swept by
//! the keeper of the channel's server or client ([`crate::connection`]), one task for all its channels.
//!
//! Memory: a peer that does not read is cut off when [`MAX_OUTBOUND_BYTES`] wait for it; a connection whose requests are
//! not yet answered is not read further beyond its in-flight limit; all connections share a [`Budget`].

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::budget::{Budget, PASS_MS, PEER_FLOOR, STEP};
use crate::codes::response;
use crate::command::{RemotingCommand, SerializeType};
use crate::connection::now_ms;
use crate::frame::{Answer, FrameError};
use crate::outbound::{Batch, Size};

/// Bytes that may wait for a peer that does not read; then the connection is closed.
pub const MAX_OUTBOUND_BYTES: usize = 64 * 1024 * 1024;
/// Default bytes of requests of one connection that are handed out and not yet answered; then reading pauses.
pub const MAX_INFLIGHT_BYTES: usize = 16 * 1024 * 1024;
/// Frames queued in [`corked`] after which the writing tasks are woken in any case.
const CORKED_FRAMES: usize = 64;
/// Requests of ours that may wait for their response on one connection.
pub const MAX_PENDING: usize = 65_536;

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub enum RemotingError {
    /// Sent, and no answer came in time: the peer may or may not have executed it.
    #[error("no response from {addr} within {timeout_ms} ms")]
    Timeout { addr: String, timeout_ms: u64 },
    /// The connection closed after the request may have left: outcome unknown.
    #[error("connection to {addr} closed before the response: {why}")]
    Closed { addr: String, why: String },
    /// The connection closed before the request left it: surely not executed.
    #[error("not sent, connection to {addr} is closed: {why}")]
    NotSent { addr: String, why: String },
    /// No connection: surely not executed.
    #[error("cannot connect to {addr}: {why}")]
    Connect { addr: String, why: String },
    /// Too many requests wait on this connection: surely not executed.
    #[error("{MAX_PENDING} requests already wait for {addr}")]
    TooManyInFlight { addr: String },
    /// The request cannot be encoded: surely not executed.
    #[error("cannot send: {0}")]
    Frame(#[from] FrameError),
}

impl RemotingError {
    /// Whether the request surely did not reach the peer, so that repeating it elsewhere cannot execute it twice.
    pub fn surely_not_sent(&self) -> bool {
        !matches!(self, Self::Timeout { .. } | Self::Closed { .. })
    }
}

/// What to do with a response or the lack of it.
pub(crate) enum Done {
    Waiter(oneshot::Sender<Result<RemotingCommand, RemotingError>>),
    Callback(Box<dyn FnOnce(Result<RemotingCommand, RemotingError>) + Send>),
}

impl Done {
    fn call(self, result: Result<RemotingCommand, RemotingError>) {
        match self {
            // The waiter may be gone; then nobody wants the result.
            Self::Waiter(tx) => drop(tx.send(result)),
            Self::Callback(f) => {
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(result))).is_err() {
                    tracing::error!("a response callback panicked");
                }
            }
        }
    }
}

struct Pending {
    deadline_ms: u64,
    timeout_ms: u64,
    done: Done,
}

#[derive(Default)]
struct Outbound {
    batch: Batch,
    closed: bool,
}

pub(crate) struct Inner {
    id: u64,
    remote: SocketAddr,
    local: SocketAddr,
    out: Mutex<Outbound>,
    /// Wakes the writing task.
    wake: Notify,
    /// Bytes queued or being written.
    outbound_bytes: AtomicUsize,
    /// Bytes of requests handed out and not yet answered.
    inflight_bytes: AtomicUsize,
    max_inflight_bytes: usize,
    budget: Arc<Budget>,
    /// Bytes of buffer in which requests arrive; the reading task says it.
    buffered_bytes: AtomicUsize,
    /// Bytes of outbound frames that are this process' own, not the store's.
    outbound_heap: AtomicUsize,
    /// What the budget was charged for this connection.
    charged: AtomicUsize,
    /// A replica passes requests on here.
    peer: AtomicBool,
    /// When the frame that is arriving began, in ms of [`now_ms`]; 0: none is.
    frame_began_ms: AtomicU64,
    /// Until when that frame may be finished though the budget is used up.
    pass_until_ms: AtomicU64,
    /// The reading task waits at the gate while too much is in flight.
    gated: AtomicBool,
    gate: Notify,
    pending: Mutex<AHashMap<i32, Pending>>,
    /// No pending request times out before this, in ms of [`now_ms`].
    next_deadline_ms: AtomicU64,
    asked: Arc<Notify>,
    next_opaque: AtomicI32,
    closed: CancellationToken,
    /// Frames still queued at the close are not written.
    aborted: AtomicBool,
    why_closed: Mutex<Option<String>>,
    last_traffic_ms: AtomicU64,
}

/// Channels whose writing tasks are still to be woken, and the frames queued since the last time.
#[derive(Default)]
struct Corked {
    waiting: Vec<Channel>,
    frames: usize,
}

impl Corked {
    fn add(&mut self, channel: &Channel, first: bool) {
        if first {
            self.waiting.push(channel.clone());
        }
        self.frames += 1;
        if self.frames >= CORKED_FRAMES {
            self.wake();
        }
    }

    fn wake(&mut self) {
        self.frames = 0;
        self.waiting.drain(..).for_each(|c| c.0.wake.notify_one());
    }
}

thread_local! {
    static CORKED: RefCell<Option<Corked>> = const { RefCell::new(None) };
}

/// Runs what queues many frames: those of one connection leave together, not the first alone and the others behind it.
pub fn corked<R>(run: impl FnOnce() -> R) -> R {
    /// Wakes also when `run` panics.
    struct Uncork;
    impl Drop for Uncork {
        fn drop(&mut self) {
            if let Some(mut corked) = CORKED.take() {
                corked.wake();
            }
        }
    }
    if CORKED.with_borrow(Option::is_some) {
        return run();
    }
    CORKED.set(Some(Corked::default()));
    let _uncork = Uncork;
    run()
}

/// One TCP connection. Clones are the same connection.
#[derive(Clone)]
pub struct Channel(Arc<Inner>);

impl Channel {
    /// `asked` is told when a request is under way after there was none.
    pub(crate) fn new(
        remote: SocketAddr,
        local: SocketAddr,
        max_inflight_bytes: usize,
        asked: Arc<Notify>,
        budget: Arc<Budget>,
    ) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        budget.join();
        Self(Arc::new(Inner {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            remote,
            local,
            out: Mutex::default(),
            wake: Notify::new(),
            outbound_bytes: AtomicUsize::new(0),
            inflight_bytes: AtomicUsize::new(0),
            max_inflight_bytes,
            budget,
            buffered_bytes: AtomicUsize::new(0),
            outbound_heap: AtomicUsize::new(0),
            charged: AtomicUsize::new(0),
            peer: AtomicBool::new(false),
            frame_began_ms: AtomicU64::new(0),
            pass_until_ms: AtomicU64::new(0),
            gated: AtomicBool::new(false),
            gate: Notify::new(),
            pending: Mutex::default(),
            next_deadline_ms: AtomicU64::new(u64::MAX),
            asked,
            next_opaque: AtomicI32::new(0),
            closed: CancellationToken::new(),
            aborted: AtomicBool::new(false),
            why_closed: Mutex::new(None),
            last_traffic_ms: AtomicU64::new(now_ms()),
        }))
    }

    /// Unique in this process.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    pub fn remote(&self) -> SocketAddr {
        self.0.remote
    }

    pub fn local(&self) -> SocketAddr {
        self.0.local
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    /// Resolves when the channel is closed.
    pub async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    /// Bytes queued for the peer or being written to it.
    pub fn outbound_bytes(&self) -> usize {
        self.0.outbound_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of requests handed to the handler and not yet answered.
    pub fn inflight_bytes(&self) -> usize {
        self.0.inflight_bytes.load(Ordering::Relaxed)
    }

    /// A replica passes requests of its clients on over this connection: it is read when others have to wait. There are a few
    /// such places; whether this connection has one.
    pub fn mark_peer(&self) -> bool {
        let inner = &*self.0;
        if inner.peer.load(Ordering::Relaxed) {
            return true;
        }
        let taken = inner.budget.take_peer();
        if taken && inner.peer.swap(true, Ordering::Relaxed) {
            // Somebody else took one for it in the same moment; the place is kept until that connection ends.
            return true;
        }
        taken
    }

    /// Closes the connection. Responses already queued are still written, within [`crate::connection::FLUSH_GRACE`];
    /// requests still queued are not, and fail as [`RemotingError::NotSent`].
    pub fn close(&self, why: &str) {
        self.close_with(why, false);
    }

    pub(crate) fn abort(&self, why: &str) {
        self.close_with(why, true);
    }

    fn close_with(&self, why: &str, abort: bool) {
        let inner = &*self.0;
        let unsent = {
            let mut out = inner.out.lock();
            if out.closed {
                return;
            }
            out.closed = true;
            let unsent = out.batch.requests().to_vec();
            if abort || !unsent.is_empty() {
                out.batch.clear();
            }
            unsent
        };
        *inner.why_closed.lock() = Some(why.to_owned());
        inner.aborted.store(abort, Ordering::Release);
        inner.closed.cancel();
        tracing::debug!(peer = %inner.remote, why, "connection closed");
        let mut pending = std::mem::take(&mut *inner.pending.lock());
        let addr = || inner.remote.to_string();
        for opaque in unsent {
            if let Some(p) = pending.remove(&opaque) {
                p.done.call(Err(RemotingError::NotSent {
                    addr: addr(),
                    why: why.to_owned(),
                }));
            }
        }
        for (_, p) in pending {
            p.done.call(Err(RemotingError::Closed {
                addr: addr(),
                why: why.to_owned(),
            }));
        }
    }

    /// Why the channel was closed; empty while it is open.
    pub fn why_closed(&self) -> String {
        self.0.why_closed.lock().clone().unwrap_or_default()
    }

    /// Queues a response or a prepared command as it is. Never blocks; on a closed channel the command is dropped. A
    /// response too large for a frame is replaced by an error response.
    pub fn send(&self, cmd: RemotingCommand) {
        if let Err(RemotingError::Frame(e)) = self.enqueue(|batch| batch.push(&cmd)) {
            tracing::warn!(peer = %self.remote(), code = cmd.code, error = %e, "command not sent");
            if cmd.is_response() {
                let error = RemotingCommand::error_reply(
                    &cmd,
                    response::SYSTEM_ERROR,
                    format!("response: {e}"),
                );
                let _ = self.enqueue(|batch| batch.push(&error));
            }
        }
    }

    /// Queues an answer to the request with this opaque and serialize type. Never blocks.
    pub(crate) fn answer(&self, answer: &Answer<'_>, opaque: i32, serialize: SerializeType) {
        let queued = self.enqueue(|batch| batch.push_answer(answer, opaque, serialize));
        if let Err(RemotingError::Frame(e)) = queued {
            let response = RemotingCommand::response(response::SYSTEM_ERROR)
                .with_remark(format!("response: {e}"));
            self.send(RemotingCommand {
                opaque,
                serialize,
                ..response
            });
        }
    }

    /// Queues a request that wants no response, with the oneway flag and a fresh opaque. Never blocks.
    pub fn oneway(&self, mut cmd: RemotingCommand) {
        cmd.mark_oneway();
        cmd.opaque = self.fresh_opaque();
        self.send(cmd);
    }

    /// Sends a request and waits for its response. Dropping the future forgets the request.
    pub async fn invoke(
        &self,
        cmd: RemotingCommand,
        timeout: Duration,
    ) -> Result<RemotingCommand, RemotingError> {
        let (tx, rx) = oneshot::channel();
        let opaque = self.start(cmd, timeout, Done::Waiter(tx));
        let _forget = Forget {
            channel: self,
            opaque,
        };
        rx.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Sends a request; `done` gets the response or the error, on the read task, the keeper or the caller. It must not
    /// block.
    pub fn invoke_with(
        &self,
        cmd: RemotingCommand,
        timeout: Duration,
        done: impl FnOnce(Result<RemotingCommand, RemotingError>) + Send + 'static,
    ) {
        self.start(cmd, timeout, Done::Callback(Box::new(done)));
    }

    fn start(&self, mut cmd: RemotingCommand, timeout: Duration, done: Done) -> i32 {
        let inner = &*self.0;
        cmd.opaque = self.fresh_opaque();
        let opaque = cmd.opaque;
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let deadline_ms = now_ms().saturating_add(timeout_ms);
        {
            let mut pending = inner.pending.lock();
            if pending.len() >= MAX_PENDING {
                drop(pending);
                done.call(Err(RemotingError::TooManyInFlight {
                    addr: inner.remote.to_string(),
                }));
                return opaque;
            }
            pending.insert(
                opaque,
                Pending {
                    deadline_ms,
                    timeout_ms,
                    done,
                },
            );
            let before = inner
                .next_deadline_ms
                .fetch_min(deadline_ms, Ordering::Relaxed);
            if before == u64::MAX {
                inner.asked.notify_one();
            }
        }
        if let Err(e) = self.enqueue(|batch| batch.push(&cmd)) {
            // Taken out first: whoever is told may call this channel again, and the lock is not re-entrant.
            let waiting = inner.pending.lock().remove(&opaque);
            if let Some(waiting) = waiting {
                waiting.done.call(Err(e));
            }
        }
        opaque
    }

    fn fresh_opaque(&self) -> i32 {
        self.0.next_opaque.fetch_add(1, Ordering::Relaxed) & i32::MAX
    }

    fn gone(&self) -> RemotingError {
        RemotingError::Closed {
            addr: self.0.remote.to_string(),
            why: self.why_closed(),
        }
    }

    fn enqueue(
        &self,
        push: impl FnOnce(&mut Batch) -> Result<Size, FrameError>,
    ) -> Result<(), RemotingError> {
        let inner = &*self.0;
        let (was_empty, waiting) = {
            let mut out = inner.out.lock();
            if out.closed {
                drop(out);
                return Err(RemotingError::NotSent {
                    addr: inner.remote.to_string(),
                    why: self.why_closed(),
                });
            }
            let was_empty = out.batch.is_empty();
            let size = push(&mut out.batch)?;
            let heap = inner.outbound_heap.fetch_add(size.heap, Ordering::Relaxed) + size.heap;
            let waiting = inner
                .outbound_bytes
                .fetch_add(size.accounted, Ordering::Relaxed);
            if heap > inner.charged.load(Ordering::Relaxed) + STEP {
                self.settle();
            }
            (was_empty, waiting + size.accounted)
        };
        if waiting > MAX_OUTBOUND_BYTES {
            tracing::warn!(peer = %inner.remote, bytes = waiting, "peer does not read, connection closed");
            self.abort("the peer does not read what is sent to it");
        } else {
            CORKED.with_borrow_mut(|corked| match corked {
                Some(corked) => corked.add(self, was_empty),
                None if was_empty => inner.wake.notify_one(),
                None => {}
            });
        }
        Ok(())
    }

    // --- for the connection's tasks ---

    /// Swaps the queued frames into the empty `batch`; false when there are none.
    pub(crate) fn take_batch(&self, batch: &mut Batch) -> bool {
        let mut out = self.0.out.lock();
        if out.batch.is_empty() {
            return false;
        }
        std::mem::swap(&mut out.batch, batch);
        true
    }

    pub(crate) async fn frames_queued(&self) {
        self.0.wake.notified().await;
    }

    /// The writer is done with frames of this size.
    pub(crate) fn written(&self, size: Size) {
        let inner = &*self.0;
        inner.outbound_heap.fetch_sub(size.heap, Ordering::Relaxed);
        inner
            .outbound_bytes
            .fetch_sub(size.accounted, Ordering::Relaxed);
        self.settle_a_step();
        self.open_gate();
    }

    pub(crate) fn traffic(&self) {
        self.0.last_traffic_ms.store(now_ms(), Ordering::Relaxed);
    }

    pub(crate) fn idle_ms(&self, now: u64) -> u64 {
        now.saturating_sub(self.0.last_traffic_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.0.aborted.load(Ordering::Acquire)
    }

    pub(crate) fn charge(&self, bytes: usize) {
        self.0.inflight_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.0.inflight_bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.settle_a_step();
        self.open_gate();
    }

    // --- the account with the budget ---

    /// Bytes of memory this connection holds.
    fn holds(&self) -> usize {
        let inner = &*self.0;
        inner.buffered_bytes.load(Ordering::Relaxed)
            + inner.inflight_bytes.load(Ordering::Relaxed)
            + inner.outbound_heap.load(Ordering::Relaxed)
    }

    /// Charges what the connection holds now.
    pub(crate) fn settle(&self) {
        let holds = self.holds();
        let charged = self.0.charged.swap(holds, Ordering::Relaxed);
        self.0.budget.settle(charged, holds);
    }

    /// Gives back what is worth an atomic that all connections share.
    fn settle_a_step(&self) {
        let charged = self.0.charged.load(Ordering::Relaxed);
        if charged >= STEP && self.holds() + STEP <= charged {
            self.settle();
        }
    }

    /// The reading task's buffer has this size now, bytes; settled by whoever settles next.
    pub(crate) fn buffered(&self, bytes: usize) {
        self.0.buffered_bytes.store(bytes, Ordering::Relaxed);
    }

    /// A frame is arriving, or none is. `fresh`: it is not the one of the last time.
    pub(crate) fn frame_arriving(&self, arriving: bool, fresh: bool) {
        let began = &self.0.frame_began_ms;
        if !arriving {
            if began.load(Ordering::Relaxed) != 0 {
                began.store(0, Ordering::Relaxed);
                self.0.pass_until_ms.store(0, Ordering::Relaxed);
            }
        } else if fresh || began.load(Ordering::Relaxed) == 0 {
            began.store(now_ms().max(1), Ordering::Relaxed);
            self.0.pass_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// For how long a frame has been arriving, ms; None: none is.
    pub(crate) fn frame_age_ms(&self, now: u64) -> Option<u64> {
        let began = self.0.frame_began_ms.load(Ordering::Relaxed);
        (began != 0).then(|| now.saturating_sub(began))
    }

    /// Whether it may finish its frame, could, or could not in its time.
    pub(crate) fn pass(&self, now: u64) -> Pass {
        match self.0.pass_until_ms.load(Ordering::Relaxed) {
            0 => Pass::None,
            until if now < until => Pass::Valid,
            _ => Pass::Over,
        }
    }

    /// Lets it finish the frame that is arriving.
    pub(crate) fn give_pass(&self, now: u64) {
        self.0.pass_until_ms.store(now + PASS_MS, Ordering::Relaxed);
    }

    /// Bytes of answers of ours that the peer has not read.
    pub(crate) fn outbound_heap(&self) -> usize {
        self.0.outbound_heap.load(Ordering::Relaxed)
    }

    /// Bytes it was charged beyond its floor.
    pub(crate) fn above_floor(&self) -> usize {
        let charged = self.0.charged.load(Ordering::Relaxed);
        charged.saturating_sub(self.floor())
    }

    fn floor(&self) -> usize {
        if self.0.peer.load(Ordering::Relaxed) {
            PEER_FLOOR
        } else {
            self.0.budget.floor()
        }
    }

    pub(crate) fn is_gated(&self) -> bool {
        self.0.gated.load(Ordering::SeqCst)
    }

    /// Whether the reading task should read on.
    pub(crate) fn may_read(&self) -> bool {
        self.share_is_left() && self.has_room()
    }

    /// This connection's own limits.
    fn share_is_left(&self) -> bool {
        self.0.inflight_bytes.load(Ordering::SeqCst) < self.0.max_inflight_bytes
            && self.0.outbound_bytes.load(Ordering::SeqCst) < MAX_OUTBOUND_BYTES / 2
    }

    /// The limit of all connections.
    fn has_room(&self) -> bool {
        !self.0.budget.is_used_up()
            || self.holds() < self.floor()
            || self.pass(now_ms()) == Pass::Valid
    }

    fn open_gate(&self) {
        if self.0.gated.load(Ordering::SeqCst) && self.share_is_left() {
            self.0.gate.notify_one();
        }
    }

    /// Waits until [`Self::may_read`]; whether it had to for its own requests and answers.
    pub(crate) async fn wait_at_gate(&self) -> bool {
        self.0.gated.store(true, Ordering::SeqCst);
        let mut own = false;
        loop {
            if !self.share_is_left() {
                own = true;
                self.0.gate.notified().await;
            } else if !self.has_room() {
                tokio::select! {
                    () = self.0.budget.room() => {}
                    // What it holds became less.
                    () = self.0.gate.notified() => {}
                }
            } else {
                break;
            }
        }
        self.0.gated.store(false, Ordering::SeqCst);
        own
    }

    /// Hands a response to the request it answers.
    pub(crate) fn complete(&self, response: RemotingCommand) {
        let pending = self.0.pending.lock().remove(&response.opaque);
        match pending {
            Some(p) => p.done.call(Ok(response)),
            None => {
                tracing::debug!(peer = %self.remote(), opaque = response.opaque, "response to no request, or a late one")
            }
        }
    }

    /// Fails the requests whose time is over; whether there may be others.
    pub(crate) fn sweep(&self, now: u64) -> bool {
        let inner = &*self.0;
        let next = inner.next_deadline_ms.load(Ordering::Relaxed);
        if now < next {
            return next != u64::MAX;
        }
        let mut expired = Vec::new();
        {
            let mut pending = inner.pending.lock();
            let mut next = u64::MAX;
            let due: Vec<i32> = pending
                .iter()
                .filter(|(_, p)| {
                    let due = p.deadline_ms <= now;
                    if !due {
                        next = next.min(p.deadline_ms);
                    }
                    due
                })
                .map(|(opaque, _)| *opaque)
                .collect();
            expired.extend(due.into_iter().filter_map(|opaque| pending.remove(&opaque)));
            inner.next_deadline_ms.store(next, Ordering::Relaxed);
        }
        for p in expired {
            p.done.call(Err(RemotingError::Timeout {
                addr: inner.remote.to_string(),
                timeout_ms: p.timeout_ms,
            }));
        }
        inner.next_deadline_ms.load(Ordering::Relaxed) != u64::MAX
    }
}

/// Leave to finish a frame though the budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    None,
    Valid,
    Over,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let charged = self.charged.load(Ordering::Relaxed);
        let peer = self.peer.load(Ordering::Relaxed);
        self.budget.leave(charged, peer);
    }
}

/// Drops the pending entry of an abandoned [`Channel::invoke`].
struct Forget<'a> {
    channel: &'a Channel,
    opaque: i32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        drop(self.channel.0.pending.lock().remove(&self.opaque));
    }
}

impl PartialEq for Channel {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Channel {}

impl std::hash::Hash for Channel {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Channel({} {} -> {})",
            self.0.id, self.0.local, self.0.remote
        )
    }
}
