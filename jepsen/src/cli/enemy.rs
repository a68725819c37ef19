//! `enemy`: hostile requests against a set of real processes, on loopback.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use raftmq_benches::BenchError;
use raftmq_benches::cluster::own_bin_dir;
use raftmq_benches::programs::Servers;

use super::programs;
use super::test::sabotaged;
use crate::bed::BedOptions;
use crate::checker::verdict::Valid;
use crate::enemy::replay::replay;
use crate::enemy::run::{self, Plan};

#[derive(Args)]
pub struct EnemyArgs {
    /// Every request follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Requests at most.
    #[arg(long, default_value_t = 10_000_000)]
    requests: u64,

    /// Time of the attack at most.
    #[arg(long, default_value_t = 120)]
    seconds: u64,

    /// At once.
    #[arg(long, default_value_t = 24)]
    connections: usize,

    /// Of replicas, during the attack.
    #[arg(long, default_value_t = 3)]
    restarts: u32,

    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    replicas: u8,

    /// Has every broker break a promise; the run must be invalid then.
    #[arg(long)]
    sabotage: Option<String>,

    /// Plays kept requests again instead, and tells the one that a process dies of.
    #[arg(long, value_name = "DIR")]
    replay: Option<PathBuf>,

    /// Where everything goes [default: below the directory for temporary files].
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Where mqnamesrv and mqbroker are [default: beside this program].
    #[arg(long)]
    bin_dir: Option<PathBuf>,

    /// Keeps the stores of a run that is valid, too.
    #[arg(long)]
    keep: bool,
}

/// Runs it. The last line is for programs.
pub async fn run(args: EnemyArgs) -> Result<Valid, BenchError> {
    let name = format!("enemy-{}", args.seed);
    let dir = args.dir.clone();
    let dir = dir.unwrap_or_else(|| std::env::temp_dir().join("raftmq-jepsen").join(name));
    let bin_dir = match &args.bin_dir {
        Some(bin_dir) => bin_dir.clone(),
        None => {
            let own = own_bin_dir()?;
            programs::ensure(&own, args.sabotage.is_some())?;
            own
        }
    };
    let bin_dir = match args.sabotage {
        Some(_) => sabotaged(&bin_dir, &dir.join("bin"))?,
        None => bin_dir,
    };
    // Of an earlier run.
    let _ = std::fs::remove_dir_all(dir.join("set"));
    let mut options = BedOptions::new(Servers::RaftMq(bin_dir), dir.join("set"));
    options.replicas = args.replicas.into();
    options.seed = args.seed;
    if let Some(sabotage) = &args.sabotage {
        options
            .env
            .push(("RAFTMQ_SABOTAGE".to_owned(), sabotage.clone()));
    }
    if let Some(kept) = &args.replay {
        let found = replay(kept, options).await?;
        return Ok(match found {
            None => {
                println!("every process lives");
                Valid::True
            }
            Some(request) => {
                println!("{}", String::from_utf8_lossy(&request));
                Valid::False
            }
        });
    }
    println!("seed {}, in {}", args.seed, dir.display());
    let plan = Plan {
        seed: args.seed,
        requests: args.requests,
        limit: Duration::from_secs(args.seconds),
        connections: args.connections,
        restarts: args.restarts,
        keep: args.keep,
    };
    let outcome = run::run(&plan, options).await?;
    outcome
        .findings
        .iter()
        .for_each(|finding| println!("{finding}"));
    println!("{outcome}");
    Ok(outcome.valid())
}
