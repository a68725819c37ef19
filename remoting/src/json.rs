//! The JSON dialect of RocketMQ bodies (fastjson).
//!
//! It differs from the standard in map keys: integer keys stand unquoted, and a map keyed by message queues has JSON
//! objects as keys: `{{"brokerName":"b","queueId":0,"topic":"t"}:1}`. Reading turns both into string keys and then parses
//! as usual; writing produces them through a formatter, or standard JSON for clients that ask for it.

use std::borrow::Cow;
use std::io;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};

/// Deepest nesting read. The parser behind recurses, so this bounds its stack.
pub const MAX_DEPTH: usize = 100;

/// First character of a string key that stands for a JSON object when it is written as fastjson. Private use: no name of
/// the protocol contains it.
pub(crate) const OBJECT_KEY_MARK: char = '\u{F8FF}';

/// Why a body is not the JSON that is wanted.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    #[error("JSON nested deeper than {MAX_DEPTH}")]
    TooDeep,
    #[error("JSON of {bytes} bytes, at most {most}")]
    TooLarge { bytes: usize, most: usize },
    #[error("JSON with more than {most} {what}")]
    TooMany { what: &'static str, most: usize },
    #[error("bad JSON: {0}")]
    Bad(#[from] serde_json::Error),
}

/// What the body of a request may hold. `[{},{},…` is three bytes an object on the wire and hundreds in memory, so what a
/// stranger sends is counted before it is parsed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub bytes: usize,
    pub objects: usize,
    /// Elements and members, objects among them.
    pub values: usize,
}

impl Limits {
    /// For what clients and administrators send: far above what they do, and at most some 10 MiB once it is parsed.
    pub const REQUEST: Self = Self {
        bytes: 4 << 20,
        objects: 20_000,
        values: 200_000,
    };
    /// For the registration of a broker: some 200 000 topics.
    pub const REGISTRATION: Self = Self {
        bytes: 64 << 20,
        objects: 400_000,
        values: 4_000_000,
    };

    /// Counts what is in `body`.
    fn check(&self, body: &[u8]) -> Result<(), JsonError> {
        if body.len() > self.bytes {
            return Err(JsonError::TooLarge {
                bytes: body.len(),
                most: self.bytes,
            });
        }
        let (mut objects, mut values, mut at) = (0, 0, 0);
        while at < body.len() {
            match body[at] {
                b'"' => {
                    at = string_end(body, at);
                    continue;
                }
                b'{' => objects += 1,
                b',' => values += 1,
                _ => {}
            }
            at += 1;
        }
        let too_many = |what, most| Err(JsonError::TooMany { what, most });
        if objects > self.objects {
            return too_many("objects", self.objects);
        }
        if objects + values > self.values {
            return too_many("values", self.values);
        }
        Ok(())
    }
}

/// Parses the body of a request, as [`from_slice`].
///
/// # Errors
/// It holds more than `limits` say, or is not the JSON that is wanted.
pub fn from_request<T: DeserializeOwned>(body: &[u8], limits: Limits) -> Result<T, JsonError> {
    limits.check(body)?;
    from_slice(body)
}

/// How integer map keys are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{0:"a"}` and object keys, as fastjson does by default.
    Fastjson,
    /// `{"0":"a"}`, non-ASCII characters as `\uXXXX`: for clients with `acceptStandardJsonOnly` and newer ones.
    Standard,
}

/// Parses a body in either dialect.
pub fn from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<T, JsonError> {
    Ok(serde_json::from_slice(&standardize(body)?)?)
}

/// `value` as fastjson writes it.
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Bytes {
    to_bytes_in(value, Dialect::Fastjson)
}

/// `value` in `dialect`.
pub fn to_bytes_in<T: Serialize + ?Sized>(value: &T, dialect: Dialect) -> Bytes {
    let mut out = Vec::with_capacity(256);
    let mut serializer = Serializer::with_formatter(&mut out, KeyFormatter::new(dialect));
    if let Err(e) = value.serialize(&mut serializer) {
        // Only a map key that is neither string, number nor message queue gets here.
        debug_assert!(false, "a body shape does not serialize: {e}");
        tracing::error!(error = %e, "a body shape does not serialize");
        return Bytes::from_static(b"null");
    }
    out.into()
}

/// For `deserialize_with`: null counts as absent.
pub fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    d: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(d).map(Option::unwrap_or_default)
}

