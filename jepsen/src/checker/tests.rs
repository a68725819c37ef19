//! A history as a correct set would give it is valid, and every kind of damage done to it is found, by its name.

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

fn register(key: u32, write: bool, value: i64, at: u64) -> RegisterOp {
    RegisterOp {
        process: 0,
        key,
        write,
        oneway: false,
        value,
        span: span(at, at + 1),
        outcome: Outcome::Ok,
    }
}

#[test]
fn registers_are_judged_by_key() {
    let mut ops = Ops::default();
    for key in 0..3 {
        ops.registers.push(register(key, false, -1, 0));
        ops.registers.push(register(key, true, 2, 10));
        ops.registers.push(register(key, false, 2, 20));
    }
    assert_eq!(register::check(&ops).valid, Valid::True);
    // A write of unknown outcome may be seen late, a refused one never.
    ops.registers.push(RegisterOp {
        span: span(21, NEVER),
        outcome: Outcome::Info,
        ..register(1, true, 4, 21)
    });
    ops.registers.push(register(1, false, 2, 30));
    ops.registers.push(register(1, false, 4, 40));
    assert_eq!(register::check(&ops).valid, Valid::True);
    ops.registers.push(register(2, true, 2, 41));
    ops.registers.push(register(2, false, -1, 50));
    let verdict = register::check(&ops);
    assert_eq!(verdict.valid, Valid::False);
    assert_eq!(verdict.fields["failures"], serde_json::json!([2]));
    let without = register::porcupine(&ops, Err("no Go"), false);
    assert_eq!(
        (without.valid, &without.fields["ran"]),
        (Valid::True, &Value::Bool(false))
    );
    assert_eq!(
        register::porcupine(&ops, Err("no Go"), true).valid,
        Valid::Unknown
    );
}

/// Both opinions on registers, where Go is.
#[test]
fn porcupine_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("porcupine");
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("porcupine");
    if let Err(why) = register::build_porcupine(&source, &program) {
        eprintln!("not tested, {why}");
        return;
    }
    let mut random = Random::new(5);
    let mut ops = Ops::default();
    for key in 0..20 {
        let mut state = -1;
        for n in 0..60 {
            let write = random.below(2) == 0;
            if write {
                state = i64::try_from(random.below(5)).unwrap();
            }
            let at = n * 10;
            let mut op = register(key, write, state, at);
            op.span.completed = at + 9;
            ops.registers.push(op);
        }
        // Every third key has a read of something that was overwritten before.
        if key % 3 == 0 {
            ops.registers.push(register(key, true, 3, 1_000));
            ops.registers.push(register(key, true, 1, 1_010));
            ops.registers.push(register(key, false, 3, 1_020));
        }
    }
    let ours = register::check(&ops);
    let theirs = register::porcupine(&ops, Ok(&program), true);
    assert_eq!(theirs.fields["ran"], true, "{}", theirs.json());
    assert_eq!(ours.fields["failures"], theirs.fields["failures"]);
    assert_eq!(ours.fields["failures"].as_array().unwrap().len(), 7);
}

#[test]
fn offsets_that_go_back_are_found_unless_something_explains_it() {
    let mut ops = Ops::default();
    for n in 0..10 {
        ops.registers.push(register(0, true, 10 * n as i64, 10 * n));
        ops.registers
            .push(register(0, false, 10 * n as i64, 10 * n + 5));
    }
    assert_eq!(offset_regression::check(&ops).valid, Valid::True);
    ops.registers.push(register(0, false, 50, 200));
    let verdict = offset_regression::check(&ops);
    assert_eq!(verdict.valid, Valid::False);
    assert_eq!(verdict.fields["offset-regression-count"], 1);
    // A commit of 50 that nobody waited for was on its way.
    let mut late = register(0, true, 50, 57);
    late.oneway = true;
    ops.registers.push(late);
    let verdict = offset_regression::check(&ops);
    assert_eq!(
        (verdict.valid, &verdict.fields["explained-regressions"]),
        (Valid::True, &Value::from(1))
    );
}

#[test]
fn delayed_messages_are_neither_early_nor_lost() {
    let delayed = |settings: &Settings, arrival_ms: u64, delivered: bool| {
        let mut ops = run();
        let message = acked(&ops, 50);
        let send = ops
            .sends
            .iter_mut()
            .find(|s| s.value == message.value)
            .unwrap();
        send.delay_ms = 1_000;
        let at = send.span.invoked + arrival_ms * MS;
        send.offset = -1;
        for poll in &mut ops.polls {
            poll.span = span(at - MS, at);
        }
        if !delivered {
            for last in [true, false] {
                for n in places(&ops, message.value, last) {
                    ops.messages[n].1 = 0;
                }
            }
        }
        delay::check(&ops, &FinalLog::of(&ops), settings)
    };
    let strict = settings();
    assert_eq!(delayed(&strict, 1_100, true).valid, Valid::True);
    let early = delayed(&strict, 900, true);
    assert_eq!(
        (early.valid, &early.fields["early-count"]),
        (Valid::False, &Value::from(1))
    );
    assert_eq!(delayed(&strict, 1_100, false).fields["lost-count"], 1);
    let jumping = Settings {
        faults: vec!["clock-jump".to_owned()],
        ..settings()
    };
    assert_eq!(delayed(&jumping, 900, true).valid, Valid::True);
}

