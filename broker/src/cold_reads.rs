//! Reads of records that may have to come from disk: on a bounded pool of blocking threads, never on a connection's task.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Blocking reads at once: enough to keep a disk busy.
const MAX_RUNNING: usize = 16;

/// Reads that may wait for one of the threads; each is one client's request.
const MAX_WAITING: usize = 4_096;

/// See the module's text.
pub struct ColdReads {
    places: Arc<Semaphore>,
    running: Arc<Semaphore>,
    runtime: Handle,
}

impl ColdReads {
    pub fn new(runtime: Handle) -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_RUNNING + MAX_WAITING)),
            running: Arc::new(Semaphore::new(MAX_RUNNING)),
            runtime,
        }
    }

    /// Reads that run or wait, and how many may.
    pub fn fill(&self) -> (usize, usize) {
        let most = MAX_RUNNING + MAX_WAITING;
        (most - self.places.available_permits(), most)
    }

    /// Runs `work` with `item` on a blocking thread; gives `item` back when too much waits already.
    pub fn run<T: Send + 'static>(
        &self,
        item: T,
        work: impl FnOnce(T) + Send + 'static,
    ) -> Result<(), T> {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return Err(item);
        };
        let running = self.running.clone();
        self.runtime.spawn(async move {
            let Ok(permit) = running.acquire_owned().await else {
                return;
            };
            let done = tokio::task::spawn_blocking(move || work(item)).await;
            if let Err(e) = done {
                tracing::error!(error = %e, "a blocking read failed");
            }
            drop((permit, place));
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_when_full() {
        let reads = ColdReads::new(Handle::current());
        let (tx, rx) = std::sync::mpsc::channel::<()>();
        let rx = Arc::new(parking_lot::Mutex::new(rx));
        let mut refused = 0;
        for n in 0..MAX_RUNNING + MAX_WAITING + 3 {
            let rx = rx.clone();
            let work = move |_| {
                let _ = rx.lock().recv();
            };
            if reads.run(n, work).is_err() {
                refused += 1;
            }
        }
        assert_eq!(refused, 3);
        drop(tx);
    }
}
