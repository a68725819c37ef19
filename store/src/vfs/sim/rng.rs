//! The dice of the simulated disk: splitmix64, so that a seed says all and no crate's next version changes a run.

/// A small seeded generator.
pub(super) struct Rng(u64);

impl Rng {
    /// Two numbers, so that a seed can be salted with what it is used for.
    pub(super) fn new(seed: u64, salt: u64) -> Self {
        let mut rng = Self(salt);
        let salt = rng.next();
        Self(seed ^ salt)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..n`; 0 when `n` is 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// Heads.
    #[cfg(test)]
    pub(super) fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    /// One of `0..=n`, the two ends a quarter of the time each: nothing and everything are the cases that a uniform
    /// choice hardly ever tries.
    pub(super) fn prefix(&mut self, n: u64) -> u64 {
        match self.below(4) {
            0 => 0,
            1 => n,
            _ => self.below(n.saturating_add(1)),
        }
    }
}
