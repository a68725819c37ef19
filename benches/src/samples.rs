//! A few dozen measured times and what is said of them: percentiles by nearest rank, without interpolation, so that every figure
//! is one that was measured.

use std::fmt;
use std::time::Duration;

/// Times, ms.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    sorted: Vec<f64>,
}

impl Samples {
    /// Adds one; may be negative where it is a difference.
    pub fn push(&mut self, ms: f64) {
        let at = self.sorted.partition_point(|s| *s <= ms);
        self.sorted.insert(at, ms);
    }

    /// The smallest one that `percent` of all do not exceed; None without any.
    pub fn percentile(&self, percent: usize) -> Option<f64> {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted.get(rank - 1).copied()
    }

    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The head of a table of [`Self::row`]s.
    pub fn head(title: &str) -> String {
        let columns = ["samples", "min", "p50", "p90", "p99", "max"];
        columns
            .iter()
            .fold(format!("{title:<44}"), |row, c| format!("{row} {c:>8}"))
    }

    /// Count and percentiles under a name.
    pub fn row(&self, name: &str) -> String {
        let mut row = format!("{name:<44} {:>8}", self.len());
        for percent in [0, 50, 90, 99, 100] {
            row += &format!(" {:>8}", Figure(self.percentile(percent)).to_string());
        }
        row
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(times: I) -> Self {
        let mut samples = Self::default();
        times.into_iter().for_each(|ms| samples.push(ms));
        samples
    }
}

/// Milliseconds of a time.
pub fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A figure for people: whole from 10 on, a dash when there is none.
pub struct Figure(pub Option<f64>);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("-"),
            Some(ms) if ms.abs() >= 10.0 => write!(f, "{ms:.0}"),
            Some(ms) => write!(f, "{ms:.1}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples: Samples = (1..=50).rev().map(f64::from).collect();
        let at = |percent| samples.percentile(percent);
        assert_eq!(
            [at(0), at(50), at(90), at(99), at(100)],
            [1.0, 25.0, 45.0, 50.0, 50.0].map(Some)
        );
        assert_eq!(Samples::default().percentile(50), None);
        assert_eq!(Samples::from_iter([-3.0]).percentile(99), Some(-3.0));
    }

    #[test]
    fn figures() {
        let text = |ms| Figure(ms).to_string();
        assert_eq!(
            [text(None), text(Some(9.96)), text(Some(12.4))],
            ["-", "10.0", "12"]
        );
    }
}
