//! What a consumer wants of a topic: all messages, or those with one of some tags.

use std::collections::BTreeSet;

use raftmq_remoting::body::SubscriptionData;
use raftmq_remoting::message::java_hash;
use raftmq_remoting::validate::check_topic;

use crate::config::now_ms;
use crate::error::ClientError;

/// All tags.
pub const ALL_TAGS: &str = "*";

/// A topic and the tags wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub topic: String,
    /// `*`, or tags joined with `||`.
    pub expression: String,
    /// Client clock, milliseconds: among the subscriptions of a group the newest wins.
    pub version: i64,
    /// Empty for all.
    tags: BTreeSet<String>,
}

impl Subscription {
    /// Reads `*`, an empty expression (the same), or `tagA || tagB`.
    ///
    /// # Errors
    /// The topic name is malformed, or the expression has separators and no tag.
    pub fn new(topic: impl Into<String>, expression: &str) -> Result<Self, ClientError> {
        let topic = topic.into();
        check_topic(&topic).map_err(|e| ClientError::Invalid(e.to_string()))?;
        let expression = match expression.trim() {
            "" => ALL_TAGS,
            e => e,
        };
        let mut tags = BTreeSet::new();
        if expression != ALL_TAGS {
            tags.extend(
                expression
                    .split("||")
                    .map(str::trim)
                    .filter(|t| !t.is_empty())
                    .map(str::to_owned),
            );
            if tags.is_empty() {
                return Err(ClientError::Invalid(format!(
                    "subscription {expression:?} has no tag"
                )));
            }
        }
        Ok(Self {
            topic,
            expression: expression.to_owned(),
            version: now_ms(),
            tags,
        })
    }

    /// Whether a message with these tags is wanted. Brokers compare hashes, so consumers look again.
    pub fn matches(&self, tags: Option<&str>) -> bool {
        self.tags.is_empty() || tags.is_some_and(|t| self.tags.contains(t))
    }

    pub(crate) fn data(&self) -> SubscriptionData {
        SubscriptionData {
            code_set: self.tags.iter().map(|t| java_hash(t)).collect(),
            sub_string: self.expression.clone(),
            sub_version: self.version,
            tags_set: self.tags.clone(),
            topic: self.topic.clone(),
            ..SubscriptionData::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read() {
        let all = Subscription::new("t", " ").unwrap();
        assert!(all.matches(None) && all.matches(Some("x")) && all.expression == "*");
        let two = Subscription::new("t", "TagA || b||").unwrap();
        assert!(
            two.matches(Some("TagA"))
                && two.matches(Some("b"))
                && !two.matches(Some("c"))
                && !two.matches(None)
        );
        assert_eq!(two.data().code_set, [2_598_919, 98].into());
        assert!(Subscription::new("t", "||").is_err());
        assert!(Subscription::new("bad topic", "*").is_err());
    }
}
