//! Where temporary data goes, and times in a histogram.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use raftmq_benches::BenchError;
use raftmq_store::vfs::{FileSystem, RealFs};
use tempfile::TempDir;

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
/// Longest time a histogram holds, ns; longer ones count as this.
const MAX_NANOS: u64 = 60_000_000_000;

/// A directory in `parent` that goes away at the end.
///
/// # Errors
/// It cannot be made, or more than four fifths of the free space would be needed.
pub fn directory(parent: Option<&Path>, needed: u64) -> Result<TempDir, BenchError> {
    let parent: PathBuf = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    let space = RealFs.space(&parent).map_err(BenchError::io(&parent))?;
    if needed > space.available / 5 * 4 {
        return Err(BenchError::Usage(format!(
            "{} MiB are wanted in {}, and {} MiB are free",
            needed / MIB,
            parent.display(),
            space.available / MIB
        )));
    }
    tempfile::Builder::new()
        .prefix("storebench.")
        .tempdir_in(&parent)
        .map_err(BenchError::io(parent))
}

/// Makes everything on the disk of `dir` durable, so that the next measurement does not pay for the last one.
///
/// # Errors
/// I/O.
pub fn settle(dir: &Path) -> Result<(), BenchError> {
    RealFs.sync_all(dir).map_err(BenchError::io(dir))
}

/// The clock, ms since the epoch.
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Times with three digits.
pub struct Times(Histogram<u64>);

impl Times {
    /// None so far.
    pub fn new() -> Self {
        // Fails only for bounds or digits out of range, and these are not.
        let empty = Histogram::new_with_bounds(1, MAX_NANOS, 3);
        Self(empty.unwrap_or_else(|e| unreachable!("{e}")))
    }

    /// One more.
    pub fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(MAX_NANOS);
        self.0.saturating_record(nanos.clamp(1, MAX_NANOS));
    }

    /// The time that a part of them does not exceed, µs.
    pub fn micros(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }
}
