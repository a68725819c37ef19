//! A history as a correct set would give it is valid, and every kind of damage done to it is found, by its name.

mod beginnings;
mod others;
mod recovery_times;

use std::collections::BTreeMap;

use serde_json::Value;

use super::verdict::{Valid, Verdict};
use super::{
    FinalLog, consumed_then_lost, coverage, delay, log_linear, max_offset, offset_regression,
    order, panics, recovery, register, retry, total_queue,
};
use crate::ops::{Fault, MaxRead, NEVER, Ops, Outcome, Poll, RegisterOp, Send, SendBack, Span};
use crate::random::Random;
use crate::settings::{Ack, Flush, Settings};
use crate::workload::value;

const QUEUES: u32 = 2;
const REPLICAS: u8 = 3;
const MESSAGES: u64 = 398;
const MS: u64 = 1_000_000;

fn settings() -> Settings {
    Settings {
        workload: "log".to_owned(),
        queues: QUEUES,
        replicas: 3,
        recovery_limit_ms: 5_000,
        least_ops: 100,
        ..Settings::default()
    }
}

fn span(invoked: u64, completed: u64) -> Span {
    Span { invoked, completed }
}

/// What was polled, as the history has it.
fn poll(ops: &mut Ops, process: u32, queue: u32, found: &[(i64, u64)], from: i64, at: u64) {
    let start = ops.messages.len();
    ops.messages.extend(found);
    ops.polls.push(Poll {
        process,
        queue,
        via: 0,
        from,
        min: 0,
        next: found.last().map_or(from, |(o, _)| o + 1),
        span: span(at, at + MS),
        messages: start..ops.messages.len(),
        last: false,
        follows: from > 0,
    });
}

/// A run of a correct set: messages take their place somewhere between their send and its answer; every seventh has no answer, half
/// of those are stored; every eleventh is refused.
fn run() -> Ops {
    let mut random = Random::new(11);
    let mut ops = Ops::default();
    let mut logs = vec![Vec::new(); QUEUES as usize];
    for n in 0..MESSAGES {
        let queue = u32::try_from(n).unwrap() % QUEUES;
        let log: &mut Vec<u64> = &mut logs[queue as usize];
        let message = value::of(queue, n);
        // One after the other takes effect, and their times overlap.
        let effect = (n + 1) * 10 * MS;
        let invoked = effect - (random.below(30 * MS as usize) as u64).min(effect);
        let completed = effect + random.below(30 * MS as usize) as u64;
        let outcome = match n {
            n if n % 11 == 10 => Outcome::Fail,
            n if n % 7 == 6 => Outcome::Info,
            _ => Outcome::Ok,
        };
        let stored = outcome == Outcome::Ok || (outcome == Outcome::Info && random.below(2) == 0);
        let offset = log.len() as i64;
        if stored {
            log.push(message);
        }
        ops.sends.push(Send {
            queue,
            value: message,
            span: span(
                invoked,
                if outcome == Outcome::Info {
                    NEVER
                } else {
                    completed
                },
            ),
            outcome,
            offset: if outcome == Outcome::Ok { offset } else { -1 },
            delay_ms: 0,
        });
        if n % 5 == 0 {
            ops.max_reads.push(MaxRead {
                queue,
                via: 1,
                span: span(effect, effect + MS),
                offset: log.len() as i64,
            });
        }
    }
    let end = (MESSAGES + 10) * 10 * MS;
    for (queue, log) in (0..).zip(&logs) {
        let all: Vec<_> = (0..).zip(log.iter().copied()).collect();
        for (n, part) in (0..).zip(all.chunks(17)) {
            poll(&mut ops, 900, queue, part, n * 17, end);
        }
        for via in 0..REPLICAS {
            for (n, part) in (0..).zip(all.chunks(60).chain([&[][..]])) {
                let from = if part.is_empty() {
                    log.len() as i64
                } else {
                    n * 60
                };
                poll(&mut ops, 1000, queue, part, from, end + MS);
                let last = ops.polls.last_mut().unwrap();
                (last.last, last.via) = (true, via);
            }
        }
    }
    ops.end = end + 2 * MS;
    ops
}

type Named = BTreeMap<&'static str, Verdict>;

