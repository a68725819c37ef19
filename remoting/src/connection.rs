//! The life of a connection: a reading task and a writing task around one [`Channel`], and the keeper that watches many.
//!
//! The reading task decodes frames and hands requests to the handler in arrival order; responses complete the requests
//! that wait for them. The writing task drains the channel's queue. The keeper, one task per server or client, times
//! requests out, closes idle connections, and closes or lets finish what holds memory while the [`Budget`] is used up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use crate::budget::{Budget, FRAME_DEADLINE_MS, PASSES, SLOW_FRAME_MS};
use crate::channel::{Channel, Pass};
use crate::codes::response;
use crate::command::RemotingCommand;
use crate::frame::{self, FrameError, FrameReader};
use crate::logging::LogLimit;
use crate::outbound::Batch;
use crate::server::{Handler, Request};

/// How often the keeper looks for timed-out requests: the precision of [`Channel::invoke`]'s timeout.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(20);

/// How long queued responses may still be written after a close.
pub const FLUSH_GRACE: Duration = Duration::from_secs(1);

/// Accounted per request in flight beyond its frame.
const REQUEST_OVERHEAD: usize = 256;

/// Milliseconds on the process' monotonic clock.
pub(crate) fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// The channels of one server or client.
#[derive(Default)]
pub(crate) struct Group {
    channels: Mutex<AHashMap<u64, Channel>>,
    /// Wakes the keeper: a channel has a request under way that had none.
    asked: Arc<Notify>,
}

impl Group {
    pub(crate) fn len(&self) -> usize {
        self.channels.lock().len()
    }

    pub(crate) fn channels(&self) -> Vec<Channel> {
        self.channels.lock().values().cloned().collect()
    }

    pub(crate) fn close_all(&self, why: &str) {
        self.channels().iter().for_each(|c| c.close(why));
    }
}

/// Sweeps timeouts and idle connections until the group is gone.
pub(crate) async fn keep(group: Weak<Group>, idle: Duration, budget: Arc<Budget>) {
    let idle_ms = idle.as_millis() as u64;
    let idle_check_ms = (idle_ms / 8).clamp(1, 1000);
    let mut next_idle_check = 0;
    let mut channels = Vec::new();
    let mut asked = false;
    loop {
        let Some(wake) = group.upgrade().map(|g| g.asked.clone()) else {
            return;
        };
        if !asked {
            let wait = Duration::from_millis(idle_check_ms);
            let _ = tokio::time::timeout(wait, wake.notified()).await;
        }
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let Some(group) = group.upgrade() else { return };
        asked = false;
        let now = now_ms();
        channels.extend(group.channels.lock().values().cloned());
        let check_idle = now >= next_idle_check;
        if check_idle {
            next_idle_check = now + idle_check_ms;
        }
        for channel in &channels {
            asked |= channel.sweep(now);
            if !check_idle {
                continue;
            }
            channel.settle();
            if channel.idle_ms(now) >= idle_ms {
                channel.abort("idle");
            } else if channel.frame_age_ms(now) >= Some(FRAME_DEADLINE_MS) && !channel.is_gated() {
                channel.abort("a frame did not arrive in its time");
            }
        }
        if budget.is_used_up() {
            relieve(&channels, &budget, now);
            asked = true;
        } else if budget.paused() > 0 {
            budget.pass_on_room();
            asked = true;
        }
        channels.clear();
    }
}

