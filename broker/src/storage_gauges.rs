//! The store in figures, for the metrics facade: how full the disk is, where the log lies, what the background does.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Label, counter, gauge};

use crate::broker::Broker;
use crate::config::Config;
use crate::retention::used_percent;

/// See the module's text.
pub struct StorageGauges {
    disk_used: Gauge,
    disk_full: Gauge,
    /// RocketMQ's name.
    storage_size: Gauge,
    log_start: Gauge,
    log_end: Gauge,
    damaged: Gauge,
    scrub_position: Gauge,
    scrubbed_bytes: Counter,
    scrub_passes: Counter,
    repaired_queues: Counter,
    repaired_indexes: Counter,
}

impl StorageGauges {
    pub fn new(config: &Config) -> Self {
        let labels = || {
            vec![
                Label::new("cluster", config.cluster.clone()),
                Label::new("node_id", config.name.clone()),
            ]
        };
        Self {
            disk_used: gauge!("raftmq_disk_used_ratio", labels()),
            disk_full: gauge!("raftmq_disk_full", labels()),
            storage_size: gauge!("rocketmq_storage_size", labels()),
            log_start: gauge!("raftmq_log_start_position", labels()),
            log_end: gauge!("raftmq_log_end_position", labels()),
            damaged: gauge!("raftmq_log_damaged_ranges", labels()),
            scrub_position: gauge!("raftmq_scrub_position", labels()),
            scrubbed_bytes: counter!("raftmq_scrubbed_bytes_total", labels()),
            scrub_passes: counter!("raftmq_scrub_passes_total", labels()),
            repaired_queues: counter!("raftmq_repaired_queues_total", labels()),
            repaired_indexes: counter!("raftmq_repaired_indexes_total", labels()),
        }
    }

    /// Sets all of them.
    pub fn observe(&self, broker: &Broker) {
        let replica = &broker.replica;
        if let Some(space) = broker.retention.space() {
            self.disk_used.set(used_percent(space) / 100.0);
        }
        self.disk_full
            .set(if replica.is_full() { 1.0 } else { 0.0 });
        let (start, end) = replica.log_range();
        self.storage_size.set(end.saturating_sub(start) as f64);
        self.log_start.set(start as f64);
        self.log_end.set(end as f64);
        self.damaged.set(replica.damaged_ranges() as f64);
        let Some(progress) = replica.housekeeping() else {
            return;
        };
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        self.scrub_position
            .set(read(&progress.scrub_position) as f64);
        self.scrubbed_bytes.absolute(read(&progress.scrubbed_bytes));
        self.scrub_passes.absolute(read(&progress.scrub_passes));
        self.repaired_queues
            .absolute(read(&progress.repaired_queues));
        self.repaired_indexes
            .absolute(read(&progress.repaired_indexes));
    }
}
