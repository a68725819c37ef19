//! What strangers say at the port where replicas talk to each other: calls of another set or cluster, calls that are
//! malformed, bytes that are no HTTP. (Whoever knows the cluster's id and the node ids is believed: the port is for
//! nobody else, so those calls are not made here.)

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use raftmq_proto::raft as pb;
use raftmq_proto::raft::peer_client::PeerClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::attack::Shared;
use crate::random::Random;

/// Longest call.
const LIMIT: Duration = Duration::from_secs(2);
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(15);

/// Calls the peer ports until the attack is over. `addrs` are those ports, `set` is the set's name.
pub async fn attack(shared: Arc<Shared>, addrs: Vec<String>, set: String, seed: u64) {
    let mut random = Random::new(seed ^ 0x7065_6572);
    let mut open: Option<(String, PeerClient<Channel>)> = None;
    while !shared.stop.load(Ordering::Relaxed) && shared.next.load(Ordering::Relaxed) < shared.end {
        tokio::time::sleep(PAUSE).await;
        let Some(addr) = random.choose(&addrs).cloned() else {
            return;
        };
        shared.tally.requests.fetch_add(1, Ordering::Relaxed);
        if random.chance(0.3) {
            // Refused or cut off, as the server likes.
            let _ = timeout(LIMIT, noise(&addr, &mut random)).await;
            continue;
        }
        let client = match open.take().filter(|(to, _)| *to == addr) {
            Some((_, client)) => Some(client),
            None => connect(&addr).await,
        };
        let Some(mut client) = client else {
            continue;
        };
        if let Ok((call, outcome)) = timeout(LIMIT, call(&mut client, &set, &mut random)).await {
            let mut answers = shared.tally.answers.lock();
            *answers.entry((call, outcome as i32)).or_default() += 1;
            open = Some((addr, client));
        }
    }
}

async fn connect(addr: &str) -> Option<PeerClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).ok()?;
    let channel = endpoint
        .connect_timeout(LIMIT)
        .timeout(LIMIT)
        .connect()
        .await;
    Some(PeerClient::new(channel.ok()?))
}

async fn noise(addr: &str, random: &mut Random) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    let mut bytes = match random.below(4) {
        0 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        1 => b"POST /raftmq.raft.Peer/Append HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n".to_vec(),
        2 => b"\0\0\0\x10\0\0\0\x08{\"code\":10}".to_vec(),
        _ => Vec::new(),
    };
    bytes.extend((0..random.below(2_000)).map(|_| random.draw() as u8));
    stream.write_all(&bytes).await?;
    let mut answer = [0; 512];
    let _ = timeout(PAUSE, stream.read(&mut answer)).await;
    Ok(())
}

/// Numbers at the ends of their range.
fn number(random: &mut Random) -> u64 {
    const ODD: [u64; 8] = [
        0,
        1,
        2,
        1 << 31,
        1 << 62,
        i64::MAX as u64,
        1 << 63,
        u64::MAX,
    ];
    ODD[random.below(8)]
}

fn text(random: &mut Random) -> String {
    const ODD: [&str; 9] = [
        "",
        "n0",
        "n9",
        "a\0b",
        "../..",
        "主题",
        "127.0.0.1:1",
        "\n",
        "[::1]:99999",
    ];
    match random.below(10) {
        0 => "x".repeat(100_000),
        _ => random.choose(&ODD).copied().unwrap_or("").to_owned(),
    }
}

fn id(random: &mut Random) -> Option<pb::LogId> {
    random.chance(0.8).then(|| pb::LogId {
        term: number(random),
        index: number(random),
    })
}

fn vote(random: &mut Random) -> Option<pb::Vote> {
    random.chance(0.8).then(|| pb::Vote {
        term: number(random),
        node_id: number(random),
        committed: random.chance(0.5),
    })
}

fn bytes(random: &mut Random) -> Bytes {
    let size = [0, 1, 8, 55, 56, 57, 300, 100_000][random.below(8)];
    let mut bytes: Vec<u8> = (0..size).map(|_| random.draw() as u8).collect();
    if random.chance(0.5) && size >= 8 {
        // What begins like an entry.
        bytes[..8].copy_from_slice(b"RMQ1\0\0\x01\0");
    }
    bytes.into()
}

