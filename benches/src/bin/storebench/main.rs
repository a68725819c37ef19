//! `storebench`: what the storage of a replica can do, without a broker around it. Each sub-command ends with one line of
//! key=value.

mod amplification;
mod append;
mod follow;
mod keys;
mod line;
mod open;
mod queues;
mod raw;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use raftmq_benches::{BenchError, page_cache};

use self::line::Line;

/// Measures the storage; temporary data is deleted at the end.
#[derive(Parser)]
#[command(name = "storebench", version)]
struct Args {
    /// The last line as JSON.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Appends to a commitlog, in turn with plain writes of the same bytes.
    Append(append::Args),
    /// Opens a large store after a kill and after a clean stop.
    Open(open::Args),
    /// Many queues: memory, descriptors, time to make and to open again.
    Queues(queues::Args),
    /// Queries by key against the number of segments.
    Keys(keys::Args),
    /// Bytes written for each byte of message.
    Amplification(amplification::Args),
    /// Writes out the files below a directory and drops them from the page cache.
    Evict {
        #[arg(long)]
        dir: PathBuf,
    },
    /// Waits until one replica's log has caught up with another's.
    Follow(follow::Args),
    /// Fills a store and goes on until it is killed.
    #[command(hide = true)]
    Fill(open::FillArgs),
    /// Opens a store once and closes it.
    #[command(hide = true)]
    OpenOnce(open::OnceArgs),
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args.what) {
        Ok(line) => {
            line.print(args.json);
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("storebench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: &What) -> Result<Line, BenchError> {
    match what {
        What::Append(args) => append::run(args),
        What::Open(args) => open::run(args),
        What::Queues(args) => queues::run(args),
        What::Keys(args) => keys::run(args),
        What::Amplification(args) => amplification::run(args),
        What::Evict { dir } => {
            let evicted = page_cache::evict(dir)?;
            let mut line = Line::default();
            line.add("files", evicted.files)
                .mib("evicted_mib", evicted.bytes);
            Ok(line)
        }
        What::Follow(args) => follow::run(args),
        What::Fill(args) => open::fill(args),
        What::OpenOnce(args) => open::once(args),
    }
}
