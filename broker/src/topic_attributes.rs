//! Attributes of topics: `+key=value` sets, `-key` removes, comma separated.

use std::collections::BTreeMap;

use raftmq_remoting::codes::response;

use crate::send::Refusal;

/// Attributes in one request; there are four kinds.
const MAX_ATTRIBUTES: usize = 64;

enum Values {
    OneOf(&'static [&'static str]),
    /// A whole number from -1.
    Number,
}

struct Kind {
    key: &'static str,
    changeable: bool,
    values: Values,
}

const KINDS: &[Kind] = &[
    Kind {
        key: "queue.type",
        changeable: false,
        values: Values::OneOf(&["BatchCQ", "SimpleCQ"]),
    },
    Kind {
        key: "cleanup.policy",
        changeable: false,
        values: Values::OneOf(&["COMPACTION", "DELETE"]),
    },
    Kind {
        key: "message.type",
        changeable: true,
        values: Values::OneOf(&[
            "UNSPECIFIED",
            "TRANSACTION",
            "FIFO",
            "MIXED",
            "DELAY",
            "NORMAL",
        ]),
    },
    Kind {
        key: "reserve.time",
        changeable: true,
        values: Values::Number,
    },
];

fn bad(remark: impl Into<String>) -> Refusal {
    Refusal::new(response::SYSTEM_ERROR, remark)
}

/// Parses the request's text into changes: key to new value, None to remove it.
fn parse(text: &str) -> Result<BTreeMap<String, Option<String>>, Refusal> {
    let mut changes = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => {
                let name = key
                    .strip_prefix('+')
                    .ok_or_else(|| bad(format!("add/alter attribute format is wrong: {key}")))?;
                (name, Some(value.to_owned()))
            }
            None => {
                let name = part
                    .strip_prefix('-')
                    .ok_or_else(|| bad(format!("delete attribute format is wrong: {part}")))?;
                (name, None)
            }
        };
        if changes.insert(key.to_owned(), value).is_some() {
            return Err(bad(format!("key duplication: {key}")));
        }
        if changes.len() > MAX_ATTRIBUTES {
            return Err(bad("too many attributes"));
        }
    }
    Ok(changes)
}

fn check(kind: &Kind, value: &str, mixed: bool) -> Result<(), Refusal> {
    match kind.values {
        Values::OneOf(all) if !all.contains(&value) => {
            Err(bad(format!("value is not in set: {all:?}")))
        }
        Values::Number if value.parse::<i64>().is_ok_and(|n| n >= -1) => Ok(()),
        Values::Number => Err(bad(format!("value is not a number from -1: {value}"))),
        Values::OneOf(_) => match (kind.key, value) {
            ("message.type", "MIXED") if !mixed => Err(Refusal::new(
                response::INVALID_PARAMETER,
                "MIXED message type is not supported.",
            )),
            ("queue.type", "BatchCQ") => {
                Err(bad("queue.type=BatchCQ is not supported by this broker"))
            }
            ("cleanup.policy", "COMPACTION") => Err(bad(
                "cleanup.policy=COMPACTION is not supported by this broker",
            )),
            _ => Ok(()),
        },
    }
}

/// Applies a request's text to a topic's attributes; None: the topic is being created. `mixed`: message.type=MIXED is allowed.
pub fn alter(
    current: Option<&BTreeMap<String, String>>,
    text: &str,
    mixed: bool,
) -> Result<BTreeMap<String, String>, Refusal> {
    let changes = parse(text)?;
    let mut result = current.cloned().unwrap_or_default();
    for (key, value) in changes {
        let Some(kind) = KINDS.iter().find(|k| k.key == key) else {
            return Err(bad(format!("unsupported key: {key}")));
        };
        if current.is_none() && value.is_none() {
            return Err(bad(format!(
                "only add attribute is supported while creating topic. key: {key}"
            )));
        }
        if current.is_some() && !kind.changeable {
            return Err(bad(format!(
                "attempt to update an unchangeable attribute. key: {key}"
            )));
        }
        match value {
            Some(value) => {
                check(kind, &value, mixed)?;
                result.insert(key, value);
            }
            None if result.remove(&key).is_none() => {
                return Err(bad(format!("attempt to delete a nonexistent key: {key}")));
            }
            None => {}
        }
    }
    Ok(result)
}

/// A topic list request carries attributes as a map, keys with or without their sign.
pub fn from_map(
    current: Option<&BTreeMap<String, String>>,
    map: &BTreeMap<String, String>,
    mixed: bool,
) -> Result<BTreeMap<String, String>, Refusal> {
    let plain = |key: &str| key.trim_start_matches(['+', '-']).to_owned();
    // What does not change needs no permission to change.
    let changed = map
        .iter()
        .filter(|(k, v)| current.and_then(|c| c.get(&plain(k))) != Some(v));
    let text: Vec<String> = changed
        .map(|(k, v)| {
            if k.starts_with('-') {
                k.clone()
            } else {
                format!("+{}={v}", plain(k))
            }
        })
        .collect();
    alter(current, &text.join(","), mixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(current: Option<&BTreeMap<String, String>>, text: &str) -> String {
        alter(current, text, false)
            .err()
            .map(|r| r.remark)
            .unwrap_or_default()
    }

    #[test]
    fn create_and_change() {
        let made = alter(None, "+message.type=FIFO,+reserve.time=5", false)
            .ok()
            .unwrap();
        assert_eq!(made["message.type"], "FIFO");
        let changed = alter(Some(&made), "+message.type=NORMAL,-reserve.time", false)
            .ok()
            .unwrap();
        assert_eq!(changed.len(), 1);
        assert_eq!(changed["message.type"], "NORMAL");
    }

    #[test]
    fn refusals_worded_as_rocketmq_words_them() {
        let none = BTreeMap::new();
        assert_eq!(fails(None, "+foo=bar"), "unsupported key: foo");
        assert!(fails(None, "+message.type=FOO").starts_with("value is not in set"));
        assert_eq!(
            fails(None, "-message.type"),
            "only add attribute is supported while creating topic. key: message.type"
        );
        assert_eq!(
            fails(None, "message.type=FIFO"),
            "add/alter attribute format is wrong: message.type"
        );
        assert_eq!(
            fails(None, "message.type"),
            "delete attribute format is wrong: message.type"
        );
        assert_eq!(
            fails(Some(&none), "+queue.type=SimpleCQ"),
            "attempt to update an unchangeable attribute. key: queue.type"
        );
        assert_eq!(
            fails(None, "+message.type=FIFO,+message.type=NORMAL"),
            "key duplication: message.type"
        );
        assert_eq!(
            fails(None, "+message.type=MIXED"),
            "MIXED message type is not supported."
        );
        assert!(alter(None, "+message.type=MIXED", true).is_ok());
        assert!(fails(None, "+queue.type=BatchCQ").contains("not supported"));
    }
}
