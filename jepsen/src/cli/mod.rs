//! The command line. Exit status: 0 valid, 1 invalid, 2 undecided or a failure of the harness.

mod campaign;
mod enemy;
mod matrix;
mod programs;
mod smoke;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use raftmq_benches::BenchError;
use raftmq_benches::cluster::own_bin_dir;
use raftmq_benches::stop::StopSignal;
use serde_json::Value;

use crate::checker::verdict::Valid;
use crate::nemesis::catalogue;
use crate::report;
use crate::run::{self, Judge};
use crate::sim::{SimulateArgs, simulate};
use crate::workload::Workload;

/// Exit status when nothing can be said.
const UNDECIDED: u8 = 2;

/// Tries to break clusters of real processes, and judges what their clients saw.
#[derive(Parser)]
#[command(name = "raftmq-jepsen", version)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// One run.
    Test(Box<test::TestArgs>),
    /// Judges a run that is stored, again.
    Check(StoredArgs),
    /// Writes the report of a run that is stored, again.
    Report(StoredArgs),
    /// The faults there are.
    Faults,
    /// The workloads there are.
    Workloads,
    /// All configurations, one after the other; goes on where it was interrupted.
    Matrix(matrix::MatrixArgs),
    /// A few minutes' worth of runs, and of controls that must fail.
    Smoke(smoke::SmokeArgs),
    /// A set under hostile requests: every code of both servers and of the peer port, right and wrong. Without root.
    Enemy(enemy::EnemyArgs),
    /// Simulated sets instead of real ones.
    Simulate(SimulateArgs),
}

/// How a history is judged.
#[derive(Args, Clone)]
pub struct JudgeArgs {
    /// Go module of the second opinion on registers.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/porcupine"))]
    porcupine: PathBuf,

    /// Without the second opinion nothing is valid.
    #[arg(long)]
    require_porcupine: bool,
}

impl JudgeArgs {
    fn judge(&self) -> Judge {
        Judge {
            porcupine: self.porcupine.clone(),
            porcupine_required: self.require_porcupine,
        }
    }
}

#[derive(Args)]
struct StoredArgs {
    /// Directory of the run.
    dir: PathBuf,

    #[command(flatten)]
    judge: JudgeArgs,
}

/// Does what the command line says. Everything that was started ends before this returns, when it is interrupted, too.
pub fn main() -> ExitCode {
    let what = match Cli::parse().what {
        // A simulation has a process, and its threads, for itself.
        What::Simulate(args) => return simulate(args),
        what => what,
    };
    let done = tokio::runtime::Runtime::new()
        .map_err(BenchError::io("the runtime"))
        .and_then(|runtime| runtime.block_on(until_stopped(what)));
    match done {
        Ok(Valid::True) => ExitCode::SUCCESS,
        Ok(Valid::False) => ExitCode::FAILURE,
        Ok(Valid::Unknown) => ExitCode::from(UNDECIDED),
        Err(error) => {
            eprintln!("raftmq-jepsen: {error}");
            ExitCode::from(UNDECIDED)
        }
    }
}

async fn until_stopped(what: What) -> Result<Valid, BenchError> {
    let mut stop = StopSignal::new()?;
    tokio::select! {
        done = run(what) => done,
        () = stop.received() => Err(BenchError::Usage("interrupted".to_owned())),
    }
}

async fn run(what: What) -> Result<Valid, BenchError> {
    match what {
        // Done before there was a runtime.
        What::Simulate(_) => Ok(Valid::Unknown),
        What::Test(args) => test::run(*args).await,
        What::Check(args) => {
            let valid = check(&args)?;
            println!("{}", report::words(valid));
            Ok(valid)
        }
        What::Report(args) => {
            check(&args)?;
            println!("{}", args.dir.join("report.html").display());
            Ok(Valid::True)
        }
        What::Faults => {
            faults();
            Ok(Valid::True)
        }
        What::Workloads => {
            for (_, name, says) in Workload::ALL {
                println!("{name:12} {says}");
            }
            Ok(Valid::True)
        }
        What::Matrix(args) => {
            programs::ensure(&own_bin_dir()?, false)?;
            matrix::run(&args).await
        }
        What::Enemy(args) => enemy::run(args).await,
        What::Smoke(args) => {
            programs::ensure(&own_bin_dir()?, true)?;
            smoke::run(&args).await
        }
    }
}

fn check(args: &StoredArgs) -> Result<Valid, BenchError> {
    let results = run::judge(&args.dir, &args.judge.judge())?;
    println!("{}", summary(&results));
    Ok(Valid::of_json(results.get("valid?")))
}

fn faults() {
    for fault in catalogue() {
        let options = match fault.options {
            [] => String::new(),
            options => format!(":{}", options.join("|")),
        };
        println!("{}{options}\n    {}", fault.name, fault.says);
        if let Some(what) = fault.may_lose {
            println!("    may lose by design: {what}");
        }
    }
}

/// A line for each checker that is not content, and the numbers that matter.
fn summary(results: &Value) -> String {
    let mut lines = Vec::new();
    for (name, verdict) in results.as_object().into_iter().flatten() {
        let fields = verdict.as_object().into_iter().flatten();
        if Valid::of_json(verdict.get("valid?")) == Valid::True || !verdict.is_object() {
            continue;
        }
        let short =
            fields.filter(|(_, v)| !v.is_array() || v.as_array().is_some_and(|a| a.len() < 4));
        let short: Vec<_> = short.map(|(k, v)| format!("{k}={v}")).collect();
        lines.push(format!("{name}: {}", short.join(" ")));
    }
    let acked = count(results, "acknowledged-count");
    let lost = count(results, "lost-count");
    lines.push(format!("acknowledged {acked}, lost {lost}"));
    lines.join("\n")
}

/// A number of `total-queue`, or of the coverage where nothing is sent.
fn count(results: &Value, field: &str) -> u64 {
    let of = |checker: &str| results.get(checker)?.get(field)?.as_u64();
    of("total-queue").or_else(|| of("coverage")).unwrap_or(0)
}