fn judge(ops: &Ops, settings: &Settings) -> Named {
    let log = FinalLog::of(ops);
    BTreeMap::from([
        ("total-queue", total_queue::check(ops, &log, settings)),
        ("log-linear", log_linear::check(ops, &log, settings)),
        (
            "consumed-then-lost",
            consumed_then_lost::check(ops, &log, settings),
        ),
        ("stale-max-offset", max_offset::check(ops, &log, settings)),
        ("order", order::check(ops, &log)),
        ("coverage", coverage::check(ops, settings)),
    ])
}

fn assert_valid(named: &Named) {
    for (name, verdict) in named {
        assert_eq!(verdict.valid, Valid::True, "{name}: {}", verdict.json());
    }
}

/// `checker` must find `anomaly` after `damage`.
fn damaged(checker: &str, anomaly: &str, damage: impl FnOnce(&mut Ops)) {
    let mut ops = run();
    damage(&mut ops);
    let named = judge(&ops, &settings());
    let verdict = &named[checker];
    assert_eq!(verdict.valid, Valid::False, "{checker} missed {anomaly}");
    let types = verdict.fields["anomaly-types"].as_array().unwrap();
    assert!(
        types.contains(&Value::from(anomaly)),
        "{anomaly}: {}",
        verdict.json()
    );
}

/// The nth acknowledged message of the first queue.
fn acked(ops: &Ops, nth: usize) -> Send {
    let acked = ops.sends.iter().filter(|s| s.outcome == Outcome::Ok);
    let mut acked = acked.filter(|s| s.queue == 0);
    *acked.nth(nth).unwrap()
}

/// Where a message is in all polls that are, or are not, final reads.
fn places(ops: &Ops, message: u64, last: bool) -> Vec<usize> {
    let polls = ops.polls.iter().filter(|p| p.last == last);
    let all = polls.flat_map(|p| p.messages.clone());
    all.filter(|n| ops.messages[*n].1 == message).collect()
}

/// Takes the last message of a queue out of the final reads.
fn cut_end(ops: &mut Ops, queue: u32) -> u64 {
    let mut gone = 0;
    for poll in ops.polls.iter_mut().filter(|p| p.last && p.queue == queue) {
        if poll.messages.is_empty() {
            poll.from -= 1;
            poll.next -= 1;
        } else if ops.messages[poll.messages.end - 1].0 + 1 == poll.next {
            let is_end = poll.messages.len() < 60;
            if is_end {
                gone = ops.messages[poll.messages.end - 1].1;
                poll.messages.end -= 1;
                poll.next -= 1;
            }
        }
    }
    gone
}

#[test]
fn a_correct_run_is_valid() {
    let ops = run();
    let named = judge(&ops, &settings());
    assert_valid(&named);
    let total = &named["total-queue"].fields;
    let refused = (0..MESSAGES).filter(|n| n % 11 == 10).count();
    let unknown = (0..MESSAGES).filter(|n| n % 11 != 10 && n % 7 == 6).count();
    assert_eq!(total["attempt-count"], MESSAGES);
    assert_eq!(
        total["acknowledged-count"],
        MESSAGES as usize - refused - unknown
    );
    assert_eq!(total["lost-count"], 0);
    assert!(total["recovered-count"].as_u64().unwrap() > 0);
}

#[test]
fn lost_messages_are_counted_by_where_they_were() {
    let mut ops = run();
    let gone = cut_end(&mut ops, 0);
    // The end may be one of unknown outcome, then nothing is lost; here it is not.
    assert!(
        ops.sends
            .iter()
            .any(|s| s.value == gone && s.outcome == Outcome::Ok)
    );
    let named = judge(&ops, &settings());
    let total = &named["total-queue"];
    assert_eq!(total.valid, Valid::False);
    assert_eq!(total.fields["lost-count"], 1);
    assert_eq!(total.fields["lost-parts"]["postfix"], 1);
    assert_eq!(named["log-linear"].fields["lost-write-count"], 1);
    assert_eq!(named["consumed-then-lost"].valid, Valid::False);

    let mut ops = run();
    let middle = acked(&ops, 100);
    for n in places(&ops, middle.value, true) {
        ops.messages[n].1 = acked(&ops, 102).value;
    }
    let total = &judge(&ops, &settings())["total-queue"];
    assert_eq!(total.fields["lost-parts"]["middle"], 1);
    assert_eq!(total.fields["duplicated-count"], 1);
}

