//! Waits of less than a millisecond, which the runtime's own timers cannot tell apart.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::blocking::one_thread;
use crate::clock;

/// One waiter's timer. Without one (no file descriptors left, or a simulated clock) the runtime's own has to do.
pub struct Pause(Option<AsyncFd<OwnedFd>>);

impl Pause {
    /// Call it inside a runtime.
    pub fn new() -> Self {
        if one_thread() {
            return Self(None);
        }
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).ok();
        // Deprecated because of types that may change their descriptor meanwhile; this one does not.
        #[allow(deprecated)]
        Self(timer.and_then(|fd| AsyncFd::new(fd).ok()))
    }

    /// Waits until a moment that is less than a second away; for ever when there is none.
    pub async fn until(&self, at: Option<Instant>) {
        let Some(at) = at else {
            return std::future::pending().await;
        };
        let Some(timer) = &self.0 else {
            return tokio::time::sleep_until(at.into()).await;
        };
        let left = at.saturating_duration_since(clock::now());
        // Zero would disarm it.
        let left = left.clamp(Duration::from_nanos(1), Duration::from_millis(999));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: 0,
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        if timerfd_settime(timer, TimerfdTimerFlags::empty(), &once).is_err() {
            return;
        }
        // An earlier wait that was given up may have left it marked as readable: then the read says that it is not.
        while let Ok(mut ready) = timer.readable().await {
            let mut count = [0; 8];
            if ready
                .try_io(|fd| Ok(rustix::io::read(fd, &mut count)?))
                .is_ok()
            {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_wait_is_neither_early_nor_ended_by_one_that_was_given_up() {
        let pause = Pause::new();
        for _ in 0..3 {
            let long = Duration::from_millis(20);
            let given_up = pause.until(Some(Instant::now() + Duration::from_micros(50)));
            let _ = tokio::time::timeout(Duration::ZERO, given_up).await;
            std::thread::sleep(Duration::from_millis(1));
            let began = Instant::now();
            pause.until(Some(began + long)).await;
            assert!(began.elapsed() >= long);
        }
    }
}
