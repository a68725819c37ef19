//! What the apply path tells the rest of the broker: new messages, changed topics, changed timers, changed settings.
//!
//! [`Signals`] is the replica's observer. Its methods run on a raft thread, in log order, and do no more than look up
//! held pulls, set wake-ups and swap settings.

use std::sync::{Arc, OnceLock, Weak};

use raftmq_raft::{Arrived, Observer};
use raftmq_remoting::channel::corked;
use tokio::sync::Notify;

use crate::broker::Broker;
use crate::long_polling::HeldPulls;
use crate::settings;

/// See the module's text.
#[derive(Default)]
pub struct Signals {
    pub held: HeldPulls,
    /// Set once a name server loop runs for each name server; all of them are woken.
    pub topics: Notify,
    pub timers: Notify,
    /// For what must be done before anything later is applied; not there before the replica is open.
    pub broker: OnceLock<Weak<Broker>>,
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

    fn answering(&self, run: &mut dyn FnMut()) {
        corked(run);
    }

    fn topics_changed(&self) {
        self.0.topics.notify_waiters();
    }

    fn groups_changed(&self) {}

    /// At once: a replica that becomes the master serves under all settings that were applied before.
    fn kv_changed(&self) {
        if let Some(broker) = self.0.broker.get().and_then(Weak::upgrade) {
            settings::refresh(&broker);
        }
    }

    fn timers_changed(&self) {
        self.0.timers.notify_one();
    }
}
