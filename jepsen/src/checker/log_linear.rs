//! The queues behave as linearizable logs. A log that answers with the offset is one exactly if offsets are unique and without
//! gaps, a message that was acknowledged before another was sent lies before it, and whoever reads an offset sees the same
//! message there; what readers see of the end is [`super::max_offset`]'s. All in O(n log n). Names are those of
//! Jepsen's checker for Kafka.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::final_log::{FinalLog, NOTHING};
use super::verdict::{Anomalies, Verdict};
use crate::ops::{NEVER, Ops, Outcome, Poll};
use crate::settings::Settings;

/// What is known of a message from its sends.
#[derive(Clone, Copy)]
struct Sent {
    /// Sends that were not refused.
    attempts: u32,
    /// Sends in all.
    sends: u32,
    invoked: u64,
}

/// See the module.
pub fn check(ops: &Ops, log: &FinalLog, settings: &Settings) -> Verdict {
    let mut found = Anomalies::default();
    let sent = sent(ops);
    final_reads(log, &sent, settings, &mut found);
    acks(ops, log, settings, &mut found);
    real_time(ops, log, &sent, &mut found);
    let polled = polls(ops, log, &sent, settings, &mut found);
    let allowed: &[&str] = if settings.committed_may_be_lost() {
        &["nonmonotonic-poll"]
    } else {
        &[]
    };
    let verdict = found.verdict(allowed).with("polled-count", polled);
    if log.is_complete(&ops.queues()) {
        verdict
    } else {
        verdict.at_least(super::verdict::Valid::Unknown)
    }
}

fn sent(ops: &Ops) -> HashMap<u64, Sent> {
    let mut all: HashMap<u64, Sent> = HashMap::with_capacity(ops.sends.len());
    for send in &ops.sends {
        let one = all.entry(send.value).or_insert(Sent {
            attempts: 0,
            sends: 0,
            invoked: send.span.invoked,
        });
        one.sends += 1;
        one.attempts += u32::from(send.outcome != Outcome::Fail);
        one.invoked = one.invoked.min(send.span.invoked);
    }
    all
}

/// Copies agree, have no gaps, and hold what was sent, as often as it was sent.
fn final_reads(
    log: &FinalLog,
    sent: &HashMap<u64, Sent>,
    settings: &Settings,
    found: &mut Anomalies,
) {
    for (q, queue) in &log.queues {
        for (replica, copy) in &queue.copies {
            for (offset, value) in (copy.min..).zip(&copy.values) {
                if *value == NOTHING {
                    found.add("gap", || json!({"q": q, "offset": offset, "via": replica}));
                } else if offset >= queue.log.min && queue.log.at(offset) != Some(*value) {
                    let other = queue.log.at(offset);
                    found.add("inconsistent-offsets", || {
                        json!({"q": q, "offset": offset, "via": replica, "v": value, "other": other})
                    });
                }
            }
            // Each replica gives up what the set decided when it comes to it.
            if copy.complete && copy.min > queue.log.min && !settings.trims {
                found.add(
                    "divergent-start",
                    || json!({"q": q, "via": replica, "start": copy.min, "first": queue.log.min}),
                );
            }
            if copy.complete && copy.end() < queue.log.end() {
                found.add("divergent-end", || {
                    json!({"q": q, "via": replica, "end": copy.end(), "longest": queue.log.end()})
                });
            }
        }
    }
    for (value, copies) in log.copies() {
        match sent.get(&value) {
            None => found.add("unexpected", || json!({"v": value})),
            Some(s) if s.attempts == 0 => found.add(
                "G1a",
                || json!({"v": value, "why": "every send of it was refused"}),
            ),
            Some(s) if copies > s.attempts => found.add(
                "duplicate",
                || json!({"v": value, "copies": copies, "sent": s.attempts}),
            ),
            Some(_) => {}
        }
    }
}

/// An acknowledged offset is the message's own, and it still is at the end.
fn acks(ops: &Ops, log: &FinalLog, settings: &Settings, found: &mut Anomalies) {
    let mut acked: HashMap<(u32, i64), u64> = HashMap::new();
    for send in ops.sends.iter().filter(|s| s.offset >= 0) {
        let before = acked.insert((send.queue, send.offset), send.value);
        let other = match before {
            Some(other) if other != send.value => Some(other),
            _ => log.at(send.queue, send.offset).filter(|v| *v != send.value),
        };
        let at = json!({"q": send.queue, "offset": send.offset, "v": send.value});
        if settings.acked_may_be_lost() {
            continue;
        }
        if let Some(other) = other {
            found.add(
                "inconsistent-offsets",
                || json!({"acked": at, "other": other}),
            );
        } else if log.at(send.queue, send.offset).is_none()
            && !(settings.trims && log.is_trimmed(send.queue, send.offset))
            && log.queues.contains_key(&send.queue)
        {
            found.add("lost-write", || at);
        }
    }
}

