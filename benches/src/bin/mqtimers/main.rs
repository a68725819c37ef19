//! `mqtimers`: how exactly delayed messages of arbitrary time come, beside how many that wait, and over the loss of the leader.
//!
//! It starts a set of its own. First very many timers far ahead ([`send`]), then a few at a time, then a steady stream of due ones,
//! during which the leader may be killed (-9). Every message is written down ([`book`]): none may come early or not at all.

mod book;
mod read;
mod recall;
mod send;
mod steps;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use raftmq_benches::BenchError;
use raftmq_benches::stop::StopSignal;

/// Exit status after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Starts a set, gives it timers, and measures how late each message is. The last line is key=value; the exit status is 1 when a message came early
/// or not at all, or although it was taken back, or twice without a kill.
#[derive(Parser)]
#[command(name = "mqtimers", version)]
pub struct Args {
    /// Timers that wait all the time, due between an hour and a year ahead.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(0..=20_000_000))]
    pending: u32,

    /// Timers due a second, while they are measured.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    due_rate: u32,

    /// For so long, s.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,

    /// Before that, ten timers a second for so long, s.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    idle_seconds: u32,

    /// Of these, so many of a hundred are taken back two seconds before their time.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    recall_percent: u8,

    /// Kill the leader (-9) in the middle; it comes back 5 s later.
    #[arg(long)]
    kill: bool,

    /// Afterwards: kill all replicas and start them again; replace one by an empty broker.
    #[arg(long)]
    restart: bool,

    /// Replicas of the set.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    replicas: u8,

    /// Directory for data and logs; without it a temporary one that is removed.
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Port of the name server; brokers are 11 above and further [default: free ones].
    #[arg(long)]
    port: Option<u16>,

    /// Keeps the figures in this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Settings for every broker.
    #[arg(last = true, value_name = "KEY=VALUE", value_parser = raftmq_benches::programs::key_value)]
    settings: Vec<(String, String)>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(code) => code,
        Err(e) => {
            eprintln!("mqtimers: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that was started ends before this returns: it is dropped with the future that holds it.
async fn run(args: Args) -> Result<ExitCode, BenchError> {
    let mut stop = StopSignal::new()?;
    tokio::select! {
        good = steps::run(&args) => Ok(if good? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        () = stop.received() => Ok(ExitCode::from(INTERRUPTED)),
    }
}
