//! `smoke`: a few short runs that must be valid, and one for each promise a broker can break, which must not. Six minutes at most; CI
//! runs it. Needs root, for the network and the disks.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use raftmq_benches::BenchError;

use super::campaign;
use crate::checker::verdict::Valid;

/// A run: its name, what it breaks, its arguments.
type Run = (&'static str, Option<&'static str>, &'static str);

/// Between them: kills, pauses, cut networks, power.
const RUNS: [Run; 3] = [
    (
        "kill-and-pause",
        None,
        "--workload log --nemesis kill:leader,pause:leader --flush async --seconds 22",
    ),
    (
        "partitions",
        None,
        "--workload register --nemesis partition-leader,isolate-leader --seconds 20",
    ),
    (
        "power",
        None,
        "--workload log --nemesis power:all,power:leader --seconds 22",
    ),
];

/// Each with what shows it.
const CONTROLS: [Run; 4] = [
    (
        "control-ack",
        Some("ack-before-commit"),
        "--workload log --nemesis isolate-leader --seconds 14",
    ),
    (
        "control-fsync",
        Some("ignore-fsync"),
        "--workload log --nemesis power:all --seconds 14",
    ),
    (
        "control-vote",
        Some("forget-vote"),
        "--workload max-offset --nemesis restart-beside-isolated-leader --seconds 30 --hold 1.5 --interval 1 --concurrency 48",
    ),
    (
        "control-lease",
        Some("skip-lease-check"),
        "--workload max-offset --nemesis isolate-leader --seconds 14",
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
    for (name, sabotage, line) in RUNS.iter().chain(&CONTROLS) {
        let seed = args.seed.to_string();
        // What a run says for itself comes last and counts.
        let mut words: Vec<String> = COMMON
            .split(' ')
            .chain(line.split(' '))
            .map(str::to_owned)
            .collect();
        words.extend(["--seed".to_owned(), seed]);
        if let Some(sabotage) = sabotage {
            words.extend(["--sabotage", sabotage].map(str::to_owned));
        }
        if args.require_porcupine {
            words.push("--require-porcupine".to_owned());
        }
        println!("== {name}");
        let place = dir.join(name);
        let run = campaign::test(&words, &place);
        let Ok(done) = tokio::time::timeout(LIMIT, run).await else {
            eprintln!("{name} did not end");
            worst = worst.max(Valid::Unknown);
            continue;
        };
        let done = done?;
        match sabotage {
            None => {
                worst = worst.max(done.valid);
                acked += done.count("acknowledged-count");
                lost += done.count("lost-count");
            }
            Some(sabotage) if done.valid == Valid::False => {
                caught += 1;
                println!("{sabotage} is caught by {}", done.findings().join(", "));
            }
            // A control that comes out well is as bad as a run that does not.
            Some(_) if done.valid == Valid::True => worst = Valid::False,
            Some(_) => worst = worst.max(Valid::Unknown),
        }
    }
    println!(
        "valid={} runs={} acked={acked} lost={lost} controls_caught={caught}/{}",
        worst == Valid::True,
        RUNS.len() + CONTROLS.len(),
        CONTROLS.len()
    );
    Ok(worst)
}
