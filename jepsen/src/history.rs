//! What happened, in the order of one clock: operations of clients, and faults. A history is a file of JSON lines.

use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Bytes that wait for the file: at ten thousand operations a second a write every few milliseconds.
const BUFFER: usize = 64 * 1024;

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
    /// One thread of a client. It has one operation at a time, and is given up after one of unknown outcome.
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
pub struct Event<V> {
    /// Nanoseconds since the run began.
    pub time: u64,
    pub process: Process,
    #[serde(rename = "type")]
    pub kind: Kind,
    /// `send`, `poll`, `kill-leader`.
    pub f: String,
    pub value: V,
}

/// The same, to be written.
#[derive(Serialize)]
struct Written<'a, V> {
    time: u64,
    process: Process,
    #[serde(rename = "type")]
    kind: Kind,
    f: &'a str,
    value: V,
}

/// Takes events of all tasks of a run and writes them as JSON lines.
pub struct Recorder {
    began: Instant,
    /// Clients write nothing before, nanoseconds since the run began.
    hushed_until: AtomicU64,
    /// Writes of clients that were acknowledged so far.
    acknowledged: AtomicU64,
    out: Mutex<Out>,
}

/// Operations that write.
const WRITES: [&str; 5] = ["send", "commit", "send-back", "half", "end"];

struct Out {
    file: BufWriter<Box<dyn Write + Send>>,
    /// The first failure: the history is not whole then.
    failed: Option<String>,
}

impl Recorder {
    /// A history that begins now.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            began: Instant::now(),
            hushed_until: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            out: Mutex::new(Out {
                file: BufWriter::with_capacity(BUFFER, out),
                failed: None,
            }),
        }
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Asks the clients to write nothing for so long.
    pub fn hush(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let until = self.now().saturating_add(time);
        self.hushed_until.store(until, Ordering::Release);
    }

    /// Whether clients are to write nothing now.
    pub fn is_hushed(&self) -> bool {
        self.now() < self.hushed_until.load(Ordering::Acquire)
    }

    /// How many writes of clients were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Notes a fault or its healing. `targets` are replicas.
    pub fn nemesis(&self, kind: Kind, f: &str, targets: &[usize], detail: &str) {
        let value = serde_json::json!({"targets": targets, "detail": detail});
        self.note(Process::Nemesis(NemesisName::Nemesis), kind, f, value);
    }

    /// Notes an event of now.
    pub fn note(&self, process: Process, kind: Kind, f: &str, value: impl Serialize) {
        if kind == Kind::Ok && WRITES.contains(&f) {
            self.acknowledged.fetch_add(1, Ordering::AcqRel);
        }
        let mut out = self.out.lock();
        // The time is taken under the lock, so that the file is in its order.
        let event = Written {
            time: self.now(),
            process,
            kind,
            f,
            value,
        };
        let written = serde_json::to_writer(&mut out.file, &event)
            .map_err(Into::into)
            .and_then(|()| out.file.write_all(b"\n"));
        if let Err(error) = written {
            out.failed.get_or_insert(error.to_string());
        }
    }

    /// Hands everything to the file.
    ///
    /// # Errors
    /// This, or an earlier event, could not be written: the history has a gap.
    pub fn flush(&self) -> std::io::Result<()> {
        let mut out = self.out.lock();
        out.file.flush()?;
        match &out.failed {
            Some(why) => Err(std::io::Error::other(why.clone())),
            None => Ok(()),
        }
    }
}
