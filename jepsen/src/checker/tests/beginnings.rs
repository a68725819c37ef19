//! Queues that lost their beginning.

use super::*;

/// Has the first `offset` messages of the first queue gone on these replicas.
fn cut_start(ops: &mut Ops, offset: i64, replicas: &[u8]) {
    for poll in ops.polls.iter_mut().filter(|p| p.last && p.queue == 0) {
        if replicas.contains(&poll.via) {
            while !poll.messages.is_empty() && ops.messages[poll.messages.start].0 < offset {
                poll.messages.start += 1;
            }
            poll.min = offset;
        }
    }
}

#[test]
fn a_queue_that_lost_its_beginning_is_not_one_that_was_trimmed() {
    let mut ops = run();
    cut_start(&mut ops, 5, &[0, 1, 2]);
    let before = ops.sends.iter().filter(|s| s.queue == 0);
    let gone = before.filter(|s| (0..5).contains(&s.offset)).count();
    assert!(gone > 0);
    let named = judge(&ops, &settings());
    let total = &named["total-queue"];
    assert_eq!(total.valid, Valid::False);
    assert_eq!(total.fields["lost-parts"]["prefix"], gone);
    assert_eq!(named["log-linear"].fields["lost-write-count"], gone);
    assert_eq!(named["consumed-then-lost"].valid, Valid::False);
    // No mode may lose that.
    let weak = Settings {
        ack: Ack::Async,
        ..settings()
    };
    assert_eq!(judge(&ops, &weak)["total-queue"].valid, Valid::False);
    // Where it is given up on purpose it is a number.
    let trims = Settings {
        trims: true,
        ..settings()
    };
    let named = judge(&ops, &trims);
    assert_valid(&named);
    assert_eq!(named["total-queue"].fields["trimmed-count"], gone);
}

#[test]
fn one_replica_that_lost_a_beginning_is_told_from_the_others() {
    for via in 0..3 {
        let mut ops = run();
        cut_start(&mut ops, 5, &[via]);
        let named = judge(&ops, &settings());
        assert_eq!(
            named["total-queue"].valid,
            Valid::True,
            "the others have it"
        );
        let linear = &named["log-linear"];
        assert_eq!(linear.valid, Valid::False);
        assert_eq!(linear.fields["divergent-start-count"], 1);
    }
}
