//! Many runs, each in a process of its own, so that each can be repeated exactly: the command `simulate`.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftmq_store::sabotage::Sabotage;

use super::dice::Digest;
use super::{Options, Outcome, note_panics, run};

/// Tells a process of this program that it is to make one run.
const CHILD: &str = "RAFTMQ_SIMULATE_SEED";

/// Longest time that one run may take: a task that never yields would take for ever. A busy machine may be slow, so that this is
/// nothing found, but nobody knows what the run would have shown.
const LONGEST: Duration = Duration::from_secs(120);

/// Command line of `simulate`.
#[derive(Debug, Clone, clap::Args)]
pub struct SimulateArgs {
    /// How many runs.
    #[arg(long, default_value_t = 100)]
    pub seeds: u64,
    /// The seed of the first; the others follow.
    #[arg(long, default_value_t = 1)]
    pub from: u64,
    /// Runs at once; 0 for one on each processor.
    #[arg(long, default_value_t = 0)]
    pub jobs: usize,
    /// Replicas of a set; 0 lets the seed say.
    #[arg(long, default_value_t = 0)]
    pub replicas: usize,
    /// How long things go wrong in a run, simulated seconds.
    #[arg(long, default_value_t = 8)]
    pub seconds: u64,
    /// Break a promise on purpose: then a run has to fail. Needs the feature `sabotage`.
    #[arg(long)]
    pub sabotage: Option<Sabotage>,
    /// Ends at the first run that fails.
    #[arg(long)]
    pub first: bool,
    /// Prints every run.
    #[arg(long)]
    pub verbose: bool,
}

/// Makes the runs; fails when one does, and with a sabotage when none does.
pub fn simulate(args: SimulateArgs) -> ExitCode {
    if let Err(why) = sabotage(args.sabotage) {
        eprintln!("simulate: {why}");
        return ExitCode::from(2);
    }
    if let Some(seed) = std::env::var(CHILD).ok().and_then(|s| s.parse().ok()) {
        return child(seed, &args);
    }
    let began = Instant::now();
    let next = AtomicU64::new(args.from);
    let end = args.from.saturating_add(args.seeds);
    let outcomes = Mutex::new(Vec::new());
    let broken = Mutex::new(None);
    let jobs = match args.jobs {
        0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
        n => n,
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while broken.lock().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    match in_a_process(seed) {
                        Ok(outcome) => {
                            report(&outcome, args.verbose);
                            if args.first && outcome.violation.is_some() {
                                next.store(end, Ordering::Relaxed);
                            }
                            outcomes.lock().push(outcome);
                        }
                        Err(why) => *broken.lock() = Some(format!("seed {seed}: {why}")),
                    }
                }
            });
        }
    });
    if let Some(why) = broken.into_inner() {
        // Never a pass: nobody knows what the run would have shown.
        eprintln!("simulate: {why}");
        return ExitCode::from(2);
    }
    let mut outcomes = outcomes.into_inner();
    outcomes.sort_by_key(|o| o.seed);
    let mut all = Digest::default();
    outcomes.iter().for_each(|o| all.add(&[o.seed, o.hash]));
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let failed = outcomes.iter().filter(|o| o.violation.is_some()).count();
    let healed = outcomes.iter().map(|o| o.healed_ms).max().unwrap_or(0);
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    println!(
        "sent={} unknown={} refused={} entries={} purged={} terms={} faults={} packets={} simulated_s={} slowest_healing_ms={healed}",
        sum(|o| o.sent),
        sum(|o| o.unknown),
        sum(|o| o.refused),
        sum(|o| o.entries),
        sum(|o| o.purged),
        sum(|o| o.terms),
        sum(|o| o.faults),
        sum(|o| o.packets),
        sum(|o| o.simulated_ms) / 1_000,
    );
    println!(
        "seeds={} failed={failed} acked={} per_minute={:.0} hash={:016x}",
        outcomes.len(),
        sum(|o| o.acked),
        outcomes.len() as f64 / minutes,
        all.value(),
    );
    let good = (failed == 0) == args.sabotage.is_none();
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn report(outcome: &Outcome, verbose: bool) {
    match &outcome.violation {
        Some(why) => println!(
            "seed {} FAILED at {} ms, hash {:016x}: {why}",
            outcome.seed, outcome.simulated_ms, outcome.hash
        ),
        None if verbose => println!(
            "seed {} hash {:016x}: {} replicas, {} sent, {} acked, {} terms, {} faults, healed in {} ms",
            outcome.seed,
            outcome.hash,
            outcome.replicas,
            outcome.sent,
            outcome.acked,
            outcome.terms,
            outcome.faults,
            outcome.healed_ms
        ),
        None => {}
    }
}

/// One run in a process of its own: this program with the same command line.
fn in_a_process(seed: u64) -> Result<Outcome, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut running = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(CHILD, seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let deadline = Instant::now() + LONGEST;
    // What it says fits into the pipe.
    while running.try_wait().map_err(|e| e.to_string())?.is_none() {
        if Instant::now() > deadline {
            running.kill().map_err(|e| e.to_string())?;
            running.wait().map_err(|e| e.to_string())?;
            return Err(format!("it has not ended after {} s", LONGEST.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = running.wait_with_output().map_err(|e| e.to_string())?;
    serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("the run ended with {} and said nothing: {e}", output.status))
}

fn child(seed: u64, args: &SimulateArgs) -> ExitCode {
    note_panics();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .without_time()
        .with_writer(std::io::stderr)
        .init();
    let options = Options {
        replicas: args.replicas,
        chaos_ms: args.seconds * 1_000,
        ..Options::default()
    };
    let outcome = run(seed, options);
    let written = serde_json::to_vec(&outcome)
        .map_err(std::io::Error::other)
        .and_then(|json| std::io::stdout().write_all(&json));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(feature = "sabotage")]
fn sabotage(which: Option<Sabotage>) -> Result<(), String> {
    raftmq_store::sabotage::choose(which);
    Ok(())
}

#[cfg(not(feature = "sabotage"))]
fn sabotage(which: Option<Sabotage>) -> Result<(), String> {
    match which {
        None => Ok(()),
        Some(_) => Err("this program was built without the feature sabotage".to_owned()),
    }
}
