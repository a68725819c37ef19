//! Sending in an open loop: messages start when they are due. One that starts late, because this program or too many
//! messages under way held it up, counts from when it was due, so that a stall is seen by all it would have met.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::produce::{Common, Lane};

/// Shortest sleep: what is due within it starts together.
const TICK: Duration = Duration::from_micros(100);

/// Starts the clock, a thread of its own: a runtime's timers tick in milliseconds. Ends when `common.stop` is set. No more
/// than `limit` messages are under way.
pub fn start(
    common: Arc<Common>,
    lanes: Vec<Arc<Lane>>,
    rate: u32,
    limit: usize,
) -> JoinHandle<()> {
    let runtime = Handle::current();
    std::thread::spawn(move || {
        // Sends may start timers.
        let _entered = runtime.enter();
        let began = Instant::now();
        let each = Duration::from_secs(1).as_nanos() as u64 / u64::from(rate);
        for (number, lane) in (0_u64..).zip(lanes.iter().cycle()) {
            let due = began + Duration::from_nanos(number * each);
            loop {
                if common.stop.load(Ordering::Relaxed) {
                    return;
                }
                let early = due.saturating_duration_since(Instant::now());
                if early.is_zero() && common.under_way.load(Ordering::Relaxed) < limit {
                    break;
                }
                std::thread::sleep(early.max(TICK));
            }
            lane.send_due(due);
        }
    })
}
