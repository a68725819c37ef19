//! `test`: one run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use raftmq_benches::BenchError;
use raftmq_benches::cluster::own_bin_dir;
use raftmq_benches::programs::key_value;

use super::JudgeArgs;
use super::programs::{self, SABOTAGED};
use crate::checker::verdict::Valid;
use crate::report;
use crate::run::{self, Ground};
use crate::settings::{Ack, Flush, Settings, Whose};

/// The fault that has messages given up on purpose.
const TRIMS: &str = "trim-past";

/// A run. Of what is said twice the last counts.
#[derive(Args)]
#[command(args_override_self = true)]
pub struct TestArgs {
    /// See `workloads`.
    #[arg(long, default_value = "log")]
    workload: String,

    /// See `faults`; several with commas.
    #[arg(long, value_delimiter = ',')]
    nemesis: Vec<String>,

    /// With faults.
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// Everything that is left to chance here follows from it [default: another one each time, which is printed].
    #[arg(long)]
    seed: Option<u64>,

    /// Whose servers.
    #[arg(long, value_enum, default_value_t)]
    servers: Whose,

    /// Who must have a message before it is acknowledged.
    #[arg(long, value_enum, default_value_t)]
    ack: Ack,

    /// What a replica must have done before it has it.
    #[arg(long, value_enum, default_value_t)]
    flush: Flush,

    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    replicas: u8,

    /// Of the topic.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    queues: u32,

    /// Clients, each with one operation at a time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(4..=512))]
    concurrency: u32,

    /// Operations a second of those that write; 0 for as many as there are.
    #[arg(long, default_value_t = 800)]
    rate: u32,

    /// From one heal to the next fault, seconds, a half more or less.
    #[arg(long, default_value_t = 4.0)]
    interval: f64,

    /// Of a fault, seconds, a half more or less.
    #[arg(long, default_value_t = 5.0)]
    hold: f64,

    /// Two faults at a time, where they can.
    #[arg(long)]
    overlap: bool,

    /// After the last fault every queue must take messages within this time, ms.
    #[arg(long, default_value_t = 5_000)]
    recovery_limit_ms: u64,

    /// With fewer acknowledged operations the run says nothing.
    #[arg(long, default_value_t = 500)]
    least_ops: u64,

    /// Has every broker break a promise; the run must be invalid then.
    #[arg(long)]
    sabotage: Option<String>,

    /// Where everything goes [default: below the directory for temporary files].
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Where mqnamesrv and mqbroker are [default: beside this program].
    #[arg(long)]
    bin_dir: Option<PathBuf>,

    /// The folder benches of the sources, for Java servers.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches"))]
    scripts: PathBuf,

    /// Keeps the servers' data even of a run that is not invalid.
    #[arg(long)]
    keep: bool,

    #[command(flatten)]
    judge: JudgeArgs,

    /// Settings for every broker.
    #[arg(last = true, value_name = "KEY=VALUE", value_parser = key_value)]
    settings: Vec<(String, String)>,
}

/// Runs it.
pub async fn run(args: TestArgs) -> Result<Valid, BenchError> {
    let seed = args.seed.unwrap_or_else(any_seed);
    let settings = Settings {
        workload: args.workload.clone(),
        servers: args.servers,
        ack: args.ack,
        flush: args.flush,
        faults: args.nemesis.clone(),
        seed,
        replicas: usize::from(args.replicas),
        queues: args.queues,
        concurrency: args.concurrency,
        rate: args.rate,
        seconds: args.seconds,
        recovery_limit_ms: args.recovery_limit_ms,
        least_ops: args.least_ops,
        trims: args.nemesis.iter().any(|fault| fault == TRIMS),
        sabotage: args.sabotage.clone(),
        ..Settings::default()
    };
    let name = format!("{}-{seed}", args.workload);
    let dir = args.dir.clone();
    let dir = dir.unwrap_or_else(|| std::env::temp_dir().join("raftmq-jepsen").join(name));
    let bin_dir = match &args.bin_dir {
        Some(bin_dir) => bin_dir.clone(),
        None => {
            let own = own_bin_dir()?;
            if args.servers == Whose::Raftmq {
                programs::ensure(&own, args.sabotage.is_some())?;
            }
            own
        }
    };
    let ground = Ground {
        bin_dir: match args.sabotage {
            Some(_) => sabotaged(&bin_dir, &dir.join("bin"))?,
            None => bin_dir,
        },
        dir: dir.clone(),
        scripts: args.scripts.clone(),
        interval: seconds(args.interval)?,
        hold: seconds(args.hold)?,
        overlap: args.overlap,
        broker_settings: args.settings.clone(),
        keep: args.keep,
        judge: args.judge.judge(),
    };
    let faults = report::named(&args.nemesis);
    println!(
        "{} with {faults}, seed {seed}, in {}",
        args.workload,
        dir.display()
    );
    let results = run::test(&settings, &ground).await?;
    let valid = Valid::of_json(results.get("valid?"));
    println!("{}\n{}", super::summary(&results), report::words(valid));
    Ok(valid)
}

fn seconds(seconds: f64) -> Result<Duration, BenchError> {
    Duration::try_from_secs_f64(seconds).map_err(|e| BenchError::Usage(e.to_string()))
}

/// From the clock; it is only to differ.
fn any_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::from(now.subsec_nanos()) ^ now.as_secs()) % 1_000_000_000
}

/// A directory in which the broker is one that breaks promises.
pub(super) fn sabotaged(bin_dir: &Path, dir: &Path) -> Result<PathBuf, BenchError> {
    std::fs::create_dir_all(dir).map_err(BenchError::io(dir))?;
    for (name, target) in [("mqbroker", SABOTAGED), ("mqnamesrv", "mqnamesrv")] {
        let target = bin_dir.join(target);
        let target = std::path::absolute(&target).map_err(BenchError::io(target))?;
        if !target.exists() {
            return Err(BenchError::Usage(format!(
                "{} is not there; build it: cargo build --release --workspace --features raftmq-broker/sabotage \
                 --bin {SABOTAGED}",
                target.display()
            )));
        }
        let link = dir.join(name);
        // Of an earlier run.
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&target, &link).map_err(BenchError::io(link))?;
    }
    std::path::absolute(dir).map_err(BenchError::io(dir))
}
