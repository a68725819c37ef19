//! Message properties: `name 0x01 value 0x02` repeated, UTF-8.
//!
//! Reading is lenient as in stock peers: a missing last separator is fine, a piece without a name or a value is skipped.

use bytes::{BufMut, Bytes, BytesMut};

use crate::scan;

/// Between a name and its value.
pub const NAME_VALUE_SEPARATOR: u8 = 1;
/// After a value.
pub const PROPERTY_SEPARATOR: u8 = 2;
/// Between the keys of [`KEYS`].
pub const KEY_SEPARATOR: char = ' ';

macro_rules! names {
    ($($name:ident = $value:literal;)*) => {
        $(pub const $name: &str = $value;)*

        /// Names with a meaning to broker or client: a user property may not have them.
        pub const RESERVED: &[&str] = &[$($value),*];
    };
}

names! {
    KEYS = "KEYS";
    TAGS = "TAGS";
    UNIQ_KEY = "UNIQ_KEY";
    EXTEND_UNIQ_INFO = "EXTEND_UNIQ_INFO";
    ORIGIN_MESSAGE_ID = "ORIGIN_MESSAGE_ID";
    CLUSTER = "CLUSTER";
    BORN_HOST = "__BORNHOST";
    BORN_TIMESTAMP = "BORN_TIMESTAMP";
    INSTANCE_ID = "INSTANCE_ID";
    WAIT = "WAIT";
    DELAY = "DELAY";
    TIMER_DELAY_SEC = "TIMER_DELAY_SEC";
    TIMER_DELAY_MS = "TIMER_DELAY_MS";
    TIMER_DELIVER_MS = "TIMER_DELIVER_MS";
    TIMER_OUT_MS = "TIMER_OUT_MS";
    TIMER_ENQUEUE_MS = "TIMER_ENQUEUE_MS";
    TIMER_DEQUEUE_MS = "TIMER_DEQUEUE_MS";
    TIMER_ROLL_TIMES = "TIMER_ROLL_TIMES";
    TIMER_DEL_UNIQKEY = "TIMER_DEL_UNIQKEY";
    TIMER_DELAY_LEVEL = "TIMER_DELAY_LEVEL";
    SHARDING_KEY = "__SHARDINGKEY";
    RETRY_TOPIC = "RETRY_TOPIC";
    REAL_TOPIC = "REAL_TOPIC";
    REAL_QID = "REAL_QID";
    RECONSUME_TIME = "RECONSUME_TIME";
    MAX_RECONSUME_TIMES = "MAX_RECONSUME_TIMES";
    DLQ_ORIGIN_TOPIC = "DLQ_ORIGIN_TOPIC";
    DLQ_ORIGIN_MESSAGE_ID = "DLQ_ORIGIN_MESSAGE_ID";
    TRAN_MSG = "TRAN_MSG";
    PGROUP = "PGROUP";
    TRAN_PREPARED_QUEUE_OFFSET = "TRAN_PREPARED_QUEUE_OFFSET";
    TRANSACTION_CHECK_TIMES = "TRANSACTION_CHECK_TIMES";
    CHECK_IMMUNITY_TIME_IN_SECONDS = "CHECK_IMMUNITY_TIME_IN_SECONDS";
    TRANSACTION_ID = "__transactionId__";
    MIN_OFFSET = "MIN_OFFSET";
    MAX_OFFSET = "MAX_OFFSET";
    CONSUME_START_TIME = "CONSUME_START_TIME";
    TRACE_ON = "TRACE_ON";
    MSG_REGION = "MSG_REGION";
    TRACE_CONTEXT = "TRACE_CONTEXT";
    POP_CK = "POP_CK";
    POP_CK_OFFSET = "POP_CK_OFFSET";
    FIRST_POP_TIME = "1ST_POP_TIME";
    CORRELATION_ID = "CORRELATION_ID";
    REPLY_TO_CLIENT = "REPLY_TO_CLIENT";
    TTL = "TTL";
    MSG_TYPE = "MSG_TYPE";
    ARRIVE_TIME = "ARRIVE_TIME";
    PUSH_REPLY_TIME = "PUSH_REPLY_TIME";
    INNER_NUM = "INNER_NUM";
    INNER_BASE = "INNER_BASE";
    INNER_MULTI_DISPATCH = "INNER_MULTI_DISPATCH";
    INNER_MULTI_QUEUE_OFFSET = "INNER_MULTI_QUEUE_OFFSET";
    BUYER_ID = "BUYER_ID";
    TRANSFER_FLAG = "TRANSFER_FLAG";
    CORRECTION_FLAG = "CORRECTION_FLAG";
    MQ2_FLAG = "MQ2_FLAG";
    DUP_INFO = "DUP_INFO";
    REDIRECT = "REDIRECT";
    PROPERTY_FORWARD_QUEUE_ID = "PROPERTY_FORWARD_QUEUE_ID";
    CRC32 = "__CRC32#";
}

