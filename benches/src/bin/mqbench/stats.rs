//! What a run counts, and what all its tasks share.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::pulse::Pulse;
use super::report::{MAX_MICROS, histogram};

/// Errors that are told apart.
const KINDS_OF_ERRORS: usize = 32;

/// Times of one kind, µs.
pub struct Times {
    pub all: Histogram<u64>,
    /// Those taken while the processors kept their speed, see [`Pulse`].
    pub steady: Histogram<u64>,
}

impl Times {
    fn new() -> Self {
        Self {
            all: histogram(),
            steady: histogram(),
        }
    }

    /// Records `count` times of so many ns, cut to what a histogram holds.
    pub fn record(&mut self, ns: u64, count: u64, steady: bool) {
        let micros = (ns / 1000).clamp(1, MAX_MICROS);
        self.all.saturating_record_n(micros, count);
        if steady {
            self.steady.saturating_record_n(micros, count);
        }
    }

    fn drain_into(&mut self, total: &mut Self) {
        for (from, to) in [
            (&mut self.all, &mut total.all),
            (&mut self.steady, &mut total.steady),
        ] {
            // They have the same bounds.
            let _ = to.add(&*from);
            from.reset();
        }
    }
}

/// Counts since some moment.
pub struct Stats {
    /// Messages that were acknowledged, or oneway ones that were written.
    pub sent: u64,
    pub consumed: u64,
    /// In the bodies of what was consumed.
    pub bytes: u64,
    /// Pulls that brought messages.
    pub pulls: u64,
    /// Of messages, µs from when they were due.
    pub send: Times,
    /// Of pulls that brought messages, µs.
    pub pull: Times,
    /// Of messages, µs from when they were due until they arrived.
    pub end_to_end: Times,
    pub errors: BTreeMap<String, u64>,
}

impl Stats {
    pub fn new() -> Self {
        Self {
            sent: 0,
            consumed: 0,
            bytes: 0,
            pulls: 0,
            send: Times::new(),
            pull: Times::new(),
            end_to_end: Times::new(),
            errors: BTreeMap::new(),
        }
    }

    /// So many more errors of a kind.
    pub fn error(&mut self, what: &str, times: u64) {
        if times > 0 {
            let known = self.errors.contains_key(what) || self.errors.len() < KINDS_OF_ERRORS;
            let what = if known { what } else { "others" };
            *self.errors.entry(what.to_owned()).or_default() += times;
        }
    }

    /// Moves everything into `total`.
    pub fn drain_into(&mut self, total: &mut Self) {
        total.sent += std::mem::take(&mut self.sent);
        total.consumed += std::mem::take(&mut self.consumed);
        total.bytes += std::mem::take(&mut self.bytes);
        total.pulls += std::mem::take(&mut self.pulls);
        for (what, times) in std::mem::take(&mut self.errors) {
            *total.errors.entry(what).or_default() += times;
        }
        self.send.drain_into(&mut total.send);
        self.pull.drain_into(&mut total.pull);
        self.end_to_end.drain_into(&mut total.end_to_end);
    }
}

/// One run.
pub struct Shared {
    epoch: Instant,
    pub pulse: Arc<Pulse>,
    /// In the messages of this run.
    pub run_id: u64,
    /// Since somebody last took them.
    pub stats: Mutex<Stats>,
    /// No more requests.
    pub stop: AtomicBool,
    /// Requests a clock started and nobody answered yet.
    pub under_way: AtomicUsize,
    /// Connections that are open.
    pub connected: AtomicUsize,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

impl Shared {
    pub fn new(timeout: Duration) -> Self {
        let epoch = Instant::now();
        Self {
            pulse: Pulse::start(move || nanos_since(epoch)),
            epoch,
            run_id: RandomState::new().hash_one(std::process::id()),
            stats: Mutex::new(Stats::new()),
            stop: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            connected: AtomicUsize::new(0),
            timeout,
        }
    }

    /// ns since the run began.
    pub fn now(&self) -> u64 {
        nanos_since(self.epoch)
    }
}

fn nanos_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
