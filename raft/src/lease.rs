//! The leader's lease: for how long a majority has promised not to elect another. Fed by the role task from
//! openraft's metrics, read on the storage thread and by every request that must not be answered by a leader of
//! yesterday.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::{awake, clock};
use raftmq_store::sabotage::{self, Sabotage};

/// When a majority last acknowledged this leader.
pub struct Lease {
    length: Duration,
    state: Mutex<State>,
    awake: Mutex<Awake>,
    /// Given away: the majority's promise does not count any more.
    suspended: AtomicBool,
}

#[derive(Clone, Copy)]
enum State {
    NotLeader,
    /// The only voter: nobody else can be elected.
    Alone,
    Leader {
        acknowledged: Instant,
    },
}

/// What a sleep of the machine costs: acknowledgements from before it.
struct Awake {
    /// Time asleep when it was looked at last.
    slept: Duration,
    /// When a sleep was noticed.
    woken: Option<Instant>,
}

impl Lease {
    /// `length` is the longest election timeout: followers ignore candidates for that long after a heartbeat. A
    /// tenth is left for clocks that run at different speeds.
    pub fn new(length: Duration) -> Self {
        Self {
            length: length * 9 / 10,
            state: Mutex::new(State::NotLeader),
            awake: Mutex::new(Awake {
                slept: awake::slept(),
                woken: None,
            }),
            suspended: AtomicBool::new(false),
        }
    }

    /// From here on another replica may be elected although the majority's promise still runs (a leadership transfer), or
    /// no more so.
    pub fn suspend(&self, suspended: bool) {
        self.suspended.store(suspended, Ordering::SeqCst);
    }

    /// Whether the machine has not slept since `acknowledged`; `slept` is for how long it has, ever.
    fn is_of_this_waking(&self, acknowledged: Instant, slept: Duration) -> bool {
        let mut awake = self.awake.lock();
        if slept > awake.slept + awake::NOTICEABLE {
            tracing::warn!(
                ms = (slept - awake.slept).as_millis() as u64,
                "this machine was asleep: what was promised to it before does not count"
            );
            awake.woken = Some(clock::now());
        }
        awake.slept = awake.slept.max(slept);
        awake.woken.is_none_or(|woken| acknowledged > woken)
    }

    /// How long it holds after a majority's answer.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// This replica leads and a majority acknowledged what was sent at `acknowledged`.
    pub fn renew(&self, acknowledged: Instant) {
        if self.is_of_this_waking(acknowledged, awake::slept()) {
            *self.state.lock() = State::Leader { acknowledged };
        }
    }

    /// This replica leads and is the only voter.
    pub fn alone(&self) {
        *self.state.lock() = State::Alone;
    }

    /// This replica does not lead.
    pub fn drop_now(&self) {
        *self.state.lock() = State::NotLeader;
    }

    /// Whether no other leader can exist at this moment.
    pub fn is_valid(&self) -> bool {
        let skip = sabotage::on(Sabotage::SkipLeaseCheck);
        if self.suspended.load(Ordering::SeqCst) && !skip {
            return false;
        }
        match *self.state.lock() {
            State::NotLeader => false,
            _ if skip => true,
            State::Alone => true,
            State::Leader { acknowledged } => {
                clock::since(acknowledged) < self.length
                    && self.is_of_this_waking(acknowledged, awake::slept())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_promised_before_the_machine_slept_does_not_count() {
        let lease = Lease::new(Duration::from_secs(10));
        let before = clock::now();
        let slept = awake::slept();
        assert!(lease.is_of_this_waking(before, slept));
        let asleep = slept + Duration::from_millis(300);
        assert!(!lease.is_of_this_waking(before, asleep));
        assert!(!lease.is_of_this_waking(before, asleep), "nor later");
        std::thread::sleep(Duration::from_millis(2));
        assert!(lease.is_of_this_waking(clock::now(), asleep));
    }

    #[test]
    fn a_lease_ends_by_itself() {
        let lease = Lease::new(Duration::from_millis(50));
        assert!(!lease.is_valid());
        lease.renew(Instant::now());
        assert!(lease.is_valid());
        std::thread::sleep(Duration::from_millis(60));
        assert!(!lease.is_valid());
        lease.alone();
        assert!(lease.is_valid());
        lease.suspend(true);
        assert!(!lease.is_valid(), "given away");
        lease.suspend(false);
        assert!(lease.is_valid());
        lease.drop_now();
        assert!(!lease.is_valid());
    }
}
