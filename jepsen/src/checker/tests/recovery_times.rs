//! How long a set took to serve again.

use super::*;
use crate::checker::recovery::HEALED;

fn fault(time_ms: u64, f: &str) -> Fault {
    Fault {
        time: time_ms * MS,
        f: f.to_owned(),
        targets: vec![0],
        detail: String::new(),
    }
}

#[test]
fn recovery_is_timed_from_the_last_heal() {
    let mut ops = run();
    assert_eq!(recovery::check(&ops, &settings()).valid, Valid::True);
    ops.faults = vec![fault(100, "kill"), fault(1_000, "heal-kill")];
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
fn waiting_for_a_whole_set_does_not_make_a_slow_recovery_quick() {
    let mut ops = run();
    ops.faults = vec![
        fault(100, "power:all"),
        fault(500, "heal-power:all"),
        fault(2_000, HEALED),
    ];
    // Nothing is taken between 500 and 2100 ms.
    ops.sends
        .retain(|s| s.span.completed < 500 * MS || s.span.invoked > 2_100 * MS);
    let slow = recovery::check(&ops, &settings());
    assert!(
        slow.fields["first-ack-ms"].as_u64().unwrap() >= 1_600,
        "{}",
        slow.json()
    );
    assert_eq!(slow.fields["healed"], "power:all");
}

#[test]
fn every_heal_is_timed_and_the_slowest_told() {
    let mut ops = run();
    ops.faults = vec![
        fault(100, "kill:leader"),
        fault(300, "heal-kill:leader"),
        fault(1_200, "bridge"),
        // Two at a time: only the end of both is one.
        fault(1_300, "pause"),
        fault(1_400, "heal-bridge"),
        fault(1_500, "heal-pause"),
        fault(1_505, "delay"),
        fault(1_600, "no-delay"),
        fault(1_700, HEALED),
    ];
    ops.sends
        .retain(|s| s.span.completed < 300 * MS || s.span.invoked > 900 * MS);
    let told = recovery::check(&ops, &settings());
    assert_eq!(told.fields["slowest-after"], "kill:leader");
    assert!(told.fields["slowest-ms"].as_u64().unwrap() >= 600);
    assert!(told.fields["first-ack-ms"].as_u64().unwrap() < 200);
    assert_eq!(told.fields["heals"], 3, "{}", told.json());
    assert_eq!(told.fields["heals-timed"], 2, "{}", told.json());
}
