//! What a producer's lane says: in a closed loop each answer starts the next send; in an open one a clock does
//! ([`super::pace`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use raftmq_remoting::response_code;

use super::answer::Answer;
use super::lane::Talk;
use super::link::Outbox;
use super::slots::{FIRST_OPAQUE, Slots};
use super::stats::{Shared, Stats};
use super::template::{MILLIS_DIGITS, Template, Values, decimal};

/// Bits of a message's number that a lane counts with; those above are the lane's.
const COUNT_BITS: u32 = 30;

/// The requests of a set: those of a topic with each tag, topic after topic.
pub struct Requests {
    pub templates: Vec<Template>,
    /// Queues of each topic.
    pub queues: Vec<u32>,
    /// 1 without.
    pub tags: usize,
    /// Messages of each request.
    pub batch: u32,
    pub oneway: bool,
}

/// What a clock has for a lane.
#[derive(Default)]
pub struct Due {
    open: AtomicBool,
    waiting: Mutex<(VecDeque<u64>, Option<Waker>)>,
}

impl Due {
    /// A request that is due at `at`; false when there is no connection.
    pub fn push(&self, at: u64) -> bool {
        if !self.open.load(Ordering::Relaxed) {
            return false;
        }
        let mut waiting = self.waiting.lock();
        waiting.0.push_back(at);
        if let Some(waker) = waiting.1.take() {
            waker.wake();
        }
        true
    }
}

/// A lane's sends.
pub struct Sender {
    shared: Arc<Shared>,
    requests: Arc<Requests>,
    slots: Slots,
    /// Senders that may send.
    idle: u32,
    /// Senders whose send failed.
    failed: u32,
    due: Option<Arc<Due>>,
    /// Oneway requests that are not written yet.
    unwritten: VecDeque<u64>,
    /// Requests so far, shifted so that lanes begin with different queues.
    turn: usize,
    number: u64,
}

impl Sender {
    /// Number `lane` of all lanes, with so many senders; or with a clock.
    pub fn new(
        shared: Arc<Shared>,
        requests: Arc<Requests>,
        lane: usize,
        senders: u32,
        due: Option<Arc<Due>>,
    ) -> Self {
        Self {
            shared,
            slots: Slots::default(),
            idle: senders,
            failed: 0,
            due,
            unwritten: VecDeque::new(),
            turn: lane * (requests.templates.len() + 1),
            number: (lane as u64) << COUNT_BITS,
            requests,
        }
    }

    fn send(&mut self, out: &mut Outbox, began: u64, born_ms: &[u8; MILLIS_DIGITS]) {
        let opaque = match self.requests.oneway {
            true => {
                self.unwritten.push_back(began);
                FIRST_OPAQUE
            }
            // There are as many slots as there may be requests.
            false => match self.slots.start(began) {
                Some(opaque) => opaque,
                None => return,
            },
        };
        let requests = &self.requests;
        let (topics, tags) = (requests.queues.len(), requests.tags);
        let (topic, round) = (self.turn % topics, self.turn / topics);
        let queue = (round / tags) as u64 % u64::from(requests.queues[topic]);
        self.turn = self.turn.wrapping_add(1);
        requests.templates[topic * tags + round % tags].write(
            out,
            &Values {
                opaque,
                queue: queue as u32,
                born_ms,
                number: self.number,
                due_us: began / 1000,
            },
        );
        self.number += u64::from(requests.batch);
    }

    /// So many requests have failed.
    fn fail(&mut self, what: &str, times: u32, stats: &mut Stats) {
        stats.error(what, times.into());
        match self.due {
            Some(_) => self.land(times as usize),
            None => self.failed += times,
        }
    }

    fn land(&self, times: usize) {
        self.shared.under_way.fetch_sub(times, Ordering::Relaxed);
    }
}

impl Talk for Sender {
    const PULLS: bool = false;

    fn answer(&mut self, answer: &Answer<'_>, now: u64, stats: &mut Stats) {
        let Some(began) = self.slots.finish(answer.opaque) else {
            return;
        };
        if answer.code != response_code::SUCCESS {
            return self.fail(&answer.what(), 1, stats);
        }
        let messages = self.requests.batch.into();
        stats.sent += messages;
        let steady = self.shared.pulse.is_steady(now);
        stats
            .send
            .record(now.saturating_sub(began), messages, steady);
        match self.due {
            Some(_) => self.land(1),
            None => self.idle += 1,
        }
    }

    fn fill(&mut self, out: &mut Outbox, cx: &mut Context<'_>) {
        let mut born_ms = [0; MILLIS_DIGITS];
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        if let Some(due) = self.due.clone() {
            let mut waiting = due.waiting.lock();
            waiting.1 = Some(cx.waker().clone());
            if waiting.0.is_empty() {
                return;
            }
            decimal(&mut born_ms, now.unwrap_or_default().as_millis() as u64);
            while let Some(began) = waiting.0.pop_front() {
                self.send(out, began, &born_ms);
            }
        } else if self.idle > 0 && !self.shared.stop.load(Ordering::Relaxed) {
            decimal(&mut born_ms, now.unwrap_or_default().as_millis() as u64);
            let began = self.shared.now();
            for _ in 0..std::mem::take(&mut self.idle) {
                self.send(out, began, &born_ms);
            }
        }
    }

    fn written(&mut self) {
        if self.unwritten.is_empty() {
            return;
        }
        let (now, messages) = (self.shared.now(), self.requests.batch.into());
        self.land(self.unwritten.len());
        let steady = self.shared.pulse.is_steady(now);
        let mut stats = self.shared.stats.lock();
        for began in self.unwritten.drain(..) {
            stats.sent += messages;
            stats
                .send
                .record(now.saturating_sub(began), messages, steady);
        }
    }

    fn waits(&self) -> bool {
        self.failed > 0
    }

    fn tick(&mut self, before: u64, stats: &mut Stats) {
        let expired = self.slots.expire(before);
        self.idle += std::mem::take(&mut self.failed);
        self.fail("timeout", expired, stats);
    }

    fn connected(&mut self, open: bool, stats: &mut Stats) {
        if let Some(due) = &self.due {
            due.open.store(open, Ordering::Relaxed);
        }
        if open {
            return;
        }
        let mut lost = self.slots.expire(u64::MAX) as usize + self.unwritten.len();
        self.unwritten.clear();
        if let Some(due) = &self.due {
            let mut waiting = due.waiting.lock();
            lost += waiting.0.len();
            waiting.0.clear();
        }
        self.fail("connection closed", lost as u32, stats);
        // The pause is that of the connection.
        self.idle += std::mem::take(&mut self.failed);
    }
}
