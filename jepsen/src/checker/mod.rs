//! What a run shows. Each checker is a function of the history ([`crate::ops`]), or of the files that are left; together they are
//! the results. A run is valid when every one of them says so; one that cannot tell leaves it undecided.

pub mod consumed_then_lost;
pub mod coverage;
pub mod delay;
pub mod final_log;
mod log_files;
pub mod log_linear;
pub mod max_offset;
pub mod offset_regression;
pub mod order;
pub mod panics;
pub mod recovery;
pub mod register;
pub mod replicas;
pub mod retry;
#[cfg(test)]
mod tests;
pub mod total_queue;
pub mod verdict;
pub mod wgl;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use self::final_log::FinalLog;
use self::verdict::{Valid, Verdict};
use crate::ops::Ops;
use crate::settings::Settings;
use crate::workload::Workload;

/// What is judged.
pub struct Evidence<'a> {
    pub ops: &'a Ops,
    pub settings: &'a Settings,
    /// Log files of the servers.
    pub logs: &'a [PathBuf],
    /// What [`replicas`] said of the files when they were still there; nothing for servers it does not know.
    pub replicas: Option<Value>,
    /// Porcupine's program, or why there is none.
    pub porcupine: Result<&'a Path, &'a str>,
    /// Without porcupine nothing is valid.
    pub porcupine_required: bool,
}

/// All verdicts, and `valid?`.
pub fn check(evidence: &Evidence<'_>) -> Value {
    let Evidence { ops, settings, .. } = *evidence;
    let Some(workload) = Workload::named(&settings.workload) else {
        let why = format!("{} is no workload", settings.workload);
        return json!({"valid?": "unknown", "why": why});
    };
    let log = FinalLog::of(ops);
    let mut all: Vec<(&str, Verdict)> = vec![
        ("coverage", coverage::check(ops, settings)),
        ("panics", panics::check(evidence.logs, settings)),
        ("recovery", recovery::check(ops, settings)),
    ];
    let mut add = |name, verdict| all.push((name, verdict));
    if workload.sends() {
        // Where messages come again there are copies of them.
        let sent_to = log.up_to(settings.queues);
        add("total-queue", total_queue::check(ops, &sent_to, settings));
        add("log-linear", log_linear::check(ops, &sent_to, settings));
        add(
            "consumed-then-lost",
            consumed_then_lost::check(ops, &log, settings),
        );
        add("stale-max-offset", max_offset::check(ops, &log, settings));
    }
    match workload {
        Workload::Ordered => add("order", order::check(ops, &log)),
        Workload::Register => {
            add("register", register::check(ops));
            let (program, required) = (evidence.porcupine, evidence.porcupine_required);
            add(
                "register-porcupine",
                register::porcupine(ops, program, required),
            );
        }
        Workload::Resume => add("offset-regression", offset_regression::check(ops)),
        Workload::Delay => add("delay", delay::check(ops, &log, settings)),
        Workload::Retry => add("retry", retry::check(ops, &log, settings)),
        // A transaction that is to be committed is a send, and one that is not must not be seen.
        Workload::Log | Workload::MaxOffset | Workload::Transaction => {}
    }
    let mut valid = all
        .iter()
        .map(|(_, v)| v.valid)
        .max()
        .unwrap_or(Valid::Unknown);
    let mut results: Map<String, Value> = Map::new();
    for (name, verdict) in &all {
        results.insert((*name).to_owned(), verdict.json());
    }
    if let Some(replicas) = &evidence.replicas {
        valid = valid.max(Valid::of_json(replicas.get("valid?")));
        results.insert("replicas".to_owned(), replicas.clone());
    }
    if agree(&results) == Some(false) {
        valid = valid.max(Valid::Unknown);
        results.insert("register-disagree".to_owned(), Value::Bool(true));
    }
    let mut whole = Map::new();
    whole.insert("valid?".to_owned(), valid.json());
    whole.extend(results);
    Value::Object(whole)
}

/// Whether both opinions on registers name the same keys, if there are two.
fn agree(results: &Map<String, Value>) -> Option<bool> {
    let other = results.get("register-porcupine")?;
    (other.get("ran")? == true)
        .then(|| results.get("register").and_then(|r| r.get("failures")) == other.get("failures"))
}
