//! Simulated clusters: the replicas of `raftmq-raft` and the store under them, as they are in a broker, on simulated disks,
//! clocks and a simulated network, all of it from one seed. A run of some ten simulated seconds takes a fraction of one, and a
//! seed that fails fails the same way again.
//!
//! [`world`] is a run; [`host`] a machine; [`net`] and [`wire`] what is between them; [`faults`] what goes wrong; [`oracle`] what
//! must be true all the same; [`entropy`] why a seed says all; [`simulate`] many runs, each in a process of its own.

mod dice;
mod entropy;
mod faults;
mod host;
mod net;
mod oracle;
mod simulate;
mod wire;
mod world;

use std::cell::{Cell, RefCell};

use serde::{Deserialize, Serialize};

pub use self::faults::Fault;
pub use self::simulate::{SimulateArgs, simulate};
use self::world::World;

/// How runs are made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Replicas of a set; 0 lets the seed say.
    pub replicas: usize,
    /// How long things go wrong, simulated milliseconds.
    pub chaos_ms: u64,
    /// These kinds of faults instead of what the seed says.
    pub only: Option<Vec<Fault>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            replicas: 0,
            chaos_ms: 8_000,
            only: None,
        }
    }
}

/// What came of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What it was made from.
    pub seed: u64,
    /// Digest of everything that happened: equal for equal runs.
    pub hash: u64,
    /// What should not have happened.
    pub violation: Option<String>,
    /// Simulated milliseconds from the last fault until all was well.
    pub healed_ms: u64,
    /// Replicas of the set.
    pub replicas: usize,
    /// Sends.
    pub sent: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Sends of which nobody knows.
    pub unknown: u64,
    /// Sends that were refused for certain.
    pub refused: u64,
    /// Entries committed.
    pub entries: u64,
    /// Entries given up again, on the replica that gave up most.
    pub purged: u64,
    /// Terms with a leader.
    pub terms: u64,
    /// Faults.
    pub faults: u64,
    /// Packets sent.
    pub packets: u64,
    /// Simulated milliseconds in all.
    pub simulated_ms: u64,
}

/// One run, on a thread of its own. In a process that has made no run before, it is the same each time.
pub fn run(seed: u64, options: Options) -> Outcome {
    let thread = std::thread::spawn(move || {
        entropy::seed(seed);
        World::new(seed, options).run()
    });
    thread
        .join()
        .unwrap_or_else(|_| Outcome::failed(seed, "the simulation itself panicked"))
}

impl Outcome {
    /// Of a run that came to nothing.
    fn failed(seed: u64, why: &str) -> Self {
        Self {
            seed,
            violation: Some(why.to_owned()),
            ..Self::default()
        }
    }
}

thread_local! {
    static RUNNING: Cell<Option<usize>> = const { Cell::new(None) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whose code runs on this thread from now on.
fn running(host: Option<usize>) {
    RUNNING.set(host);
}

/// What a replica panicked with, if one did since the last call: a broker would have ended.
fn panicked() -> Option<String> {
    PANIC.take()
}

/// Has panics of replicas noted instead of printed.
fn note_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match RUNNING.get() {
        Some(_) => PANIC.with_borrow_mut(|noted| {
            noted.get_or_insert_with(|| format!("panic: {info}"));
        }),
        None => default(info),
    }));
}
