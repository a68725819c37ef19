//! Limits how often one kind of event is logged: a misbehaving peer must not fill the disk with warnings.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Lines of one kind per second; more say nothing new.
const LINES_PER_SECOND: u64 = 5;

/// A budget of log lines per second, with a count of what was left out.
pub(crate) struct LogLimit {
    second: AtomicU64,
    used: AtomicU64,
    skipped: AtomicU64,
}

impl LogLimit {
    pub(crate) const fn new() -> Self {
        Self {
            second: AtomicU64::new(0),
            used: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        }
    }

    /// `Some(lines left out since the last one)` when a line may be written at `now_ms`.
    pub(crate) fn allow(&self, now_ms: u64) -> Option<u64> {
        let second = now_ms / 1000 + 1;
        if self.second.swap(second, Relaxed) != second {
            self.used.store(0, Relaxed);
        }
        if self.used.fetch_add(1, Relaxed) < LINES_PER_SECOND {
            Some(self.skipped.swap(0, Relaxed))
        } else {
            self.skipped.fetch_add(1, Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LogLimit;

    #[test]
    fn lines_beyond_the_budget_are_counted() {
        let limit = LogLimit::new();
        let written = (0..12).filter(|_| limit.allow(500).is_some()).count();
        assert_eq!(written, 5);
        assert_eq!(limit.allow(1500), Some(7));
    }
}
