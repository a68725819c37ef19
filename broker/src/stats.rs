//! Counters: for the metrics facade under RocketMQ 5's names, and for GET_BROKER_RUNTIME_INFO.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::{Counter, counter};
use parking_lot::Mutex;

use crate::broker::{Broker, now_ms};
use crate::config::Config;
use crate::exporter::Exporter;
use crate::item_stats::ItemStats;
use crate::latency::Latency;
use crate::names;

/// Distance of two samples; RocketMQ's shortest window.
pub const SAMPLE: Duration = Duration::from_secs(10);

/// In samples.
const MINUTE: u64 = 6;

/// Samples kept: ten minutes and one.
const SAMPLES: usize = 61;

const DAY_MS: i64 = 86_400_000;

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub put: u64,
    pub put_bytes: u64,
    pub get_found: u64,
    pub get_missed: u64,
    pub got: u64,
    pub got_bytes: u64,
    /// Messages that were stored to be delivered later, and those that were.
    pub timers_in: u64,
    pub timers_out: u64,
}

#[derive(Default)]
struct History {
    samples: VecDeque<(Instant, Totals)>,
    day: i64,
    this_morning: Totals,
    yesterday_morning: Totals,
}

/// Something that takes a while to count.
#[derive(Default)]
struct Counted {
    count: u64,
    at: Option<Instant>,
    took: Duration,
}

impl Counted {
    fn now(count: u64, began: Instant) -> Self {
        Self {
            count,
            at: Some(Instant::now()),
            took: began.elapsed(),
        }
    }

    /// Counting may take a hundredth of the time.
    fn is_good(&self) -> bool {
        self.at.is_some_and(|at| at.elapsed() < 100 * self.took)
    }
}

/// See the module's text.
pub struct Stats {
    get_missed: AtomicU64,
    put_failed: AtomicU64,
    /// By topic and group.
    pub items: ItemStats,
    /// Of sends.
    pub put_latency: Latency,
    /// Of pulls that found messages, the time to read them.
    pub get_latency: Latency,
    history: Mutex<History>,
    pub boot_ms: i64,
    booted: Instant,
    /// Bytes of the newest messages that are expected to be in memory.
    memory_bytes: AtomicI64,
    to_dlq: Counter,
    sent_back: Counter,
    timers_delivered: Counter,
    timers_in: AtomicU64,
    timers_out: AtomicU64,
    pending_timers: Mutex<Counted>,
    pub forwarded: Counter,
    pub send_busy: Counter,
    pub elections_won: Counter,
    pub leader_changes: Counter,
    /// Where the counters are shown, if anywhere.
    pub exporter: Option<Exporter>,
}

impl Stats {
    pub fn new(config: &Config) -> Self {
        let exporter = Exporter::new(config);
        let make = || Self::counting(config);
        let stats = match &exporter {
            Some(exporter) => exporter.register(make),
            None => make(),
        };
        Self { exporter, ..stats }
    }

    fn counting(config: &Config) -> Self {
        Self {
            get_missed: AtomicU64::new(0),
            put_failed: AtomicU64::new(0),
            items: ItemStats::default(),
            put_latency: Latency::default(),
            get_latency: Latency::default(),
            history: Mutex::new(History {
                day: now_ms() / DAY_MS,
                ..History::default()
            }),
            boot_ms: now_ms(),
            booted: Instant::now(),
            memory_bytes: AtomicI64::new(memory_bytes(config.memory_ratio)),
            to_dlq: counter!("rocketmq_send_to_dlq_messages_total"),
            sent_back: counter!("raftmq_send_back_messages_total"),
            timers_delivered: counter!("rocketmq_timer_dequeue_total"),
            timers_in: AtomicU64::new(0),
            timers_out: AtomicU64::new(0),
            pending_timers: Mutex::default(),
            forwarded: counter!("raftmq_forwarded_requests_total"),
            send_busy: counter!("raftmq_send_busy_total"),
            elections_won: counter!("raftmq_raft_elections_won_total"),
            leader_changes: counter!("raftmq_raft_leader_changes_total"),
            exporter: None,
        }
    }

    /// Messages of clients that were stored and acknowledged.
    pub fn stored(&self, topic: &str, messages: u64, bytes: u64) {
        self.items.stored(topic, messages, bytes);
        if let Some(exporter) = &self.exporter {
            exporter.stored(topic, messages, bytes);
        }
    }

    /// A pull that found messages.
    pub fn pulled(&self, topic: &str, group: &str, messages: u64, bytes: u64) {
        self.items.pulled(topic, group, messages, bytes);
        if let Some(exporter) = &self.exporter {
            exporter.pulled(topic, group, messages, bytes);
        }
    }

    /// A pull that found nothing.
    pub fn missed(&self) {
        self.get_missed.fetch_add(1, Ordering::Relaxed);
    }