/// For `deserialize_with`: a number or its text, as loosely typed senders write it; null counts as 0.
pub fn lenient_number<'de, D: Deserializer<'de>>(d: D) -> Result<i64, D::Error> {
    Ok(Option::<Number>::deserialize(d)?.unwrap_or_default().0)
}

/// A number or its text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Number(pub(crate) i64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let bad = || serde::de::Error::custom("a number is wanted");
        match NameOrOrdinal::deserialize(d)? {
            NameOrOrdinal::Ordinal(n) => Ok(Self(n)),
            NameOrOrdinal::Name(text) => text.trim().parse().map(Self).map_err(|_| bad()),
        }
    }
}

/// How an enum may travel: fastjson writes names, other clients ordinals.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum NameOrOrdinal {
    Name(String),
    Ordinal(i64),
}

/// Quotes unquoted integer keys and turns object keys into strings; everything else passes through untouched. Blanks and
/// zero bytes at the end are dropped.
pub fn standardize(input: &[u8]) -> Result<Cow<'_, [u8]>, JsonError> {
    let end = input
        .iter()
        .rposition(|b| !matches!(b, 0 | b' ' | b'\r' | b'\n' | b'\t'))
        .map_or(0, |i| i + 1);
    let input = &input[..end];
    let mut out = Vec::new();
    let mut copied = 0;
    let mut stack: Vec<u8> = Vec::new();
    let mut key_next = false;
    let mut at = 0;
    while at < input.len() {
        match input[at] {
            b'"' => {
                at = string_end(input, at);
                key_next = false;
                continue;
            }
            b'{' if key_next => {
                let end = object_end(input, at)?;
                out.extend_from_slice(&input[copied..at]);
                quote(&input[at..end], &mut out);
                (copied, at, key_next) = (end, end, false);
                continue;
            }
            b @ (b'{' | b'[') => {
                if stack.len() == MAX_DEPTH {
                    return Err(JsonError::TooDeep);
                }
                stack.push(b);
                key_next = b == b'{';
            }
            b'}' | b']' => {
                stack.pop();
                key_next = false;
            }
            b',' => key_next = stack.last() == Some(&b'{'),
            b'-' | b'0'..=b'9' if key_next => {
                let digits = input[at + 1..]
                    .iter()
                    .take_while(|b| b.is_ascii_digit())
                    .count();
                out.extend_from_slice(&input[copied..at]);
                out.push(b'"');
                out.extend_from_slice(&input[at..at + 1 + digits]);
                out.push(b'"');
                at += 1 + digits;
                (copied, key_next) = (at, false);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(input));
    }
    out.extend_from_slice(&input[copied..]);
    Ok(Cow::Owned(out))
}

/// The index after the string that starts at `at`; the end of input when it does not end.
fn string_end(input: &[u8], at: usize) -> usize {
    let mut i = at + 1;
    while i < input.len() {
        match input[i] {
            b'"' => return i + 1,
            b'\\' => i += 2,
            _ => i += 1,
        }
    }
    input.len()
}

/// The index after the object that starts at `at`.
fn object_end(input: &[u8], at: usize) -> Result<usize, JsonError> {
    let mut depth = 0;
    let mut i = at;
    while i < input.len() {
        match input[i] {
            b'"' => {
                i = string_end(input, i);
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(JsonError::TooDeep);
                }
            }
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(i + 1);
                }
            }
            _ => {}
        }
        i += 1;
    }
    Ok(input.len())
}

/// Writes raw JSON text as a JSON string; blanks between its tokens may be control characters.
fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &b in text {
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            0..=0x1F => out.push(b' '),
            _ => out.push(b),
        }
    }
    out.push(b'"');
}

/// Writes keys as the dialect wants them. The opening quote of a string is held back until its first piece shows what
/// kind of key it is.
struct KeyFormatter {
    dialect: Dialect,
    held: bool,
    in_key: bool,
    string: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    BareNumber,
    Object,
}

impl KeyFormatter {
    fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            held: false,
            in_key: false,
            string: Kind::Text,
        }
    }

    fn open<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        if std::mem::take(&mut self.held) {
            self.string = Kind::Text;
            w.write_all(b"\"")?;
        }
        Ok(())
    }

    fn number<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        n: impl std::fmt::Display,
    ) -> io::Result<()> {
        if self.held && self.dialect == Dialect::Fastjson {
            self.held = false;
            self.string = Kind::BareNumber;
        }
        self.open(w)?;
        write!(w, "{n}")
    }
}