#[test]
fn weaker_modes_may_lose_and_say_how_much() {
    let mut ops = run();
    cut_end(&mut ops, 0);
    // The consumer had not got that far.
    ops.polls
        .retain(|p| p.last || ops.messages[p.messages.end - 1].0 < 150);
    ops.max_reads.retain(|r| r.offset < 150);
    let weak = Settings {
        ack: Ack::Async,
        ..settings()
    };
    let named = judge(&ops, &weak);
    assert_valid(&named);
    assert_eq!(named["total-queue"].fields["lost-count"], 1);
    assert_eq!(named["total-queue"].fields["loss-allowed"], true);
    // What was consumed must be there all the same.
    let mut ops = run();
    cut_end(&mut ops, 0);
    assert_eq!(judge(&ops, &weak)["consumed-then-lost"].valid, Valid::False);
    let cached = Settings {
        flush: Flush::Async,
        faults: vec!["power:all".to_owned()],
        ..settings()
    };
    assert_eq!(
        judge(&ops, &cached)["consumed-then-lost"].valid,
        Valid::True
    );
    // An offset that was lost is given again, to a message that was sent after it had been read.
    let mut ops = run();
    ops.max_reads[10].offset += 30;
    assert_eq!(judge(&ops, &cached)["stale-max-offset"].valid, Valid::True);
}

#[test]
fn anomalies_of_the_log_are_found() {
    damaged("log-linear", "inconsistent-offsets", |ops| {
        let other = acked(ops, 60);
        let n = places(ops, acked(ops, 50).value, false)[0];
        ops.messages[n].1 = other.value;
    });
    damaged("log-linear", "inconsistent-offsets", |ops| {
        // One replica alone.
        let n = places(ops, acked(ops, 50).value, true)[1];
        ops.messages[n].1 = acked(ops, 60).value;
    });
    damaged("log-linear", "duplicate", |ops| {
        for n in places(ops, acked(ops, 50).value, true) {
            ops.messages[n].1 = acked(ops, 60).value;
        }
    });
    damaged("log-linear", "unexpected", |ops| {
        for n in places(ops, acked(ops, 50).value, true) {
            ops.messages[n].1 = value::of(500, 500);
        }
    });
    damaged("log-linear", "G1a", |ops| {
        let refused = ops
            .sends
            .iter()
            .find(|s| s.outcome == Outcome::Fail)
            .unwrap()
            .value;
        let n = places(ops, acked(ops, 50).value, false)[0];
        ops.messages[n].1 = refused;
    });
    damaged("log-linear", "G1a", |ops| {
        let stored = acked(ops, 50).value;
        let send = ops.sends.iter_mut().find(|s| s.value == stored).unwrap();
        (send.outcome, send.offset) = (Outcome::Fail, -1);
    });
    damaged("log-linear", "gap", |ops| {
        let all = places(ops, acked(ops, 50).value, true);
        for n in all {
            ops.messages[n] = (ops.messages[n + 1].0, ops.messages[n + 1].1);
        }
    });
    damaged("log-linear", "divergent-end", |ops| {
        for poll in ops
            .polls
            .iter_mut()
            .filter(|p| p.last && p.via == 2 && p.queue == 1)
        {
            if poll.from >= 60 {
                (poll.from, poll.next) = (60, 60);
                poll.messages.end = poll.messages.start;
            }
        }
    });
    damaged("log-linear", "nonmonotonic-send", |ops| {
        // Two that lie in one order were sent, far apart, in the other.
        let (early, late) = (acked(ops, 20), acked(ops, 60));
        assert_eq!(early.queue, late.queue);
        for send in &mut ops.sends {
            if send.value == early.value {
                send.span = late.span;
            } else if send.value == late.value {
                send.span = early.span;
            }
        }
    });
    damaged("log-linear", "lost-write", |ops| {
        cut_end(ops, 0);
    });
}