/// Properties with this prefix are never stored.
pub const TRANSIENT_PREFIX: &str = "__RMQ.TRANSIENT.";

/// The pairs in order. Pieces that are no pair, or not UTF-8, are skipped.
pub fn iter(encoded: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    pieces(encoded).filter_map(|piece| {
        let (name, value) = split(piece)?;
        Some((
            std::str::from_utf8(name).ok()?,
            std::str::from_utf8(value).ok()?,
        ))
    })
}

fn pieces(encoded: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(encoded);
    std::iter::from_fn(move || {
        let all = rest?;
        let Some(end) = scan::first(PROPERTY_SEPARATOR, all) else {
            return rest.take();
        };
        rest = Some(&all[end + 1..]);
        Some(&all[..end])
    })
}

/// Name and value of a piece; both must be there.
fn split(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = scan::first(NAME_VALUE_SEPARATOR, piece)?;
    let (name, value) = (&piece[..at], &piece[at + 1..]);
    (!name.is_empty() && !value.is_empty()).then_some((name, value))
}

/// The value of `name`; the last one when it occurs twice, as in a map filled in order.
pub fn get<'a>(encoded: &'a [u8], name: &str) -> Option<&'a str> {
    let value = pieces(encoded)
        .filter_map(split)
        .filter(|(n, _)| *n == name.as_bytes())
        .last()?
        .1;
    std::str::from_utf8(value).ok()
}

/// The values of some names in one pass; as [`get`] for each of them.
pub fn get_all<'a, const N: usize>(encoded: &'a [u8], names: [&str; N]) -> [Option<&'a str>; N] {
    let mut found = [None; N];
    for (name, value) in pieces(encoded).filter_map(split) {
        if let Some(i) = names.iter().position(|n| n.as_bytes() == name) {
            found[i] = std::str::from_utf8(value).ok();
        }
    }
    found
}

/// The keys of [`KEYS`].
pub fn keys(encoded: &[u8]) -> impl Iterator<Item = &str> {
    split_keys(get(encoded, KEYS).unwrap_or(""))
}

/// The keys in a value of [`KEYS`], which blanks separate and nothing else: other white space belongs to a key, as in Java's
/// `split(" ")`.
pub fn split_keys(value: &str) -> impl Iterator<Item = &str> {
    value.split(KEY_SEPARATOR).filter(|k| !k.is_empty())
}

/// Whether a name or value can be encoded: it has no separator in it.
pub fn is_encodable(text: &str) -> bool {
    !text
        .bytes()
        .any(|b| b == NAME_VALUE_SEPARATOR || b == PROPERTY_SEPARATOR)
}

/// `encoded` with `name` set to `value`: in its place when it is there, else at the end.
pub fn set(encoded: &[u8], name: &str, value: &str) -> Bytes {
    let mut out = Builder::with_capacity(encoded.len() + name.len() + value.len() + 3);
    let mut placed = false;
    for (n, v) in pieces(encoded).filter_map(split) {
        if n != name.as_bytes() {
            out.pair(n, v);
        } else if !placed {
            out.pair(n, value.as_bytes());
            placed = true;
        }
    }
    if !placed {
        out.pair(name.as_bytes(), value.as_bytes());
    }
    out.build()
}

