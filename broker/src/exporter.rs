//! `/metrics`: counters that are kept, and gauges that are read at every scrape.
//!
//! Messages and bytes are counted by topic, and by topic and group on their way out, as RocketMQ does; names of topics and
//! groups come from clients, so the number of series is bounded. They, and gauges, go into a recorder of their own at every
//! scrape: what is gone leaves no series behind. The recorders belong to this broker: a process may hold several.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Label, counter, with_local_recorder};
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
        self.stored.get(topic).add(messages, bytes);
    }

    /// Messages that were sent to consumers.
    pub fn pulled(&self, topic: &str, group: &str, messages: u64, bytes: u64) {
        let flow = self.pulled.get(&format!("{topic}\0{group}"));
        flow.add(messages, bytes);
    }

    /// Forgets what has no name any more: `topic` and `group` say which are there.
    pub fn forget(&self, topic: impl Fn(&str) -> bool, group: impl Fn(&str) -> bool) {
        self.stored.retain(&topic);
        self.pulled.retain(|key| {
            let (t, g) = key.split_once('\0').unwrap_or((key, ""));
            topic(t) && group(g)
        });
    }

    /// Sets the counters by name in the recorder of this scrape.
    fn observe(&self) {
        self.stored.each(|topic, flow| {
            flow.show("in", topic_labels(&self.config, topic));
        });
        self.pulled.each(|key, flow| {
            let (topic, group) = key.split_once('\0').unwrap_or((key, key));
            flow.show("out", consumer_labels(&self.config, topic, group));
        });
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
            if let Some(exporter) = &shared.stats.exporter {
                exporter.observe();
            }
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

#[derive(Default)]
struct Flow {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Flow {
    fn add(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn show(&self, way: &str, labels: Vec<Label>) {
        let messages = counter!(format!("rocketmq_messages_{way}_total"), labels.clone());
        messages.absolute(self.messages.load(Ordering::Relaxed));
        let bytes = counter!(format!("rocketmq_throughput_{way}_total"), labels);
        bytes.absolute(self.bytes.load(Ordering::Relaxed));
    }
}

/// Counters by name, at most [`MAX_SERIES`] and one for all others.
#[derive(Default)]
struct Flows(RwLock<HashMap<String, Arc<Flow>>>);

impl Flows {
    fn get(&self, name: &str) -> Arc<Flow> {
        let known = |flows: &HashMap<String, Arc<Flow>>| {
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
        flows.entry(name.to_owned()).or_default().clone()
    }

    fn retain(&self, keep: impl Fn(&str) -> bool) {
        let mut flows = self.0.write();
        flows.retain(|name, _| name == OTHERS || keep(name));
    }

    fn each(&self, show: impl Fn(&str, &Flow)) {
        let flows = self.0.read();
        flows.iter().for_each(|(name, flow)| show(name, flow));
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
        let shown = || {
            let recorder = recorder(&config);
            with_local_recorder(&recorder, || exporter.observe());
            recorder.handle().render()
        };
        let text = shown();
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
        exporter.pulled("t0", "g", 1, 10);
        exporter.forget(|topic| topic == "t0", |group| group != "g");
        exporter.stored("new", 1, 10);
        let text = shown();
        let lines = |start: &str| text.lines().filter(|l| l.starts_with(start)).count();
        assert_eq!(lines("rocketmq_messages_in_total{"), 3, "t0, new, others");
        assert_eq!(lines("rocketmq_messages_out_total{"), 0);
        assert!(Exporter::new(&Config::default()).is_none());
    }
}
