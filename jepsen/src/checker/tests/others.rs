//! Registers, offsets, delays, retries, coverage, panics.

use super::*;

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

#[test]
fn a_porcupine_that_crashes_has_not_agreed() {
    let mut ops = Ops::default();
    ops.registers.push(register(0, false, -1, 0));
    let crashed = std::path::Path::new("/bin/false");
    let verdict = register::porcupine(&ops, Ok(crashed), false);
    assert_eq!(
        (verdict.valid, &verdict.fields["ran"]),
        (Valid::Unknown, &Value::Bool(false))
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
fn a_commit_explains_one_regression_and_not_the_next() {
    let mut ops = Ops::default();
    ops.registers.push(RegisterOp {
        oneway: true,
        ..register(0, true, 50, 10)
    });
    ops.registers.push(register(0, true, 60, 20));
    ops.registers.push(register(0, false, 60, 30));
    // It was under way until now.
    ops.registers.push(register(0, false, 50, 40));
    assert_eq!(offset_regression::check(&ops).valid, Valid::True);
    ops.registers.push(register(0, true, 70, 50));
    ops.registers.push(register(0, false, 70, 60));
    ops.registers.push(register(0, false, 50, 70));
    let verdict = offset_regression::check(&ops);
    assert_eq!(verdict.fields["offset-regression-count"], 1);
    assert_eq!(verdict.fields["explained-regressions"], 1);
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
    let told = |dead: &[u64], backs: &[(u64, u32)], outcome| {
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
                outcome,
            })
            .collect();
        let found: Vec<_> = (0..).zip(dead.iter().copied()).collect();
        let queue = crate::workload::retry::dead_queue(QUEUES);
        poll(&mut ops, 9, queue, &found, 0, 50);
        poll(&mut ops, 9, queue, &[], found.len() as i64, 51);
        ops.polls.iter_mut().for_each(|p| p.last = true);
        retry::check(&ops, &FinalLog::of(&ops), &settings())
    };
    let run = |dead: &[u64], backs: &[(u64, u32)]| told(dead, backs, Outcome::Ok);
    let all: Vec<_> = (0..3).flat_map(|v| (0..3).map(move |t| (v, t))).collect();
    // Nobody knows whether any of them was given back.
    let unknown = told(&[0, 1], &all, Outcome::Info);
    assert_eq!(
        (unknown.valid, &unknown.fields["unfinished-count"]),
        (Valid::Unknown, &Value::from(1))
    );
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
