//! A run second by second, as lines of JSON. Others may add lines: `{"t":1700000000.5,"mark":"leader killed"}`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use raftmq_benches::BenchError;
use raftmq_benches::proc_stat::Usage;
use serde::{Deserialize, Serialize};

use super::stats::Stats;

/// An end that is shorter than this has no line.
const SHORTEST: Duration = Duration::from_millis(500);

/// A second, or a mark.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Line {
    /// Its end, s of Unix time.
    pub t: f64,
    /// What happened then; nothing else counts in such a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// Messages a second.
    pub sent: f64,
    pub consumed: f64,
    /// Of sends, or of pulls when nothing is sent.
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
    /// Until messages arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_to_end_p50_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_to_end_p99_us: Option<u64>,
    pub errors: u64,
    /// Processor time of the servers in this second, and their memory.
    pub servers_cpu_us: u64,
    pub rss_bytes: u64,
}

/// A file of lines.
pub struct Timeline {
    path: PathBuf,
    file: File,
    last: Instant,
    cpu: Duration,
}

impl Timeline {
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> Result<Self, BenchError> {
        // Others append, too.
        let open = || {
            File::create(path)?;
            File::options().append(true).open(path)
        };
        Ok(Self {
            path: path.to_owned(),
            file: open().map_err(BenchError::io(path))?,
            last: Instant::now(),
            cpu: Duration::ZERO,
        })
    }

    /// Starts the first second; the servers have used so much by now.
    pub fn begin(&mut self, cpu: Duration) {
        (self.last, self.cpu) = (Instant::now(), cpu);
    }

    /// Adds what happened since the last time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn tell(&mut self, stats: &Stats, pids: &[u32]) -> Result<(), BenchError> {
        let time = self.last.elapsed();
        if time < SHORTEST {
            return Ok(());
        }
        let usage = Usage::of_all(pids);
        let rate = |count: u64| (count as f64 / time.as_secs_f64()).round();
        let of = if stats.send.all.is_empty() {
            &stats.pull.all
        } else {
            &stats.send.all
        };
        let some = |h: &Histogram<u64>, q| (!h.is_empty()).then(|| h.value_at_quantile(q));
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let line = Line {
            t: now.as_millis() as f64 / 1000.0,
            mark: None,
            sent: rate(stats.sent),
            consumed: rate(stats.consumed),
            p50_us: of.value_at_quantile(0.5),
            p99_us: of.value_at_quantile(0.99),
            max_us: of.max(),
            end_to_end_p50_us: some(&stats.end_to_end.all, 0.5),
            end_to_end_p99_us: some(&stats.end_to_end.all, 0.99),
            errors: stats.errors.values().sum(),
            // A server that ended takes its time with it.
            servers_cpu_us: usage.cpu.saturating_sub(self.cpu).as_micros() as u64,
            rss_bytes: usage.rss,
        };
        self.begin(usage.cpu);
        let text = serde_json::to_string(&line).unwrap_or_default() + "\n";
        self.file
            .write_all(text.as_bytes())
            .map_err(BenchError::io(&self.path))
    }
}
