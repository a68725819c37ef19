//! `mqbench`: load for any RocketMQ broker over the classic protocol, and what it costs.

mod answer;
mod consume;
mod end_to_end;
mod lane;
mod link;
mod measure;
mod pace;
mod page;
mod plan;
mod probe;
mod produce;
mod puller;
mod pulse;
mod report;
mod sender;
mod slots;
mod stamp;
mod stats;
mod template;
mod timeline;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use raftmq_benches::BenchError;
use raftmq_benches::stop::StopSignal;
use raftmq_client::Admin;

/// Exit status after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Sends with a fixed number of messages under way or at a fixed rate, consumes, or both. SIGUSR1 ends what is measured
/// early.
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

    /// Topics: that one, then with -1, -2, … behind its name.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    topics: u32,

    /// Queues of a topic on each master.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..=1024))]
    queues: i32,

    /// Sends under way at any time, as if so many threads sent and waited; with --rate, at most.
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

    /// Messages of one send: SEND_BATCH_MESSAGE from 2 on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    send_batch: u32,

    /// Sends want no answer; a message counts when it is written to its connection.
    #[arg(long, requires = "rate")]
    oneway: bool,

    /// Tags of the messages, in turn: tag0, tag1, …
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    tags: Option<u32>,

    /// A key of its own for each message.
    #[arg(long)]
    keys: bool,

    /// Connections to each master; for the consumers as many again.
    #[arg(short = 'c', long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=4_096))]
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

    /// Messages of one pull.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(i32).range(1..=1024))]
    batch: i32,

    /// Consumer group.
    #[arg(short = 'g', long, default_value = "mqbench")]
    group: String,

    /// Consumer groups, --mode end-to-end: that one, then with -1, -2, … behind its name. Each gets everything.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    consumers: u32,

    /// What to consume: tags with || between them.
    #[arg(long, default_value = "*")]
    tag: String,

    /// Decode all that is consumed and compare the checksums.
    #[arg(long)]
    verify: bool,

    /// Send to this address without asking a name server, --mode produce.
    #[arg(long, value_name = "HOST:PORT")]
    raw_addr: Option<String>,

    /// Write a line of JSON for every second that is measured.
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,

    /// Process ids of the servers, separated by commas: their CPU time for each message and their memory.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,

    /// Time lines, --mode report.
    files: Vec<PathBuf>,

    /// The page, --mode report.
    #[arg(short = 'o', long, value_name = "FILE", default_value = "mqbench.html")]
    output: PathBuf,

    /// Threads of this program.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,

    /// One line of JSON instead of text.
    #[arg(long)]
    json: bool,
}

impl Args {
    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

fn namesrv() -> String {
    std::env::var("NAMESRV_ADDR").unwrap_or_else(|_| "127.0.0.1:9876".to_owned())
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// Send with a fixed number of messages under way, or at a fixed rate.
    Produce,
    /// Drain the topics.
    Consume,
    /// Send, and consume what is sent.
    EndToEnd,
    /// Wait until a message is accepted.
    Probe,
    /// Print the topic's masters, set=host:port.
    Masters,
    /// Make a page of time lines.
    Report,
}

fn main() -> ExitCode {
    let args = Args::parse();
    more_descriptors();
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
                plan::prepare_topics(args).await?;
                Some(produce::run(args).await?)
            }
            Mode::EndToEnd => {
                plan::prepare_topics(args).await?;
                Some(end_to_end::run(args).await?)
            }
            Mode::Consume => Some(consume::run(args).await?),
            Mode::Report => {
                page::write(&args.files, &args.output)?;
                None
            }
            Mode::Probe => {
                probe::run(args).await?;
                None
            }
            Mode::Masters => {
                let admin = Admin::new(&args.namesrv)?;
                for (set, (addr, _)) in plan::masters(&admin, &args.topic).await? {
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

/// A connection needs one; what is given by default may not be enough for all.
fn more_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Connections say so when there are too few.
    let _ = setrlimit(Resource::Nofile, limit);
}
