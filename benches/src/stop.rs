//! SIGINT and SIGTERM.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::BenchError;

/// Becomes ready when somebody wants this program to end. From its creation on the signals do not end it by themselves.
pub struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignal {
    /// # Errors
    /// The system takes no handler.
    pub fn new() -> Result<Self, BenchError> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(BenchError::io("SIGINT"))?,
            terminate: signal(SignalKind::terminate()).map_err(BenchError::io("SIGTERM"))?,
        })
    }

    /// Waits for the first of them.
    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
