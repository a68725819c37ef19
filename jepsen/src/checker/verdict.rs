//! What a checker says: valid or not, and why, in the form of Jepsen's results.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// Examples of an anomaly that are kept; all are counted.
const EXAMPLES: usize = 10;

/// Whether what was seen may be. In this order the worst of several is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Valid {
    True,
    /// It cannot be said.
    Unknown,
    False,
}

impl Valid {
    /// As in Jepsen's results.
    pub fn json(self) -> Value {
        match self {
            Self::True => Value::Bool(true),
            Self::False => Value::Bool(false),
            Self::Unknown => Value::from("unknown"),
        }
    }

    /// The inverse of [`Self::json`]; what is neither is unknown.
    pub fn of_json(value: Option<&Value>) -> Self {
        match value.and_then(Value::as_bool) {
            Some(true) => Self::True,
            Some(false) => Self::False,
            None => Self::Unknown,
        }
    }
}

/// A checker's result.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub valid: Valid,
    pub fields: Map<String, Value>,
}

impl Verdict {
    pub fn new(valid: Valid) -> Self {
        Self {
            valid,
            fields: Map::new(),
        }
    }

    /// Nothing can be said, for this reason.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::new(Valid::Unknown).with("why", why.into())
    }

    /// Adds a field.
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        self.fields.insert(name.to_owned(), json!(value));
        self
    }

    /// At least as bad as this.
    pub fn at_least(mut self, valid: Valid) -> Self {
        self.valid = self.valid.max(valid);
        self
    }

    /// With `valid?` first.
    pub fn json(&self) -> Value {
        let mut all = Map::new();
        all.insert("valid?".to_owned(), self.valid.json());
        all.extend(self.fields.clone());
        Value::Object(all)
    }
}

/// Counts anomalies by name and keeps some of each.
#[derive(Default)]
pub struct Anomalies {
    found: BTreeMap<&'static str, (u64, Vec<Value>)>,
}

impl Anomalies {
    /// Notes one; `example` is made only when it is kept.
    pub fn add(&mut self, name: &'static str, example: impl FnOnce() -> Value) {
        let (count, examples) = self.found.entry(name).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(example());
        }
    }

    /// How many of this name.
    pub fn count(&self, name: &str) -> u64 {
        self.found.get(name).map_or(0, |(count, _)| *count)
    }

    /// Invalid when there is any but those that are allowed.
    pub fn verdict(self, allowed: &[&str]) -> Verdict {
        let bad = self.found.keys().any(|name| !allowed.contains(name));
        let mut verdict = Verdict::new(if bad { Valid::False } else { Valid::True });
        verdict = verdict.with("anomaly-types", self.found.keys().collect::<Vec<_>>());
        for (name, (count, examples)) in self.found {
            verdict = verdict
                .with(&format!("{name}-count"), count)
                .with(name, examples);
        }
        verdict
    }
}
