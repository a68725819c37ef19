//! `mqfailover`: how long a broker set is without writes when something befalls its leader.
//!
//! Each sub-command starts a cluster of its own ([`bed`]), does one thing to it again and again, and prints a table and a last line
//! of key=value; `--json` keeps what was measured.

mod bed;
mod clusters;
mod idle;
mod isolate;
mod java;
mod kill;
mod load;
mod outcome;
mod replace;
mod rolling;
mod transfer;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use raftmq_benches::BenchError;
use raftmq_benches::stop::StopSignal;

use outcome::Outcome;

/// Exit status after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Breaks clusters of real processes on this machine and measures how long they take no messages.
#[derive(Parser)]
#[command(name = "mqfailover", version)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// kill -9 of the leader.
    Kill(kill::KillArgs),
    /// Planned changes of the leader.
    Transfer(transfer::TransferArgs),
    /// Every replica stopped and started in turn, under a Java client.
    Rolling(rolling::RollingArgs),
    /// The leader cut from the other replicas, not from its clients. Needs root.
    Isolate(isolate::IsolateArgs),
    /// The leader held for some seconds (SIGSTOP).
    Pause(isolate::PauseArgs),
    /// A replica and its disk replaced by an empty broker.
    Replace(replace::ReplaceArgs),
    /// Processor time and memory of replicas without work.
    Idle(idle::IdleArgs),
}

/// What to measure on.
#[derive(Args, Clone)]
pub struct BedArgs {
    /// What runs beside the measurement [default: half; idle with a Java client or Java servers].
    #[arg(long, value_enum)]
    load: Option<Load>,

    /// Messages a second of --load half, instead of measuring the maximum first.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,

    /// Broker sets of three replicas. The first is broken; a client's retry may reach the second.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    sets: u8,

    /// Whose servers.
    #[arg(long, value_enum, default_value_t = Peer::Raftmq)]
    peer: Peer,

    /// Directory for data and logs; without it a temporary one that is removed.
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Where mqnamesrv, mqbroker and mqbench are [default: beside this program].
    #[arg(long)]
    bin_dir: Option<PathBuf>,

    /// The scripts java-sender and java-peer/run, for Java clients and servers: the folder benches of the sources.
    #[arg(long, default_value = "benches")]
    scripts: PathBuf,

    /// Port of the name server; brokers are 11 above and further [default: free ones].
    #[arg(long)]
    port: Option<u16>,

    /// Of the random pauses; printed when it is chosen here.
    #[arg(long)]
    seed: Option<u64>,

    /// Keeps every sample in this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Settings for every broker.
    #[arg(last = true, value_name = "KEY=VALUE", value_parser = raftmq_benches::programs::key_value)]
    settings: Vec<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Load {
    /// Only who measures.
    Idle,
    /// Half of what the set can take, 1 KiB each, and a consumer of it.
    Half,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    Raftmq,
    /// Three Java brokers 5.3.3 with DLedger.
    JavaDledger,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli).await {
        Ok(code) => code,
        Err(e) => {
            eprintln!("mqfailover: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that was started ends before this returns: it is dropped with the future that holds it.
async fn run(cli: Cli) -> Result<ExitCode, BenchError> {
    let mut stop = StopSignal::new()?;
    let measured = async {
        match cli.what {
            What::Kill(args) => kill::run(args).await,
            What::Transfer(args) => transfer::run(args).await,
            What::Rolling(args) => rolling::run(args).await,
            What::Isolate(args) => isolate::isolate(args).await,
            What::Pause(args) => isolate::pause(args).await,
            What::Replace(args) => replace::run(args).await,
            What::Idle(args) => idle::run(args).await,
        }
    };
    let outcome: Result<Outcome, BenchError> = tokio::select! {
        outcome = measured => outcome,
        () = stop.received() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    outcome?.tell()
}
