//! What the disk itself takes for what SYNC_FLUSH waits for.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use raftmq_benches::samples::{Samples, ms};
use rustix::fs::{FallocateFlags, fallocate};
use serde_json::{Value, json};

/// As much as 64 messages of 1 KiB.
const WRITE: usize = 64 << 10;
const FILE: u64 = 256 << 20;

/// Writes and syncs one piece after the other into an allocated file for `time`; percentiles of the two together, as mqbench
/// reports latencies.
///
/// # Errors
/// I/O.
pub fn fdatasync(dir: &Path, time: Duration) -> Result<Value, BenchError> {
    let path = dir.join("fdatasync");
    let measured = measure(&path, time).map_err(BenchError::io(&path));
    let _ = std::fs::remove_file(&path);
    let times = measured?;
    let at = |percent| times.percentile(percent).map(|ms| ms * 1e3);
    Ok(json!({"latency_us": {"p50": at(50), "p99": at(99)}, "count": times.len()}))
}

fn measure(path: &Path, time: Duration) -> std::io::Result<Samples> {
    let file = File::create(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, FILE)?;
    file.sync_all()?;
    let (piece, began, mut at) = (vec![b'x'; WRITE], Instant::now(), 0);
    let mut times = Samples::default();
    while began.elapsed() < time && at + WRITE as u64 <= FILE {
        let one = Instant::now();
        file.write_all_at(&piece, at)?;
        file.sync_data()?;
        times.push(ms(one.elapsed()));
        at += WRITE as u64;
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_take_time() {
        let dir = tempfile::tempdir().unwrap();
        let report = fdatasync(dir.path(), Duration::from_millis(20)).unwrap();
        let p50 = report["latency_us"]["p50"].as_f64().unwrap();
        assert!(p50 > 0.0 && p50 <= report["latency_us"]["p99"].as_f64().unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
