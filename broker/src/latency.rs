//! How long sends take, as RocketMQ's `StoreStatsService` tells it in GET_BROKER_RUNTIME_INFO: times by class and percentiles of the
//! minute before, and the longest one since the start.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Classes up to 100 ms of 1 ms, up to 1 s of 10 ms, up to 10 s of 100 ms, and one for the rest.
const CLASSES: usize = 100 + 90 + 90 + 1;

/// RocketMQ's classes: the label, and the lowest time that lies beyond it, ms.
const LABELS: [(&str, u64); 13] = [
    ("[<=0ms]", 1),
    ("[0~10ms]", 10),
    ("[10~50ms]", 50),
    ("[50~100ms]", 100),
    ("[100~200ms]", 200),
    ("[200~500ms]", 500),
    ("[500ms~1s]", 1_000),
    ("[1~2s]", 2_000),
    ("[2~3s]", 3_000),
    ("[3~4s]", 4_000),
    ("[4~5s]", 5_000),
    ("[5~10s]", 10_000),
    ("[10s~]", u64::MAX),
];

/// See the module's text.
pub struct Latency {
    now: [AtomicU64; CLASSES],
    /// Of the minute before.
    before: Mutex<[u64; CLASSES]>,
    longest_ms: AtomicU64,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            now: std::array::from_fn(|_| AtomicU64::new(0)),
            before: Mutex::new([0; CLASSES]),
            longest_ms: AtomicU64::new(0),
        }
    }
}

/// The class of a time.
fn class(ms: u64) -> usize {
    let class = match ms {
        0..100 => ms,
        100..1_000 => 100 + (ms - 100) / 10,
        1_000..10_000 => 190 + (ms - 1_000) / 100,
        _ => 280,
    };
    class as usize
}

/// The lowest time of a class, ms.
fn lowest(class: usize) -> u64 {
    let class = class as u64;
    match class {
        0..100 => class,
        100..190 => 100 + (class - 100) * 10,
        _ => 1_000 + (class - 190) * 100,
    }
}

impl Latency {
    /// One more.
    pub fn took(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.now[class(ms)].fetch_add(1, Ordering::Relaxed);
        if ms > self.longest_ms.load(Ordering::Relaxed) {
            self.longest_ms.fetch_max(ms, Ordering::Relaxed);
        }
    }

    /// To be called every minute.
    pub fn next_minute(&self) {
        let mut before = self.before.lock();
        for (before, now) in before.iter_mut().zip(&self.now) {
            *before = now.swap(0, Ordering::Relaxed);
        }
    }

    /// Since the start, ms.
    pub fn longest_ms(&self) -> u64 {
        self.longest_ms.load(Ordering::Relaxed)
    }

    /// `[<=0ms]:12 [0~10ms]:3 … `
    pub fn distribution(&self) -> String {
        let before = self.before.lock();
        let mut from = 0;
        let texts = LABELS.iter().map(|(label, beyond)| {
            let to = (from..CLASSES).find(|c| lowest(*c) >= *beyond);
            let to = to.unwrap_or(CLASSES);
            let count: u64 = before[from..to].iter().sum();
            from = to;
            format!("{label}:{count} ")
        });
        texts.collect()
    }

    /// The time that `share` of the sends did not exceed, ms, by its class; 0 without any.
    pub fn quantile(&self, share: f64) -> f64 {
        let before = self.before.lock();
        let wanted = before.iter().sum::<u64>() as f64 * share;
        let mut seen = 0;
        let found = before.iter().position(|count| {
            seen += count;
            *count > 0 && seen as f64 >= wanted
        });
        found.map_or(0.0, |class| lowest(class) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_class() {
        for at in [
            0, 1, 99, 100, 109, 110, 999, 1_000, 1_099, 9_999, 10_000, 70_000,
        ] {
            let class = class(at);
            assert!(lowest(class) <= at && (class + 1 == CLASSES || lowest(class + 1) > at));
        }
        let latency = Latency::default();
        assert_eq!(latency.quantile(0.99), 0.0);
        for ms in [0, 0, 3, 9, 10, 150, 12_000] {
            latency.took(Duration::from_millis(ms));
        }
        latency.next_minute();
        assert_eq!(
            latency.distribution(),
            "[<=0ms]:2 [0~10ms]:2 [10~50ms]:1 [50~100ms]:0 [100~200ms]:1 [200~500ms]:0 [500ms~1s]:0 [1~2s]:0 [2~3s]:0 \
             [3~4s]:0 [4~5s]:0 [5~10s]:0 [10s~]:1 "
        );
        assert_eq!(latency.quantile(0.5), 9.0);
        assert_eq!(latency.quantile(0.8), 150.0);
        assert_eq!(latency.quantile(0.99), 10_000.0);
        assert_eq!(latency.longest_ms(), 12_000);
        latency.next_minute();
        assert_eq!(latency.quantile(0.99), 0.0);
    }
}
