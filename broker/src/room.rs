//! The waiting room: requests that need the master while none can be reached.
//!
//! Bounded by bytes, count and time (`waitingRoomBytes`, `waitingRoomMs`). One task empties it when the role changes and on
//! a short tick while anybody waits: whoever can be served now starts over, whoever waited too long is answered with
//! SERVICE_NOT_AVAILABLE, which every client retries. Nothing in here was ever stored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::broker::Broker;
use crate::call::Call;
use crate::dispatch;

/// Requests beyond this number are refused even if they are small.
const MAX_WAITING: usize = 65_536;

/// How often waiting requests are tried again: short against a send's 3 s, long against a round trip.
const TICK: Duration = Duration::from_millis(20);

/// Remark of a request that waited in vain.
pub const NO_LEADER: &str = "no master of this broker set can be reached, try again";

#[derive(Default)]
struct Waiting {
    calls: Vec<Call>,
    bytes: usize,
}

/// See the module's text.
#[derive(Default)]
pub struct Room {
    waiting: Mutex<Waiting>,
    entered: Notify,
}

impl Room {
    /// Lets a request wait, or refuses it when the room is full or its time is over.
    pub fn wait(&self, broker: &Broker, call: Call) {
        if Instant::now() >= self.until(broker, &call) {
            return call.refuse(NO_LEADER);
        }
        let bytes = call.bytes();
        {
            let mut waiting = self.waiting.lock();
            if waiting.calls.len() < MAX_WAITING
                && waiting.bytes + bytes <= broker.config().waiting_room_bytes
            {
                waiting.bytes += bytes;
                waiting.calls.push(call);
                drop(waiting);
                self.entered.notify_one();
                return;
            }
        }
        call.refuse("too many requests wait for a master");
    }

    fn until(&self, broker: &Broker, call: &Call) -> Instant {
        call.deadline
            .min(call.arrived + Duration::from_millis(broker.config().waiting_room_ms))
    }

    /// Number of waiting requests.
    pub fn len(&self) -> usize {
        self.waiting.lock().calls.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn take(&self) -> Vec<Call> {
        let mut waiting = self.waiting.lock();
        waiting.bytes = 0;
        std::mem::take(&mut waiting.calls)
    }

    /// Tries every waiting request once.
    fn retry(&self, broker: &Arc<Broker>) {
        let reachable = broker.leads() || broker.forwarder.reachable(broker);
        for call in self.take() {
            if reachable && Instant::now() < call.deadline {
                dispatch::dispatch(broker, call);
            } else {
                // Refused there when its time is over.
                self.wait(broker, call);
            }
        }
    }
}

/// Empties the room; runs for the life of the broker.
pub async fn run(broker: Arc<Broker>) {
    let mut role = broker.replica.watch_role();
    loop {
        if broker.room.is_empty() {
            broker.room.entered.notified().await;
        }
        tokio::select! {
            changed = role.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(TICK) => {}
        }
        broker.room.retry(&broker);
    }
}
