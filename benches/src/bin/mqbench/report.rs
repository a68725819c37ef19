//! The result of a run, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use hdrhistogram::Histogram;
use raftmq_benches::proc_stat::Usage;
use serde::Serialize;

use super::stats::Stats;

/// Longest time a histogram holds, µs; longer ones count as this.
pub const MAX_MICROS: u64 = 60_000_000;

/// A histogram of microseconds with three digits.
pub fn histogram() -> Histogram<u64> {
    // Fails only for bounds or digits out of range, and these are not.
    Histogram::new_with_bounds(1, MAX_MICROS, 3).unwrap_or_else(|e| unreachable!("{e}"))
}

/// What the servers and this program spent.
#[derive(Clone, Copy)]
pub struct Spent {
    pub servers_before: Usage,
    pub servers_after: Usage,
    pub own: Duration,
}

/// Times in µs.
#[derive(Debug, Serialize)]
pub struct Latency {
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

impl From<&Histogram<u64>> for Latency {
    fn from(h: &Histogram<u64>) -> Self {
        Self {
            mean: h.mean(),
            p50: h.value_at_quantile(0.5),
            p90: h.value_at_quantile(0.9),
            p99: h.value_at_quantile(0.99),
            p999: h.value_at_quantile(0.999),
            max: h.max(),
        }
    }
}

/// Of the processes of `--pids`.
#[derive(Debug, Serialize)]
pub struct Servers {
    pub cpu_us_per_message: f64,
    pub rss_before_bytes: u64,
    pub rss_after_bytes: u64,
}

/// Everything a run found out.
#[derive(Debug, Serialize)]
pub struct Report {
    pub mode: &'static str,
    pub topic: String,
    pub seconds: f64,
    /// Sent and answered with success, or consumed.
    pub messages: u64,
    pub messages_per_second: f64,
    pub megabytes_per_second: f64,
    /// Of a send, or of a pull.
    pub latency_us: Latency,
    /// The same while the processors kept their speed.
    pub steady_latency_us: Latency,
    /// From when a message was due until a consumer had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_to_end_us: Option<Latency>,
    /// The same while the processors kept their speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steady_end_to_end_us: Option<Latency>,
    /// Part of the time, from 0 to 1, in which the processors were slower than half their usual speed.
    pub machine_slow_share: f64,
    /// By all groups together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumed_per_second: Option<f64>,
    /// Pulls that brought messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pulls_per_second: Option<f64>,
    /// How often what went wrong, by response code or name.
    pub errors: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<Servers>,
    pub own_cpu_us_per_message: f64,
    /// Of all processors, from 0 to 1.
    pub own_cpu_share: f64,
}

/// What a run counted.
pub struct Counted {
    pub mode: &'static str,
    pub topic: String,
    pub time: Duration,
    pub messages: u64,
    pub bytes: u64,
    pub total: Stats,
    pub spent: Spent,
    pub slow_share: f64,
    /// Whether there are `--pids`.
    pub with_servers: bool,
}

impl From<Counted> for Report {
    fn from(c: Counted) -> Self {
        let seconds = c.time.as_secs_f64();
        let each = |time: Duration| time.as_secs_f64() * 1e6 / (c.messages.max(1) as f64);
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let pulled = c.mode != "produce";
        let times = match c.mode {
            "consume" => &c.total.pull,
            _ => &c.total.send,
        };
        let end_to_end = (c.mode == "end-to-end").then_some(&c.total.end_to_end);
        let (before, after) = (c.spent.servers_before, c.spent.servers_after);
        Self {
            mode: c.mode,
            seconds,
            messages: c.messages,
            messages_per_second: c.messages as f64 / seconds,
            megabytes_per_second: c.bytes as f64 / 1e6 / seconds,
            latency_us: (&times.all).into(),
            steady_latency_us: (&times.steady).into(),
            end_to_end_us: end_to_end.map(|t| (&t.all).into()),
            steady_end_to_end_us: end_to_end.map(|t| (&t.steady).into()),
            machine_slow_share: c.slow_share,
            consumed_per_second: pulled.then(|| c.total.consumed as f64 / seconds),
            pulls_per_second: pulled.then(|| c.total.pulls as f64 / seconds),
            servers: c.with_servers.then(|| Servers {
                cpu_us_per_message: each(after.cpu.saturating_sub(before.cpu)),
                rss_before_bytes: before.rss,
                rss_after_bytes: after.rss,
            }),
            own_cpu_us_per_message: each(c.spent.own),
            own_cpu_share: c.spent.own.as_secs_f64() / (seconds * processors as f64),
            topic: c.topic,
            errors: c.total.errors,
        }
    }
}

impl Report {
    pub fn to_json(&self) -> String {
        // Fails only for maps whose keys are no strings.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = if self.mode == "consume" {
            "consumed"
        } else {
            "sent"
        };
        writeln!(
            f,
            "{} messages {doing} in {:.2} s: {:.0} a second, {:.1} MB/s",
            self.messages, self.seconds, self.messages_per_second, self.megabytes_per_second
        )?;
        let mut tell = |what: &str, l: &Latency| {
            writeln!(
                f,
                "{what} µs: mean {:.0}, 50 % {}, 90 % {}, 99 % {}, 99.9 % {}, max {}",
                l.mean, l.p50, l.p90, l.p99, l.p999, l.max
            )
        };
        tell("latency", &self.latency_us)?;
        if let Some(end_to_end) = &self.end_to_end_us {
            tell("end to end", end_to_end)?;
        }
        if self.machine_slow_share > 0.0 {
            tell(
                "while the machine was steady, latency",
                &self.steady_latency_us,
            )?;
            if let Some(end_to_end) = &self.steady_end_to_end_us {
                tell("while the machine was steady, end to end", end_to_end)?;
            }
            let percent = self.machine_slow_share * 100.0;
            writeln!(f, "the processors were slow {percent:.1} % of the time")?;
        }
        if let (Some(consumed), Some(pulls)) = (self.consumed_per_second, self.pulls_per_second) {
            writeln!(f, "{consumed:.0} consumed a second, with {pulls:.0} pulls")?;
        }
        if let Some(s) = &self.servers {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            writeln!(
                f,
                "servers: {:.1} µs of CPU a message, {:.0} MiB before, {:.0} MiB after",
                s.cpu_us_per_message,
                mib(s.rss_before_bytes),
                mib(s.rss_after_bytes)
            )?;
        }
        writeln!(
            f,
            "this program: {:.1} µs of CPU a message, {:.0} % of the processors",
            self.own_cpu_us_per_message,
            self.own_cpu_share * 100.0
        )?;
        for (what, times) in &self.errors {
            writeln!(f, "error {what}: {times} times")?;
        }
        Ok(())
    }
}
