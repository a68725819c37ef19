//! `raftmq-simulate`: simulated clusters, many seeds, nothing else.

use std::process::ExitCode;

use clap::Parser;
use raftmq_jepsen::sim::{SimulateArgs, simulate};

/// Runs simulated clusters and says which seeds broke a promise.
#[derive(Parser)]
#[command(name = "raftmq-simulate", version)]
struct Args {
    #[command(flatten)]
    simulate: SimulateArgs,
}

fn main() -> ExitCode {
    simulate(Args::parse().simulate)
}
