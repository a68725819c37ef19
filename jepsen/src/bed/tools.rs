//! Programs of the system that do what this one may not do itself, and blocking work off the runtime's threads.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use raftmq_benches::BenchError;

/// Runs a program to its end.
///
/// # Errors
/// It cannot be run, or fails; its words are told.
pub fn run<S: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = S>,
) -> Result<(), BenchError> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let output = command.output().map_err(BenchError::io(program))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(BenchError::Usage(format!("{program}: {}", why.trim())))
}

/// Runs blocking work on a thread for that.
///
/// # Errors
/// Its own; it panicked.
pub async fn off<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BenchError> + Send + 'static,
) -> Result<T, BenchError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| BenchError::Usage(format!("the bed's own work failed: {e}")))?
}

/// Whether this process may do what only root may.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
