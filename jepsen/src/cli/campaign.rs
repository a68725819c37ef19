//! Several runs, each in a process of its own: one that crashes, or is killed, is one that proves nothing, and no more.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use raftmq_benches::cluster::own_bin_dir;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
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

/// What a run was made from. One made from anything else is another run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    args: Vec<String>,
    /// Size and time of the broker's program.
    broker: Option<(u64, u64)>,
}

impl Made {
    /// From these arguments, now.
    ///
    /// # Errors
    /// This program does not know where it is.
    pub fn from(args: &[String]) -> Result<Self, BenchError> {
        Ok(Self {
            args: args.to_vec(),
            broker: identity(&own_bin_dir()?.join("mqbroker")),
        })
    }
}

fn identity(program: &Path) -> Option<(u64, u64)> {
    let file = std::fs::metadata(program).ok()?;
    let since = file.modified().ok()?.duration_since(std::time::UNIX_EPOCH);
    let time = u64::try_from(since.ok()?.as_nanos()).ok()?;
    Some((file.len(), time))
}

/// Where that is written.
const MADE: &str = "made-from.json";

/// Whether there is Go, and so the second opinion on registers.
pub fn has_go() -> bool {
    let mut go = Command::new("go");
    go.arg("version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    go.status().is_ok_and(|status| status.success())
}

/// Runs `test` with these arguments in `dir`.
///
/// # Errors
/// This program cannot be started again.
pub async fn test(args: &[String], dir: &Path) -> Result<Done, BenchError> {
    let own = std::env::current_exe().map_err(BenchError::io("this program"))?;
    let mut command = Command::new(&own);
    command.arg("test").arg("--dir").arg(dir).args(args);
    // The servers are there; between two runs they stay what they are.
    command.env_remove("CARGO");
    let results = dir.join("results.json");
    // An earlier one is not this one's.
    let _ = std::fs::remove_file(&results);
    std::fs::create_dir_all(dir).map_err(BenchError::io(dir))?;
    let made = dir.join(MADE);
    let text = serde_json::to_vec_pretty(&Made::from(args)?)
        .map_err(|e| BenchError::Usage(e.to_string()))?;
    std::fs::write(&made, text).map_err(BenchError::io(made))?;
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

/// What an earlier run in `dir` came to, if it was made from the same and came to something.
pub fn earlier(dir: &Path, made: &Made) -> Option<Done> {
    let of: Made = serde_json::from_value(read(&dir.join(MADE))).ok()?;
    if of != *made {
        return None;
    }
    let results = read(&dir.join("results.json"));
    let valid = Valid::of_json(results.get("valid?"));
    (valid != Valid::Unknown).then_some(Done { valid, results })
}

fn read(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_of_the_same_arguments_and_broker_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let broker = dir.path().join("mqbroker");
        std::fs::write(&broker, "one").unwrap();
        let made = |seconds: &str| Made {
            args: vec!["--seconds".to_owned(), seconds.to_owned()],
            broker: identity(&broker),
        };
        let first = made("30");
        assert!(first.broker.is_some());
        std::fs::write(dir.path().join("results.json"), r#"{"valid?": true}"#).unwrap();
        assert!(earlier(dir.path(), &first).is_none(), "made from what?");
        let text = serde_json::to_vec(&first).unwrap();
        std::fs::write(dir.path().join(MADE), text).unwrap();
        assert!(earlier(dir.path(), &first).is_some());
        assert!(earlier(dir.path(), &made("60")).is_none());
        std::fs::write(&broker, "another").unwrap();
        assert!(earlier(dir.path(), &made("30")).is_none());
    }
}
