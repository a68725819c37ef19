//! The clock of timeouts and leases: the runtime's. In a broker that is the machine's monotonic clock; a simulated replica
//! has a runtime with a clock of its own. Wall clocks are another matter ([`crate::ground::Ground::now_ms`]).

use std::time::{Duration, Instant};

/// This moment.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Time since a moment; zero for one that is to come.
pub fn since(moment: Instant) -> Duration {
    now().saturating_duration_since(moment)
}
