//! A timer that is exact to some ten microseconds; those of the runtime tick in milliseconds.

use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::error::BenchError;

/// One timer; belongs to the runtime it was made in.
///
/// Like a pipe it becomes readable, and the runtime takes nothing else that does without `unsafe`.
pub struct Alarm(Receiver);

impl Alarm {
    /// # Errors
    /// The system has none left.
    pub fn new() -> Result<Self, BenchError> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(failed)?;
        let timer = Receiver::from_owned_fd_unchecked(timer).map_err(BenchError::io("timer"))?;
        Ok(Self(timer))
    }

    /// Waits so long; at least a microsecond.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn sleep(&mut self, time: Duration) -> Result<(), BenchError> {
        let time = time.max(Duration::from_micros(1));
        let when = |time: Duration| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let once = Itimerspec {
            it_interval: when(Duration::ZERO),
            it_value: when(time),
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once).map_err(failed)?;
        // How often it rang.
        let mut times = [0; 8];
        let read = self.0.read_exact(&mut times).await;
        read.map(|_| ()).map_err(BenchError::io("timer"))
    }
}

fn failed(error: rustix::io::Errno) -> BenchError {
    BenchError::io("timer")(error.into())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_rings_no_earlier() {
        let mut alarm = Alarm::new().unwrap();
        for micros in [0, 300, 5_000] {
            let (began, time) = (Instant::now(), Duration::from_micros(micros));
            alarm.sleep(time).await.unwrap();
            assert!(began.elapsed() >= time);
        }
    }
}
