//! Picking a queue: spread, not secrecy.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    static SEED: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u64) | 1);
}

/// A number from 0 below `limit`; 0 when there is no such number.
pub fn random_below(limit: i32) -> i32 {
    let next = SEED.with(|seed| {
        // xorshift64
        let mut x = seed.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        seed.set(x);
        x
    });
    if limit <= 0 {
        0
    } else {
        (next % limit as u64) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::random_below;

    #[test]
    fn stays_in_range_and_varies() {
        let seen: std::collections::HashSet<i32> = (0..200).map(|_| random_below(4)).collect();
        assert!(seen.iter().all(|n| (0..4).contains(n)));
        assert_eq!(seen.len(), 4);
        assert_eq!(random_below(0), 0);
        assert_eq!(random_below(-3), 0);
    }
}
