//! A stop that clients do not notice: leadership moves first, then the broker goes on forwarding until its clients have had
//! time to read their routes again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::broker::Broker;

/// Attempts to hand over before the broker stops all the same.
const ATTEMPTS: u32 = 5;
/// Pause between two of them.
const AGAIN: Duration = Duration::from_millis(500);
/// How often it is looked whether clients are still there.
const LOOK: Duration = Duration::from_millis(200);

/// Hands leadership over and forwards for `drainTimeout` since this replica last led; shorter when no client is left.
/// Cancelling it is safe.
pub async fn run(broker: &Arc<Broker>, has_clients: impl Fn() -> bool) {
    let began = Instant::now();
    let role = broker.replica.role();
    if role.voters == [role.me.node_id] {
        tracing::info!("the only voter stops: nothing is served until it is back");
        return;
    }
    broker.draining.store(true, Ordering::Relaxed);
    broker.replica.leave_leading();
    let timeout = Duration::from_millis(broker.config().drain_timeout_ms);
    let mut attempts = 0;
    let mut told = false;
    loop {
        if broker.replica.role().leads() && attempts < ATTEMPTS {
            attempts += 1;
            match broker.replica.transfer_leader(None).await {
                Ok(next) => tracing::info!(leader = next.name, "leadership is handed over"),
                Err(error) => {
                    tracing::warn!(%error, attempts, "leadership is not handed over");
                    tokio::time::sleep(AGAIN).await;
                }
            }
            continue;
        }
        let led = broker.replica.last_led();
        let left = led.map_or(Duration::ZERO, |ago| timeout.saturating_sub(ago));
        if left.is_zero() || broker.replica.role().leads() || !has_clients() {
            tracing::info!(ms = began.elapsed().as_millis() as u64, "drained");
            return;
        }
        if !told {
            told = true;
            tracing::info!(
                seconds = left.as_secs(),
                "forwarding for clients until they have read their routes again"
            );
        }
        tokio::time::sleep(LOOK.min(left)).await;
    }
}
