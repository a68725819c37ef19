//! `smoke`: a few short runs that must be valid, and one for each promise a broker can break, which must not. Six minutes at most; CI
//! runs it. Needs root, for the network and the disks.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use raftmq_benches::BenchError;

use super::campaign;
use crate::checker::verdict::Valid;

/// A run.
struct Run {
    name: &'static str,
    args: &'static str,
    control: Option<Control>,
}

/// A broker that breaks a promise.
struct Control {
    sabotage: &'static str,
    /// Who must find it, at least one of them: what is found by others alone was not this.
    shown_by: &'static [&'static str],
}

/// A run that must be valid.
const fn run_of(name: &'static str, args: &'static str) -> Run {
    Run {
        name,
        args,
        control: None,
    }
}

/// One that must not.
const fn control(
    name: &'static str,
    args: &'static str,
    sabotage: &'static str,
    shown_by: &'static [&'static str],
) -> Run {
    Run {
        name,
        args,
        control: Some(Control { sabotage, shown_by }),
    }
}

/// What shows a forgotten vote.
const VOTE: &str = "--workload max-offset --nemesis restart-beside-isolated-leader --seconds 26 --hold 1.5 --interval 1 --concurrency 48";
/// What shows a lease that is not looked at.
const LEASE: &str = "--workload max-offset --nemesis isolate-leader --seconds 14";

/// Kills, pauses, cut networks, power; and without sabotage what the controls of votes and leases are run with.
const RUNS: [Run; 9] = [
    run_of(
        "kill-and-pause",
        "--workload log --nemesis kill:leader,pause:leader --flush async --seconds 16",
    ),
    run_of(
        "partitions",
        "--workload register --nemesis partition-leader --seconds 14",
    ),
    run_of(
        "power",
        "--workload log --nemesis power:all,power:leader --seconds 18",
    ),
    run_of("vote", VOTE),
    run_of("lease", LEASE),
    control(
        "control-ack",
        "--workload log --nemesis isolate-leader --seconds 14",
        "ack-before-commit",
        &["total-queue", "log-linear", "consumed-then-lost"],
    ),
    control(
        "control-fsync",
        "--workload log --nemesis power:all --seconds 14",
        "ignore-fsync",
        &["total-queue", "log-linear", "consumed-then-lost"],
    ),
    control(
        "control-vote",
        VOTE,
        "forget-vote",
        &["total-queue", "log-linear", "stale-max-offset", "replicas"],
    ),
    control(
        "control-lease",
        LEASE,
        "skip-lease-check",
        &["log-linear", "stale-max-offset"],
    ),
];

/// Of all of them.
const COMMON: &str = "--interval 2 --hold 4 --recovery-limit-ms 8000";
/// Longest time of one run, which is far less when all goes well.
const LIMIT: Duration = Duration::from_secs(150);

#[derive(Args)]
pub struct SmokeArgs {
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Where everything goes [default: below the directory for temporary files].
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Without the second opinion on registers nothing is valid.
    #[arg(long)]
    require_porcupine: bool,
}

/// Runs all of it. The last line is for programs.
pub async fn run(args: &SmokeArgs) -> Result<Valid, BenchError> {
    let dir = args.dir.clone();
    let dir = dir.unwrap_or_else(|| std::env::temp_dir().join("raftmq-jepsen").join("smoke"));
    let (mut worst, mut acked, mut lost, mut caught) = (Valid::True, 0, 0, 0);
    let go = args.require_porcupine || campaign::has_go();
    for run in &RUNS {
        let name = run.name;
        println!("== {name}");
        let began = Instant::now();
        let words = words(run, args.seed, go);
        let place = dir.join(name);
        let test = campaign::test(&words, &place);
        let Ok(done) = tokio::time::timeout(LIMIT, test).await else {
            eprintln!("{name} did not end");
            worst = worst.max(Valid::Unknown);
            continue;
        };
        let done = done?;
        println!("{name} took {} s", began.elapsed().as_secs());
        match &run.control {
            None => {
                worst = worst.max(done.valid);
                acked += done.count("acknowledged-count");
                lost += done.count("lost-count");
            }
            Some(control) => {
                let found = done.findings();
                let what = format!("{}: found by {}", control.sabotage, found.join(", "));
                match control.outcome(done.valid, &found) {
                    Valid::True => {
                        caught += 1;
                        println!("caught, {what}");
                    }
                    bad => {
                        println!("not caught, {what}");
                        worst = worst.max(bad);
                    }
                }
            }
        }
    }
    println!(
        "valid={} runs={} acked={acked} lost={lost} controls_caught={caught}/{}",
        worst == Valid::True,
        RUNS.len(),
        RUNS.iter().filter(|run| run.control.is_some()).count()
    );
    Ok(worst)
}

impl Control {
    /// A control that comes out well, or is found by others than it must, is as bad as a run that does not.
    fn outcome(&self, valid: Valid, found: &[String]) -> Valid {
        match valid {
            Valid::Unknown => Valid::Unknown,
            Valid::False if found.iter().any(|f| self.shown_by.contains(&f.as_str())) => {
                Valid::True
            }
            _ => Valid::False,
        }
    }
}

fn words(run: &Run, seed: u64, go: bool) -> Vec<String> {
    // What a run says for itself comes last and counts.
    let all = COMMON.split(' ').chain(run.args.split(' '));
    let mut words: Vec<String> = all.map(str::to_owned).collect();
    words.extend(["--seed".to_owned(), seed.to_string()]);
    if let Some(control) = &run.control {
        words.extend(["--sabotage", control.sabotage].map(str::to_owned));
    }
    if go {
        words.push("--require-porcupine".to_owned());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_counts_only_when_the_right_ones_find_it() {
        let control = RUNS.iter().find_map(|run| run.control.as_ref()).unwrap();
        let found =
            |names: &[&str]| -> Vec<String> { names.iter().map(|n| (*n).to_owned()).collect() };
        let outcome = |valid, names: &[&str]| control.outcome(valid, &found(names));
        assert_eq!(
            outcome(Valid::False, &["recovery", "total-queue"]),
            Valid::True
        );
        for other in ["recovery", "panics", "coverage"] {
            assert_eq!(outcome(Valid::False, &[other]), Valid::False);
        }
        assert_eq!(outcome(Valid::True, &[]), Valid::False);
        assert_eq!(outcome(Valid::Unknown, &[]), Valid::Unknown);
    }
}
