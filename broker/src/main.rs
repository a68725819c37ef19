//! `mqbroker`: the command line around [`raftmq_broker`].

mod standalone;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use raftmq_broker::config::IMPORTANT;
use raftmq_broker::{Birth, BrokerError, Config, LostEnd, Service, exit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What is logged when RUST_LOG says nothing; the Raft core tells each of its steps at info.
const DEFAULT_LOG: &str = "info,openraft=error,openraft::raft=off";

/// An Apache RocketMQ compatible broker whose commitlog is replicated with Raft.
#[derive(Parser)]
#[command(name = "mqbroker", version)]
struct Args {
    /// Settings file, key=value lines with RocketMQ's names.
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Name servers, host:port separated by ';'; overrides namesrvAddr.
    #[arg(short = 'n', long = "namesrvAddr", value_name = "NAMESRV")]
    namesrv: Option<String>,

    /// Print all settings and exit.
    #[arg(short = 'p', long = "printConfigItem")]
    print: bool,

    /// Print the important settings and exit.
    #[arg(short = 'm', long = "printImportantConfig")]
    print_important: bool,

    /// When the store is empty, create a set of one replica.
    #[arg(long)]
    bootstrap: bool,

    /// --bootstrap, and a name server in this process on port 9876.
    #[arg(long)]
    standalone: bool,

    /// End the wait of a replica whose log may have lost its end (a power cut with ASYNC_FLUSH, a damaged disk): it goes on
    /// with what it has, without the other replicas. Acknowledged messages may be lost. For one start, when the others
    /// will not come back.
    #[arg(long)]
    accept_data_loss: bool,
}

/// A broker that can be told to lose messages has a name that says so.
const _: () = assert!(
    !raftmq_store::sabotage::BUILT_IN
        || matches!(env!("CARGO_BIN_NAME").as_bytes(), b"mqbroker-sabotaged"),
    "mqbroker is not built with the feature sabotage: build mqbroker-sabotaged"
);

/// See the module's text.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    abort_on_panic();
    #[cfg(feature = "sabotage")]
    if let Err(e) = raftmq_store::sabotage::choose_from_environment() {
        eprintln!("mqbroker: {e}");
        return ExitCode::FAILURE;
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("mqbroker: {e}");
            ExitCode::from(exit::code(&e))
        }
    }
}

/// A thread that died half-way may have left anything behind: better no broker than a broken one.
fn abort_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tracing::error!("panic: {info}");
        default(info);
        std::process::abort();
    }));
}

fn settings(args: &Args) -> Result<Config, BrokerError> {
    let (mut config, notes) = match &args.config {
        Some(path) => Config::load(path)?,
        None => Default::default(),
    };
    notes.warnings.iter().for_each(|w| tracing::warn!("{w}"));
    notes.infos.iter().for_each(|i| tracing::info!("{i}"));
    if let Some(namesrv) = &args.namesrv {
        config.namesrv_addr = namesrv.clone();
    } else if config.namesrv_addr.is_empty() {
        config.namesrv_addr = std::env::var("NAMESRV_ADDR").unwrap_or_default();
    }
    if args.standalone && config.namesrv_addr.is_empty() {
        config.namesrv_addr = standalone::ADDR.to_owned();
    }
    config.check()?;
    Ok(config)
}

fn run(args: Args) -> Result<(), BrokerError> {
    let config = settings(&args)?;
    if args.bootstrap && !config.peers()?.is_empty() {
        return Err(BrokerError::UselessSwitch {
            switch: "--bootstrap",
            reason: format!(
                "it creates a set of one replica, and raftPeers lists {}",
                config.raft_peers
            ),
        });
    }
    if args.print || args.print_important {
        for (key, value) in config.entries() {
            if args.print || IMPORTANT.contains(&key) {
                println!("{key}={value}");
            }
        }
        return Ok(());
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().thread_name("client-io");
    builder.worker_threads(match config.worker_threads {
        // The others are for Raft, the disk and the kernel's network; threads that take turns only wake each other.
        0 => std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1)),
        n => n,
    });
    let runtime = builder.build().map_err(|source| BrokerError::Io {
        what: "threads".to_owned(),
        source,
    })?;
    runtime.block_on(serve(args, config))
}

async fn serve(args: Args, config: Config) -> Result<(), BrokerError> {
    let io = |source| BrokerError::Io {
        what: "signals".to_owned(),
        source,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
    let birth = if args.bootstrap || args.standalone {
        Birth::Bootstrap
    } else {
        Birth::FromPeers
    };
    let name_server = if args.standalone {
        Some(standalone::start_name_server().await?)
    } else {
        None
    };
    let lost_end = match args.accept_data_loss {
        true => LostEnd::Accept,
        false => LostEnd::Wait,
    };
    // A start may wait for other replicas.
    let service = tokio::select! {
        service = Service::start_with(config, birth, lost_end) => service?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    if args.bootstrap
        && let Some(reason) = service.is_no_set_of_one().await
    {
        service.stop().await?;
        let switch = "--bootstrap";
        return Err(BrokerError::UselessSwitch { switch, reason });
    }
    println!("{}", service.boot_line());
    tracing::info!("{}", service.boot_line());
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        reason = service.failed() => Some(reason),
    };
    if let Some(reason) = failed {
        // The store is not to be trusted any more: no clean stop, no goodbye.
        return Err(BrokerError::Raft(reason));
    }
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        () = service.drain() => {}
        _ = terminate.recv() => tracing::warn!("stopped at once"),
        _ = interrupt.recv() => tracing::warn!("stopped at once"),
        reason = service.failed() => return Err(BrokerError::Raft(reason)),
    }
    tokio::select! {
        stopped = service.stop() => stopped?,
        _ = terminate.recv() => std::process::exit(1),
        _ = interrupt.recv() => std::process::exit(1),
    }
    if let Some(name_server) = name_server {
        name_server.shutdown().await;
    }
    Ok(())
}
