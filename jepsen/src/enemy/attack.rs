//! Connections that send drawn requests, many at a time, and count what comes back.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use raftmq_remoting::frame::{MAX_FRAME_LENGTH, decode_frame};
use raftmq_remoting::{RemotingCommand, request_code, response_code};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::draw::{Drawer, Server};
use super::values::Learned;
use super::wire::Spoiled;

/// Requests on their way at once.
const WINDOW: usize = 48;
/// Bytes on their way at once, about.
const WINDOW_BYTES: usize = 1 << 20;
/// How long the answers of a window are waited for once none comes: pulls are held, oneway requests have none.
const QUIET: Duration = Duration::from_millis(60);
/// Longest wait for a connection, a write, or all answers of a window.
const LIMIT: Duration = Duration::from_secs(3);
/// Pause before a server that does not take connections is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Requests kept of a connection, to be played again should a server die of them.
const RECENT: usize = 256;

/// What all connections have in common.
pub struct Shared {
    pub brokers: Drawer,
    pub namesrv: Drawer,
    /// Client ports of the brokers, by number.
    pub addrs: Vec<String>,
    pub namesrv_addr: String,
    /// The next request's number.
    pub next: AtomicU64,
    /// The number after the last one.
    pub end: u64,
    pub stop: AtomicBool,
    pub tally: Tally,
    /// By connection, the newest requests as they went out.
    pub recent: Vec<Mutex<VecDeque<Bytes>>>,
}

impl Shared {
    fn keep(&self, number: usize, bytes: Vec<u8>) {
        if let Some(recent) = self.recent.get(number) {
            let mut recent = recent.lock();
            if recent.len() >= RECENT {
                recent.pop_front();
            }
            recent.push_back(bytes.into());
        }
    }
}

/// What came of the requests.
#[derive(Default)]
pub struct Tally {
    /// Sent.
    pub requests: AtomicU64,
    pub connections: AtomicU64,
    /// Answers by request code and answer code, with how many.
    pub answers: Mutex<BTreeMap<(i32, i32), u64>>,
    /// Right requests that were answered with success.
    pub succeeded: AtomicU64,
}

impl Tally {
    /// Request codes that were answered.
    pub fn codes(&self) -> usize {
        let answers = self.answers.lock();
        let codes: std::collections::BTreeSet<i32> = answers.keys().map(|(c, _)| *c).collect();
        codes.len()
    }
}

/// One connection at a time, each to one server after another, until the requests are used up.
pub async fn attack(shared: Arc<Shared>, number: usize) {
    let mut turn = number;
    let mut learned = Learned::default();
    while !shared.stop.load(Ordering::Relaxed) && shared.next.load(Ordering::Relaxed) < shared.end {
        turn += 1;
        // One connection in eight is for the name server.
        let (addr, server) = match number % 8 {
            7 => (shared.namesrv_addr.clone(), Server::Namesrv),
            _ => (
                shared.addrs[turn % shared.addrs.len()].clone(),
                Server::Broker,
            ),
        };
        let connected = timeout(LIMIT, TcpStream::connect(&addr)).await;
        let Ok(Ok(stream)) = connected else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        shared.tally.connections.fetch_add(1, Ordering::Relaxed);
        // A connection that the server closes is a result like any other.
        let _ = talk(&shared, stream, server, number, &mut learned).await;
    }
}

/// Uses a connection until it is over, or for a while.
async fn talk(
    shared: &Shared,
    mut stream: TcpStream,
    server: Server,
    number: usize,
    learned: &mut Learned,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BytesMut::with_capacity(64 << 10);
    for _ in 0..40 {
        let mut out = Vec::with_capacity(64 << 10);
        let mut waiting: BTreeMap<i32, (i32, bool)> = BTreeMap::new();
        let mut over = false;
        for _ in 0..WINDOW {
            if over || out.len() > WINDOW_BYTES || shared.stop.load(Ordering::Relaxed) {
                break;
            }
            let n = shared.next.fetch_add(1, Ordering::Relaxed);
            if n >= shared.end {
                break;
            }
            let drawer = match server {
                Server::Broker => &shared.brokers,
                Server::Namesrv => &shared.namesrv,
            };
            let drawn = drawer.draw(n, learned);
            out.extend_from_slice(&drawn.bytes);
            shared.keep(number, drawn.bytes);
            shared.tally.requests.fetch_add(1, Ordering::Relaxed);
            over = drawn.spoiled == Some(Spoiled::Over);
            if drawn.asked.flag & 2 == 0 && drawn.spoiled.is_none() {
                waiting.insert(drawn.asked.opaque, (drawn.asked.code, drawn.is_right));
            }
        }
        if out.is_empty() {
            return Ok(());
        }
        let written = timeout(LIMIT, stream.write_all(&out)).await;
        written.map_err(|_| io::ErrorKind::TimedOut)??;
        let deadline = Instant::now() + LIMIT;
        while !waiting.is_empty() && Instant::now() < deadline {
            match timeout(QUIET, stream.read_buf(&mut input)).await {
                Err(_) => break,
                Ok(Ok(0)) => return Ok(()),
                Ok(read) => read?,
            };
            while let Some(answer) = next_frame(&mut input)? {
                heard(shared, &answer, &mut waiting, learned);
            }
        }
        if over {
            return Ok(());
        }
    }
    Ok(())
}

/// The next whole frame; an error when the server writes what is none.
fn next_frame(input: &mut BytesMut) -> io::Result<Option<RemotingCommand>> {
    let Some(head) = input.first_chunk::<4>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*head) as usize;
    if len > MAX_FRAME_LENGTH {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if input.len() < 4 + len {
        return Ok(None);
    }
    input.advance(4);
    let frame: Bytes = input.split_to(len).freeze();
    decode_frame(frame).map(Some).map_err(io::Error::other)
}

fn heard(
    shared: &Shared,
    answer: &RemotingCommand,
    waiting: &mut BTreeMap<i32, (i32, bool)>,
    learned: &mut Learned,
) {
    if !answer.is_response() {
        return;
    }
    let Some((code, is_right)) = waiting.remove(&answer.opaque) else {
        return;
    };
    *shared
        .tally
        .answers
        .lock()
        .entry((code, answer.code))
        .or_default() += 1;
    if answer.code != response_code::SUCCESS {
        return;
    }
    if is_right {
        shared.tally.succeeded.fetch_add(1, Ordering::Relaxed);
    }
    let is_send = matches!(
        code,
        request_code::SEND_MESSAGE
            | request_code::SEND_MESSAGE_V2
            | request_code::SEND_BATCH_MESSAGE
    );
    if is_send {
        // The id of a stored message ends in its position.
        let id = answer
            .ext
            .get("msgId")
            .and_then(|ids| ids.split(',').next());
        let digits = id.and_then(|id| id.get(id.len().checked_sub(16)?..));
        if let Some(position) = digits.and_then(|hex| i64::from_str_radix(hex, 16).ok()) {
            learned.position(position);
        }
        if let Some(handle) = answer.ext.get("recallHandle") {
            learned.handle(handle);
        }
    }
}