/// `encoded` without `name`.
pub fn remove(encoded: &[u8], name: &str) -> Bytes {
    let mut out = Builder::with_capacity(encoded.len());
    for (n, v) in pieces(encoded).filter_map(split) {
        if n != name.as_bytes() {
            out.pair(n, v);
        }
    }
    out.build()
}

/// Encodes `pairs` in order.
pub fn encode<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> Bytes {
    let mut out = Builder::default();
    for (name, value) in pairs {
        out.push(name.as_ref(), value.as_ref());
    }
    out.build()
}

/// Encodes pairs one by one.
#[derive(Debug, Default)]
pub struct Builder(BytesMut);

impl Builder {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_capacity(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    /// Starts from properties that are already encoded.
    pub fn from_encoded(encoded: &[u8]) -> Self {
        let mut out = Self::with_capacity(encoded.len() + 64);
        out.0.put_slice(encoded);
        if !encoded.is_empty() && !encoded.ends_with(&[PROPERTY_SEPARATOR]) {
            out.0.put_u8(PROPERTY_SEPARATOR);
        }
        out
    }

    /// Appends a pair. Empty names and values, and separators within them, cannot be encoded: such a pair is left out.
    pub fn push(&mut self, name: &str, value: &str) -> &mut Self {
        if !name.is_empty() && !value.is_empty() && is_encodable(name) && is_encodable(value) {
            self.pair(name.as_bytes(), value.as_bytes());
        }
        self
    }

    fn pair(&mut self, name: &[u8], value: &[u8]) {
        self.0.put_slice(name);
        self.0.put_u8(NAME_VALUE_SEPARATOR);
        self.0.put_slice(value);
        self.0.put_u8(PROPERTY_SEPARATOR);
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn build(self) -> Bytes {
        self.0.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_leniently() {
        let read = |s: &str| {
            iter(s.as_bytes())
                .map(|(k, v)| format!("{k}={v}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert_eq!(read("a\u{1}b\u{2}c\u{1}d\u{2}"), "a=b,c=d");
        assert_eq!(read("a\u{1}b\u{2}c\u{1}d"), "a=b,c=d");
        assert_eq!(read("a\u{1}b\u{1}c\u{2}"), "a=b\u{1}c");
        assert_eq!(read("a\u{2}\u{1}x\u{2}b\u{1}\u{2}c\u{1}d"), "c=d");
        assert_eq!(read(""), "");
    }

    #[test]
    fn set_replaces_or_appends_and_remove_removes() {
        let p = encode([("a", "1"), ("b", "2")]);
        assert_eq!(set(&p, "a", "3"), encode([("a", "3"), ("b", "2")]));
        assert_eq!(
            set(&p, "c", "3"),
            encode([("a", "1"), ("b", "2"), ("c", "3")])
        );
        assert_eq!(remove(&p, "a"), encode([("b", "2")]));
        assert_eq!(remove(&p, "x"), p);
        assert_eq!(get(&p, "b"), Some("2"));
        assert_eq!(get(&p, "x"), None);
    }

    #[test]
    fn a_pair_with_separators_is_left_out() {
        assert!(encode([("a\u{1}", "b"), ("c", "d\u{2}"), ("", "x"), ("y", "")]).is_empty());
    }

    #[test]
    fn keys_are_split_at_blanks() {
        let p = encode([(KEYS, "k1  k2 ")]);
        assert_eq!(keys(&p).collect::<Vec<_>>(), ["k1", "k2"]);
        let p = encode([(KEYS, " {\"id\":1,\n\"x\":2} a\tb\r\u{c}c \u{a0} ")]);
        let expected = ["{\"id\":1,\n\"x\":2}", "a\tb\r\u{c}c", "\u{a0}"];
        assert_eq!(keys(&p).collect::<Vec<_>>(), expected);
    }
}
