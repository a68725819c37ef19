//! What a consumer got is in the log at the end, at the same offset. Otherwise it was shown what was not committed.

use serde_json::json;

use super::final_log::FinalLog;
use super::verdict::{Anomalies, Verdict};
use crate::ops::Ops;
use crate::settings::Settings;

/// See the module.
pub fn check(ops: &Ops, log: &FinalLog, settings: &Settings) -> Verdict {
    if !log.is_complete(&ops.queues()) {
        return Verdict::unknown("not every queue was read to its end");
    }
    let mut found = Anomalies::default();
    for poll in ops.polls.iter().filter(|p| !p.last) {
        for (offset, value) in ops.found(poll) {
            let trimmed = settings.trims && log.is_trimmed(poll.queue, *offset);
            if log.at(poll.queue, *offset) != Some(*value) && !trimmed {
                let ms = poll.span.completed / 1_000_000;
                found.add("consumed-then-lost", || {
                    json!({"q": poll.queue, "offset": offset, "v": value, "via": poll.via, "ms": ms})
                });
            }
        }
    }
    let allowed = settings.committed_may_be_lost();
    let names: &[&str] = if allowed {
        &["consumed-then-lost"]
    } else {
        &[]
    };
    let lost = found.count("consumed-then-lost");
    found
        .verdict(names)
        .with("lost-count", lost)
        .with("loss-allowed", allowed)
}
