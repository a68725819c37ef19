//! Tag expressions: RocketMQ's `TAG` subscriptions.
//!
//! The broker compares hashes of tags only; clients compare the tags themselves and drop what collided.

use raftmq_remoting::message::java_hash;

/// Tags in one expression; more is no use to anybody and costs on each message.
const MAX_TAGS: usize = 1_024;

/// Which messages a consumer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagFilter {
    All,
    /// Hashes of the wanted tags, sorted.
    Codes(Vec<i32>),
}

/// The expression is none.
#[derive(Debug, PartialEq, Eq)]
pub struct BadExpression;

impl TagFilter {
    /// Reads `*` (or nothing) or `a || b`.
    pub fn parse(expression: Option<&str>) -> Result<Self, BadExpression> {
        let text = match expression {
            None | Some("" | "*") => return Ok(Self::All),
            Some(text) => text,
        };
        if text.split("||").all(str::is_empty) {
            return Err(BadExpression);
        }
        let codes: Vec<i32> = text
            .split("||")
            .map(str::trim)
            .filter(|t| !t.is_empty())
            .take(MAX_TAGS + 1)
            .map(java_hash)
            .collect();
        if codes.len() > MAX_TAGS {
            return Err(BadExpression);
        }
        Ok(Self::of_codes(codes))
    }

    /// From a heartbeat's code set.
    pub fn of_codes(mut codes: Vec<i32>) -> Self {
        codes.sort_unstable();
        codes.dedup();
        Self::Codes(codes)
    }

    /// Whether a message with this code may be wanted.
    pub fn matches(&self, tags_code: i64) -> bool {
        match self {
            Self::All => true,
            Self::Codes(codes) => codes.binary_search(&(tags_code as i32)).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        assert_eq!(TagFilter::parse(None), Ok(TagFilter::All));
        assert_eq!(TagFilter::parse(Some("")), Ok(TagFilter::All));
        assert_eq!(TagFilter::parse(Some("*")), Ok(TagFilter::All));
        assert_eq!(TagFilter::parse(Some("||")), Err(BadExpression));
        let filter = TagFilter::parse(Some("TagA || TagB")).unwrap();
        assert!(filter.matches(i64::from(java_hash("TagA"))));
        assert!(filter.matches(i64::from(java_hash("TagB"))));
        assert!(!filter.matches(i64::from(java_hash("TagC"))));
        assert!(!filter.matches(0), "an untagged message");
    }

    #[test]
    fn only_the_low_half_of_a_code_counts() {
        let filter = TagFilter::of_codes(vec![-5]);
        assert!(filter.matches(-5));
        assert!(filter.matches(i64::from(-5_i32 as u32)));
    }

    #[test]
    fn bounded() {
        let many = (0..2_000)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join("||");
        assert_eq!(TagFilter::parse(Some(&many)), Err(BadExpression));
    }
}
