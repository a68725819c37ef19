//! Several runs, each in a process of its own: one that crashes, or is killed, is one that proves nothing, and no more.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::checker::verdict::Valid;

/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// For a run to end its servers and to undo its mounts.
const GRACE: Duration = Duration::from_secs(30);

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
pub async fn test(args: &[String], dir: &Path) -> Result<Done, BenchError> {
    let own = std::env::current_exe().map_err(BenchError::io("this program"))?;
    let mut command = Command::new(&own);
    command.arg("test").arg("--dir").arg(dir).args(args);
    let results = dir.join("results.json");
    // An earlier one is not this one's.
    let _ = std::fs::remove_file(&results);
    Ok(Done {
        valid: run(command).await?,
        results: read(&results),
    })
}

async fn run(mut command: Command) -> Result<Valid, BenchError> {
    let child = command.spawn();
    let mut child = Run(child.map_err(BenchError::io("this program, started again"))?);
    loop {
        let status = child.0.try_wait();
        match status.map_err(BenchError::io("a run"))?.map(|s| s.code()) {
            None => tokio::time::sleep(LOOK_EVERY).await,
            Some(Some(0)) => return Ok(Valid::True),
            Some(Some(1)) => return Ok(Valid::False),
            Some(_) => return Ok(Valid::Unknown),
        }
    }
}

/// A run in a process of its own, which is asked to end when nobody waits for it any more, so that it leaves nothing behind.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + GRACE;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