/// The budget is used up: closes who holds memory and does not get on, and lets a few others finish their frames.
fn relieve(channels: &[Channel], budget: &Budget, now: u64) {
    static LIMIT: LogLimit = LogLimit::new();
    let wanted = budget.used().saturating_sub(budget.limit() / 4 * 3);
    let mut freed = 0;
    let mut close = |channel: &Channel, why: &str| {
        let holds = channel.above_floor();
        if holds == 0 || freed >= wanted {
            return;
        }
        freed += holds;
        if let Some(more) = LIMIT.allow(now) {
            tracing::warn!(peer = %channel.remote(), bytes = holds, not_logged = more, why, "memory is short, connection closed");
        }
        channel.abort(why);
    };
    let mut arriving: Vec<(u64, &Channel)> = channels
        .iter()
        .filter(|c| !c.is_closed())
        .filter_map(|c| Some((c.frame_age_ms(now)?, c)))
        .filter(|(_, c)| c.is_gated() || c.pass(now) != Pass::None)
        .collect();
    arriving.sort_unstable_by_key(|(age, _)| std::cmp::Reverse(*age));
    let mut passes = PASSES;
    for (age, channel) in &arriving {
        match channel.pass(now) {
            Pass::Valid => passes = passes.saturating_sub(1),
            Pass::Over => close(channel, "a frame did not arrive in its time"),
            Pass::None if *age >= SLOW_FRAME_MS => {
                close(channel, "a frame did not arrive in its time");
            }
            Pass::None => {}
        }
    }
    let next = arriving
        .iter()
        .filter(|(_, c)| !c.is_closed() && c.pass(now) == Pass::None);
    for (_, channel) in next.take(passes) {
        channel.give_pass(now);
    }
    let deaf = |c: &&Channel| {
        c.outbound_heap() > budget.floor() && c.idle_ms(now) >= SLOW_FRAME_MS && !c.is_closed()
    };
    for channel in channels.iter().filter(deaf) {
        close(channel, "the peer does not read what is sent to it");
    }
    budget.look_again();
}

/// Starts the two tasks of a connection and returns its channel.
pub(crate) fn start(
    stream: TcpStream,
    group: &Arc<Group>,
    handler: Option<Arc<dyn Handler>>,
    max_inflight_bytes: usize,
    budget: Arc<Budget>,
) -> std::io::Result<Channel> {
    stream.set_nodelay(true)?;
    let channel = Channel::new(
        stream.peer_addr()?,
        stream.local_addr()?,
        max_inflight_bytes,
        group.asked.clone(),
        budget,
    );
    group.channels.lock().insert(channel.id(), channel.clone());
    let (read, write) = stream.into_split();
    tokio::spawn(write_loop(channel.clone(), write));
    tokio::spawn(run(channel.clone(), read, group.clone(), handler));
    Ok(channel)
}

async fn run(
    channel: Channel,
    io: OwnedReadHalf,
    group: Arc<Group>,
    handler: Option<Arc<dyn Handler>>,
) {
    let handler = handler.as_deref();
    tell(handler, |h| h.connected(&channel));
    let ended = read_loop(&channel, io, handler).await;
    channel.buffered(0);
    channel.frame_arriving(false, false);
    channel.settle();
    match ended {
        Ok(why) => channel.close(why),
        Err(e) => {
            log_failure(&channel, &e);
            channel.close(&e.to_string());
        }
    }
    group.channels.lock().remove(&channel.id());
    tell(handler, |h| h.disconnected(&channel));
}

fn tell(handler: Option<&dyn Handler>, what: impl FnOnce(&dyn Handler)) {
    if let Some(h) = handler
        && catch_unwind(AssertUnwindSafe(|| what(h))).is_err()
    {
        tracing::error!("a connection listener panicked");
    }
}

fn log_failure(channel: &Channel, e: &FrameError) {
    static LIMIT: LogLimit = LogLimit::new();
    match e {
        FrameError::Io(_) | FrameError::UnexpectedEnd => {
            tracing::debug!(peer = %channel.remote(), error = %e, "connection lost");
        }
        _ => {
            if let Some(more) = LIMIT.allow(now_ms()) {
                tracing::warn!(peer = %channel.remote(), error = %e, not_logged = more, "bad frame, connection closed");
            }
        }
    }
}

