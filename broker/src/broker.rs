//! `Broker`: what all request handlers share.
//!
//! One for the process, behind an `Arc`; made by [`crate::service`]. It owns no thread. Everything in it is safe to use
//! from the connections' read tasks: locks are short and never held across I/O or an await.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use raftmq_raft::{AckLevel, Proposal, ProposeError, Replica};
use raftmq_remoting::budget::Budget;
use raftmq_remoting::codes::response;
use raftmq_remoting::message::NewMessage;
use raftmq_store::Command;
use raftmq_store::state::State;
use tokio::runtime::Handle;

use crate::call::{Call, OUTCOME_UNKNOWN};
use crate::client_manager::ClientManager;
use crate::cold_reads::ColdReads;
use crate::config::Config;
use crate::creation::Creations;
use crate::forward::Forwarder;
use crate::health::Standing;
use crate::large_answers::LargeAnswers;
use crate::lock::QueueLocks;
use crate::offset::OffsetCommits;
use crate::recall::Recalls;
use crate::register::Shown;
use crate::retention::Retention;
use crate::room::Room;
use crate::send_store::UnderWay;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::stats::Stats;
use crate::stored_properties::Stamps;
use crate::timer::Claims;
use crate::transaction;

/// Where to read the end of an explanation; the text RocketMQ's users know.
pub const FAQ: &str =
    "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";

/// Remark of a send that is refused because the disk is too full.
const DISK_FULL: &str = "service not available now: the broker's disk is full, messages are refused until there is room";

/// See the module's text.
pub struct Broker {
    pub me: Weak<Broker>,
    pub settings: Settings,
    /// What clients are told to connect to; part of every message id.
    pub store_host: SocketAddr,
    pub replica: Replica,
    pub signals: Arc<Signals>,
    pub clients: ClientManager,
    pub locks: QueueLocks,
    pub offsets: OffsetCommits,
    pub room: Room,
    pub forwarder: Forwarder,
    pub creations: Creations,
    pub cold_reads: ColdReads,
    /// Requests whose answer may be large.
    pub large_answers: LargeAnswers,
    /// Memory that client connections share.
    pub inbound: Arc<Budget>,
    pub shown: Shown,
    pub stats: Stats,
    pub standing: Standing,
    /// Who takes pending timers; held while they are delivered or moved.
    pub timers: tokio::sync::Mutex<Claims>,
    /// Requests to take timers back.
    pub recalls: Recalls,
    /// Sends that are not answered yet.
    pub sends: UnderWay,
    /// Who ends or checks pending transactions.
    pub transactions: transaction::Claims,
    pub retention: Retention,
    /// Properties every stored message gets.
    pub stamps: Stamps,
    /// The broker is about to stop and wants its clients elsewhere.
    pub draining: AtomicBool,
    /// The ports are about to be closed: connections up to this id are told to go away. 0: none.
    pub closing: AtomicU64,
    /// Connections over which other replicas pass requests on.
    pub forwarding: Mutex<HashSet<u64>>,
    /// The client side's runtime.
    pub runtime: Handle,
}

impl Broker {
    /// The settings in force. They may change: take them once where two of them must fit together.
    pub fn config(&self) -> arc_swap::Guard<Arc<Config>> {
        self.settings.now()
    }

    /// Applied state of the set, as far as this replica has it.
    pub fn state(&self) -> &Arc<State> {
        self.replica.state()
    }

    /// This replica leads and has applied the first entry of its term. Writes may be proposed; reads that must not be
    /// stale need [`Replica::is_serving`] besides.
    pub fn leads(&self) -> bool {
        self.replica.role().serving
    }

    /// Whether clients may write here at all.
    pub fn writable(&self) -> bool {
        perm::is_writable(self.config().permission)
    }

    /// Whether clients may read here at all.
    pub fn readable(&self) -> bool {
        perm::is_readable(self.config().permission)
    }

    /// A proposal of messages on behalf of a call.
    pub fn proposal(&self, call: &Call, messages: Vec<NewMessage>, wait: bool) -> Proposal {
        Proposal {
            messages,
            commands: Vec::new(),
            ack: (!wait).then_some(AckLevel::Leader),
            only_term: None,
            deadline: call.deadline,
        }
    }

