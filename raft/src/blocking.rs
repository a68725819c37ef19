//! Work that waits for the disk, beside the async threads. On a runtime of one thread, as a simulated replica has it, there
//! is no beside: the work is done at once, so that a run can be repeated.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinError;

/// Whether this runtime has one thread only.
pub fn one_thread() -> bool {
    Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::CurrentThread)
}

/// Runs `work` on the blocking pool.
///
/// # Errors
/// It panicked, or the runtime ends.
pub async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    match one_thread() {
        true => Ok(work()),
        false => tokio::task::spawn_blocking(work).await,
    }
}

/// Runs `work` here, and what else this thread had to do elsewhere.
pub fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match one_thread() {
        true => work(),
        false => tokio::task::block_in_place(work),
    }
}
