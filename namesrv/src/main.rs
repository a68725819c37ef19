//! `mqnamesrv`: the name server as a process.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use raftmq_namesrv::{NameServer, NamesrvConfig};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// RaftMQ name server.
#[derive(Parser)]
#[command(name = "mqnamesrv", version)]
struct Args {
    /// Name server config properties file
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Name server address list; accepted and ignored, as by the Java name server
    #[arg(short = 'n', long = "namesrvAddr", value_name = "ADDR")]
    _namesrv_addr: Option<String>,
    /// Print all config items and exit
    #[arg(short = 'p', long = "printConfigItem")]
    print_config_item: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .init();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    let config = match &args.config_file {
        Some(file) => NamesrvConfig::load(file)?,
        None => NamesrvConfig::default(),
    };
    // A closed stdout is no reason to stop.
    let mut out = std::io::stdout();
    if args.print_config_item {
        let _ = out.write_all(config.to_properties().as_bytes());
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let server = NameServer::start(config).await?;
            let _ = writeln!(
                out,
                "The Name Server boot success. serializeType=JSON, address {}",
                server.local_addr()
            );
            let _ = out.flush();
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM, shutting down"),
                _ = interrupt.recv() => tracing::info!("SIGINT, shutting down"),
            }
            server.shutdown().await;
            Ok(())
        })
}
