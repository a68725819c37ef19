//! A small generator of random numbers whose whole sequence follows from its seed.

use std::time::Duration;

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.draw() % end).unwrap_or(0)
    }

    /// True so often, 0.0 to 1.0.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.part() < probability
    }

    /// From 0.0 up to 1.0.
    pub fn part(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A time between these.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.part())
    }

    /// Brings them into another order.
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last + 1));
        }
    }

    /// One of them.
    pub fn choose<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_is_all_there_is_to_it() {
        let drawn = |seed| {
            let mut random = Random::new(seed);
            let mut all: Vec<_> = (0..20).collect();
            random.shuffle(&mut all);
            (all, random.draw(), random.below(7) < 7)
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1).0, drawn(2).0);
        let mut sorted = drawn(3).0;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        let mut random = Random::new(5);
        assert_eq!((random.below(0), random.below(1)), (0, 0));
        for _ in 0..1000 {
            assert!((0.0..1.0).contains(&random.part()));
            let (least, most) = (Duration::from_millis(10), Duration::from_millis(20));
            assert!((least..=most).contains(&random.between(least, most)));
        }
        let hits = (0..1000).filter(|_| random.chance(0.25)).count();
        assert!((150..350).contains(&hits), "{hits}");
    }
}