#[test]
fn anomalies_of_readers_are_found() {
    let polls = |ops: &Ops| -> Vec<usize> {
        (0..ops.polls.len())
            .filter(|n| !ops.polls[*n].last && ops.polls[*n].queue == 0)
            .collect()
    };
    damaged("log-linear", "int-poll-skip", |ops| {
        let n = polls(ops)[2];
        let range = ops.polls[n].messages.clone();
        for at in range.start + 5..range.end - 1 {
            ops.messages[at] = ops.messages[at + 1];
        }
        ops.polls[n].messages.end -= 1;
    });
    damaged("log-linear", "poll-skip", |ops| {
        let n = polls(ops)[2];
        ops.polls[n].messages.start += 1;
    });
    damaged("log-linear", "poll-skip", |ops| {
        let n = polls(ops)[2];
        ops.polls[n].next += 4;
    });
    damaged("log-linear", "poll-skip", |ops| {
        let n = polls(ops)[2];
        ops.polls[n].messages.end = ops.polls[n].messages.start;
    });
    damaged("log-linear", "int-nonmonotonic-poll", |ops| {
        let range = ops.polls[polls(ops)[2]].messages.clone();
        ops.messages.swap(range.start + 3, range.start + 4);
    });
    damaged("log-linear", "nonmonotonic-poll", |ops| {
        let n = polls(ops)[2];
        ops.polls[n].from += 3;
    });
    damaged("log-linear", "nonmonotonic-poll", |ops| {
        let n = polls(ops)[2];
        let poll = &mut ops.polls[n];
        poll.messages.end = poll.messages.start;
        poll.next = poll.from - 5;
    });
    damaged("consumed-then-lost", "consumed-then-lost", |ops| {
        let n = places(ops, acked(ops, 50).value, false)[0];
        ops.messages[n].1 = acked(ops, 51).value;
    });
    damaged("order", "out-of-order", |ops| {
        let (a, b) = (acked(ops, 50), acked(ops, 52));
        assert_eq!(value::sender(a.value), value::sender(b.value));
        let first = places(ops, a.value, true);
        let second = places(ops, b.value, true);
        first.iter().for_each(|n| ops.messages[*n].1 = b.value);
        second.iter().for_each(|n| ops.messages[*n].1 = a.value);
    });
    damaged("order", "consumed-out-of-order", |ops| {
        let range = ops.polls[polls(ops)[2]].messages.clone();
        ops.messages.swap(range.start + 3, range.start + 4);
    });
}

#[test]
fn reads_of_the_end_are_bounded_from_both_sides() {
    damaged("stale-max-offset", "stale-max-offset", |ops| {
        ops.max_reads[60].offset -= 20;
    });
    damaged("stale-max-offset", "stale-max-offset", |ops| {
        // Nothing acknowledged contradicts it, only what was read before.
        ops.sends.retain(|s| s.offset < 100);
        let first = ops
            .max_reads
            .iter()
            .position(|r| r.queue == 0 && r.offset > 120)
            .unwrap();
        let later = ops.max_reads[first];
        ops.max_reads.push(MaxRead {
            span: span(later.span.completed + MS, later.span.completed + 2 * MS),
            offset: later.offset - 1,
            ..later
        });
    });
    damaged("stale-max-offset", "max-offset-from-the-future", |ops| {
        ops.max_reads[10].offset += 30;
    });
    damaged("stale-max-offset", "max-offset-lost", |ops| {
        ops.max_reads.last_mut().unwrap().offset += 1_000;
    });
    // Acknowledged by the leader alone is not visible yet.
    let mut ops = run();
    let read = ops.max_reads.iter_mut().rfind(|r| r.queue == 1).unwrap();
    read.offset -= 1;
    let queue = read.queue;
    ops.max_reads.retain(|r| r.queue == queue);
    assert_eq!(
        judge(&ops, &settings())["stale-max-offset"].valid,
        Valid::False
    );
    let weak = Settings {
        ack: Ack::Async,
        ..settings()
    };
    assert_eq!(judge(&ops, &weak)["stale-max-offset"].valid, Valid::True);
}

#[test]
fn unread_queues_leave_it_open() {
    let mut ops = run();
    ops.polls.retain(|p| !p.last || p.queue == 0);
    let named = judge(&ops, &settings());
    assert_eq!(named["total-queue"].valid, Valid::Unknown);
    assert_eq!(
        named["log-linear"].valid.max(Valid::Unknown),
        named["log-linear"].valid
    );
}
