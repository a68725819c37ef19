//! Passing requests on to the master: what a replica does with a write, a lock or an offset that is not its own to serve.
//!
//! A stale route leads a client to a demoted master for up to 30 s. The request then travels once more, over one
//! connection shared by all clients, pipelined, without a task of its own. It is marked with hop count 1, the term, the
//! time left and the client's address. A marked request is never passed on again. Refused before it was stored: it waits and is
//! tried again until its deadline. Answer lost: a write is answered "outcome unknown" (code 1), a read or a lock is repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use raftmq_raft::Member;
use raftmq_remoting::channel::{Channel, RemotingError};
use raftmq_remoting::client::RemotingClient;
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;

use crate::broker::Broker;
use crate::call::{Call, OUTCOME_UNKNOWN, hop};
use crate::dispatch::{self, Place};

/// The master answers within the deadline it is given; this much more is for the way back.
const WAY_BACK: Duration = Duration::from_millis(200);

/// Pause after a failed connection attempt.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// The connection to the current master.
pub struct Forwarder {
    client: RemotingClient,
    current: ArcSwapOption<(String, Channel)>,
    connecting: AtomicBool,
}

impl Forwarder {
    pub fn new(client: RemotingClient) -> Self {
        Self {
            client,
            current: ArcSwapOption::empty(),
            connecting: AtomicBool::new(false),
        }
    }

    /// An open connection to `addr`, or None after starting to make one.
    fn channel(&self, broker: &Broker, addr: &str) -> Option<Channel> {
        if let Some(current) = self.current.load().as_deref()
            && current.0 == addr
            && !current.1.is_closed()
        {
            return Some(current.1.clone());
        }
        self.connect(broker, addr);
        None
    }

    fn connect(&self, broker: &Broker, addr: &str) {
        if self.connecting.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(broker) = broker.me.upgrade() else {
            return;
        };
        let addr = addr.to_owned();
        broker.runtime.clone().spawn(async move {
            let forwarder = &broker.forwarder;
            match forwarder.client.channel(&addr).await {
                Ok(channel) => forwarder.current.store(Some(Arc::new((addr, channel)))),
                Err(e) => {
                    tracing::debug!(%addr, error = %e, "cannot connect to the master");
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
            }
            forwarder.connecting.store(false, Ordering::Release);
        });
    }

    /// Whether a request passed on now would leave; starts connecting when it would not.
    pub fn reachable(&self, broker: &Broker) -> bool {
        let role = broker.replica.role();
        match &role.leader {
            Some(leader) if leader.node_id != role.me.node_id => {
                self.channel(broker, &leader.client_addr).is_some()
            }
            _ => false,
        }
    }

    pub fn close(&self) {
        self.client.close();
    }
}

/// Sends a request where it can be served: to the known master, else to the waiting room.
pub fn to_leader(broker: &Arc<Broker>, call: Call) {
    let role = broker.replica.role();
    match &role.leader {
        Some(leader) if leader.node_id != role.me.node_id => {
            if call.hop_term.is_some() {
                return call.refuse("not the master any more");
            }
            pass_on(broker, call, leader, role.term);
        }
        // Elected, but not serving yet, or nobody is: a matter of moments.
        _ => broker.room.wait(broker, call),
    }
}

/// `to_leader` with a time of its own, for requests that the master may hold.
pub fn to_leader_within(broker: &Arc<Broker>, mut call: Call, time: Duration) {
    call.deadline = call.arrived + time;
    to_leader(broker, call);
}

fn pass_on(broker: &Arc<Broker>, call: Call, leader: &Member, term: u64) {
    let left = call.left();
    if left.is_zero() {
        return call.refuse(crate::room::NO_LEADER);
    }
    let Some(channel) = broker.forwarder.channel(broker, &leader.client_addr) else {
        return broker.room.wait(broker, call);
    };
    let mut cmd = call.cmd.clone();
    cmd.ext.set(hop::COUNT, "1");
    cmd.ext.set_display(hop::TERM, term);
    cmd.ext.set_display(hop::LEFT_MS, left.as_millis());
    cmd.ext.set_display(hop::CLIENT, call.client);
    broker.stats.forwarded.increment(1);
    if call.is_oneway() {
        channel.oneway(cmd);
        return;
    }
    let broker = broker.clone();
    channel.invoke_with(cmd, left + WAY_BACK, move |result| {
        answered(&broker, call, result)
    });
}

fn answered(broker: &Arc<Broker>, call: Call, result: Result<RemotingCommand, RemotingError>) {
    match result {
        Ok(answer) if answer.ext.contains(hop::REFUSED) => broker.room.wait(broker, call),
        Ok(answer) => call.reply(answer),
        Err(e) if e.surely_not_sent() => broker.room.wait(broker, call),
        Err(e) => {
            tracing::debug!(code = call.cmd.code, error = %e, "the master's answer to a forwarded request is lost");
            let repeatable =
                dispatch::find(call.cmd.code).is_some_and(|entry| entry.place != Place::LeaderOnce);
            if repeatable {
                broker.room.wait(broker, call);
            } else {
                call.error(response::SYSTEM_ERROR, OUTCOME_UNKNOWN);
            }
        }
    }
}

/// Passes on something nobody waits for; dropped when the master cannot be reached.
pub fn oneway_to_leader(broker: &Arc<Broker>, mut cmd: RemotingCommand) {
    let role = broker.replica.role();
    let Some(leader) = role
        .leader
        .as_ref()
        .filter(|l| l.node_id != role.me.node_id)
    else {
        return;
    };
    if let Some(channel) = broker.forwarder.channel(broker, &leader.client_addr) {
        cmd.ext.set(hop::COUNT, "1");
        cmd.ext.set_display(hop::TERM, role.term);
        channel.oneway(cmd);
    }
}
