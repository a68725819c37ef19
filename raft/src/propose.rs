//! The propose loop: gathers what waits into one log entry and hands it to openraft. While entries are in flight the next
//! one fills. When the last one is answered, those who were answered are given a moment to ask again, so that all make one
//! entry and not two that take turns; a single request goes at once.
//!
//! It is also the waiting room. Requests that are not yet appended stay in the queue while there is no leader,
//! bounded in bytes and time; when another replica leads they are handed back to be forwarded.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftmq_remoting::message::NewMessage;
use raftmq_store::Command;
use raftmq_store::StoreError;
use raftmq_store::commitlog::draft::Draft;
use raftmq_store::commitlog::format::{COMMAND_HEADER_LEN, HEADER_LEN, MAX_ENTRY_LEN};
use raftmq_store::sabotage::{self, Sabotage};
use raftmq_store::state::State;
use tokio::sync::{Notify, watch};

use crate::clock;
use crate::error::ProposeError;
use crate::in_sync::InSync;
use crate::lease::Lease;
use crate::options::{AckLevel, Member};
use crate::pause::Pause;
use crate::peer_server::PeerState;
use crate::role::Role;
use crate::ticket::{Acknowledge, Done, InFlight, Ticket};
use crate::types::{CommittedLeaderId, Proposed};

/// Bytes gathered into one entry; a single larger request still fits.
const BATCH_BYTES: usize = 512 * 1024;
/// Requests gathered into one entry.
const BATCH_REQUESTS: usize = 4096;
/// Entries on their way through openraft at once: disk, network and apply work on different ones.
const MAX_ENTRIES_IN_FLIGHT: usize = 4;
/// A further entry is started beside one in flight only when it is worth its cost. Fewer requests go when the one in
/// flight is done, and by then they are more.
const WORTH_AN_ENTRY: Amount = Amount {
    requests: 256,
    bytes: 320 * 1024,
};
/// A single request.
const ANYTHING: Amount = Amount {
    requests: 1,
    bytes: usize::MAX,
};
/// How long the next entry waits for those who were just answered.
const GATHER: Duration = Duration::from_micros(200);
/// So many entries in a row wait for nobody after one for which not even half of them asked again in time: clients that send
/// at a rate of their own do not, and would only be answered later.
const GATHERS_LEFT_OUT: u32 = 16;
/// Bytes that wait for nobody.
const GATHER_BYTES: usize = 256 * 1024;
/// Bytes on their way through openraft at once.
const MAX_BYTES_IN_FLIGHT: usize = 8 * 1024 * 1024;
/// Requests that may wait, besides the limit in bytes.
const MAX_WAITING: usize = 200_000;
/// A lease comes back without a change of role: looked at this often while requests wait for it.
const LEASE_CHECK: Duration = Duration::from_millis(20);
/// Requests that are handed back at once; the loop lets others run before the next ones.
const HANDED_BACK: usize = 1024;
/// Shortest time between two looks at all that waits for a leader: what expires out of order is answered so late at most.
const SWEEP: Duration = Duration::from_millis(100);
/// What a waiting request costs beyond its body, bytes.
const REQUEST_OVERHEAD: usize = 256;

/// Messages and commands that become records of one entry, applied atomically.
pub struct Proposal {
    /// Messages to store.
    pub messages: Vec<NewMessage>,
    /// State changes.
    pub commands: Vec<Command>,
    /// `WAIT=false` asks for the leader level; `None` for the configured one.
    pub ack: Option<AckLevel>,
    /// Refuse unless this replica leads in this term.
    pub only_term: Option<u64>,
    /// Latest time at which waiting for a leader, or for the log, makes sense.
    pub deadline: Instant,
}

