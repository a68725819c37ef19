//! How fast one replica's log comes up to another's, from the marker files beside both logs: nothing is asked of the
//! processes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use raftmq_store::commitlog::marks::Marker;

use super::line::Line;
use super::work::MIB;

/// How often both are looked at; also how far behind, in time, counts as caught up: entries under way.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(clap::Args)]
pub struct Args {
    /// Store directory of the replica that is behind.
    #[arg(long)]
    behind: PathBuf,

    /// Store directory of the one it follows.
    #[arg(long)]
    ahead: PathBuf,

    /// Longest wait, s.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
}

/// Waits until it has caught up.
///
/// # Errors
/// It does not in time.
pub fn run(args: &Args) -> Result<Line, BenchError> {
    let began = Instant::now();
    let deadline = began + Duration::from_secs(args.seconds);
    let from = written(&args.behind);
    let gap = written(&args.ahead).saturating_sub(from);
    let mut moved = None;
    loop {
        // What the one ahead has now, the other should have a moment later.
        let wanted = written(&args.ahead);
        std::thread::sleep(LOOK_EVERY);
        let has = written(&args.behind);
        let now = Instant::now();
        // The log of a replica that starts is empty for a moment when it gets a snapshot.
        if has > from && moved.is_none() {
            moved = Some(now);
        }
        if has >= wanted && wanted > 0 {
            let since = now - moved.unwrap_or(now);
            let bytes = has.saturating_sub(from);
            let mut line = Line::default();
            line.mib("behind_mib", gap)
                .mib("received_mib", bytes)
                .ms(
                    "first_bytes_ms",
                    moved.map_or(Duration::ZERO, |m| m - began),
                )
                .ms("caught_up_ms", now - began)
                .float(
                    "catch_up_mb_s",
                    bytes as f64 / 1e6 / since.as_secs_f64().max(1e-3),
                    1,
                );
            return Ok(line);
        }
        if now >= deadline {
            let what = format!(
                "the replica is still {} MiB behind",
                wanted.saturating_sub(has) / MIB
            );
            return Err(BenchError::Timeout {
                what,
                seconds: args.seconds,
            });
        }
    }
}

/// Where a replica's log is written to; 0 when that is not to be seen.
fn written(store: &Path) -> u64 {
    let marker = std::fs::read(store.join("commitlog").join("marker"));
    marker.map_or(0, |bytes| Marker::decode(&bytes).written)
}
