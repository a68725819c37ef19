//! The thread that writes full runs beside whoever adds: sorting a run and syncing its file takes milliseconds, and whoever
//! adds is on the path that acknowledges messages.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::shared::Shared;
use crate::error::{Result, StoreError};

/// The thread, if there is one.
#[derive(Default)]
pub struct Beside(Mutex<Option<(SyncSender<()>, JoinHandle<()>)>>);

impl Beside {
    /// Starts the thread; it ends with [`Beside::stop`].
    pub fn start(&self, shared: Weak<Shared>) -> Result<()> {
        let (wake, woken) = sync_channel(1);
        let run = move || {
            while woken.recv().is_ok() {
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                // A failure is kept for whoever adds next.
                if let Err(error) = shared.write_pending() {
                    tracing::error!(%error, "key index: a run could not be written");
                }
            }
        };
        let thread = std::thread::Builder::new().name("keyindex".to_owned());
        let thread = thread
            .spawn(run)
            .map_err(|e| StoreError::io("start the key index's thread", e))?;
        *self.0.lock() = Some((wake, thread));
        Ok(())
    }

    /// Has the pending run written; false when nobody is there to do it.
    pub fn write(&self) -> bool {
        let thread = self.0.lock();
        // A full queue: it has not looked yet.
        thread.as_ref().map(|(wake, _)| wake.try_send(())).is_some()
    }

    /// Whether there is a thread.
    pub fn is_there(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Ends the thread: nothing touches the directory afterwards.
    pub fn stop(&self) {
        let Some((wake, thread)) = self.0.lock().take() else {
            return;
        };
        drop(wake);
        if thread.join().is_err() {
            tracing::error!("the key index's thread panicked");
        }
    }
}

impl Drop for super::KeyIndex {
    fn drop(&mut self) {
        self.shared.beside.stop();
    }
}

impl super::KeyIndex {
    /// Has full runs written by a thread from now on, not by whoever adds: that one waits only when a second run is full
    /// before the first is written.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn write_beside(&self) -> Result<()> {
        self.shared.beside.start(Arc::downgrade(&self.shared))
    }
}
