//! Whether the machine has slept. The clock of leases stands still while a host is suspended, and the other replicas' clocks
//! do not: a promise that was counted from before a sleep may have run out during it. A virtual machine that its host
//! stops may not notice that it was; there nothing but shorter leases helps.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Differences below this are the time between two readings.
pub const NOTICEABLE: Duration = Duration::from_millis(5);

fn since_boot(clock: ClockId) -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
    let seconds = Duration::from_secs(tv_sec.max(0) as u64);
    seconds + Duration::from_nanos(tv_nsec.max(0) as u64)
}

/// For how long this machine has been asleep since it was booted. Never falls, but for the time between two readings.
pub fn slept() -> Duration {
    let awake = since_boot(ClockId::Monotonic);
    since_boot(ClockId::Boottime).saturating_sub(awake)
}
