//! Keeping the disk from filling up: refusing messages when it is too full, and giving up the oldest part of the log.
//!
//! [`watch_disk`] looks every second how full the disk is. [`run`] asks [`crate::trim`] every `cleanResourceInterval` for a
//! new beginning of the log. On the master that becomes a proposal, which every replica follows, and only after no pending
//! timer lies below any more; a replica that does not lead and is short of disk gives up its own oldest part alone. What
//! is derived from the log, consume queues and key index, follows by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftmq_raft::{Proposal, Space, TrimPoint};
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_store::Command;

use crate::broker::{Broker, now_ms};
use crate::call::Call;
use crate::config::Config;
use crate::timer::{self, blocking};
use crate::timer_moves;
use crate::transaction;
use crate::trim::{Policy, Situation};

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Rounds for which a manual delete lasts, as in RocketMQ.
const MANUAL_ROUNDS: u32 = 20;

/// RocketMQ's bounds of diskMaxUsedSpaceRatio.
const MAX_USED: std::ops::RangeInclusive<u32> = 10..=95;

/// What the tasks and the handlers share.
#[derive(Default)]
pub struct Retention {
    /// Rounds left in which a manual delete is in force.
    manual: AtomicU32,
    disk: Mutex<Disk>,
}

#[derive(Default)]
struct Disk {
    space: Option<Space>,
    full: bool,
}

impl Retention {
    /// How full the disk was at the last look; `None` when it could not be looked at.
    pub fn space(&self) -> Option<Space> {
        self.disk.lock().space
    }

    /// Whether messages are refused because of `diskSpaceWarningLevelRatio`.
    pub fn is_full(&self) -> bool {
        self.disk.lock().full
    }

    fn saw(&self, broker: &Broker, space: Option<Space>) {
        let limit = f64::from(broker.config().disk_warning);
        let mut disk = self.disk.lock();
        disk.space = space;
        // A disk that cannot be looked at is left as it was: its writes will tell.
        if let Some(space) = space {
            disk.full = used_percent(space) >= limit;
            broker.replica.set_full(disk.full);
        }
    }

    /// Proposes messages that make room: pending timers that hold the log. A full disk refuses them as it refuses all, so
    /// it is taken for one with room while this one proposal enters the queue.
    pub fn propose_to_make_room(&self, broker: &Broker, proposal: Proposal, done: timer::Proposed) {
        let disk = self.disk.lock();
        if disk.full {
            broker.replica.set_full(false);
        }
        broker.replica.propose(proposal, done);
        if disk.full {
            broker.replica.set_full(true);
        }
    }
}

/// Percent of a disk that is used, 0 to 100.
pub fn used_percent(space: Space) -> f64 {
    match space.total {
        0 => 0.0,
        total => total.saturating_sub(space.available) as f64 * 100.0 / total as f64,
    }
}

/// Refuses messages while the disk is too full; for the life of the broker.
pub async fn watch_disk(broker: Arc<Broker>) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let replica = broker.replica.clone();
        let Some(space) = blocking(move || replica.space()).await else {
            return;
        };
        let space = space.map_err(|e| tracing::error!(error = %e, "the disk cannot be looked at"));
        broker.retention.saw(&broker, space.ok());
    }
}

/// Gives up what has to go; for the life of the broker.
pub async fn run(broker: Arc<Broker>) {
    loop {
        tokio::time::sleep(Duration::from_millis(broker.config().clean_interval_ms)).await;
        let policy = policy(&broker.config());
        let role = broker.replica.role();
        let other_leads = role
            .leader
            .as_ref()
            .is_some_and(|l| l.node_id != role.me.node_id);
        if role.serving {
            lead(&broker, &policy, role.term, role.members.len()).await;
        } else if other_leads {
            follow(&broker, &policy).await;
        }
    }
}

fn policy(config: &Config) -> Policy {
    let forcibly = config.disk_clean_forcibly.min(config.disk_warning);
    Policy {
        reserved_ms: i64::from(config.file_reserved_hours) * 3_600_000,
        max_used: f64::from(
            config
                .disk_max_used
                .clamp(*MAX_USED.start(), *MAX_USED.end()),
        ),
        forcibly: config.clean_forcibly.then_some(f64::from(forcibly)),
    }
}

fn situation<'a>(broker: &Broker, boundaries: &'a [TrimPoint]) -> Situation<'a> {
    Situation {
        now_ms: now_ms(),
        used: broker.retention.space().map_or(0.0, used_percent),
        is_time: broker.config().delete_when.is_now(),
        manual: false,
        log_start: broker.replica.log_range().0 as u64,
        boundaries,
        everywhere: 0,
    }
}

