//! Values of an expression, and their order.

use std::borrow::Cow;
use std::cmp::Ordering;

/// What an expression gives for a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'m> {
    Null,
    Bool(bool),
    /// A literal that fits into 32 bits. It matters: a string is read as the type it is compared with.
    Int(i32),
    Long(i64),
    Double(f64),
    Text(Cow<'m, str>),
}

/// A string is not the number it is compared with; or the values are of types that RocketMQ cannot compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

impl Value<'_> {
    /// With the other sign; null for what is no number.
    pub fn negated(self) -> Self {
        match self {
            Self::Int(value) => Self::Int(value.wrapping_neg()),
            Self::Long(value) => Self::Long(value.wrapping_neg()),
            Self::Double(value) => Self::Double(-value),
            _ => Self::Null,
        }
    }
}

/// The order of two values that are not null. Types that have none are "less", as RocketMQ has it.
///
/// # Errors
/// See [`Failed`].
pub fn order(left: Value<'_>, right: Value<'_>) -> Result<Ordering, Failed> {
    use Value::{Bool, Double, Int, Long, Text};
    Ok(match (left, right) {
        (Text(l), Text(r)) => l.cmp(&r),
        (Text(l), Bool(r)) => l.eq_ignore_ascii_case("true").cmp(&r),
        (Text(l), Int(r)) => int(&l)?.cmp(&r),
        (Text(l), Long(r)) => long(&l)?.cmp(&r),
        (Text(l), Double(r)) => double(&l)?.total_cmp(&r),
        (Int(l), Text(r)) => l.cmp(&int(&r)?),
        (Long(l), Text(r)) => l.cmp(&long(&r)?),
        (Double(l), Text(r)) => l.total_cmp(&double(&r)?),
        (Bool(_), Text(_)) => return Err(Failed),
        (Bool(l), Bool(r)) => l.cmp(&r),
        (Int(l), Int(r)) => l.cmp(&r),
        (Int(l), Long(r)) => i64::from(l).cmp(&r),
        (Long(l), Int(r)) => l.cmp(&i64::from(r)),
        (Long(l), Long(r)) => l.cmp(&r),
        (Int(l), Double(r)) => f64::from(l).total_cmp(&r),
        (Double(l), Int(r)) => l.total_cmp(&f64::from(r)),
        // Rounds to what a double holds, on both sides alike.
        (Long(l), Double(r)) => (l as f64).total_cmp(&r),
        (Double(l), Long(r)) => l.total_cmp(&(r as f64)),
        (Double(l), Double(r)) => l.total_cmp(&r),
        _ => Ordering::Less,
    })
}

fn int(text: &str) -> Result<i32, Failed> {
    text.parse().map_err(|_| Failed)
}

fn long(text: &str) -> Result<i64, Failed> {
    text.parse().map_err(|_| Failed)
}

/// As Java reads it, but for hexadecimal ones: with spaces around and a type's letter behind.
///
/// # Errors
/// It is none.
pub fn double(text: &str) -> Result<f64, Failed> {
    let text = text.trim_matches(|c: char| c <= ' ');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned {
        "NaN" | "Infinity" => {}
        // Rust's names for these two are more.
        _ if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {}
        _ => return Err(Failed),
    }
    let number = match unsigned {
        "NaN" => return Ok(f64::NAN),
        "Infinity" => text,
        _ => text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text),
    };
    number.parse().map_err(|_| Failed)
}
