//! Reads that must not be behind what a follower has shown. A follower applies what the leader tells it is committed, and may do
//! so before the leader itself, whose disk may be slow. Whoever read that and asks the leader next would be sent back.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::call::Call;

/// Longest wait; then the answer is what is applied.
const LONGEST: Duration = Duration::from_secs(1);

/// Runs `then` when everything is applied here that is known to be committed: nearly always at once.
pub fn when_caught_up(
    broker: &Arc<Broker>,
    call: Call,
    then: impl FnOnce(&Arc<Broker>, Call) + Send + 'static,
) {
    let Some(index) = broker.replica.committed_ahead() else {
        return then(broker, call);
    };
    let broker = broker.clone();
    broker.runtime.clone().spawn(async move {
        broker.replica.applied_up_to(index, LONGEST).await;
        then(&broker, call);
    });
}
