//! `Budget`: the memory that connections may fill, in bytes, one for all client ports of a process.
//!
//! Charged is what lies here: buffers as bytes arrive (never what a length field announces), requests until they are
//! answered, and answers until they are written, less those that are slices of the store. A connection settles its account
//! once for each read, with one atomic when it has changed, and when it gave back [`STEP`]; the keeper settles the rest.
//!
//! When the budget is used up, connections are not read, so TCP slows their clients down; nothing is refused, and nothing
//! that was taken is dropped. So that nobody is starved by others:
//! - what a connection holds below its floor ([`Budget::floor`]) does not count: small requests always come through,
//!   among them administrators' and heartbeats;
//! - replicas that pass requests on have a larger floor ([`PEER_FLOOR`]), a few of them;
//! - frames that have begun get leave to finish, the oldest first, a few at a time ([`PASSES`]);
//! - who does not use that leave, or has been at one frame for longer than [`SLOW_FRAME_MS`], is closed, and so is who does
//!   not read its answers. That is the keeper's to do ([`crate::connection`]).
//!
//! Health, metrics and the replicas' own port are other listeners and are not charged at all.

use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes that all client connections of a process may hold before they are read no further.
pub const INBOUND_BYTES: usize = 96 * 1024 * 1024;
/// Bytes below the connections' floors, shared by all of them.
const FLOORS: usize = 32 * 1024 * 1024;
/// A connection's floor is between these, in bytes.
const FLOOR: std::ops::RangeInclusive<usize> = 4 * 1024..=64 * 1024;
/// Floor of a connection on which a replica passes requests on, bytes.
pub const PEER_FLOOR: usize = 4 * 1024 * 1024;
/// Connections with that floor; further ones are as any other.
pub const MAX_PEERS: usize = 8;
/// Frames that may be finished at a time while the budget is used up; each may have 16 MiB.
pub(crate) const PASSES: usize = 2;
/// How long such a leave lasts, ms: 16 MiB at 32 MiB/s.
pub(crate) const PASS_MS: u64 = 500;
/// A frame that is not here after this goes first when memory is short, ms.
pub(crate) const SLOW_FRAME_MS: u64 = 5_000;
/// A frame that is not here after this closes its connection in any case, ms.
pub(crate) const FRAME_DEADLINE_MS: u64 = 60_000;
/// A change that is settled at once when something is given back or sent, bytes.
pub(crate) const STEP: usize = 16 * 1024;

/// See the module's text.
#[derive(Debug)]
pub struct Budget {
    limit: isize,
    /// Sum of what connections were charged; below zero only while two of them settle.
    used: AtomicIsize,
    connections: AtomicUsize,
    peers: AtomicUsize,
    /// Connections that are not read because the budget is used up.
    paused: AtomicUsize,
    room: Notify,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(INBOUND_BYTES)
    }
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: isize::try_from(limit).unwrap_or(isize::MAX),
            used: AtomicIsize::new(0),
            connections: AtomicUsize::new(0),
            peers: AtomicUsize::new(0),
            paused: AtomicUsize::new(0),
            room: Notify::new(),
        }
    }

    /// For connections that this process made itself.
    pub fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// Bytes charged.
    pub fn used(&self) -> usize {
        usize::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Bytes it has.
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Connections that are not read for want of memory.
    pub fn paused(&self) -> usize {
        self.paused.load(Ordering::Relaxed)
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.limit
    }

    /// Bytes a connection may hold whatever the others do.
    pub fn floor(&self) -> usize {
        let each = FLOORS / self.connections.load(Ordering::Relaxed).max(1);
        each.clamp(*FLOOR.start(), *FLOOR.end())
    }

    /// Charges the difference between what a connection was charged and what it holds.
    pub(crate) fn settle(&self, charged: usize, holds: usize) {
        // Both are below isize::MAX: they are bytes of this process.
        let change = (holds as isize).wrapping_sub(charged as isize);
        if change != 0 {
            self.used.fetch_add(change, Ordering::Relaxed);
        }
        if self.paused() > 0 {
            self.pass_on_room();
        }
    }

    /// Wakes one connection that waits for room, if there is some; it does the same when it has read.
    pub(crate) fn pass_on_room(&self) {
        if !self.is_used_up() {
            self.room.notify_one();
        }
    }

    /// Wakes all of them to look whether they have leave now.
    pub(crate) fn look_again(&self) {
        self.room.notify_waiters();
    }

    pub(crate) fn join(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self, charged: usize, peer: bool) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        if peer {
            self.peers.fetch_sub(1, Ordering::Relaxed);
        }
        self.settle(charged, 0);
    }

    /// Takes one of the places of peers.
    pub(crate) fn take_peer(&self) -> bool {
        let more = |n| (n < MAX_PEERS).then_some(n + 1);
        let taken = self
            .peers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok()
    }

    /// Waits for a word that there may be room.
    pub(crate) async fn room(&self) {
        struct Paused<'a>(&'a Budget);
        impl Drop for Paused<'_> {
            fn drop(&mut self) {
                self.0.paused.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.paused.fetch_add(1, Ordering::Relaxed);
        let _paused = Paused(self);
        // Room that came before this connection was counted would be nobody's word; the keeper looks every 20 ms.
        self.room.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_is_given_back() {
        let budget = Budget::new(1000);
        budget.join();
        budget.settle(0, 900);
        assert!(!budget.is_used_up());
        budget.settle(900, 1000);
        assert!(budget.is_used_up());
        budget.leave(1000, false);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn floors_share_what_is_kept_for_them() {
        let budget = Budget::default();
        assert_eq!(budget.floor(), *FLOOR.end());
        (0..1_000_000).for_each(|_| budget.join());
        assert_eq!(budget.floor(), *FLOOR.start());
    }

    #[test]
    fn peers_have_a_few_places() {
        let budget = Budget::default();
        assert!((0..MAX_PEERS).all(|_| budget.take_peer()));
        assert!(!budget.take_peer());
        budget.join();
        budget.leave(0, true);
        assert!(budget.take_peer());
    }
}