/// One round of the master.
async fn lead(broker: &Arc<Broker>, policy: &Policy, term: u64, members: usize) {
    let boundaries = broker.replica.boundaries();
    let take = |rounds: u32| rounds.checked_sub(1);
    let manual = &broker.retention.manual;
    let now = Situation {
        manual: manual
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
            .is_ok(),
        everywhere: match members {
            0 | 1 => u64::MAX,
            _ => broker.replica.replicated_everywhere().unwrap_or(0),
        },
        ..situation(broker, &boundaries)
    };
    let Some(wanted) = policy.for_the_set(&now) else {
        return;
    };
    let Some(position) = without_timers(broker, term, wanted, &now).await else {
        return;
    };
    if position <= broker.state().trim_to() {
        // Decided before, and on its way.
        return;
    }
    tracing::info!(
        position,
        used_percent = now.used,
        manual = now.manual,
        "the log before this position is given up"
    );
    let trim = Proposal {
        only_term: Some(term),
        ..broker.commands(
            vec![Command::TrimTo { position }],
            Instant::now() + broker.config().ack_timeout(),
        )
    };
    if let Some(Err(e)) = timer::propose(broker, trim).await {
        tracing::warn!(error = %e, position, "the log could not be given up, trying again");
    }
}

/// Moves the pending timers and half messages before `wanted`. When some have to stay: the last boundary that none of them needs.
async fn without_timers(
    broker: &Arc<Broker>,
    term: u64,
    wanted: u64,
    now: &Situation<'_>,
) -> Option<u64> {
    let timers = timer_moves::move_all(broker, term, wanted).await;
    if timers & transaction::move_all(broker, term, wanted).await {
        return Some(wanted);
    }
    let pending = timer_moves::pending_before(broker, wanted).await?;
    let half = transaction::first_before(broker, wanted).await?;
    let timers = pending.iter().map(|key| key.physical_offset as u64);
    let first = timers.chain(half).min();
    let free = now
        .boundaries
        .iter()
        .map(|point| point.position)
        .take_while(|p| *p <= wanted && first.is_none_or(|first| *p <= first));
    free.filter(|p| *p > now.log_start).last()
}

/// One round of a replica that does not lead.
async fn follow(broker: &Arc<Broker>, policy: &Policy) {
    let boundaries = broker.replica.boundaries();
    let now = situation(broker, &boundaries);
    let Some(position) = policy.for_itself(&now) else {
        return;
    };
    // As master it would have to deliver them.
    let half = transaction::first_before(broker, position).await;
    match timer_moves::pending_before(broker, position).await {
        Some(pending) if pending.is_empty() && half == Some(None) => {
            tracing::warn!(
                position,
                used_percent = now.used,
                "the disk is short: this replica gives up the log before this position"
            );
            broker.replica.trim_alone(position);
        }
        Some(pending) => tracing::warn!(
            pending = pending.len(),
            used_percent = now.used,
            "the disk is short, and delayed or half messages hold the log: the master has to move them first"
        ),
        None => {}
    }
}

/// DELETE_EXPIRED_COMMITLOG: what has expired goes now and in the next rounds, at whatever hour.
pub fn delete_expired(broker: &Arc<Broker>, call: Call) {
    tracing::info!(client = %call.client, "an administrator asks to delete what has expired");
    broker
        .retention
        .manual
        .store(MANUAL_ROUNDS, Ordering::Release);
    call.reply(RemotingCommand::response(response::SUCCESS));
}

/// CLEAN_EXPIRED_CONSUMEQUEUE: consume queues follow the log by themselves.
pub fn clean_queues(_: &Arc<Broker>, call: Call) {
    call.reply(RemotingCommand::response(response::SUCCESS));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_of_a_disk() {
        let space = |total, available| Space { total, available };
        assert_eq!(used_percent(space(0, 0)), 0.0);
        assert_eq!(used_percent(space(200, 50)), 75.0);
        assert_eq!(used_percent(space(200, 0)), 100.0);
        assert_eq!(used_percent(space(10, 20)), 0.0);
    }

    #[test]
    fn ratios_are_bounded_as_in_rocketmq() {
        let with = |used, forcibly, warning, enabled| {
            let policy = policy(&Config {
                disk_max_used: used,
                disk_clean_forcibly: forcibly,
                disk_warning: warning,
                clean_forcibly: enabled,
                ..Config::default()
            });
            (policy.max_used, policy.forcibly)
        };
        assert_eq!(with(75, 85, 95, true), (75.0, Some(85.0)));
        assert_eq!(with(0, 85, 95, false), (10.0, None));
        assert_eq!(
            with(100, 85, 80, true),
            (95.0, Some(80.0)),
            "what refuses messages also makes room"
        );
    }
}