impl Proposal {
    /// What it takes in an entry and in the queue, bytes.
    fn size(&self) -> usize {
        let messages: usize = self.messages.iter().map(NewMessage::encoded_len).sum();
        let command = |c: &Command| c.encode().len() + COMMAND_HEADER_LEN;
        messages + self.commands.iter().map(command).sum::<usize>() + REQUEST_OVERHEAD
    }
}

/// A proposal in the queue.
pub struct Pending {
    pub(crate) proposal: Proposal,
    pub(crate) done: Done,
    size: usize,
    /// Its place among all that came.
    number: u64,
    /// When it leaves the waiting room unanswered.
    expires: Instant,
}

/// So many requests or bytes.
#[derive(Clone, Copy, Default)]
struct Amount {
    requests: usize,
    bytes: usize,
}

impl Amount {
    const NEVER: Self = Self {
        requests: usize::MAX,
        bytes: usize::MAX,
    };
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Pending>,
    bytes: usize,
    stopped: bool,
    /// Proposals that came, ever.
    came: u64,
    /// The loop sleeps until so much waits.
    wake_at: Amount,
    /// Nothing can be appended here at the moment.
    closed: Option<Closed>,
}

/// The waiting room while this replica appends nothing. What comes then costs the loop nothing: it is answered by whoever
/// brings it, or waits until the loop looks at what has expired.
struct Closed {
    /// Another replica that leads.
    leader: Option<Member>,
    /// The earliest moment at which something that waits expires.
    expiry: Option<Instant>,
    /// When everything was looked at last.
    swept: Instant,
    /// The loop sleeps longer than until `expiry`.
    late: bool,
}

impl Closed {
    /// The answer to a proposal that has not to wait.
    fn refusal(&self, proposal: &Proposal) -> Option<ProposeError> {
        match &self.leader {
            _ if proposal.only_term.is_some() => Some(ProposeError::WrongTerm),
            Some(leader) => Some(ProposeError::NotLeader(leader.clone())),
            None => None,
        }
    }

    fn expires(&mut self, at: Instant) {
        if self.expiry.is_none_or(|known| at < known) {
            self.expiry = Some(at);
            self.late = true;
        }
    }

    /// When to look at everything again.
    fn next_look(&self) -> Option<Instant> {
        self.expiry.map(|at| at.max(self.swept + SWEEP))
    }
}

impl Queue {
    fn has(&self, amount: Amount) -> bool {
        self.waiting.len() >= amount.requests || self.bytes >= amount.bytes
    }

    /// Whether the loop has something to do before it would look by itself.
    fn must_wake(&self) -> bool {
        match &self.closed {
            Some(closed) => closed.late,
            None => !self.waiting.is_empty() && self.has(self.wake_at),
        }
    }

    /// Looks at everything that waits: what is bound to a term and what has expired leaves.
    fn sweep(&mut self, closed: &mut Closed, now: Instant, out: &mut Vec<(ProposeError, Done)>) {
        let error = |p: &Pending| match closed.refusal(&p.proposal) {
            None => (p.expires <= now).then_some(ProposeError::NoLeader),
            refusal => refusal,
        };
        // Nearly always those in front are the first to go, and the others stay where they are.
        while let Some(error) = self.waiting.front().and_then(error) {
            if let Some(pending) = self.waiting.pop_front() {
                self.bytes -= pending.size;
                out.push((error, pending.done));
            }
        }
        if self.waiting.iter().any(|p| error(p).is_some()) {
            for pending in std::mem::take(&mut self.waiting) {
                match error(&pending) {
                    Some(error) => {
                        self.bytes -= pending.size;
                        out.push((error, pending.done));
                    }
                    None => self.waiting.push_back(pending),
                }
            }
        }
        closed.expiry = self.waiting.iter().map(|p| p.expires).min();
        closed.swept = now;
        closed.late = false;
    }

