//! `mqdelay`: a TCP relay that keeps every byte for a while, in both directions, as a longer wire would. It does not limit
//! how much is under way within that time.
//!
//! Replicas that are to be further apart than one machine: each listens (`peerListenPort`) elsewhere than where the others
//! look for it (`raftPeers`), and a relay leads from there to it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use clap::Parser;
use raftmq_benches::BenchError;
use raftmq_benches::alarm::Alarm;
use raftmq_benches::stop::StopSignal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// Chunks under way in one direction of a connection: at 2 ms and full ones, 128 GB/s.
const CHUNKS: usize = 4_096;

/// Relays connections with a delay in each direction. --listen and --to may be given several times, in pairs. Prints
/// LISTENING and the addresses.
#[derive(Parser)]
#[command(name = "mqdelay", version)]
struct Args {
    /// Where to listen.
    #[arg(long, required = true, value_name = "HOST:PORT")]
    listen: Vec<String>,

    /// Where to connect to.
    #[arg(long, required = true, value_name = "HOST:PORT")]
    to: Vec<String>,

    /// The delay in each direction, ms.
    #[arg(long, default_value_t = 2.0, value_parser = delay)]
    delay_ms: f64,
}

fn delay(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ms) if (0.0..=60_000.0).contains(&ms) => Ok(ms),
        _ => Err("milliseconds from 0 to 60000 are wanted".to_owned()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("mqdelay: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), BenchError> {
    let mut stop = StopSignal::new()?;
    if args.listen.len() != args.to.len() {
        let what = "as many --listen as --to are wanted";
        return Err(BenchError::Usage(what.to_owned()));
    }
    let delay = Duration::from_secs_f64(args.delay_ms / 1000.0);
    let mut relays = JoinSet::new();
    for (listen, to) in args.listen.iter().zip(&args.to) {
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(BenchError::io(listen))?;
        relays.spawn(accept(listener, to.clone(), delay));
    }
    println!("LISTENING {}", args.listen.join(" "));
    tokio::select! {
        Some(Ok(Err(e))) = relays.join_next() => Err(BenchError::io("accept")(e)),
        () = stop.received() => Ok(()),
    }
}

async fn accept(listener: TcpListener, to: String, delay: Duration) -> std::io::Result<()> {
    loop {
        let (near, _) = listener.accept().await?;
        let to = to.clone();
        tokio::spawn(async move {
            // Whoever connected sees its end.
            if let Ok(far) = TcpStream::connect(&to).await {
                join(near, far, delay).await;
            }
        });
    }
}

/// Ends when one direction fails; an end of one goes to the other side and leaves the other direction alone.
async fn join(near: TcpStream, far: TcpStream, delay: Duration) {
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let there = relay(near_read, far_write, delay);
    let back = relay(far_read, near_write, delay);
    // An error ends both.
    let _ = tokio::try_join!(there, back);
}

async fn relay(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    delay: Duration,
) -> Result<(), BenchError> {
    let (tx, rx) = channel(CHUNKS);
    tokio::try_join!(take(from, tx, delay), give(to, rx))?;
    Ok(())
}

async fn take(
    mut from: impl AsyncRead + Unpin,
    tx: Sender<(Instant, Bytes)>,
    delay: Duration,
) -> Result<(), BenchError> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        let read = from.read_buf(&mut buffer).await;
        let closed = read.map_err(BenchError::io("relay"))? == 0;
        if closed
            || tx
                .send((Instant::now() + delay, buffer.split().freeze()))
                .await
                .is_err()
        {
            return Ok(());
        }
    }
}

async fn give(
    mut to: impl AsyncWrite + Unpin,
    mut rx: Receiver<(Instant, Bytes)>,
) -> Result<(), BenchError> {
    let mut alarm = Alarm::new()?;
    while let Some((due, chunk)) = rx.recv().await {
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            alarm.sleep(early).await?;
        }
        to.write_all(&chunk)
            .await
            .map_err(BenchError::io("relay"))?;
    }
    to.shutdown().await.map_err(BenchError::io("relay"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_arrive_whole_and_late() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, to) = (listener.local_addr().unwrap(), echo.local_addr().unwrap());
        let delay = Duration::from_millis(20);
        tokio::spawn(accept(listener, to.to_string(), delay));
        tokio::spawn(async move {
            let (mut stream, _) = echo.accept().await.unwrap();
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let (mut read, mut write) = TcpStream::connect(addr).await.unwrap().into_split();
        let began = Instant::now();
        let writing = {
            let sent = sent.clone();
            tokio::spawn(async move {
                write.write_all(&sent).await.unwrap();
                // Dropped, it says that this was all.
            })
        };
        let mut first = [0; 1];
        read.read_exact(&mut first).await.unwrap();
        assert!(began.elapsed() >= 2 * delay);
        let mut received = first.to_vec();
        read.read_to_end(&mut received).await.unwrap();
        assert!(received == sent);
        writing.await.unwrap();
    }
}
