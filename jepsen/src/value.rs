//! The values of operations: one flat set of fields of which each operation uses a few. Absent fields are not written.

use serde::{Deserialize, Serialize};

/// What an operation is about, or what it answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Value {
    /// Queue, by its number in the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<u32>,
    /// Register, by its number in the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<u32>,
    /// The message: unique in the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v: Option<u64>,
    /// The replica that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<u8>,
    /// Queue offset of a message, end of a queue, or content of a register.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Offset a poll begins at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// First offset of the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// Offset to go on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
    /// Messages: for each stretch without a gap its first offset and then the messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub msgs: Vec<Vec<u64>>,
    /// A read of the whole queue after everything was healed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
    /// The poll continues where the one before of this process ended.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub follows: bool,
    /// Nobody waited for an answer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub oneway: bool,
    /// Delay, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<u32>,
    /// How often the message was given back before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Response code that says more than success or failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Replicas a fault is done to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<usize>,
    /// More about a fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Value {
    /// Of an operation on a queue.
    pub fn queue(q: u32, via: u8) -> Self {
        Self {
            q: Some(q),
            via: Some(via),
            ..Self::default()
        }
    }

    /// Of an operation on a register.
    pub fn register(k: u32, via: u8) -> Self {
        Self {
            k: Some(k),
            via: Some(via),
            ..Self::default()
        }
    }

    /// Messages as [`Self::msgs`] has them. Offsets are never negative.
    pub fn stretches(messages: impl Iterator<Item = (i64, u64)>) -> Vec<Vec<u64>> {
        let mut stretches: Vec<Vec<u64>> = Vec::new();
        for (offset, value) in messages {
            let offset = offset.unsigned_abs();
            match stretches.last_mut() {
                Some(s)
                    if s.first()
                        .is_some_and(|at| at + s.len() as u64 - 1 == offset) =>
                {
                    s.push(value);
                }
                _ => stretches.push(vec![offset, value]),
            }
        }
        stretches
    }

    /// The inverse of [`Self::stretches`].
    pub fn messages(&self) -> impl Iterator<Item = (i64, u64)> {
        self.msgs.iter().flat_map(|s| {
            let at = s.first().copied().unwrap_or(0);
            let values = s.iter().skip(1);
            (at..)
                .zip(values)
                .map(|(o, v)| (i64::try_from(o).unwrap_or(i64::MAX), *v))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_kept_in_stretches() {
        let messages = [(3, 7), (4, 8), (6, 9), (2, 1)];
        let msgs = Value::stretches(messages.into_iter());
        assert_eq!(msgs, [vec![3, 7, 8], vec![6, 9], vec![2, 1]]);
        let value = Value {
            msgs,
            ..Value::default()
        };
        assert_eq!(value.messages().collect::<Vec<_>>(), messages);
        assert_eq!(
            serde_json::to_string(&value).unwrap(),
            r#"{"msgs":[[3,7,8],[6,9],[2,1]]}"#
        );
    }
}
