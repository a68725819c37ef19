//! The properties a message is stored with: what the client sent, less what is the broker's to set, plus the broker's.

use bytes::Bytes;
use raftmq_remoting::message::properties::{self, self as names, TRANSIENT_PREFIX};

use crate::config::Config;

/// A record keeps the length of its properties in a signed 16-bit number.
pub const MAX_PROPERTIES: usize = 32_767;

const NAME_END: u8 = 1;
const PAIR_END: u8 = 2;

/// Set by the broker alone; what a client sends under these names is dropped. WAIT is obeyed and not stored.
const BROKERS_OWN: &[&str] = &[
    names::POP_CK,
    names::MSG_REGION,
    names::TRACE_ON,
    names::CLUSTER,
    names::WAIT,
    names::TIMER_OUT_MS,
];

/// MSG_REGION, CLUSTER and TRACE_ON, encoded once.
pub struct Stamps(Bytes);

impl Stamps {
    /// Their bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    pub fn new(config: &Config) -> Self {
        let mut out = Vec::new();
        put(&mut out, names::MSG_REGION, &config.region);
        put(&mut out, names::CLUSTER, &config.cluster);
        put(
            &mut out,
            names::TRACE_ON,
            if config.trace_on { "true" } else { "false" },
        );
        Self(out.into())
    }
}

fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(NAME_END);
    out.extend_from_slice(value.as_bytes());
    out.push(PAIR_END);
}

/// The client's properties that decide what happens to a message.
#[derive(Debug, Default)]
pub struct Wishes<'a> {
    pub unique_key: Option<&'a str>,
    pub delay: Option<&'a str>,
    /// `WAIT=false`: answered when the master holds it.
    pub no_wait: bool,
    pub transaction: bool,
    /// A time of its own, when one is asked for.
    pub timer: Option<Timer<'a>>,
    /// `topic+id` of a timer message that is taken back.
    pub takes_back: Option<&'a str>,
    /// Says that it holds messages of its own, which only a queue of another kind could have.
    pub inner_batch: bool,
}

