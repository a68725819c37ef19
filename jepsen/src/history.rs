//! What happened, in the order of one clock: operations of clients, and faults.

use std::io::Write;
use std::time::Instant;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an event is about an operation: its start, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It was asked for.
    Invoke,
    /// It took effect.
    Ok,
    /// It took no effect, for certain.
    Fail,
    /// It may have taken effect, or may later.
    Info,
}

/// Who did it: a client's number, or the nemesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Process {
    Client(u32),
    Nemesis(NemesisName),
}

/// Serializes as `"nemesis"`, as in Jepsen's histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NemesisName {
    Nemesis,
}

/// One line of a history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds since the run began.
    pub time: u64,
    pub process: Process,
    #[serde(rename = "type")]
    pub kind: Kind,
    /// `send`, `poll`, `kill-leader`.
    pub f: String,
    pub value: Value,
}

/// Takes events of all tasks of a run and writes them as JSON lines.
pub struct Recorder {
    began: Instant,
    out: Mutex<Box<dyn Write + Send>>,
}

impl Recorder {
    /// A history that begins now.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            began: Instant::now(),
            out: Mutex::new(out),
        }
    }

    /// Notes a fault or its healing. `targets` are replicas.
    pub fn nemesis(&self, kind: Kind, f: &str, targets: &[usize], detail: &str) {
        let value = serde_json::json!({"targets": targets, "detail": detail});
        self.note(Process::Nemesis(NemesisName::Nemesis), kind, f, value);
    }

    /// Notes an event of now.
    pub fn note(&self, process: Process, kind: Kind, f: &str, value: Value) {
        let mut out = self.out.lock();
        let time = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let event = Event {
            time,
            process,
            kind,
            f: f.to_owned(),
            value,
        };
        let written = serde_json::to_writer(&mut *out, &event);
        if let Err(error) = written
            .map_err(Into::into)
            .and_then(|()| out.write_all(b"\n"))
        {
            eprintln!("the history cannot be written: {error}");
        }
    }
}
