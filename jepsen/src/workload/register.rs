//! Consumer offsets as registers. A register is used for a limited number of operations, then another takes its place: what is
//! linearizable is hard to decide for long histories.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::Pace;
use super::client::Thread;
use super::requests::Wrote;

/// Registers in use at a time.
const ACTIVE: usize = 4;
/// Operations on one register, at most. Threads that are at it may add one each.
const MOST_OPS: u32 = 150;
/// Values a register can have.
const VALUES: usize = 5;
/// Operations a second of one thread at most: more would only use registers up.
const LEAST: Duration = Duration::from_millis(2);

/// The registers in use: number and operations so far, one in each word.
pub struct Registers {
    used: [AtomicU32; ACTIVE],
}

impl Default for Registers {
    fn default() -> Self {
        Self {
            used: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }
}

impl Registers {
    /// A register for `ops` operations.
    fn take(&self, place: usize, ops: u32) -> u32 {
        let place = place % ACTIVE;
        let used = self.used[place].fetch_add(ops, Ordering::Relaxed);
        used / MOST_OPS * ACTIVE as u32 + place as u32
    }
}

/// Reads, writes, and writes what it read and one.
pub async fn run(mut thread: Thread, registers: std::sync::Arc<Registers>) {
    let mut pace = Pace::of(&thread);
    while !thread.shared.is_stopped() {
        pace.wait().await;
        let place = thread.random.below(ACTIVE);
        match thread.random.below(4) {
            0 => {
                let k = registers.take(place, 1);
                let value = i64::try_from(thread.random.below(VALUES)).unwrap_or(0);
                thread.commit(k, value, false).await;
            }
            1 => {
                let k = registers.take(place, 2);
                if let Some(read) = thread.query(k).await {
                    let next = (read.unwrap_or(0) + 1) % VALUES as i64;
                    if thread.commit(k, next, false).await == Wrote::Refused {
                        continue;
                    }
                }
            }
            _ => {
                let k = registers.take(place, 1);
                thread.query(k).await;
            }
        }
        tokio::time::sleep(LEAST).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_used_up() {
        let registers = Registers::default();
        let taken: Vec<_> = (0..MOST_OPS + 1).map(|_| registers.take(1, 1)).collect();
        assert!(taken[..MOST_OPS as usize].iter().all(|k| *k == 1));
        assert_eq!(taken[MOST_OPS as usize], 1 + ACTIVE as u32);
        assert_eq!(registers.take(2, 1), 2);
    }
}
