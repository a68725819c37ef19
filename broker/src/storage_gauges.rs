//! The store in figures: how full the disk is, where the log lies, what the background does.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{counter, gauge};

use crate::broker::Broker;
use crate::retention::used_percent;

/// Sets all of them in the recorder of this scrape.
pub fn observe(broker: &Broker) {
    let replica = &broker.replica;
    if let Some(space) = broker.retention.space() {
        gauge!("raftmq_disk_used_ratio").set(used_percent(space) / 100.0);
    }
    gauge!("raftmq_disk_full").set(f64::from(u8::from(replica.is_full())));
    let (start, end) = replica.log_range();
    let labels = [("storage_type", "local"), ("storage_medium", "disk")];
    gauge!("rocketmq_storage_size", &labels).set(end.saturating_sub(start) as f64);
    gauge!("raftmq_log_start_position").set(start as f64);
    gauge!("raftmq_log_end_position").set(end as f64);
    gauge!("raftmq_log_damaged_ranges").set(replica.damaged_ranges() as f64);
    counter!("raftmq_records_left_out_total").absolute(replica.left_out());
    gauge!("raftmq_metadata_rows_set_aside").set(broker.state().set_aside() as f64);
    gauge!("raftmq_set_version").set(f64::from(broker.state().set_version()));
    let Some(progress) = replica.housekeeping() else {
        return;
    };
    let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
    gauge!("raftmq_scrub_position").set(read(&progress.scrub_position) as f64);
    counter!("raftmq_scrubbed_bytes_total").absolute(read(&progress.scrubbed_bytes));
    counter!("raftmq_scrub_passes_total").absolute(read(&progress.scrub_passes));
    counter!("raftmq_repaired_queues_total").absolute(read(&progress.repaired_queues));
    counter!("raftmq_repaired_indexes_total").absolute(read(&progress.repaired_indexes));
}