impl Formatter for KeyFormatter {
    fn begin_string<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.held = true;
        Ok(())
    }

    fn end_string<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.open(w)?;
        if self.string == Kind::Text {
            w.write_all(b"\"")
        } else {
            Ok(())
        }
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut text = fragment;
        if self.held
            && self.in_key
            && self.dialect == Dialect::Fastjson
            && let Some(object) = text.strip_prefix(OBJECT_KEY_MARK)
        {
            (self.held, self.string, text) = (false, Kind::Object, object);
        }
        self.open(w)?;
        if self.dialect == Dialect::Fastjson || text.is_ascii() {
            return w.write_all(text.as_bytes());
        }
        let mut units = [0; 2];
        for c in text.chars().filter(|c| *c != OBJECT_KEY_MARK) {
            if c.is_ascii() {
                w.write_all(&[c as u8])?;
            } else {
                for unit in c.encode_utf16(&mut units) {
                    write!(w, "\\u{unit:04X}")?;
                }
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        self.open(w)?;
        match (self.string, &escape) {
            (Kind::Object, CharEscape::Quote) => w.write_all(b"\""),
            (Kind::Object, CharEscape::ReverseSolidus) => w.write_all(b"\\"),
            _ => CompactFormatter.write_char_escape(w, escape),
        }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.in_key = true;
        CompactFormatter.begin_object_key(w, first)
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.in_key = false;
        Ok(())
    }

    fn write_i32<W: ?Sized + io::Write>(&mut self, w: &mut W, n: i32) -> io::Result<()> {
        self.number(w, n)
    }

    fn write_i64<W: ?Sized + io::Write>(&mut self, w: &mut W, n: i64) -> io::Result<()> {
        self.number(w, n)
    }

    fn write_u32<W: ?Sized + io::Write>(&mut self, w: &mut W, n: u32) -> io::Result<()> {
        self.number(w, n)
    }

    fn write_u64<W: ?Sized + io::Write>(&mut self, w: &mut W, n: u64) -> io::Result<()> {
        self.number(w, n)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn standard(text: &str) -> String {
        String::from_utf8(standardize(text.as_bytes()).unwrap().into_owned()).unwrap()
    }

    #[test]
    fn integer_keys_are_quoted_and_nothing_else() {
        assert_eq!(
            standard(r#"{0:"a",-1:"b", 22 : 3}"#),
            r#"{"0":"a","-1":"b", "22" : 3}"#
        );
        assert_eq!(
            standard(r#"{"a":[1,2,{3:4}],"b":5}"#),
            r#"{"a":[1,2,{"3":4}],"b":5}"#
        );
        for untouched in [
            r#"{"a":"{1:2,\"3:4}"}"#,
            "[1,2]",
            "",
            "{",
            r#""x"#,
            r#"{"a\\":1,"b":[]}"#,
            "null",
        ] {
            assert_eq!(standard(untouched), untouched);
        }
        assert_eq!(standard("{}\0\0\n"), "{}");
    }

    #[test]
    fn object_keys_become_strings() {
        let read: BTreeMap<String, i32> =
            from_slice(br#"{{"topic":"a\"b","queueId":1}:7,{"x":{"y":[1]}}:8}"#).unwrap();
        let keys: Vec<_> = read.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [r#"{"topic":"a\"b","queueId":1}"#, r#"{"x":{"y":[1]}}"#]
        );
    }

    #[test]
    fn deep_nesting_is_an_error() {
        for open in ["[", "{\"a\":", "{{\"a\":"] {
            let text = open.repeat(100_000);
            assert!(from_slice::<serde_json::Value>(text.as_bytes()).is_err());
        }
    }

    #[test]
    fn integer_keys_are_written_in_both_dialects() {
        let map = BTreeMap::from([(0i64, "a\"\u{e9}"), (10, "")]);
        assert_eq!(to_bytes(&map), "{0:\"a\\\"\u{e9}\",10:\"\"}");
        assert_eq!(
            to_bytes_in(&map, Dialect::Standard),
            r#"{"0":"a\"\u00E9","10":""}"#
        );
        let nested = BTreeMap::from([("", vec![1, -2])]);
        assert_eq!(to_bytes(&nested), r#"{"":[1,-2]}"#);
    }
}
