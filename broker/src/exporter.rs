//! `/metrics`: counters that are kept, and gauges that are read at every scrape.
//!
//! Messages and bytes are counted by topic, and by topic and group on their way out, as RocketMQ does; names of topics and
//! groups come from clients, so the number of series is bounded. Gauges go into a recorder of their own at every
//! scrape: what is gone leaves no series behind. Both recorders belong to this broker: a process may hold several.

use std::collections::HashMap;
use std::sync::Arc;

use metrics::{Counter, Label, counter, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use parking_lot::RwLock;

use crate::broker::Broker;
use crate::config::{Config, MetricsExporter};
use crate::names::{self, RETRY_PREFIX};
use crate::timer::blocking;
use crate::{client_gauges, raft_gauges, storage_gauges};

/// Series of one metric; what comes later is counted under [`OTHERS`].
pub const MAX_SERIES: usize = 10_000;

/// No topic or group can have this name.
const OTHERS: &str = "*";

/// See the module's text.
pub struct Exporter {
    recorder: PrometheusRecorder,
    config: Config,
    stored: Flows,
    pulled: Flows,
    scraping: tokio::sync::Mutex<()>,
}

impl Exporter {
    /// `None` unless `metricsExporterType=PROM`.
    pub fn new(config: &Config) -> Option<Self> {
        (config.metrics_exporter == MetricsExporter::Prom).then(|| Self {
            recorder: recorder(config),
            config: config.clone(),
            stored: Flows::default(),
            pulled: Flows::default(),
            scraping: Default::default(),
        })
    }

    /// Runs `make`; the counters it makes are shown.
    pub fn register<T>(&self, make: impl FnOnce() -> T) -> T {
        with_local_recorder(&self.recorder, make)
    }

    /// Messages of clients that were stored.
    pub fn stored(&self, topic: &str, messages: u64, bytes: u64) {
        let flow = self.stored.get(topic, |kept| {
            let topic = if kept { topic } else { OTHERS };
            self.register(|| Flow::new("in", topic_labels(&self.config, topic)))
        });
        flow.add(messages, bytes);
    }

    /// Messages that were sent to consumers.
    pub fn pulled(&self, topic: &str, group: &str, messages: u64, bytes: u64) {
        let flow = self.pulled.get(&format!("{topic}\0{group}"), |kept| {
            let (topic, group) = if kept {
                (topic, group)
            } else {
                (OTHERS, OTHERS)
            };
            self.register(|| Flow::new("out", consumer_labels(&self.config, topic, group)))
        });
        flow.add(messages, bytes);
    }
}

/// Everything in Prometheus' text format; `None` when it is not wanted. One scrape at a time.
pub async fn render(broker: &Arc<Broker>) -> Option<String> {
    let exporter = broker.stats.exporter.as_ref()?;
    let _one_at_a_time = exporter.scraping.lock().await;
    let set = broker.standing.get(broker).await;
    let shared = broker.clone();
    let gauges = blocking(move || {
        let gauges = recorder(&shared.config());
        with_local_recorder(&gauges, || {
            client_gauges::observe(&shared);
            storage_gauges::observe(&shared);
            raft_gauges::observe(&shared, &set);
        });
        gauges.handle().render()
    });
    Some(exporter.recorder.handle().render() + &gauges.await?)
}

fn recorder(config: &Config) -> PrometheusRecorder {
    PrometheusBuilder::new()
        .add_global_label("cluster", config.cluster.clone())
        .add_global_label("node_type", "broker")
        .add_global_label("node_id", config.name.clone())
        .build_recorder()
}

/// `topic`, `is_system`
fn topic_labels(config: &Config, topic: &str) -> Vec<Label> {
    let system = names::is_system_topic(config, topic);
    vec![
        Label::new("topic", topic.to_owned()),
        Label::new("is_system", system.to_string()),
    ]
}

/// `topic`, `consumer_group`, `is_retry`, `is_system`
pub fn consumer_labels(config: &Config, topic: &str, group: &str) -> Vec<Label> {
    let system = names::is_system_topic(config, topic) || names::is_system_group(group);
    vec![
        Label::new("topic", topic.to_owned()),
        Label::new("consumer_group", group.to_owned()),
        Label::new("is_retry", topic.starts_with(RETRY_PREFIX).to_string()),
        Label::new("is_system", system.to_string()),
    ]
}

#[derive(Clone)]
struct Flow {
    messages: Counter,
    bytes: Counter,
}

impl Flow {
    fn new(way: &str, labels: Vec<Label>) -> Self {
        Self {
            messages: counter!(format!("rocketmq_messages_{way}_total"), labels.clone()),
            bytes: counter!(format!("rocketmq_throughput_{way}_total"), labels),
        }
    }

    fn add(&self, messages: u64, bytes: u64) {
        self.messages.increment(messages);
        self.bytes.increment(bytes);
    }
}

/// Counters by name, at most [`MAX_SERIES`] and one for all others.
#[derive(Default)]
struct Flows(RwLock<HashMap<String, Flow>>);

impl Flows {
    /// `make` is told whether the name has a series of its own.
    fn get(&self, name: &str, make: impl FnOnce(bool) -> Flow) -> Flow {
        let known = |flows: &HashMap<String, Flow>| {
            let full = flows.len() >= MAX_SERIES;
            let found = flows.get(name);
            found
                .or_else(|| flows.get(OTHERS).filter(|_| full))
                .cloned()
        };
        if let Some(flow) = known(&self.0.read()) {
            return flow;
        }
        let mut flows = self.0.write();
        if let Some(flow) = known(&flows) {
            return flow;
        }
        let kept = flows.len() < MAX_SERIES;
        let name = if kept { name } else { OTHERS };
        flows
            .entry(name.to_owned())
            .or_insert_with(|| make(kept))
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_topic_up_to_a_bound() {
        let config = Config {
            metrics_exporter: MetricsExporter::Prom,
            ..Config::default()
        };
        let exporter = Exporter::new(&config).expect("wanted");
        for n in 0..MAX_SERIES + 5 {
            exporter.stored(&format!("t{n}"), 1, 10);
        }
        exporter.stored("t0", 2, 20);
        let text = exporter.recorder.handle().render();
        let lines = |start: &str| text.lines().filter(|l| l.starts_with(start)).count();
        assert_eq!(lines("rocketmq_messages_in_total{"), MAX_SERIES + 1);
        let value = |topic: &str| {
            let line = text.lines().find(|l| {
                l.starts_with("rocketmq_throughput_in_total{")
                    && l.contains(&format!("topic=\"{topic}\""))
            });
            line.and_then(|l| l.rsplit(' ').next()).map(str::to_owned)
        };
        assert_eq!(value("t0").as_deref(), Some("30"));
        assert_eq!(value(OTHERS).as_deref(), Some("50"), "five topics too many");
        assert!(Exporter::new(&Config::default()).is_none());
    }
}
