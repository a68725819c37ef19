//! `mqdemo`: a replicated broker set on this machine whose leader is killed under load; or, with `--serve`, a cluster to
//! work with.

mod demo;
mod serve;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use raftmq_benches::cluster::{MAX_REPLICAS, MAX_SETS, own_bin_dir};
use raftmq_benches::programs::Servers;
use raftmq_benches::stop::StopSignal;
use raftmq_benches::{BenchError, ClusterOptions};

/// Exit status after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Starts a name server and three replicas, sends and consumes, kills the leader with -9 and counts what was lost.
#[derive(Parser, Clone)]
#[command(name = "mqdemo", version)]
struct Args {
    /// Plain output; the last line is acked=… consumed=… lost=… duplicated=… election_ms=… gap_ms=…
    #[arg(long, conflicts_with = "serve")]
    check: bool,

    /// Kill the leader this often instead of once, and restart it each time.
    #[arg(long, value_name = "N", conflicts_with = "serve", value_parser = clap::value_parser!(u32).range(1..=1000))]
    kills: Option<u32>,

    /// Run a cluster in the foreground until Ctrl-C.
    #[arg(long)]
    serve: bool,

    /// Broker sets of --serve.
    #[arg(long, default_value_t = 1, requires = "serve", value_parser = in_range(MAX_SETS))]
    sets: usize,

    /// Replicas of each set.
    #[arg(long, default_value_t = 3, value_parser = in_range(MAX_REPLICAS))]
    replicas: usize,

    /// Directory that keeps data and logs; without it a temporary one that is removed.
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Where mqnamesrv and mqbroker are [default: beside this program].
    #[arg(long)]
    bin_dir: Option<PathBuf>,

    /// Port of the name server [default: 9876 with --serve, else a free one].
    #[arg(long, value_name = "PORT")]
    namesrv_port: Option<u16>,

    /// Port of the first broker; the next ones are 10 apart [default: 10911 with --serve, else free ones].
    #[arg(long, value_name = "PORT")]
    port_base: Option<u16>,

    /// Messages a second.
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,

    /// pollNameServerInterval of the demonstration's clients.
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    route_poll_ms: u64,

    /// Settings for every broker.
    #[arg(last = true, value_name = "KEY=VALUE", value_parser = raftmq_benches::programs::key_value)]
    settings: Vec<(String, String)>,
}

fn in_range(max: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match text.parse() {
        Ok(n) if (1..=max).contains(&n) => Ok(n),
        _ => Err(format!("a number from 1 to {max} is wanted")),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(args).await {
        Ok(code) => code,
        Err(e) => {
            eprintln!("mqdemo: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that was started ends before this returns: what `demo` and `serve` hold is dropped with their futures.
async fn run(args: Args) -> Result<ExitCode, BenchError> {
    let mut stop = StopSignal::new()?;
    let (options, _temporary) = options(&args)?;
    if args.serve {
        serve::serve(options, &mut stop).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let demo = demo::Demo {
        plain: args.check,
        kills: args.kills,
        rate: args.rate,
        route_poll: Duration::from_millis(args.route_poll_ms),
    };
    tokio::select! {
        ended = demo.run(options) => ended,
        () = stop.received() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

fn options(args: &Args) -> Result<(ClusterOptions, Option<tempfile::TempDir>), BenchError> {
    let (dir, temporary) = match &args.dir {
        // The servers do not share our working directory's future.
        Some(dir) => (std::path::absolute(dir).map_err(BenchError::io(dir))?, None),
        None => {
            let temporary = tempfile::Builder::new()
                .prefix("raftmq-demo.")
                .tempdir()
                .map_err(BenchError::io(std::env::temp_dir()))?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let mut options = ClusterOptions {
        servers: Servers::RaftMq(match &args.bin_dir {
            Some(dir) => dir.clone(),
            None => own_bin_dir()?,
        }),
        dir,
        namesrv_port: 9876,
        port_base: 10911,
        sets: args.sets,
        replicas: args.replicas,
        settings: args.settings.clone(),
        namespaces: None,
        peers_listen_behind: 0,
        wrappers: Vec::new(),
    };
    if !args.serve {
        options.choose_ports()?;
    }
    options.namesrv_port = args.namesrv_port.unwrap_or(options.namesrv_port);
    options.port_base = args.port_base.unwrap_or(options.port_base);
    Ok((options, temporary))
}