/// Reads until the connection ends; says why.
async fn read_loop(
    channel: &Channel,
    io: OwnedReadHalf,
    handler: Option<&dyn Handler>,
) -> Result<&'static str, FrameError> {
    let growing = channel.clone();
    let mut reader = FrameReader::new(io).telling(move |bytes| {
        growing.buffered(bytes);
        growing.settle();
    });
    let mut closed = pin!(channel.closed());
    loop {
        let mut handled = Ok(0);
        match handler {
            _ if reader.is_empty() => {}
            Some(h) => h.together(&mut || handled = handle_buffered(channel, &mut reader, handler)),
            None => handled = handle_buffered(channel, &mut reader, handler),
        }
        let frames = handled?;
        channel.buffered(if reader.is_empty() {
            0
        } else {
            reader.buffer_capacity()
        });
        channel.frame_arriving(!reader.is_empty(), frames > 0);
        channel.settle();
        if channel.is_closed() {
            return Ok("closed");
        }
        if !channel.may_read() {
            tokio::select! {
                () = &mut closed => return Ok("closed"),
                own = channel.wait_at_gate() => {
                    // While it waited for us the peer could not send.
                    channel.frame_arriving(!reader.is_empty(), own);
                    continue;
                }
            }
        }
        let read = tokio::select! {
            biased;
            read = reader.fill() => read?,
            () = &mut closed => return Ok("closed"),
        };
        if read == 0 {
            return if reader.is_empty() {
                Ok("the peer closed the connection")
            } else {
                Err(FrameError::UnexpectedEnd)
            };
        }
        channel.traffic();
    }
}

/// Handles what was read, until too much is in flight or the channel is closed; the number of frames.
fn handle_buffered(
    channel: &Channel,
    reader: &mut FrameReader<OwnedReadHalf>,
    handler: Option<&dyn Handler>,
) -> Result<usize, FrameError> {
    let mut frames = 0;
    while let Some(bytes) = reader.buffered()? {
        frames += 1;
        let size = bytes.len() + REQUEST_OVERHEAD;
        let cmd = frame::decode_frame(bytes)?;
        if cmd.is_response() {
            channel.complete(cmd);
            continue;
        }
        dispatch(channel, cmd, size, handler);
        if channel.is_closed() || !channel.may_read() {
            break;
        }
    }
    Ok(frames)
}

fn dispatch(channel: &Channel, cmd: RemotingCommand, size: usize, handler: Option<&dyn Handler>) {
    let request = Request::new(cmd, channel.clone(), size);
    match handler {
        // A request that is dropped by a panic answers itself, see `Replier`.
        Some(h) => {
            if catch_unwind(AssertUnwindSafe(|| h.handle(request))).is_err() {
                tracing::error!(peer = %channel.remote(), "a request handler panicked");
            }
        }
        None => {
            let remark = format!(" request type {} not supported", request.cmd.code);
            let reply = RemotingCommand::error_reply(
                &request.cmd,
                response::REQUEST_CODE_NOT_SUPPORTED,
                remark,
            );
            request.reply(reply);
        }
    }
}

async fn write_loop(channel: Channel, mut io: OwnedWriteHalf) {
    let mut batch = Batch::default();
    loop {
        while channel.take_batch(&mut batch) {
            let result = tokio::select! {
                // Most batches go at once: the other branch need not be looked at.
                biased;
                result = batch.write_to(&mut io, || channel.traffic()) => result,
                () = grace(&channel) => return,
            };
            channel.written(batch.size());
            batch.clear();
            if let Err(e) = result {
                tracing::debug!(peer = %channel.remote(), error = %e, "write failed");
                channel.abort(&format!("write failed: {e}"));
                return;
            }
        }
        if channel.is_closed() {
            // Dropping the half shuts the direction down; the reading task drops the other.
            return;
        }
        tokio::select! {
            () = channel.frames_queued() => {}
            () = channel.closed() => {}
        }
    }
}

/// Ends when a closed channel's last frames have had their time.
async fn grace(channel: &Channel) {
    channel.closed().await;
    if !channel.is_aborted() {
        tokio::time::sleep(FLUSH_GRACE).await;
    }
}