/// A timer of arbitrary time. Where a message has several, RocketMQ's order decides, as here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer<'a> {
    DeliverMs(&'a str),
    DelayMs(&'a str),
    DelaySec(&'a str),
}

impl<'a> Timer<'a> {
    fn of(name: &str, value: &'a str) -> Option<Self> {
        match name {
            names::TIMER_DELIVER_MS => Some(Self::DeliverMs(value)),
            names::TIMER_DELAY_MS => Some(Self::DelayMs(value)),
            names::TIMER_DELAY_SEC => Some(Self::DelaySec(value)),
            _ => None,
        }
    }

    /// When it is due, milliseconds since the epoch; None: it says no number.
    pub fn deliver_at_ms(self, now_ms: i64) -> Option<i64> {
        match self {
            Self::DeliverMs(text) => text.parse().ok(),
            Self::DelayMs(text) => now_ms.checked_add(text.parse().ok()?),
            Self::DelaySec(text) => {
                now_ms.checked_add(text.parse::<i64>().ok()?.checked_mul(1000)?)
            }
        }
    }
}

impl<'a> Wishes<'a> {
    pub fn read(sent: &'a [u8]) -> Self {
        let mut wishes = Self::default();
        for (name, value) in properties::iter(sent) {
            match name {
                names::UNIQ_KEY if !value.is_empty() => wishes.unique_key = Some(value),
                names::DELAY => wishes.delay = Some(value),
                names::WAIT => wishes.no_wait = value.eq_ignore_ascii_case("false"),
                names::TRAN_MSG => wishes.transaction = value.eq_ignore_ascii_case("true"),
                names::TIMER_DEL_UNIQKEY => wishes.takes_back = Some(value),
                names::INNER_NUM => wishes.inner_batch = true,
                names::TIMER_DELAY_SEC | names::TIMER_DELAY_MS | names::TIMER_DELIVER_MS => {
                    wishes.timer = wishes.timer.max(Timer::of(name, value));
                }
                _ => {}
            }
        }
        wishes
    }
}

/// Builds the stored form: the sent pairs without the broker's own and without `drop`, then `add`, then the stamps.
pub fn build(stamps: &Stamps, sent: &[u8], drop: &[&str], add: &[(&str, &str)]) -> Bytes {
    build_of(stamps, &[sent], drop, add)
}

/// [`build`] for pairs that were sent in several places, in this order.
pub fn build_of(stamps: &Stamps, sent: &[&[u8]], drop: &[&str], add: &[(&str, &str)]) -> Bytes {
    let extra: usize = add.iter().map(|(k, v)| k.len() + v.len() + 2).sum();
    let all: usize = sent.iter().map(|pairs| pairs.len() + 1).sum();
    let mut out = Vec::with_capacity(all + extra + stamps.0.len());
    for pairs in sent {
        copy(&mut out, pairs, |name| {
            !BROKERS_OWN.contains(&name)
                && !name.starts_with(TRANSIENT_PREFIX)
                && !drop.contains(&name)
                && !add.iter().any(|(k, _)| *k == name)
        });
    }
    for (name, value) in add {
        put(&mut out, name, value);
    }
    out.extend_from_slice(&stamps.0);
    out.into()
}

/// A stored message's properties with some dropped and some added; its stamps stay.
pub fn rebuild(stored: &[u8], drop: &[&str], add: &[(&str, &str)]) -> Bytes {
    let extra: usize = add.iter().map(|(k, v)| k.len() + v.len() + 2).sum();
    let mut out = Vec::with_capacity(stored.len() + extra);
    copy(&mut out, stored, |name| {
        !drop.contains(&name) && !add.iter().any(|(k, _)| *k == name)
    });
    for (name, value) in add {
        put(&mut out, name, value);
    }
    out.into()
}

fn copy(out: &mut Vec<u8>, from: &[u8], keep: impl Fn(&str) -> bool) {
    for (name, value) in properties::iter(from) {
        if keep(name) {
            put(out, name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(b: &Bytes) -> String {
        String::from_utf8_lossy(b)
            .replace('\u{1}', "=")
            .replace('\u{2}', ";")
    }

    #[test]
    fn stamps_replace_what_the_client_sent() {
        let stamps = Stamps::new(&Config::default());
        let sent =
            b"KEYS\x01k\x02POP_CK\x01x\x02TRACE_ON\x01false\x02WAIT\x01true\x02TAGS\x01t\x02";
        let stored = build(&stamps, sent, &[], &[("UNIQ_KEY", "U")]);
        assert_eq!(
            text(&stored),
            "KEYS=k;TAGS=t;UNIQ_KEY=U;MSG_REGION=DefaultRegion;CLUSTER=DefaultCluster;TRACE_ON=true;"
        );
    }

    #[test]
    fn malformed_pairs_disappear() {
        let stamps = Stamps::new(&Config::default());
        let stored = build(&stamps, b"abc", &[], &[]);
        assert!(text(&stored).starts_with("MSG_REGION"), "{}", text(&stored));
    }

    #[test]
    fn wishes_are_read() {
        let w = Wishes::read(b"UNIQ_KEY\x01U\x02DELAY\x013\x02WAIT\x01false\x02TRAN_MSG\x01TRUE\x02TIMER_DELAY_MS\x015\x02");
        assert_eq!(w.unique_key, Some("U"));
        assert_eq!(w.delay, Some("3"));
        assert!(w.no_wait && w.transaction && w.timer.is_some());
        let w = Wishes::read(b"");
        assert!(!w.no_wait && !w.transaction && w.timer.is_none() && w.delay.is_none());
    }

    #[test]
    fn rebuild_replaces() {
        let out = rebuild(b"DELAY\x013\x02KEYS\x01k\x02", &["DELAY"], &[("KEYS", "j")]);
        assert_eq!(text(&out), "KEYS=j;");
    }
}