/// A request whose metadata is a stranger's.
fn sign<T>(message: T, set: &str, random: &mut Random) -> Request<T> {
    let mut request = Request::new(message);
    let hex: String = set.bytes().map(|b| format!("{b:02x}")).collect();
    let names = [hex, "zz".to_owned(), String::new(), "62".repeat(5_000)];
    let ids = ["0", "1", "-1", "18446744073709551615", "x", ""];
    // Never the set's own id: that is random.
    let clusters = ["", "00000000-0000-0000-0000-000000000000", "x"];
    let values = [
        ("raftmq-set", random.choose(&names).cloned()),
        (
            "raftmq-cluster",
            random.choose(&clusters).map(|c| (*c).to_owned()),
        ),
        ("raftmq-from", random.choose(&ids).map(|c| (*c).to_owned())),
        ("raftmq-to", random.choose(&ids).map(|c| (*c).to_owned())),
    ];
    for (name, value) in values {
        if let Some(Ok(value)) = value.filter(|_| random.chance(0.8)).map(|v| v.parse()) {
            request.metadata_mut().insert(name, value);
        }
    }
    request
}

fn outcome<T>(answer: Result<T, Status>) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// One call: its number, from -101 down, and how it ended.
async fn call(client: &mut PeerClient<Channel>, set: &str, random: &mut Random) -> (i32, Code) {
    let r = random;
    match r.below(9) {
        0 => {
            let count = r.below(4);
            let all: Vec<_> = (0..count)
                .map(|_| pb::AppendRequest {
                    vote: vote(r),
                    previous: id(r),
                    committed: id(r),
                    entries: (0..r.below(4)).map(|_| bytes(r)).collect(),
                })
                .collect();
            let request = sign(stream::iter(all), set, r);
            (-101, outcome(client.append(request).await))
        }
        1 => {
            let message = pb::VoteRequest {
                vote: vote(r),
                last: id(r),
                leadership_transfer: r.chance(0.5),
                pre_vote: r.chance(0.5),
            };
            (
                -102,
                outcome(client.request_vote(sign(message, set, r)).await),
            )
        }
        2 => {
            let message = pb::TransferRequest {
                from: vote(r),
                to: number(r),
                last: id(r),
            };
            (
                -103,
                outcome(client.transfer_leader(sign(message, set, r)).await),
            )
        }
        3 => {
            let count = r.below(4);
            let all: Vec<_> = (0..count)
                .map(|_| pb::SnapshotChunk {
                    vote: vote(r),
                    last: id(r),
                    membership_at: id(r),
                    membership: bytes(r),
                    data: bytes(r),
                })
                .collect();
            let request = sign(stream::iter(all), set, r);
            (-104, outcome(client.install_snapshot(request).await))
        }
        4 => {
            let message = pb::ReadLogRequest {
                position: number(r),
                max_bytes: number(r) as u32,
            };
            (-105, outcome(client.read_log(sign(message, set, r)).await))
        }
        5 => {
            let message = pb::StandingRequest::default();
            (-106, outcome(client.standing(sign(message, set, r)).await))
        }
        6 => {
            // Of another set: one of this set would be taken in.
            let message = pb::JoinRequest {
                set: "another".to_owned(),
                name: text(r),
                incarnation: text(r),
                peer_addr: text(r),
                client_addr: text(r),
                cluster_id: text(r),
                ..Default::default()
            };
            (-107, outcome(client.join(sign(message, set, r)).await))
        }
        7 => {
            let message = pb::HelloRequest {
                set: set.to_owned(),
                name: text(r),
                incarnation: text(r),
                ..Default::default()
            };
            (-108, outcome(client.hello(sign(message, set, r)).await))
        }
        _ => {
            let count = [0, 1, 3, 2_000][r.below(4)];
            let message = pb::FoundRequest {
                set: set.to_owned(),
                cluster_id: text(r),
                founders: (0..count)
                    .map(|_| pb::Founder {
                        node_id: number(r),
                        name: text(r),
                        incarnation: text(r),
                    })
                    .collect(),
                ..Default::default()
            };
            (-109, outcome(client.found(sign(message, set, r)).await))
        }
    }
}