    /// Proposes state changes on behalf of a call; `done` answers it. Runs on a raft thread.
    pub fn propose_for(
        self: &Arc<Self>,
        call: Call,
        commands: Vec<Command>,
        done: impl FnOnce(&Arc<Broker>, Call) + Send + 'static,
    ) {
        let broker = self.clone();
        let proposal = self.commands(commands, call.deadline);
        self.replica.propose(proposal, move |result| match result {
            Ok(_) => done(&broker, call),
            Err(e) => broker.failed(call, e),
        });
    }

    /// Proposes topic changes on behalf of a call and answers it when the name servers show them.
    pub fn propose_topics(self: &Arc<Self>, call: Call, commands: Vec<Command>) {
        self.propose_for(call, commands, |broker, call| {
            broker.when_shown(|_| call.ok());
        });
    }

    /// Runs `done` when the name servers show the topics as they are now, or do not answer in time.
    pub fn when_shown(self: &Arc<Self>, done: impl FnOnce(&Arc<Broker>) + Send + 'static) {
        let counter = self.state().topic_version().counter;
        let broker = self.clone();
        self.runtime.spawn(async move {
            broker.shown.wait(counter).await;
            done(&broker);
        });
    }

    /// A proposal of state changes.
    pub fn commands(&self, commands: Vec<Command>, deadline: Instant) -> Proposal {
        Proposal {
            messages: Vec::new(),
            commands,
            ack: Some(AckLevel::Majority),
            only_term: None,
            deadline,
        }
    }

    /// Answers, or sends elsewhere, a call whose proposal failed.
    pub fn failed(self: &Arc<Self>, call: Call, error: ProposeError) {
        match error {
            // Nothing was stored: start over, which passes it on to the new master or lets it wait.
            ProposeError::NotLeader(_) | ProposeError::WrongTerm => self.again(call),
            ProposeError::NoLeader | ProposeError::Stopped => call.refuse(crate::room::NO_LEADER),
            ProposeError::Busy => {
                self.stats.send_busy.increment(1);
                call.error(response::SYSTEM_BUSY, crate::send_store::OVERLOAD)
            }
            ProposeError::Late => {
                self.stats.send_busy.increment(1);
                // As RocketMQ words it.
                let remark = format!(
                    "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: {}ms, size of queue: {}",
                    call.arrived.elapsed().as_millis(),
                    self.sends.count()
                );
                call.error(response::SYSTEM_BUSY, remark)
            }
            ProposeError::NotEnoughInSync => call.error(
                response::SERVICE_NOT_AVAILABLE,
                "in-sync replicas not enough: fewer than minInSyncReplicas",
            ),
            ProposeError::DiskFull => call.error(response::SERVICE_NOT_AVAILABLE, DISK_FULL),
            ProposeError::Unknown => call.error(response::SYSTEM_ERROR, OUTCOME_UNKNOWN),
            ProposeError::Unstorable(why) => call.error(response::MESSAGE_ILLEGAL, why),
            ProposeError::TooLarge => call.error(
                response::MESSAGE_ILLEGAL,
                format!(
                    "the message is too large for a segment of {} bytes",
                    self.config().segment_size
                ),
            ),
        }
    }

    /// Starts a call over on the client runtime, unless it did so too often.
    pub fn again(self: &Arc<Self>, mut call: Call) {
        /// Leadership may move and a topic be created while a request is under way; more is a loop.
        const MAX_RESTARTS: u8 = 8;
        if call.restarts >= MAX_RESTARTS || call.left().is_zero() {
            return call.refuse(crate::room::NO_LEADER);
        }
        call.restarts += 1;
        if self.leads() || call.restarts == 1 {
            let broker = self.clone();
            self.runtime
                .spawn(async move { crate::dispatch::dispatch(&broker, call) });
        } else {
            self.room.wait(self, call);
        }
    }
}

/// This machine's clock, ms since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_millis() as i64
}

/// Permission bits of brokers and topics.
pub use raftmq_remoting::message::perm;
