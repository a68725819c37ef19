//! How far behind the leader the others are, in messages and time. The leader notes now and then where its log ended and
//! how many messages it had stamped; a follower's last entry, held against these notes, says what it misses.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;

use crate::clock;
use crate::types::Raft;

/// Distance of two notes.
pub const EVERY: Duration = Duration::from_millis(100);
/// Notes kept: ten minutes. A lag beyond is told as "at least".
const KEPT: usize = 6_000;

#[derive(Clone, Copy)]
struct Note {
    at: Instant,
    /// Last entry at that moment.
    index: u64,
    /// Messages stamped until then.
    messages: u64,
}

/// How far a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Last entry it has persisted, 0 for none.
    pub matched: u64,
    /// Messages it misses.
    pub lag_messages: u64,
    /// Age of the first entry it misses, to within [`EVERY`].
    pub lag: Duration,
    /// Since when it was not heard of; `None`: never.
    pub contact: Option<Duration>,
}

impl Reach {
    /// As `contact`, with a very long time for never.
    pub fn silent_for(&self) -> Duration {
        self.contact.unwrap_or(Duration::MAX)
    }
}

/// See the module's text.
#[derive(Default)]
pub struct LagClock {
    notes: Mutex<VecDeque<Note>>,
    stamped: Arc<AtomicU64>,
}

impl LagClock {
    /// The counter that `append` raises.
    pub fn stamped(&self) -> Arc<AtomicU64> {
        self.stamped.clone()
    }

    /// Notes where the log ends; called every [`EVERY`] while this replica leads.
    pub fn note(&self, index: u64) {
        let mut notes = self.notes.lock();
        if notes.len() >= KEPT {
            notes.pop_front();
        }
        notes.push_back(Note {
            at: clock::now(),
            index,
            messages: self.stamped.load(Ordering::Relaxed),
        });
    }

    /// Forgets everything: this replica does not lead.
    pub fn clear(&self) {
        self.notes.lock().clear();
    }

    /// Messages and time that somebody with entries up to `matched` misses, when the log ends with `last`.
    fn behind(&self, matched: u64, last: u64) -> (u64, Duration) {
        if matched >= last {
            return (0, Duration::ZERO);
        }
        let notes = self.notes.lock();
        let stamped = self.stamped.load(Ordering::Relaxed);
        // The first note that speaks of an entry it has not got.
        let nth = notes.partition_point(|note| note.index <= matched);
        let known = nth.checked_sub(1).and_then(|before| notes.get(before));
        let messages = known
            .or(notes.front())
            .map_or(0, |n| stamped - n.messages.min(stamped));
        let lag = notes
            .get(nth)
            .map_or(Duration::ZERO, |n| clock::since(n.at));
        (messages, lag)
    }

    /// All other members, by node id; empty when this replica does not lead.
    pub fn reach(&self, raft: &Raft, own: u64) -> BTreeMap<u64, Reach> {
        let metrics = raft.data_metrics();
        let seen = metrics.borrow_watched();
        let Some(replication) = &seen.replication else {
            return BTreeMap::new();
        };
        let last = seen.last_log.as_ref().map_or(0, |id| id.index);
        let contact = |id: &u64| {
            let heard = seen.heartbeat.as_ref()?.get(id)?.as_ref()?;
            Some((**heard).elapsed())
        };
        let others = replication.iter().filter(|(id, _)| **id != own);
        others
            .map(|(id, matched)| {
                let matched = matched.as_ref().map_or(0, |id| id.index);
                let (lag_messages, lag) = self.behind(matched, last);
                let reach = Reach {
                    matched,
                    lag_messages,
                    lag,
                    contact: contact(id),
                };
                (*id, reach)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted_from_the_last_note_before_it() {
        let clock = LagClock::default();
        for (index, messages) in [(10, 100), (20, 250), (20, 250), (30, 400)] {
            clock.stamped.store(messages, Ordering::Relaxed);
            clock.note(index);
        }
        assert_eq!(clock.behind(30, 30), (0, Duration::ZERO));
        assert_eq!(clock.behind(20, 30).0, 150);
        assert_eq!(clock.behind(25, 30).0, 150, "rounded up to the note before");
        assert_eq!(clock.behind(3, 30).0, 300, "at least");
        std::thread::sleep(Duration::from_millis(20));
        assert!(clock.behind(20, 30).1 >= Duration::from_millis(20));
        assert_eq!(clock.behind(30, 31).1, Duration::ZERO, "too new for a note");
        clock.clear();
        assert_eq!(clock.behind(3, 30), (0, Duration::ZERO));
    }
}
