//! Plays kept requests again, one at a time, to find the one that a process dies of.

use std::path::Path;
use std::time::Duration;

use raftmq_benches::BenchError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::bed::{Bed, BedOptions};

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_millis(50);

/// Starts a set and sends it the requests of all files of a directory. Answers the first one after which a process had ended.
///
/// # Errors
/// The files cannot be read, or the set does not start.
pub async fn replay(dir: &Path, options: BedOptions) -> Result<Option<Vec<u8>>, BenchError> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .map_err(BenchError::io(dir))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    let bed = Bed::start(options).await?;
    let mut found = None;
    'files: for file in files {
        let bytes = std::fs::read(&file).map_err(BenchError::io(&file))?;
        let mut rest = &bytes[..];
        while let Some((head, tail)) = rest.split_first_chunk::<4>() {
            let len = (u32::from_be_bytes(*head) as usize).min(tail.len());
            let (request, after) = tail.split_at(len);
            rest = after;
            for addr in bed.addrs().into_iter().chain([bed.namesrv_addr()]) {
                // Whatever becomes of the connection.
                let _ = timeout(ANSWER, send(&addr, request)).await;
            }
            if let Err(error) = bed.check_processes().await {
                println!("{}: {error}", file.display());
                found = Some(request.to_vec());
                break 'files;
            }
        }
    }
    sleep(Duration::from_secs(1)).await;
    if found.is_none()
        && let Err(error) = bed.check_processes().await
    {
        println!("after the last request: {error}");
    }
    bed.stop().await;
    Ok(found)
}

async fn send(addr: &str, request: &[u8]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(request).await?;
    let mut answer = [0; 1024];
    stream.read(&mut answer).await.map(|_| ())
}