    /// A send that could not be stored.
    pub fn put_failed(&self) {
        self.put_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn puts_failed(&self) -> u64 {
        self.put_failed.load(Ordering::Relaxed)
    }

    /// A message of `topic` given back by a consumer.
    pub fn sent_back(&self, topic: &str, group: &str, dead: bool) {
        self.items.sent_back(topic, group);
        if dead {
            self.to_dlq.increment(1)
        } else {
            self.sent_back.increment(1)
        }
    }

    /// Timers whose messages were delivered.
    pub fn timers_delivered(&self, count: u64) {
        self.timers_delivered.increment(count);
        self.timers_out.fetch_add(count, Ordering::Relaxed);
    }

    /// Pending timers, counted now or a moment ago. May read all of them: not for async threads.
    pub fn pending_timers(&self, broker: &Broker) -> u64 {
        let mut last = self.pending_timers.lock();
        if !last.is_good() {
            let began = Instant::now();
            match broker.state().timers().count() {
                Ok(count) => *last = Counted::now(count, began),
                Err(e) => tracing::error!(error = %e, "pending timers cannot be counted"),
            }
        }
        last.count
    }

    /// Takes note of how many timers were stored.
    pub fn look_at_timers(&self, broker: &Broker) {
        let queues = |topic: &'static str| {
            let config = broker.state().topic(topic);
            let count = config.map_or(0, |topic| topic.write_queue_nums);
            (0..count).map(move |queue| broker.replica.queue_range(topic, queue))
        };
        let ends = queues(names::SCHEDULE).chain(queues(names::WHEEL_TIMER));
        let stored: i64 = ends.flatten().map(|(_, end)| end).sum();
        self.timers_in.store(stored as u64, Ordering::Relaxed);
    }

    /// Totals since the start.
    pub fn totals(&self) -> Totals {
        let (put, put_bytes) = self.items.total_stored();
        let (got, got_bytes, get_found) = self.items.total_pulled();
        Totals {
            put,
            put_bytes,
            get_found,
            get_missed: self.get_missed.load(Ordering::Relaxed),
            got,
            got_bytes,
            timers_in: self.timers_in.load(Ordering::Relaxed),
            timers_out: self.timers_out.load(Ordering::Relaxed),
        }
    }

    /// Totals at the last two midnights (UTC): yesterday's and today's.
    pub fn mornings(&self) -> (Totals, Totals) {
        let history = self.history.lock();
        (history.yesterday_morning, history.this_morning)
    }

    /// A rate over the last 10, 60 and 600 s, as RocketMQ prints it.
    pub fn rates(&self, of: impl Fn(&Totals) -> u64) -> String {
        let history = self.history.lock();
        let now = (Instant::now(), self.totals());
        let rate = |seconds: u64| {
            let back = (seconds / SAMPLE.as_secs()) as usize;
            let from = history
                .samples
                .len()
                .checked_sub(back)
                .and_then(|i| history.samples.get(i));
            let from = from.or_else(|| history.samples.front());
            from.map_or(0.0, |(at, totals)| {
                let seconds = now.0.duration_since(*at).as_secs_f64();
                if seconds < 0.001 {
                    0.0
                } else {
                    of(&now.1).saturating_sub(of(totals)) as f64 / seconds
                }
            })
        };
        format!("{} {} {}", rate(10), rate(60), rate(600))
    }

    /// `topic` and `group` say which are there.
    fn sample(&self, topic: impl Fn(&str) -> bool, group: impl Fn(&str) -> bool) {
        if let Some(exporter) = &self.exporter {
            exporter.forget(&topic, &group);
        }
        let totals = self.totals();
        let mut history = self.history.lock();
        let day = now_ms() / DAY_MS;
        if day != history.day {
            history.day = day;
            history.yesterday_morning = history.this_morning;
            history.this_morning = totals;
        }
        if history.samples.len() == SAMPLES {
            history.samples.pop_front();
        }
        history.samples.push_back((Instant::now(), totals));
        drop(history);
        self.items.look(topic, group);
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.booted.elapsed()
    }

    /// Whether so much was written after a position that it has likely left this machine's memory.
    pub fn is_far_behind(&self, broker: &Broker, physical_offset: i64) -> bool {
        let behind = broker.replica.log_range().1 - physical_offset;
        behind > self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Takes another number of bytes for what stays in memory: for tests, whose messages all do.
    pub fn set_memory_bytes(&self, bytes: i64) {
        self.memory_bytes.store(bytes, Ordering::Relaxed);
    }
}

fn memory_bytes(percent: u64) -> i64 {
    let info = rustix::system::sysinfo();
    let total = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
    i64::try_from(total / 100 * percent).unwrap_or(i64::MAX)
}

/// Takes samples; for the life of the broker.
pub async fn run(broker: Arc<Broker>) {
    let mut tick = tokio::time::interval(SAMPLE);
    for number in 0_u64.. {
        tick.tick().await;
        broker.stats.look_at_timers(&broker);
        let state = broker.state();
        let topic = |name: &str| state.topic(name).is_some();
        // Its creation may be on its way.
        let group =
            |name: &str| state.group(name).is_some() || broker.creations.group_pending(name);
        broker.stats.sample(topic, group);
        if number.is_multiple_of(MINUTE) {
            broker.stats.put_latency.next_minute();
            broker.stats.get_latency.next_minute();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let stats = Stats::new(&Config::default());
        stats.sample(|_| true, |_| true);
        stats.stored("T", 3, 300);
        stats.pulled("T", "G", 2, 200);
        stats.missed();
        let totals = stats.totals();
        assert_eq!(
            (
                totals.put,
                totals.put_bytes,
                totals.got,
                totals.get_found,
                totals.get_missed
            ),
            (3, 300, 2, 1, 1)
        );
        assert_eq!(stats.rates(|t| t.put).split(' ').count(), 3);
        assert!(stats.memory_bytes.load(Ordering::Relaxed) > 0);
    }
}
