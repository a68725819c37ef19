//! `mqbench`: load for any RocketMQ broker over the classic protocol, and what it costs.

mod consume;
mod pace;
mod probe;
mod produce;
mod report;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use raftmq_benches::BenchError;
use raftmq_benches::stop::StopSignal;
use raftmq_client::Admin;
use raftmq_remoting::body::TopicConfig;

/// Exit status after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Sends with a fixed number of messages under way or at a fixed rate, or drains a topic. SIGUSR1 ends what is measured of
/// a --mode produce early.
#[derive(Parser, Clone)]
#[command(name = "mqbench", version)]
struct Args {
    /// What to do.
    #[arg(long, value_enum, default_value_t = Mode::Produce)]
    mode: Mode,

    /// Name servers, host:port separated by ';' [default: $NAMESRV_ADDR or 127.0.0.1:9876].
    #[arg(short = 'n', long, default_value_t = namesrv(), hide_default_value = true)]
    namesrv: String,

    /// Topic; made on every master when it is not there.
    #[arg(short = 't', long, default_value = "mqbench")]
    topic: String,

    /// Queues of the topic on each master.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..=1024))]
    queues: i32,

    /// Messages under way at any time; with --rate, at most.
    #[arg(short = 'w', long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    inflight: u32,

    /// Start this many messages a second, whatever the answers do; a latency counts from when its message was due. What
    /// fails is not sent again.
    #[arg(long, conflicts_with = "messages", value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    rate: Option<u32>,

    /// Stop after this many messages were sent; --seconds is the longest time then.
    #[arg(long)]
    messages: Option<u64>,

    /// Body of a message, bytes.
    #[arg(short = 's', long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    size: u32,

    /// Connections to each master.
    #[arg(short = 'c', long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,

    /// Time that is measured, s; other modes: longest time.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,

    /// Time before it, s.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    warm_up: u64,

    /// Longest wait for an answer, ms.
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    timeout_ms: u64,

    /// Headers in RocketMQ's binary form instead of JSON.
    #[arg(long)]
    binary: bool,

    /// Messages of one pull, --mode consume.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(i32).range(1..=1024))]
    batch: i32,

    /// Consumer group, --mode consume.
    #[arg(short = 'g', long, default_value = "mqbench")]
    group: String,

    /// Process ids of the servers, separated by commas: their CPU time for each message and their memory.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,

    /// Threads of this program.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,

    /// One line of JSON instead of text.
    #[arg(long)]
    json: bool,
}

fn namesrv() -> String {
    std::env::var("NAMESRV_ADDR").unwrap_or_else(|_| "127.0.0.1:9876".to_owned())
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// Send with a fixed number of messages under way.
    Produce,
    /// Drain the topic.
    Consume,
    /// Wait until a message is accepted.
    Probe,
    /// Print the topic's masters, set=host:port.
    Masters,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // One thread needs no coordination, and leaves the processors to the servers.
    let runtime = match args.threads {
        1 => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build(),
        n => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(n.into())
            .enable_all()
            .build(),
    };
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(&args)),
        Err(source) => Err(BenchError::Io {
            path: "threads".into(),
            source,
        }),
    };
    match ended {
        Ok(code) => code,
        Err(e) => {
            eprintln!("mqbench: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<ExitCode, BenchError> {
    let mut stop = StopSignal::new()?;
    let measured = async {
        Ok(match args.mode {
            Mode::Produce => {
                prepare_topic(args).await?;
                Some(produce::run(args).await?)
            }
            Mode::Consume => Some(consume::run(args).await?),
            Mode::Probe => {
                probe::run(args).await?;
                None
            }
            Mode::Masters => {
                let admin = Admin::new(&args.namesrv)?;
                for (set, (addr, _)) in produce::masters(&admin, &args.topic).await? {
                    println!("{set}={addr}");
                }
                None
            }
        })
    };
    let report: Result<_, BenchError> = tokio::select! {
        report = measured => report,
        () = stop.received() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let Some(report) = report? else {
        return Ok(ExitCode::SUCCESS);
    };
    let done = report.messages > 0;
    if args.json {
        println!("{}", report.to_json());
    } else {
        print!("{report}");
    }
    Ok(if done {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The topic on every master of every cluster the name server knows, routed.
async fn prepare_topic(args: &Args) -> Result<(), BenchError> {
    /// Java brokers tell the name server of a new topic at once; this is for a slow machine.
    const ROUTE_LIMIT: Duration = Duration::from_secs(10);
    let admin = Admin::new(&args.namesrv)?;
    let config = TopicConfig {
        topic_name: args.topic.clone(),
        read_queue_nums: args.queues,
        write_queue_nums: args.queues,
        ..TopicConfig::default()
    };
    let clusters = admin.cluster_info().await?.cluster_addr_table;
    if clusters.is_empty() {
        return Err(BenchError::Usage("no broker is registered".to_owned()));
    }
    for cluster in clusters.keys() {
        admin.create_topic(cluster, &config).await?;
    }
    let deadline = std::time::Instant::now() + ROUTE_LIMIT;
    while let Err(e) = admin.topic_route(&args.topic).await {
        if std::time::Instant::now() >= deadline {
            return Err(e.into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    admin.shutdown();
    Ok(())
}