    /// Puts proposals in their place among those that wait: in front of all that came after them.
    fn put_in_front(&mut self, proposals: Vec<Pending>) {
        let Some(first) = proposals.first().map(|p| p.number) else {
            return;
        };
        let earlier = self.waiting.iter().take_while(|p| p.number < first);
        let earlier = earlier.count();
        let earlier: Vec<Pending> = self.waiting.drain(..earlier).collect();
        for pending in proposals.into_iter().rev() {
            self.bytes += pending.size;
            if let Some(closed) = &mut self.closed {
                closed.expires(pending.expires);
            }
            self.waiting.push_front(pending);
        }
        earlier
            .into_iter()
            .rev()
            .for_each(|pending| self.waiting.push_front(pending));
    }
}

/// What is worth an entry after the last one in flight was answered.
#[derive(Clone, Copy)]
struct Gathering {
    enough: Amount,
    until: Instant,
}

/// Limits of the waiting room and of acknowledgements.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most that waits, bytes.
    pub waiting_bytes: usize,
    /// Longest wait for a leader.
    pub waiting_room: Duration,
    /// Longest wait for a commit.
    pub ack_timeout: Duration,
    /// Largest entry, bytes: a segment's size.
    pub max_entry: usize,
}

thread_local! {
    /// This thread is in [`Proposer::together`].
    static TOGETHER: Cell<bool> = const { Cell::new(false) };
}

/// Queue of proposals, and the handle of the loop.
pub struct Proposer {
    queue: Mutex<Queue>,
    wake: Notify,
    ack: AtomicU8,
    limits: Limits,
    lease: Arc<Lease>,
    /// Says what the set's version lets be proposed.
    state: Arc<State>,
    /// What is not yet appended waits: leadership is being handed over.
    paused: AtomicBool,
    /// Paused, and nothing is on its way through openraft any more.
    quiet: AtomicBool,
    /// Those that wait for all in-sync voters.
    pub(crate) in_sync: InSync,
}

impl Proposer {
    /// An empty queue.
    pub fn new(ack: AckLevel, limits: Limits, lease: Arc<Lease>, state: Arc<State>) -> Arc<Self> {
        Arc::new(Self {
            lease,
            state,
            queue: Mutex::default(),
            wake: Notify::new(),
            ack: AtomicU8::new(ack as u8),
            limits,
            paused: AtomicBool::new(false),
            quiet: AtomicBool::new(false),
            in_sync: InSync::default(),
        })
    }

    /// The configured acknowledgement level.
    pub fn ack_level(&self) -> AckLevel {
        const ALL: u8 = AckLevel::All as u8;
        const LEADER: u8 = AckLevel::Leader as u8;
        match self.ack.load(Ordering::Relaxed) {
            ALL => AckLevel::All,
            LEADER => AckLevel::Leader,
            _ => AckLevel::Majority,
        }
    }

