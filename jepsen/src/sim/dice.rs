//! The dice of a simulation (splitmix64) and the digest of what happened.

/// A small seeded generator.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// From a seed and what it is used for.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut dice = Self(purpose);
        let salt = dice.next();
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// One of `from..to`.
    pub fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }

    /// True so many times of a thousand.
    pub fn permille(&mut self, n: u64) -> bool {
        self.below(1000) < n
    }

    /// One of a list; the first of an empty one cannot be had.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len() as u64) as usize)
    }
}

/// A digest of everything that happened, in order.
#[derive(Debug, Clone, Copy)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Adds some numbers.
    pub fn add(&mut self, numbers: &[u64]) {
        for number in numbers {
            let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.0 = mixed ^ (mixed >> 29);
        }
    }

    /// Adds bytes.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(&[
            bytes.len() as u64,
            u64::from(raftmq_remoting::message::body_crc(bytes) as u32),
        ]);
    }

    /// What they come to.
    pub fn value(self) -> u64 {
        self.0
    }
}
