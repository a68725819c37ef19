//! `mqadmin`: what operators ask of a cluster, on the command line.
//!
//! Options have the letters and names of RocketMQ's tool. Exit status: 0 done, 1 refused or failed, with the reason on
//! stderr, 2 wrong usage. Whatever is printed is rendered by plain functions, so that tests see it without a cluster.

mod command;
mod java;
mod output;
mod quorum;
mod sets;
mod table;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use raftmq_client::Admin;

use command::{cluster_list, raft_status, replicas};

/// Where a name server is looked for when neither option nor variable says it.
const DEFAULT_NAMESRV: &str = "127.0.0.1:9876";

/// Looks after RaftMQ clusters.
#[derive(Parser)]
#[command(name = "mqadmin", version)]
struct Cli {
    /// Name servers, host:port separated by ';' [default: $NAMESRV_ADDR, else 127.0.0.1:9876]
    #[arg(short = 'n', long = "namesrvAddr", value_name = "ADDR", global = true)]
    namesrv: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[command(rename_all = "camelCase")]
enum Command {
    /// Lists the brokers with version, load and disk
    ClusterList(cluster_list::Args),
    /// Shows the replicas of broker sets: roles, lag, who votes, what is wrong
    RaftStatus(raft_status::Args),
    /// Hands the leadership of a set to another replica
    TransferLeader(replicas::TransferArgs),
    /// Makes a learner a voter
    AddReplica(replicas::AddArgs),
    /// Removes a replica from its set
    RemoveReplica(replicas::RemoveArgs),
    /// Raises a set's version when all its replicas run the new program: the end of a rolling upgrade
    FinalizeUpgrade(replicas::FinalizeArgs),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|e| {
        if let Some(ContextValue::String(name)) = e.get(ContextKind::InvalidSubcommand)
            && java::COMMANDS.split_whitespace().any(|known| known == name)
        {
            eprintln!("mqadmin: {name} is not available yet: use the Java mqadmin");
            std::process::exit(1);
        }
        e.exit()
    });
    let namesrv = cli
        .namesrv
        .or_else(|| std::env::var("NAMESRV_ADDR").ok())
        .filter(|addr| !addr.is_empty())
        .unwrap_or_else(|| DEFAULT_NAMESRV.to_owned());
    let admin = Admin::new(namesrv).unwrap_or_else(|e| {
        Cli::command()
            .error(ErrorKind::ValueValidation, e.to_string())
            .exit()
    });
    let done = match cli.command {
        Command::ClusterList(args) => cluster_list::run(&admin, &args).await,
        Command::RaftStatus(args) => raft_status::run(&admin, &args).await,
        Command::TransferLeader(args) => replicas::transfer_leader(&admin, &args).await,
        Command::AddReplica(args) => replicas::add(&admin, &args).await,
        Command::RemoveReplica(args) => replicas::remove(&admin, &args).await,
        Command::FinalizeUpgrade(args) => replicas::finalize(&admin, &args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("mqadmin: {e:#}");
            ExitCode::FAILURE
        }
    }
}
