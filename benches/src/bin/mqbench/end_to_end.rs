//! Sending and consuming at the same time: how long a message takes until whoever waits for it has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::report::Report;
use super::stamp::STAMP;
use super::stats::{Shared, Stats};
use super::{Args, consume, measure, plan, produce};

/// When so long nothing more arrives after the last send, everything has.
const QUIET: Duration = Duration::from_millis(100);

/// Starts consumers at the end of the topics, then sends.
///
/// # Errors
/// A topic has no master, or the messages have no room for their time.
pub async fn run(args: &Args) -> Result<Report, BenchError> {
    if (args.size as usize) < STAMP {
        let what = format!("--mode end-to-end needs a --size of {STAMP} or more");
        return Err(BenchError::Usage(what));
    }
    let shared = Arc::new(Shared::new(args.timeout()));
    let mut tasks = JoinSet::new();
    let plan = plan::find(args, &mut tasks).await?;
    let ends = consume::ranges(args, &plan).await?;
    let queues: Vec<_> = ends
        .into_iter()
        .map(|(queue, _, end)| (queue, end, None))
        .collect();
    let more = (1..args.consumers).map(|n| format!("{}-{n}", args.group));
    let groups: Vec<_> = std::iter::once(args.group.clone()).chain(more).collect();
    let pulls = consume::pulls(args, true, 0);
    let readers = consume::start(args, &shared, &plan, &pulls, &groups, &queues)?;
    let reading = readers.len();
    for (lane, puller) in readers {
        tasks.spawn(lane.run(puller));
    }
    measure::connected(&shared, reading).await;
    let lanes = produce::start(args, &shared, &plan, &mut tasks)?;
    measure::connected(&shared, reading + lanes.count).await;
    lanes.begin(args, &shared, &mut tasks);
    let warm_up = Duration::from_secs(args.warm_up);
    let mut measured = measure::measure(args, &shared, warm_up, std::future::pending()).await?;
    let (consumed, pulled) = (measured.total.consumed, measured.total.pulls);
    produce::finish(&shared, &mut measured.total).await;
    last_ones(&shared, &mut measured.total).await;
    // The rates are those of the time that was measured.
    (measured.total.consumed, measured.total.pulls) = (consumed, pulled);
    tasks.shutdown().await;
    Ok(produce::report("end-to-end", args, measured))
}

/// Waits for what is on its way to the consumers.
async fn last_ones(shared: &Shared, total: &mut Stats) {
    let deadline = Instant::now() + shared.timeout;
    while Instant::now() < deadline {
        let before = total.consumed;
        sleep(QUIET).await;
        shared.stats.lock().drain_into(total);
        if total.consumed == before {
            return;
        }
    }
}
