//! Whether the processors keep their speed. Those of a virtual machine may go at a tenth of it for a few hundredths of a second,
//! again and again, and the time is nowhere booked as stolen. Nobody is quick then, and a high percentile of a load says more
//! about the machine than about the server. So a thread measures, once in a millisecond, how much processor time the same small calculation
//! takes (being preempted does not count), and latencies of the times in between are kept once more by themselves.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Between two looks.
const BEAT: Duration = Duration::from_millis(1);
/// Steps of the calculation: some 10 µs.
const STEPS: u64 = 10_000;
/// So many times the usual time is slow.
const SLOW: u64 = 2;
/// What is usual is the median of so many looks.
const REMEMBERED: usize = 256;
/// What has waited meanwhile is done this long after it, ns.
const AFTERMATH: u64 = 50_000_000;

/// What the thread found out.
#[derive(Default)]
pub struct Pulse {
    /// Latencies taken before this, ns since the run began, are of a slow time or follow one.
    unsteady_until: AtomicU64,
    looks: AtomicU64,
    slow: AtomicU64,
}

impl Pulse {
    /// Starts the thread; it ends when nobody else holds the pulse. `now` tells ns since the run began.
    pub fn start(now: impl Fn() -> u64 + Send + 'static) -> Arc<Self> {
        let pulse = Arc::new(Self::default());
        let shared = Arc::downgrade(&pulse);
        let beat = move || {
            let mut usual = Usual::default();
            let mut slow_before = false;
            while let Some(pulse) = shared.upgrade() {
                let slow = usual.is_slow(calculate());
                // A single one may be an interrupt.
                if slow && slow_before {
                    pulse
                        .unsteady_until
                        .store(now() + AFTERMATH, Ordering::Relaxed);
                }
                pulse.looks.fetch_add(1, Ordering::Relaxed);
                pulse.slow.fetch_add(slow.into(), Ordering::Relaxed);
                slow_before = slow;
                drop(pulse);
                std::thread::sleep(BEAT);
            }
        };
        // Without a thread all times count as steady.
        let _ = std::thread::Builder::new()
            .name("pulse".to_owned())
            .spawn(beat);
        pulse
    }

    /// Whether the processors have kept their speed up to this moment, for long enough.
    pub fn is_steady(&self, now: u64) -> bool {
        now >= self.unsteady_until.load(Ordering::Relaxed)
    }

    /// Looks so far, and how many of them were slow.
    pub fn looks(&self) -> (u64, u64) {
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (of(&self.looks), of(&self.slow))
    }
}

/// Processor time of the calculation, ns.
fn calculate() -> u64 {
    let time = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    };
    let began = time();
    let mut x = began;
    for _ in 0..STEPS {
        x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    time().saturating_sub(began)
}

/// The last looks.
#[derive(Default)]
struct Usual {
    times: Vec<u64>,
    next: usize,
    median: Option<u64>,
}

impl Usual {
    /// Whether this time is far from the usual; nothing is before enough is known.
    fn is_slow(&mut self, time: u64) -> bool {
        if self.times.len() < REMEMBERED {
            self.times.push(time);
        } else {
            self.times[self.next] = time;
        }
        self.next = (self.next + 1) % REMEMBERED;
        if self.next == 0 {
            let mut sorted = self.times.clone();
            sorted.sort_unstable();
            self.median = Some(sorted[sorted.len() / 2]);
        }
        self.median.is_some_and(|median| time > median * SLOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_last_looks_is_usual() {
        let mut usual = Usual::default();
        assert!((0..REMEMBERED).all(|_| !usual.is_slow(10)));
        assert!(!usual.is_slow(20));
        assert!(usual.is_slow(21));
        // The machine has become another one.
        for _ in 0..2 * REMEMBERED {
            usual.is_slow(30);
        }
        assert!(!usual.is_slow(60));
        assert!(usual.is_slow(61));
    }

    #[test]
    fn the_thread_ends_with_its_pulse() {
        let pulse = Pulse::start(|| 0);
        let weak = Arc::downgrade(&pulse);
        while pulse.looks().0 == 0 {
            std::thread::sleep(BEAT);
        }
        assert!(pulse.is_steady(u64::MAX));
        drop(pulse);
        while weak.upgrade().is_some() {
            std::thread::sleep(BEAT);
        }
    }
}