#[test]
fn every_message_that_is_given_back_dies_once() {
    let run = |dead: &[u64], backs: &[(u64, u32)]| {
        let mut ops = Ops::default();
        for n in 0..3 {
            ops.sends.push(Send {
                queue: 0,
                value: n,
                span: span(n, n + 1),
                outcome: Outcome::Ok,
                offset: n as i64,
                delay_ms: 0,
            });
        }
        ops.send_backs = backs
            .iter()
            .map(|(value, times)| SendBack {
                value: *value,
                times: *times,
                span: span(10, 11),
                outcome: Outcome::Ok,
            })
            .collect();
        let found: Vec<_> = (0..).zip(dead.iter().copied()).collect();
        let queue = crate::workload::retry::dead_queue(QUEUES);
        poll(&mut ops, 9, queue, &found, 0, 50);
        poll(&mut ops, 9, queue, &[], found.len() as i64, 51);
        ops.polls.iter_mut().for_each(|p| p.last = true);
        retry::check(&ops, &FinalLog::of(&ops), &settings())
    };
    let all: Vec<_> = (0..3).flat_map(|v| (0..3).map(move |t| (v, t))).collect();
    assert_eq!(run(&[0, 1, 2], &all).valid, Valid::True);
    assert_eq!(run(&[0, 1], &all).fields["lost-retry-count"], 1);
    // Nobody gave the last one back yet.
    let unfinished = run(&[0, 1], &all[..6]);
    assert_eq!(unfinished.fields["unfinished-count"], 1);
    assert_eq!(unfinished.valid, Valid::Unknown);
    assert_eq!(run(&[0, 1, 2, 1], &all).fields["duplicate-dead-count"], 1);
    assert_eq!(run(&[0, 1, 2], &all[1..]).fields["dead-too-early-count"], 1);
}

#[test]
fn recovery_is_timed_from_the_last_heal() {
    let fault = |time, f: &str| Fault {
        time,
        f: f.to_owned(),
        targets: vec![0],
        detail: String::new(),
    };
    let mut ops = run();
    assert_eq!(recovery::check(&ops, &settings()).valid, Valid::True);
    ops.faults = vec![fault(100 * MS, "kill"), fault(1_000 * MS, "heal-kill")];
    let quick = recovery::check(&ops, &settings());
    assert_eq!(quick.valid, Valid::True);
    assert!(
        quick.fields["first-ack-ms"].as_u64().unwrap() < 200,
        "{}",
        quick.json()
    );
    let hasty = Settings {
        recovery_limit_ms: 0,
        ..settings()
    };
    assert_eq!(recovery::check(&ops, &hasty).valid, Valid::Unknown);
    ops.sends
        .retain(|s| s.queue == 0 || s.span.invoked < 900 * MS);
    let never = recovery::check(&ops, &settings());
    assert_eq!(
        (never.valid, &never.fields["queues-without-ack"]),
        (Valid::False, &serde_json::json!([1]))
    );
}

#[test]
fn a_run_without_its_faults_or_operations_proves_nothing() {
    let ops = run();
    let mut settings = Settings {
        faults: vec!["kill:leader".to_owned(), "bridge".to_owned()],
        happened: BTreeMap::from([("kill:leader".to_owned(), 3), ("bridge".to_owned(), 0)]),
        ..settings()
    };
    let verdict = coverage::check(&ops, &settings);
    assert_eq!(verdict.valid, Valid::Unknown);
    assert_eq!(
        verdict.fields["never-happened"],
        serde_json::json!(["bridge"])
    );
    settings.happened.insert("bridge".to_owned(), 1);
    assert_eq!(coverage::check(&ops, &settings).valid, Valid::True);
    settings.least_ops = 10_000;
    assert_eq!(coverage::check(&ops, &settings).valid, Valid::Unknown);
    (settings.least_ops, settings.harness_failure) = (1, Some("no leader".to_owned()));
    assert_eq!(coverage::check(&ops, &settings).valid, Valid::Unknown);
}

#[test]
fn panics_are_found_in_logs() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("a.log");
    std::fs::write(&log, "started\n").unwrap();
    let logs = [log.clone()];
    assert_eq!(panics::check(&logs, &settings()).valid, Valid::True);
    assert_eq!(panics::check(&[], &settings()).valid, Valid::Unknown);
    std::fs::write(&log, "mqbroker: the disk failed\n").unwrap();
    assert_eq!(panics::check(&logs, &settings()).valid, Valid::False);
    let explained = Settings {
        faults: vec!["fsync-error".to_owned()],
        ..settings()
    };
    assert_eq!(panics::check(&logs, &explained).valid, Valid::True);
    std::fs::write(&log, "thread 'raft' panicked at src/x.rs:1:1:\nno\n").unwrap();
    assert_eq!(panics::check(&logs, &explained).valid, Valid::False);
}
