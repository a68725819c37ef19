//! SQL92 filters of subscriptions: RocketMQ's grammar, its three-valued logic, and what it makes of values whose types differ.
//!
//! A filter is compiled once ([`Filter::compile`]) and then asked about the properties of each message. Properties are strings, or
//! not there at all (null). They become numbers where they are compared with one; a string that is none makes the comparison, and
//! with it the filter, fail for that message, which then does not match. Only TRUE matches: neither FALSE nor null does.
//!
//! Peculiarities of RocketMQ are kept, because subscriptions that work there should work here: what follows a complete expression is
//! not looked at, `0.0` is no legal literal, and values that cannot be compared count as "less".

mod lex;
mod parse;
mod value;

use std::borrow::Cow;

use value::{Failed, Value};

/// Bytes of an expression at most.
pub const MAX_LENGTH: usize = 64 << 10;

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SqlError(String);

impl SqlError {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// A compiled expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Expr);

impl Filter {
    /// Compiles a text.
    ///
    /// # Errors
    /// It is no expression of the grammar, compares what cannot be compared, is longer than [`MAX_LENGTH`] or nested too deeply.
    pub fn compile(text: &str) -> Result<Self, SqlError> {
        if text.len() > MAX_LENGTH {
            return Err(SqlError::new(format!(
                "an expression has {MAX_LENGTH} bytes at most"
            )));
        }
        parse::parse(text).map(Self)
    }

    /// Whether a message with these properties matches; `property` gives the value of a name.
    pub fn matches<'m>(&'m self, property: &dyn Fn(&str) -> Option<Cow<'m, str>>) -> bool {
        matches!(self.0.value(property), Ok(Value::Bool(true)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}

#[derive(Debug, Clone, PartialEq)]
enum Expr {
    Constant(Value<'static>),
    Property(String),
    /// A property where a truth value is wanted: null stays null, a string is FALSE.
    Truth(Box<Expr>),
    Negate(Box<Expr>),
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Compare(Comparison, Box<(Expr, Expr)>),
    In {
        property: String,
        texts: Vec<String>,
        not: bool,
    },
    Text {
        of: Box<Expr>,
        test: TextTest,
        search: String,
        not: bool,
    },
}

impl Expr {
    /// Whether it gives a truth value whatever the message.
    fn is_boolean(&self) -> bool {
        match self {
            Self::Constant(value) => matches!(value, Value::Bool(_) | Value::Null),
            Self::Property(_) | Self::Negate(_) => false,
            _ => true,
        }
    }

    fn value<'m>(
        &'m self,
        property: &dyn Fn(&str) -> Option<Cow<'m, str>>,
    ) -> Result<Value<'m>, Failed> {
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::Property(name) => property(name).map_or(Value::Null, Value::Text),
            Self::Truth(inner) => match inner.value(property)? {
                Value::Null => Value::Null,
                value => Value::Bool(value == Value::Bool(true)),
            },
            Self::Negate(inner) => inner.value(property)?.negated(),
            Self::Not(inner) => match inner.value(property)? {
                Value::Bool(value) => Value::Bool(!value),
                _ => Value::Null,
            },
            Self::And(parts) => all(parts, false, property)?,
            Self::Or(parts) => all(parts, true, property)?,
            Self::Compare(comparison, sides) => {
                let left = sides.0.value(property)?;
                if left == Value::Null && *comparison != Comparison::Equal {
                    return Ok(Value::Null);
                }
                comparison.holds(left, sides.1.value(property)?)?
            }
            Self::In {
                property: name,
                texts,
                not,
            } => match property(name) {
                Some(value) => Value::Bool(texts.iter().any(|t| *t == value) != *not),
                None => Value::Null,
            },
            Self::Text {
                of,
                test,
                search,
                not,
            } if !search.is_empty() => match of.value(property)? {
                Value::Text(text) => {
                    let found = match test {
                        TextTest::Contains => text.contains(search),
                        TextTest::StartsWith => text.starts_with(search),
                        TextTest::EndsWith => text.ends_with(search),
                    };
                    Value::Bool(found != *not)
                }
                _ => Value::Bool(false),
            },
            Self::Text { .. } => Value::Bool(false),
        })
    }
}

/// AND (`decisive` FALSE) or OR (TRUE) of three-valued parts: the first decisive one decides.
fn all<'m>(
    parts: &'m [Expr],
    decisive: bool,
    property: &dyn Fn(&str) -> Option<Cow<'m, str>>,
) -> Result<Value<'m>, Failed> {
    let mut unknown = false;
    for part in parts {
        match part.value(property)? {
            Value::Bool(value) if value == decisive => return Ok(Value::Bool(decisive)),
            Value::Bool(_) => {}
            _ => unknown = true,
        }
    }
    Ok(match unknown {
        true => Value::Null,
        false => Value::Bool(!decisive),
    })
}

impl Comparison {
    fn holds<'m>(self, left: Value<'m>, right: Value<'m>) -> Result<Value<'m>, Failed> {
        let (left, right) = match (self, left, right) {
            (Self::Equal, Value::Null, Value::Null) => return Ok(Value::Bool(true)),
            (Self::Equal, Value::Null, _) => return Ok(Value::Null),
            (Self::Equal, _, Value::Null) => return Ok(Value::Bool(false)),
            (_, Value::Null, _) | (_, _, Value::Null) => return Ok(Value::Null),
            (Self::Equal, left, right) => (left, right),
            // Two strings are in order as numbers or not at all.
            (_, Value::Text(left), Value::Text(right)) => (
                Value::Double(value::double(&left)?),
                Value::Double(value::double(&right)?),
            ),
            (_, left, right) => (left, right),
        };
        let order = value::order(left, right)?;
        Ok(Value::Bool(match self {
            Self::Equal => order.is_eq(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
        }))
    }
}

#[cfg(test)]
mod tests;
