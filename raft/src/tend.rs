//! What a leader looks after while it leads: notes for [`LagClock`](crate::lag::LagClock), the membership, and whether
//! another replica is preferred as leader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::lag::{self, Reach};
use crate::replica::Inner;
use crate::types::Raft;
use crate::{membership, transfer, upgrade};

/// How often the membership is looked at.
const MEMBERSHIP: Duration = Duration::from_millis(500);
/// The preferred replica has to be well for so long before it is given the leadership.
const WELL_FOR: Duration = Duration::from_secs(10);
/// Pause between two attempts to give it away.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(60);
/// Lag up to which the preferred replica counts as well.
const WELL_LAG: Duration = Duration::from_millis(200);
/// Pause between two attempts to raise the set's version.
const UPGRADE: Duration = Duration::from_secs(5);
/// Members that lag or were silent for so long are logged.
const LAGGING: Duration = Duration::from_secs(5);
/// For so long a set may be without a master before it is logged.
const NO_MASTER: Duration = Duration::from_secs(3);

/// Notes how far the log is while this replica leads, and since when it does; for the life of the replica.
pub async fn take_notes(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(lag::EVERY).await;
        let (leads, term) = {
            let role = inner.role.borrow();
            (role.leads(), role.term)
        };
        let mut since = inner.led_since.lock();
        if !leads {
            inner.lag.clear();
            *since = None;
            continue;
        }
        if since.is_none_or(|(led, _)| led != term) {
            inner.lag.clear();
            *since = Some((term, clock::now()));
        }
        drop(since);
        *inner.last_led.lock() = Some(clock::now());
        inner
            .lag
            .note(inner.store.log.bounds().1.map_or(0, |last| last.index));
    }
}

/// Looks after the set while this replica leads; for the life of the replica.
pub async fn run(inner: Arc<Inner>, raft: Raft, own: u64) {
    let mut preferred = Preferred::default();
    let mut lagging: Vec<u64> = Vec::new();
    let mut unserved = clock::now();
    let mut told = false;
    let (mut upgrading, mut told_upgrade) = (None, None);
    loop {
        tokio::time::sleep(MEMBERSHIP).await;
        let role = inner.role.borrow().clone();
        // A set without a master is worth a line wherever it is seen.
        let has_master = match role.leads() {
            true => inner.lease.is_valid(),
            false => inner.peers.guard.has_heard(NO_MASTER),
        };
        if has_master {
            if told {
                tracing::info!("the set has a master again");
            }
            (unserved, told) = (clock::now(), false);
        } else if !told && !role.removed && clock::since(unserved) >= NO_MASTER {
            told = true;
            tracing::warn!(
                leads = role.leads(),
                "no master with a majority: nothing can be written"
            );
        }
        if !role.leads() {
            preferred = Preferred::default();
            lagging.clear();
        }
        if !role.serving {
            continue;
        }
        let reach = inner.lag.reach(&raft, own);
        for member in role.members.iter().filter(|m| m.node_id != own) {
            let late = reach
                .get(&member.node_id)
                .is_some_and(|r| is_late(r) && inner.led_for() > LAGGING);
            let known = lagging.contains(&member.node_id);
            if late && !known {
                let reach = reach.get(&member.node_id);
                tracing::warn!(
                    name = member.name,
                    lag_ms = reach.map_or(0, |r| r.lag.as_millis() as u64),
                    silent_ms = reach.and_then(|r| r.contact).map(|c| c.as_millis() as u64),
                    "a replica lags"
                );
                lagging.push(member.node_id);
            } else if known && !late {
                tracing::info!(name = member.name, "the replica has caught up");
                lagging.retain(|id| *id != member.node_id);
            }
        }
        membership::tend(&inner).await;
        if upgrade::is_wanted(&inner) && upgrading.is_none_or(|at| clock::since(at) >= UPGRADE) {
            upgrading = Some(clock::now());
            match upgrade::finalize(&inner).await {
                Err(error) if told_upgrade.as_ref() != Some(&error) => {
                    tracing::info!(%error, "the set's version is not raised yet");
                    told_upgrade = Some(error);
                }
                _ => {}
            }
        }

        let wanted = inner.policy.read().preferred_leader.clone();
        let wanted = wanted.and_then(|name| role.member(&name).cloned());
        let target = wanted.filter(|m| m.node_id != own && role.voters.contains(&m.node_id));
        let well = target
            .as_ref()
            .and_then(|m| reach.get(&m.node_id))
            .is_some_and(|r| r.lag < WELL_LAG && r.silent_for() < Duration::from_secs(1));
        if let Some(target) = target
            && preferred.is_due(well, clock::now())
        {
            tracing::info!(to = target.name, "the preferred leader takes over");
            let id = target.node_id.to_string();
            if let Err(error) = transfer::transfer(&inner, Some(&id)).await {
                tracing::warn!(%error, "the preferred leader did not take over");
            }
        }
    }
}

fn is_late(reach: &Reach) -> bool {
    reach.lag >= LAGGING || reach.silent_for() >= LAGGING
}

/// Hysteresis and rate of handing over to the preferred leader.
#[derive(Default)]
struct Preferred {
    well_since: Option<Instant>,
    tried: Option<Instant>,
}

impl Preferred {
    fn is_due(&mut self, well: bool, now: Instant) -> bool {
        if !well {
            self.well_since = None;
            return false;
        }
        let since = *self.well_since.get_or_insert(now);
        let rested = self
            .tried
            .is_none_or(|at| now.duration_since(at) >= BETWEEN_ATTEMPTS);
        let due = rested && now.duration_since(since) >= WELL_FOR;
        if due {
            self.tried = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_leader_waits_until_it_was_well_for_a_while_and_is_not_tried_at_once_again() {
        let mut preferred = Preferred::default();
        let start = Instant::now();
        let mut due = |well, s| preferred.is_due(well, start + Duration::from_secs(s));
        assert!(!due(true, 0));
        assert!(!due(true, 9));
        assert!(!due(false, 10), "it was not well");
        assert!(!due(true, 11));
        assert!(due(true, 21));
        assert!(!due(true, 22), "tried a moment ago");
        assert!(!due(true, 80));
        assert!(due(true, 81));
    }
}