    /// Lets what is not yet appended wait, or go on.
    pub(crate) fn pause(&self, paused: bool) {
        self.quiet.store(false, Ordering::SeqCst);
        self.paused.store(paused, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// Paused, and everything that was appended is answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::SeqCst)
    }

    /// Changes the configured level; entries appended from now on follow it.
    pub fn set_ack_level(&self, level: AckLevel) {
        self.ack.store(level as u8, Ordering::Relaxed);
    }

    /// Queues a proposal; `done` is called once.
    pub fn propose(&self, proposal: Proposal, done: Done) {
        let size = proposal.size();
        let (refused, wake) = {
            let mut queue = self.queue.lock();
            let refused = if queue.stopped {
                Some((ProposeError::Stopped, done))
            } else if size + HEADER_LEN > self.limits.max_entry.min(MAX_ENTRY_LEN) {
                Some((ProposeError::TooLarge, done))
            } else if let Some(error) = queue.closed.as_ref().and_then(|c| c.refusal(&proposal)) {
                Some((error, done))
            } else if queue.bytes + size > self.limits.waiting_bytes
                || queue.waiting.len() >= MAX_WAITING
            {
                Some((ProposeError::Busy, done))
            } else {
                queue.bytes += size;
                let expires = proposal
                    .deadline
                    .min(clock::now() + self.limits.waiting_room);
                if let Some(closed) = &mut queue.closed {
                    closed.expires(expires);
                }
                let number = queue.came;
                queue.came += 1;
                queue.waiting.push_back(Pending {
                    proposal,
                    done,
                    size,
                    number,
                    expires,
                });
                None
            };
            (refused, !TOGETHER.get() && queue.must_wake())
        };
        match refused {
            Some((error, done)) => done(Err(error)),
            None if wake => self.wake.notify_one(),
            None => {}
        }
    }

    /// Runs what proposes many times: the loop is woken once, for all of it.
    pub fn together(&self, run: &mut dyn FnMut()) {
        /// Wakes also when `run` panics.
        struct Wake<'a>(&'a Proposer);
        impl Drop for Wake<'_> {
            fn drop(&mut self) {
                TOGETHER.set(false);
                let queue = self.0.queue.lock();
                if queue.must_wake() {
                    self.0.wake.notify_one();
                }
            }
        }
        TOGETHER.set(true);
        let _wake = Wake(self);
        run();
    }

    /// Takes back what openraft refused, in front of the queue.
    pub(crate) fn put_back(&self, proposals: Vec<Pending>) {
        let mut stale = Vec::new();
        let now = clock::now();
        {
            let mut queue = self.queue.lock();
            let mut wait = Vec::with_capacity(proposals.len());
            for pending in proposals {
                if queue.stopped {
                    stale.push((ProposeError::Stopped, pending.done));
                } else if pending.expires <= now {
                    stale.push((ProposeError::NoLeader, pending.done));
                } else if pending.proposal.only_term.is_some() {
                    stale.push((ProposeError::WrongTerm, pending.done));
                } else {
                    wait.push(pending);
                }
            }
            queue.put_in_front(wait);
        }
        stale.into_iter().for_each(|(error, done)| done(Err(error)));
        self.wake.notify_one();
    }

    /// Puts proposals in front of the queue again, in their order.
    fn requeue(&self, proposals: Vec<Pending>) {
        self.queue.lock().put_in_front(proposals);
    }

    /// Lets the loop look again.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Answers everything that waits and refuses what comes.
    pub fn stop(&self) {
        let waiting = {
            let mut queue = self.queue.lock();
            queue.stopped = true;
            queue.bytes = 0;
            std::mem::take(&mut queue.waiting)
        };
        waiting
            .into_iter()
            .for_each(|p| (p.done)(Err(ProposeError::Stopped)));
        self.wake.notify_one();
    }

    /// Runs until [`Proposer::stop`]. The core is there once the set is founded.
    pub async fn run(self: Arc<Self>, peers: Arc<PeerState>, mut role: watch::Receiver<Arc<Role>>) {
        let mut in_flight = InFlight::default();
        let mut led = false;
        let mut gathering: Option<Gathering> = None;
        let mut left_out = 0u32;
        let pause = Pause::new();
        loop {
            // What wakes the loop takes nothing from its share of the thread: the heartbeats' task may be the next one.
            tokio::task::consume_budget().await;
            let now = clock::now();
            if let Some(answered) = in_flight.sweep(now) {
                let known = answered + self.queue.lock().waiting.len();
                // A single one has nobody to wait for.
                gathering = (known > 1 && left_out == 0).then(|| Gathering {
                    enough: Amount {
                        requests: known - known / 8,
                        bytes: GATHER_BYTES,
                    },
                    until: now + GATHER,
                });
                left_out = left_out.saturating_sub(1);
            }
            if let Some(over) = gathering.filter(|g| now >= g.until) {
                if self.queue.lock().waiting.len() < over.enough.requests / 2 {
                    left_out = GATHERS_LEFT_OUT;
                }
                gathering = None;
            }
            let present = role.borrow_and_update().clone();
            let core = peers.core.get().filter(|_| present.leads());
            if led && core.is_none() {
                in_flight.fail_appended();
            }
            led = core.is_some();
            let paused = self.paused.load(Ordering::SeqCst);
            if paused && in_flight.len() == 0 {
                self.quiet.store(true, Ordering::SeqCst);
            }
            // A leader without its lease would only refuse: what is not appended waits as if there were no leader.
            let may = || self.lease.is_valid() || sabotage::on(Sabotage::AckBeforeCommit);
            let core = core.filter(|_| may() && !paused);
            let leads = core.is_some();
            if self.queue.lock().stopped {
                in_flight.fail_appended();
                return;
            }
            if let Some((raft, _)) = core {
                gathering = gathering.filter(|_| in_flight.len() == 0);
                let worth = match in_flight.len() {
                    0 => gathering.map_or(ANYTHING, |g| g.enough),
                    1..MAX_ENTRIES_IN_FLIGHT if in_flight.bytes() < MAX_BYTES_IN_FLIGHT => {
                        WORTH_AN_ENTRY
                    }
                    _ => Amount::NEVER,
                };
                if self.has_or_sleeps(worth)
                    && let Some((proposed, term)) = self.next_entry()
                {
                    gathering = None;
                    let ticket = proposed.ticket.clone();
                    in_flight.push(ticket.clone());
                    let write = raft.write(proposed).responder(Acknowledge::new(ticket));
                    let write = match term {
                        Some(term) => write.with_leader(CommittedLeaderId::new(term)),
                        None => write,
                    };
                    // An error means that the core has ended; the dropped responder told the requests.
                    if write.await.is_err() {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    continue;
                }
            } else {
                gathering = None;
                if self.turn_away(&present, now) {
                    tokio::task::yield_now().await;
                    continue;
                }
            }
            let deadline = in_flight.next_deadline();
            let expiry = if leads {
                None
            } else {
                let queue = self.queue.lock();
                queue.closed.as_ref().and_then(Closed::next_look)
            };
            // A lease is lost without a word, and what waits beside entries in flight wakes nobody.
            let look_again = (led && (!leads || in_flight.len() > 0)).then(|| now + LEASE_CHECK);
            let next = deadline.into_iter().chain(expiry).chain(look_again).min();
            tokio::select! {
                () = self.wake.notified() => {}
                changed = role.changed() => if changed.is_err() { return },
                () = sleep_until(next) => {}
                () = pause.until(gathering.map(|g| g.until)) => {}
            }
        }
    }

    /// Whether so much waits; if not, the loop is woken when it does.
    fn has_or_sleeps(&self, amount: Amount) -> bool {
        let mut queue = self.queue.lock();
        queue.wake_at = amount;
        queue.closed = None;
        queue.has(amount)
    }

    /// While this replica appends nothing: hands back what another can take, and what has waited long enough. Whether there
    /// is more to hand back.
    fn turn_away(&self, role: &Role, now: Instant) -> bool {
        let other = |leader: &&Member| leader.node_id != role.me.node_id;
        let leader = role.leader.as_ref().filter(other);
        let mut out = Vec::new();
        let more = {
            let mut guard = self.queue.lock();
            let queue = &mut *guard;
            let known = queue.closed.take();
            let mut closed = known.filter(|c| c.leader.as_ref() == leader);
            let news = closed.is_none();
            let mut closed = closed.take().unwrap_or_else(|| Closed {
                leader: leader.cloned(),
                expiry: None,
                swept: now,
                late: false,
            });
            closed.late = false;
            if leader.is_some() {
                let some = queue.waiting.len().min(HANDED_BACK);
                for pending in queue.waiting.drain(..some) {
                    queue.bytes -= pending.size;
                    out.extend(closed.refusal(&pending.proposal).map(|e| (e, pending.done)));
                }
                closed.expiry = None;
            } else if news || closed.next_look().is_some_and(|at| at <= now) {
                queue.sweep(&mut closed, now, &mut out);
            }
            let more = leader.is_some() && !queue.waiting.is_empty();
            queue.closed = Some(closed);
            more
        };
        out.into_iter().for_each(|(error, done)| done(Err(error)));
        more
    }

    /// Everything that waits and fits, as one entry. Proposals bound to a term share an entry only with their like.
    fn next_entry(self: &Arc<Self>) -> Option<(Proposed, Option<u64>)> {
        let mut taken: Vec<Pending> = Vec::new();
        let mut late: Vec<Pending> = Vec::new();
        let mut size = HEADER_LEN;
        let term = {
            let mut queue = self.queue.lock();
            let now = clock::now();
            let is_late = |p: &Pending| p.proposal.deadline <= now;
            while queue.waiting.front().is_some_and(is_late) {
                if let Some(first) = queue.waiting.pop_front() {
                    queue.bytes -= first.size;
                    late.push(first);
                }
            }
            let term = queue.waiting.front().map(|p| p.proposal.only_term);
            let term = term.flatten();
            while let Some(next) = queue.waiting.front() {
                let full = size + next.size > BATCH_BYTES.min(self.limits.max_entry)
                    || taken.len() >= BATCH_REQUESTS;
                if !taken.is_empty() && (full || next.proposal.only_term != term) {
                    break;
                }
                // The draft is exactly as large as what is in it: its buffer stays in memory for a while.
                size += next.size - REQUEST_OVERHEAD;
                if let Some(next) = queue.waiting.pop_front() {
                    queue.bytes -= next.size;
                    taken.push(next);
                }
            }
            term
        };
        late.into_iter()
            .for_each(|p| (p.done)(Err(ProposeError::Late)));
        if taken.is_empty() {
            return None;
        }
        let mut draft = Draft::for_set(self.state.set_version(), size);
        let mut proposals = Vec::with_capacity(taken.len());
        let mut rest = taken.into_iter();
        while let Some(pending) = rest.next() {
            let proposal = &pending.proposal;
            let messages = proposal
                .messages
                .iter()
                .try_for_each(|m| draft.push_message(m));
            let pushed = messages.and_then(|()| {
                proposal
                    .commands
                    .iter()
                    .try_for_each(|c| draft.push_command(c))
            });
            if let Err(error) = pushed {
                // Half of a proposal may not be stored: everyone else goes with the next entry.
                tracing::warn!(%error, "a proposal is refused");
                let refusal = match error {
                    StoreError::Unstorable(why) => ProposeError::Unstorable(why),
                    _ => ProposeError::TooLarge,
                };
                (pending.done)(Err(refusal));
                self.requeue(proposals.into_iter().chain(rest).collect());
                return self.next_entry();
            }
            proposals.push(pending);
        }
        let deadline = clock::now() + self.limits.ack_timeout;
        let ticket = Ticket::new(proposals, deadline, draft.len(), Arc::downgrade(self));
        Some((Proposed { draft, ticket }, term))
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use raftmq_store::kv::MemoryKv;

    use super::*;

    fn proposer() -> Arc<Proposer> {
        let limits = Limits {
            waiting_bytes: 1 << 20,
            waiting_room: Duration::from_secs(60),
            ack_timeout: Duration::from_secs(1),
            max_entry: 1 << 20,
        };
        let lease = Arc::new(Lease::new(Duration::from_secs(1)));
        let state = State::load(Arc::new(MemoryKv::default())).expect("an empty store");
        Proposer::new(AckLevel::Majority, limits, lease, Arc::new(state))
    }

    fn proposal(only_term: Option<u64>, deadline: Instant) -> Proposal {
        Proposal {
            messages: Vec::new(),
            commands: vec![Command::TimerDone { keys: Vec::new() }],
            ack: None,
            only_term,
            deadline,
        }
    }

    #[test]
    fn entries_that_are_refused_one_after_the_other_come_back_in_their_order() {
        let proposer = proposer();
        let deadline = clock::now() + Duration::from_secs(60);
        let propose = |term| proposer.propose(proposal(term, deadline), Box::new(|_| {}));
        let take = || std::mem::take(&mut proposer.queue.lock().waiting).into_iter();
        propose(None);
        propose(None);
        let first: Vec<_> = take().collect();
        propose(None);
        propose(None);
        let second: Vec<_> = take().collect();
        propose(None);
        proposer.put_back(first);
        proposer.put_back(second);
        assert_eq!(
            take().map(|p| p.number).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4]
        );
    }

    #[test]
    fn a_closed_waiting_room_answers_at_once_what_another_takes_and_keeps_the_rest_until_it_expires()
     {
        let proposer = proposer();
        let results = Arc::new(Mutex::new(Vec::new()));
        let now = clock::now();
        let propose = |only_term, wait| {
            let results = results.clone();
            let done = move |result: Result<_, _>| results.lock().push(result.err());
            let proposal = proposal(only_term, now + Duration::from_secs(wait));
            proposer.propose(proposal, Box::new(done));
        };
        let taken = || std::mem::take(&mut *results.lock());
        let nobody = Role::default();
        propose(None, 9);
        propose(Some(7), 9);
        assert!(!proposer.turn_away(&nobody, now));
        assert_eq!(taken(), [Some(ProposeError::WrongTerm)], "the other waits");
        propose(Some(7), 9);
        assert_eq!(taken(), [Some(ProposeError::WrongTerm)]);
        propose(None, 3);
        propose(None, 20);
        let at = |s| now + Duration::from_secs(s);
        proposer.turn_away(&nobody, at(2));
        assert!(taken().is_empty());
        proposer.turn_away(&nobody, at(4));
        assert_eq!(taken(), [Some(ProposeError::NoLeader)], "out of order");
        assert_eq!(proposer.queue.lock().waiting.len(), 2);
        let leader = Member {
            node_id: 5,
            ..Member::default()
        };
        let led = Role {
            leader: Some(leader.clone()),
            ..Role::default()
        };
        assert!(!proposer.turn_away(&led, at(4)));
        propose(None, 9);
        let elsewhere = Some(ProposeError::NotLeader(leader));
        assert_eq!(taken(), [elsewhere.clone(), elsewhere.clone(), elsewhere]);
        assert_eq!(proposer.queue.lock().bytes, 0);
    }

    #[test]
    fn what_waited_beyond_its_deadline_is_not_stored() {
        let limits = Limits {
            waiting_bytes: 1 << 20,
            waiting_room: Duration::from_secs(1),
            ack_timeout: Duration::from_secs(1),
            max_entry: 1 << 20,
        };
        let lease = Arc::new(Lease::new(Duration::from_secs(1)));
        let state = State::load(Arc::new(MemoryKv::default())).expect("an empty store");
        let proposer = Proposer::new(AckLevel::Majority, limits, lease, Arc::new(state));
        let results = Arc::new(Mutex::new(Vec::new()));
        let now = clock::now();
        for deadline in [now, now + Duration::from_secs(60), now] {
            let proposal = Proposal {
                messages: Vec::new(),
                commands: vec![Command::TimerDone { keys: Vec::new() }],
                ack: None,
                only_term: None,
                deadline,
            };
            let results = results.clone();
            let done = move |result| results.lock().push(result);
            proposer.propose(proposal, Box::new(done));
        }
        assert!(proposer.next_entry().is_some(), "the one with time left");
        // The last one was behind it, and went with it.
        assert!(matches!(results.lock()[..], [Err(ProposeError::Late)]));
        assert!(proposer.next_entry().is_none());
        let queue = proposer.queue.lock();
        assert_eq!((queue.bytes, queue.waiting.len()), (0, 0));
    }
}
