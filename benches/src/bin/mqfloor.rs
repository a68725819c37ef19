//! `mqfloor`: the least a broker can do. It reads frames, writes them to a file, and answers each: no queue, no checksum, no
//! header read beyond its opaque, no replica. What a broker costs more than this is what it does.
//!
//! `mqbench --raw-addr` drives it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BytesMut};
use clap::Parser;
use raftmq_benches::BenchError;
use raftmq_remoting::frame::MAX_FRAME_LENGTH;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Length of the file; writing begins anew at its end.
const FILE_BYTES: u64 = 1 << 30;
/// Bytes of an answer, its length field included.
const ANSWER: usize = 120;
const HEAD: usize = 8;
/// Room for what one read brings, bytes.
const READ_BUFFER: usize = 64 << 10;
/// A JSON answer, up to the opaque and behind it. Blanks fill it up.
const JSON: (&str, &str) = (
    r#"{"code":0,"extFields":{"queueOffset":"0"},"flag":1,"language":"RUST","opaque":"#,
    r#","version":479}"#,
);
/// Where binary headers have their opaque.
const BINARY_OPAQUE: usize = 5;

/// Answers every frame after writing it to a file. Prints LISTENING and the address.
#[derive(Parser)]
#[command(name = "mqfloor", version)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:10911")]
    listen: String,

    /// The file, 1 GiB; written over, and removed at the end.
    #[arg(long)]
    file: PathBuf,

    /// Threads [default: one for each processor].
    #[arg(long)]
    threads: Option<std::num::NonZeroUsize>,
}

/// The file and the place that is written next.
struct Disk {
    file: File,
    next: AtomicU64,
}

impl Disk {
    fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::create(path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE_BYTES)?;
        Ok(Self {
            file,
            next: AtomicU64::new(0),
        })
    }

    fn write(&self, frames: &[u8]) -> std::io::Result<()> {
        let length = frames.len() as u64;
        let mut at = self.next.fetch_add(length, Ordering::Relaxed) % FILE_BYTES;
        if at + length > FILE_BYTES {
            at = 0;
        }
        self.file.write_all_at(frames, at)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.threads {
        runtime.worker_threads(threads.get());
    }
    let ended = match runtime.enable_all().build() {
        Ok(runtime) => runtime.block_on(run(&args)),
        Err(e) => Err(BenchError::io("threads")(e)),
    };
    // It was there for this program only.
    let _ = std::fs::remove_file(&args.file);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("mqfloor: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), BenchError> {
    let mut stop = raftmq_benches::stop::StopSignal::new()?;
    let disk = Arc::new(Disk::open(&args.file).map_err(BenchError::io(&args.file))?);
    let listener = TcpListener::bind(&args.listen).await;
    let listener = listener.map_err(BenchError::io(&args.listen))?;
    let addr = listener
        .local_addr()
        .map_err(BenchError::io(&args.listen))?;
    println!("LISTENING {addr}");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.received() => return Ok(()),
        };
        let (stream, _) = accepted.map_err(BenchError::io(&args.listen))?;
        let disk = disk.clone();
        // A peer that goes away ends its task.
        tokio::spawn(async move { serve(stream, &disk).await });
    }
}

async fn serve(mut stream: TcpStream, disk: &Disk) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BytesMut::with_capacity(READ_BUFFER);
    let mut answers = Vec::new();
    loop {
        input.reserve(READ_BUFFER);
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let mut end = 0;
        answers.clear();
        while let Some(length) = input[end..].first_chunk() {
            let length = u32::from_be_bytes(*length) as usize;
            if !(4..=MAX_FRAME_LENGTH).contains(&length) {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
            let Some(frame) = input[end..].get(4..4 + length) else {
                break;
            };
            answer(frame, &mut answers).ok_or(std::io::ErrorKind::InvalidData)?;
            end += 4 + length;
        }
        if end > 0 {
            disk.write(&input[..end])?;
            input.advance(end);
            stream.write_all(&answers).await?;
        }
    }
}

/// Adds the answer to a frame; None when it has no opaque.
fn answer(frame: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let marked = u32::from_be_bytes(*frame.first_chunk()?);
    let header = frame.get(4..4 + (marked & 0x00FF_FFFF) as usize)?;
    let binary = marked >> 24 == 1;
    let start = out.len();
    out.extend_from_slice(&(ANSWER as u32 - 4).to_be_bytes());
    let length = (ANSWER - HEAD) as u32 | (marked & 0xFF00_0000);
    out.extend_from_slice(&length.to_be_bytes());
    if binary {
        // Code, language (12, Rust) and version; then the flag, no remark, and one field.
        let opaque = header.get(BINARY_OPAQUE..BINARY_OPAQUE + 4)?;
        out.extend_from_slice(&[0, 0, 12, 1, 0xDF]);
        out.extend_from_slice(opaque);
        out.extend_from_slice(&1_u32.to_be_bytes());
        out.extend_from_slice(&0_u32.to_be_bytes());
        let fields = (start + ANSWER - out.len() - 4) as u32;
        out.extend_from_slice(&fields.to_be_bytes());
        out.extend_from_slice(b"\0\x01x");
        let value = (start + ANSWER - out.len() - 4) as u32;
        out.extend_from_slice(&value.to_be_bytes());
        out.resize(start + ANSWER, b'0');
        return Some(());
    }
    const KEY: &[u8] = b"\"opaque\":";
    let at = memchr::memmem::find(header, KEY)? + KEY.len();
    let digits = header[at..].iter().take_while(|b| b.is_ascii_digit());
    // No opaque has more; a longer one would not fit.
    let opaque = header.get(at..at + digits.count().min(10))?;
    out.extend_from_slice(JSON.0.as_bytes());
    out.extend_from_slice(opaque);
    out.extend_from_slice(JSON.1.as_bytes());
    out.resize(start + ANSWER, b' ');
    Some(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raftmq_remoting::frame::{decode_frame, encode};
    use raftmq_remoting::{RemotingCommand, SerializeType};

    use super::*;

    #[test]
    fn answers_are_frames_of_the_request() {
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            for opaque in [0, 7, i32::MAX] {
                let mut request = RemotingCommand::request(310)
                    .with_ext("b", "topic")
                    .with_body("body");
                request.serialize = serialize;
                request.opaque = opaque;
                let mut frame = Vec::new();
                encode(&request, &mut frame).unwrap();
                let mut out = Vec::new();
                answer(&frame[4..], &mut out).unwrap();
                assert_eq!(out.len(), ANSWER);
                assert_eq!(out[..4], (ANSWER as u32 - 4).to_be_bytes());
                let answer = decode_frame(Bytes::from(out).slice(4..)).unwrap();
                assert!(answer.is_response());
                assert_eq!((answer.code, answer.opaque), (0, opaque));
                assert_eq!(answer.serialize, serialize);
            }
        }
        assert_eq!(answer(b"\0\0\0\x02{}", &mut Vec::new()), None);
    }
}
