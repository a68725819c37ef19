//! A limit on bytes a second, for reads that would otherwise take the disk and the network from the clients.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock;

/// Bytes that may be spent at once after a pause, in seconds of the rate.
const BURST: f64 = 0.25;

/// Lets so many bytes a second through, whoever asks.
#[derive(Debug)]
pub struct Throttle {
    rate: f64,
    /// Until when what was let through has used up the rate.
    paid_until: Mutex<Instant>,
}

impl Throttle {
    /// `rate` in bytes a second; 0 for no limit.
    pub fn new(rate: u64) -> Self {
        Self {
            rate: rate as f64,
            paid_until: Mutex::new(clock::now()),
        }
    }

    /// Waits until `bytes` more fit into the rate.
    pub async fn pay(&self, bytes: u64) {
        if self.rate <= 0.0 {
            return;
        }
        let wait = {
            let now = clock::now();
            let mut until = self.paid_until.lock();
            *until = (*until).max(now) + Duration::from_secs_f64(bytes as f64 / self.rate);
            until.saturating_duration_since(now + Duration::from_secs_f64(BURST))
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_rate_is_kept_and_zero_is_none() {
        let none = Throttle::new(0);
        let limited = Throttle::new(1_000_000);
        let start = Instant::now();
        none.pay(u64::MAX).await;
        assert!(start.elapsed() < Duration::from_millis(200));
        for _ in 0..10 {
            limited.pay(100_000).await;
        }
        assert!(start.elapsed() >= Duration::from_millis(700));
    }
}
