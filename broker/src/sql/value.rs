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
    ascii_digits(text).parse().map_err(|_| Failed)
}

fn long(text: &str) -> Result<i64, Failed> {
    ascii_digits(text).parse().map_err(|_| Failed)
}

/// Zeros of the decimal digits that Java's integers may be written with: those of Unicode's first plane. Nine more follow each.
const ZEROS: [char; 36] = [
    '\u{660}', '\u{6f0}', '\u{7c0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}',
    '\u{be6}', '\u{c66}', '\u{ce6}', '\u{d66}', '\u{de6}', '\u{e50}', '\u{ed0}', '\u{f20}',
    '\u{1040}', '\u{1090}', '\u{17e0}', '\u{1810}', '\u{1946}', '\u{19d0}', '\u{1a80}', '\u{1a90}',
    '\u{1b50}', '\u{1bb0}', '\u{1c40}', '\u{1c50}', '\u{a620}', '\u{a8d0}', '\u{a900}', '\u{a9d0}',
    '\u{a9f0}', '\u{aa50}', '\u{abf0}', '\u{ff10}',
];

fn ascii_digits(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return text.into();
    }
    let digit = |c: char| {
        let value = ZEROS
            .iter()
            .filter_map(|zero| u32::from(c).checked_sub(u32::from(*zero)))
            .find(|value| *value < 10);
        value
            .and_then(|value| char::from_digit(value, 10))
            .unwrap_or(c)
    };
    text.chars().map(digit).collect()
}

/// As Java reads it: with spaces around and a type's letter behind.
///
/// # Errors
/// It is none.
pub fn double(text: &str) -> Result<f64, Failed> {
    let text = text.trim_matches(|c: char| c <= ' ');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(hexadecimal) = unsigned.strip_prefix("0x").or(unsigned.strip_prefix("0X")) {
        let value = self::hexadecimal(hexadecimal).ok_or(Failed)?;
        return Ok(if text.starts_with('-') { -value } else { value });
    }
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

/// What stands behind `0x`: digits, perhaps a point, and an exponent of two, which must be there. Rounded once, to the nearest, ties
/// to the even one.
fn hexadecimal(text: &str) -> Option<f64> {
    /// Bits that are kept before the rounding: more than a double has, so that only whether there are more still matters.
    const KEPT: u64 = 1 << 60;

    let text = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let (digits, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let plain = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // An exponent that does not fit is beyond every double.
    let beyond = if exponent.starts_with('-') {
        -1 << 40
    } else {
        1 << 40
    };
    let mut exponent: i64 = exponent.parse().unwrap_or(beyond).clamp(-1 << 40, 1 << 40);
    let mut bits: u64 = 0;
    let mut more = false;
    for (digit, after_point) in
        (whole.chars().map(|c| (c, false))).chain(fraction.chars().map(|c| (c, true)))
    {
        let digit = u64::from(digit.to_digit(16)?);
        if bits < KEPT {
            bits = bits << 4 | digit;
            exponent -= if after_point { 4 } else { 0 };
        } else {
            more |= digit != 0;
            exponent += if after_point { 0 } else { 4 };
        }
    }
    if bits == 0 {
        return Some(0.0);
    }
    // The highest bit stands for 2^top; a double has 53 bits below it, and none below 2^-1074.
    let top = exponent + 63 - i64::from(bits.leading_zeros());
    if top > 1023 {
        return Some(f64::INFINITY);
    }
    let lowest = (top - 52).max(-1074);
    let drop = lowest - exponent;
    let (mut value, rest, half) = match drop {
        ..=0 => (bits << -drop, 0, 1),
        1..=63 => (bits >> drop, bits & ((1 << drop) - 1), 1 << (drop - 1)),
        64 => (0, bits, 1 << 63),
        _ => return Some(0.0),
    };
    if rest > half || rest == half && (more || value & 1 == 1) {
        value += 1;
    }
    // A value of 2^53 is still exact; both factors are powers of two that a double has.
    let first = lowest.max(-1022);
    Some(value as f64 * f64::powi(2.0, first as i32) * f64::powi(2.0, (lowest - first) as i32))
}
