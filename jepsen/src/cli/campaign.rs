//! Several runs, each in a process of its own: one that crashes, or is killed, is one that proves nothing, and no more.

use std::path::Path;

use raftmq_benches::BenchError;
use serde_json::Value;
use tokio::process::Command;

use super::test::SABOTAGE;
use crate::checker::verdict::Valid;

/// What came of a run.
pub struct Done {
    pub valid: Valid,
    /// `results.json`; null when there is none.
    pub results: Value,
}

impl Done {
    /// Of a number in the results; see [`super::count`].
    pub fn count(&self, field: &str) -> u64 {
        super::count(&self.results, field)
    }

    /// The checkers that found something.
    pub fn findings(&self) -> Vec<String> {
        let all = self.results.as_object().into_iter().flatten();
        let bad = all.filter(|(_, v)| v.get("valid?") == Some(&Value::Bool(false)));
        bad.map(|(name, _)| name.clone()).collect()
    }
}

/// Runs `test` with these arguments in `dir`.
///
/// # Errors
/// This program cannot be started again.
pub async fn test(args: &[String], sabotage: Option<&str>, dir: &Path) -> Result<Done, BenchError> {
    let own = std::env::current_exe().map_err(BenchError::io("this program"))?;
    let mut command = Command::new(&own);
    command
        .arg("test")
        .arg("--dir")
        .arg(dir)
        .args(args)
        .kill_on_drop(true);
    match sabotage {
        Some(sabotage) => command
            .args(["--sabotage", sabotage])
            .env(SABOTAGE, sabotage),
        None => command.env_remove(SABOTAGE),
    };
    let results = dir.join("results.json");
    // An earlier one is not this one's.
    let _ = std::fs::remove_file(&results);
    let status = command.status().await.map_err(BenchError::io(own))?;
    Ok(Done {
        valid: match status.code() {
            Some(0) => Valid::True,
            Some(1) => Valid::False,
            _ => Valid::Unknown,
        },
        results: read(&results),
    })
}

/// What an earlier run in `dir` came to, if it came to something.
pub fn earlier(dir: &Path) -> Option<Done> {
    let results = read(&dir.join("results.json"));
    let valid = Valid::of_json(results.get("valid?"));
    (valid != Valid::Unknown).then_some(Done { valid, results })
}

fn read(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or(Value::Null)
}
