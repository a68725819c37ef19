//! Sending in an open loop: requests start when they are due. One that starts late, because this program or too many
//! requests under way held it up, counts from when it was due, so that a stall is seen by all it would have met.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raftmq_benches::BenchError;
use raftmq_benches::alarm::Alarm;

use super::sender::Due;
use super::stats::Shared;

/// Shortest sleep: what is due within it starts together.
const TICK: Duration = Duration::from_micros(100);
const SECOND: u64 = 1_000_000_000;

/// Hands `rate` messages a second to the lanes in turn, `batch` to a request, until the run stops. No more than `limit`
/// requests are under way.
///
/// # Errors
/// The system has no timer.
pub async fn run(
    shared: Arc<Shared>,
    lanes: Vec<Arc<Due>>,
    rate: u32,
    batch: u32,
    limit: usize,
) -> Result<(), BenchError> {
    let mut alarm = Alarm::new()?;
    let began = shared.now();
    let due = |number: u64| {
        let after = u128::from(number) * u128::from(batch) * u128::from(SECOND) / u128::from(rate);
        began + after as u64
    };
    for (number, lane) in (0..).zip(lanes.iter().cycle()) {
        loop {
            if shared.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let early = Duration::from_nanos(due(number).saturating_sub(shared.now()));
            if early.is_zero() && shared.under_way.load(Ordering::Relaxed) < limit {
                break;
            }
            alarm.sleep(early.max(TICK)).await?;
        }
        shared.under_way.fetch_add(1, Ordering::Relaxed);
        if !lane.push(due(number)) {
            shared.under_way.fetch_sub(1, Ordering::Relaxed);
            shared.stats.lock().error("no connection", 1);
        }
    }
    Ok(())
}
