//! Delay levels: RocketMQ's `messageDelayLevel`.
//!
//! Level n (from 1) of the list says how long a message with property DELAY=n waits. Level 0 or below means no delay, a
//! level above the last is the last.

/// RocketMQ's default levels.
pub const DEFAULT_LEVELS: &str = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h";

/// More levels would need more queues in SCHEDULE_TOPIC_XXXX than its 18; RocketMQ's users stay far below this.
const MAX_LEVELS: usize = 64;

/// The parsed levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayLevels {
    text: String,
    delays_ms: Vec<i64>,
}

impl Default for DelayLevels {
    fn default() -> Self {
        match Self::parse(DEFAULT_LEVELS) {
            Ok(levels) => levels,
            Err(_) => Self {
                text: String::new(),
                delays_ms: vec![1_000],
            },
        }
    }
}

impl DelayLevels {
    /// Reads `1s 5s 1m …`. Error: what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected =
            || format!("1 to {MAX_LEVELS} blank-separated delays such as 30s, 5m, 2h, 1d");
        let mut delays_ms = Vec::new();
        for word in text.split_whitespace() {
            let unit = word.chars().last().ok_or_else(expected)?;
            let scale: i64 = match unit {
                's' => 1_000,
                'm' => 60_000,
                'h' => 3_600_000,
                'd' => 86_400_000,
                _ => return Err(expected()),
            };
            let number: i64 = word[..word.len() - unit.len_utf8()]
                .parse()
                .map_err(|_| expected())?;
            if number < 0 {
                return Err(expected());
            }
            delays_ms.push(number.checked_mul(scale).ok_or_else(expected)?);
        }
        if delays_ms.is_empty() || delays_ms.len() > MAX_LEVELS {
            return Err(expected());
        }
        Ok(Self {
            text: text.to_owned(),
            delays_ms,
        })
    }

    /// The text the levels were read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The highest level.
    pub fn max(&self) -> i32 {
        self.delays_ms.len() as i32
    }

    /// The level in force for a requested one, and its delay in ms. None: no delay.
    pub fn resolve(&self, level: i32) -> Option<(i32, i64)> {
        if level <= 0 {
            return None;
        }
        let level = level.min(self.max());
        self.delays_ms
            .get(level as usize - 1)
            .map(|ms| (level, *ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_rocketmq() {
        let levels = DelayLevels::default();
        assert_eq!(levels.max(), 18);
        assert_eq!(levels.resolve(1), Some((1, 1_000)));
        assert_eq!(levels.resolve(5), Some((5, 60_000)));
        assert_eq!(levels.resolve(18), Some((18, 7_200_000)));
        assert_eq!(
            levels.resolve(99),
            Some((18, 7_200_000)),
            "a level above the last is the last"
        );
        assert_eq!(levels.resolve(0), None);
        assert_eq!(levels.resolve(-1), None);
    }

    #[test]
    fn bad_levels_are_refused() {
        for text in ["", "1", "s", "1x", "-1s", "9223372036854775807d", "1s é"] {
            assert!(DelayLevels::parse(text).is_err(), "{text:?}");
        }
    }
}