/// Who was sent after another was acknowledged lies behind it.
fn real_time(ops: &Ops, log: &FinalLog, sent: &HashMap<u64, Sent>, found: &mut Anomalies) {
    let once = |value: u64| sent.get(&value).is_some_and(|s| s.sends == 1);
    // Unacknowledged ones have an offset, too, if they are in the log.
    let mut place: HashMap<u64, i64> = HashMap::new();
    for queue in log.queues.values() {
        for (offset, value) in (queue.log.min..).zip(&queue.log.values) {
            if *value != NOTHING && once(*value) {
                place.insert(*value, offset);
            }
        }
    }
    let mut by_queue: BTreeMap<u32, Vec<(u64, u64, i64, u64)>> = BTreeMap::new();
    for send in ops.sends.iter().filter(|s| s.delay_ms == 0) {
        let offset = match send.outcome {
            // What was lost has no order; that it was lost is said elsewhere.
            Outcome::Ok if send.offset < 0 => continue,
            Outcome::Ok if log.at(send.queue, send.offset) == Some(send.value) => send.offset,
            Outcome::Info if once(send.value) => match place.get(&send.value) {
                Some(offset) => *offset,
                None => continue,
            },
            _ => continue,
        };
        let one = (send.span.invoked, send.span.completed, offset, send.value);
        by_queue.entry(send.queue).or_default().push(one);
    }
    for (q, mut sends) in by_queue {
        let mut done: Vec<_> = sends.iter().filter(|s| s.1 != NEVER).copied().collect();
        done.sort_unstable_by_key(|s| s.1);
        sends.sort_unstable_by_key(|s| s.0);
        let mut done = done.into_iter().peekable();
        let mut highest: Option<(i64, u64)> = None;
        for (invoked, _, offset, value) in sends {
            while let Some((_, _, earlier, of)) = done.next_if(|d| d.1 < invoked) {
                if highest.is_none_or(|(h, _)| h < earlier) {
                    highest = Some((earlier, of));
                }
            }
            if let Some((before, of)) = highest.filter(|(h, _)| *h >= offset) {
                found.add("nonmonotonic-send", || {
                    json!({"q": q, "v": value, "offset": offset, "earlier": of, "earlier-offset": before})
                });
            }
        }
    }
}

/// What consumers saw: in order, nothing left out, the same as everybody. Returns how many messages.
fn polls(
    ops: &Ops,
    log: &FinalLog,
    sent: &HashMap<u64, Sent>,
    settings: &Settings,
    found: &mut Anomalies,
) -> u64 {
    let mut polled = 0;
    let mut seen: HashMap<(u32, i64), u64> = HashMap::new();
    for poll in ops.polls.iter().filter(|p| !p.last) {
        let messages = ops.found(poll);
        polled += messages.len() as u64;
        shape(poll, messages, log, found);
        for (offset, value) in messages {
            let at = || json!({"q": poll.queue, "offset": offset, "v": value, "via": poll.via});
            match sent.get(value) {
                None => found.add("unexpected", at),
                Some(s) if s.attempts == 0 => found.add("G1a", at),
                Some(_) => {}
            }
            // What is in the final log has been compared when it is equal; the rest is compared among itself.
            if log.at(poll.queue, *offset) == Some(*value) || settings.committed_may_be_lost() {
                continue;
            }
            let other = log
                .at(poll.queue, *offset)
                .or_else(|| seen.insert((poll.queue, *offset), *value));
            if let Some(other) = other.filter(|o| o != value) {
                found.add(
                    "inconsistent-offsets",
                    || json!({"polled": at(), "other": other}),
                );
            }
        }
    }
    polled
}

fn shape(poll: &Poll, messages: &[(i64, u64)], log: &FinalLog, found: &mut Anomalies) {
    let at = || json!({"q": poll.queue, "from": poll.from, "next": poll.next, "via": poll.via, "process": poll.process});
    let Some((first, _)) = messages.first() else {
        if poll.follows && poll.next < poll.from {
            found.add("nonmonotonic-poll", at);
        }
        let passed = poll.from.max(poll.min)..poll.next;
        if let Some(skipped) = passed.take(1).find(|o| log.at(poll.queue, *o).is_some()) {
            found.add("poll-skip", || json!({"poll": at(), "offset": skipped}));
        }
        return;
    };
    if *first < poll.from {
        found.add("nonmonotonic-poll", at);
    }
    if *first > poll.from.max(poll.min) {
        found.add("poll-skip", at);
    }
    for pair in messages.windows(2) {
        let (before, after) = (pair[0].0, pair[1].0);
        if after <= before {
            found.add("int-nonmonotonic-poll", at);
        } else if after > before + 1 {
            found.add("int-poll-skip", at);
        }
    }
    if messages
        .last()
        .is_some_and(|(last, _)| poll.next != last + 1)
    {
        found.add("poll-skip", at);
    }
}
