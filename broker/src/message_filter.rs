//! What a consumer wants of a queue: a tag expression, or SQL92 over the properties (`enablePropertyFilter`).
//!
//! Tags are told by the queue's entries alone, and clients compare again what hashes let through. SQL92 needs the message itself,
//! and the broker's verdict is final.

use std::sync::Arc;

use raftmq_remoting::message::{StoredRecord, properties};

use crate::sql;
use crate::tag_filter::TagFilter;

/// See the module's text.
#[derive(Clone, Debug, PartialEq)]
pub enum MessageFilter {
    Tags(TagFilter),
    Sql(Arc<sql::Filter>),
}

/// Why a consumer that sends a class of its own to select messages is refused: RocketMQ's filter servers are gone since 4.3, and its
/// brokers send such a consumer everything.
pub const BY_CLASS: &str = "filter by class is not supported";

/// The expression is none of its language, or the language is not spoken here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadFilter(pub String);

impl MessageFilter {
    /// The filter of an expression type (TAG, also when empty; SQL92) and an expression.
    ///
    /// # Errors
    /// See [`BadFilter`].
    pub fn new(kind: &str, expression: Option<&str>) -> Result<Self, BadFilter> {
        if is_tag_type(kind) {
            return TagFilter::parse(expression)
                .map(Self::Tags)
                .map_err(|_| BadFilter("no tags".to_owned()));
        }
        if kind != "SQL92" {
            return Err(BadFilter(format!("no filter is of the type {kind}")));
        }
        sql::Filter::compile(expression.unwrap_or_default())
            .map(|filter| Self::Sql(Arc::new(filter)))
            .map_err(|e| BadFilter(format!("Invalid MessageSelector. {e}")))
    }

    /// Whether every message is wanted.
    pub fn wants_all(&self) -> bool {
        matches!(self, Self::Tags(TagFilter::All))
    }

    /// Whether a message with this tags code may be wanted.
    pub fn may_match(&self, tags_code: i64) -> bool {
        match self {
            Self::Tags(tags) => tags.matches(tags_code),
            Self::Sql(_) => true,
        }
    }

    /// Whether a stored message whose code may match is wanted.
    pub fn matches(&self, record: &[u8]) -> bool {
        let Self::Sql(filter) = self else { return true };
        // What cannot be read is for the client to find out about.
        StoredRecord::parse(record).is_ok_and(|record| {
            filter.matches(&|name| properties::get(record.properties(), name).map(Into::into))
        })
    }
}

/// No type at all means tags.
pub fn is_tag_type(kind: &str) -> bool {
    kind.is_empty() || kind == "TAG"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages() {
        assert!(MessageFilter::new("", Some("*")).unwrap().wants_all());
        assert!(MessageFilter::new("TAG", None).unwrap().wants_all());
        assert!(!MessageFilter::new("TAG", Some("a||b")).unwrap().wants_all());
        let sql = MessageFilter::new("SQL92", Some("a > 1")).unwrap();
        assert!(!sql.wants_all() && sql.may_match(7));
        assert!(MessageFilter::new("SQL92", Some("a >")).is_err());
        assert!(MessageFilter::new("SQL92", None).is_err());
        assert!(MessageFilter::new("CLASS", Some("x")).is_err());
    }
}
