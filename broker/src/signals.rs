//! What the apply path tells the rest of the broker: new messages, changed topics, changed timers.
//!
//! [`Signals`] is the replica's observer. Its methods run on a raft thread, in log order, and do no more than look up
//! held pulls and set wake-ups.

use std::sync::Arc;

use raftmq_raft::{Arrived, Observer};
use tokio::sync::Notify;

use crate::long_polling::HeldPulls;

/// See the module's text.
#[derive(Default)]
pub struct Signals {
    pub held: HeldPulls,
    /// Set once a name server loop runs for each name server; all of them are woken.
    pub topics: Notify,
    pub timers: Notify,
}

impl Signals {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }
}

/// The replica's observer.
pub struct Hooks(pub Arc<Signals>);

impl Observer for Hooks {
    fn messages_applied(&self, arrived: &[Arrived]) {
        self.0.held.arrived(arrived);
    }

    fn topics_changed(&self) {
        self.0.topics.notify_waiters();
    }

    fn groups_changed(&self) {}

    fn timers_changed(&self) {
        self.0.timers.notify_one();
    }
}
