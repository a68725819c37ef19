//! Disturbs a set under a steady load and reads everything back at the end: the bed and its faults without workloads and checkers.
//!
//! `cargo run --release -p raftmq-jepsen --example disturb -- --dir /tmp/bed kill:leader partition-halves`

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use raftmq_benches::programs::{CLUSTER_NAME, Servers, key_value};
use raftmq_benches::tally::run_number;
use raftmq_benches::traffic::{Sender, TrafficOptions, consume};
use raftmq_benches::{BenchError, Tally};
use raftmq_jepsen::bed::{Bed, BedOptions};
use raftmq_jepsen::history::Recorder;
use raftmq_jepsen::nemesis::{Plan, Summary, catalogue, drive};
use raftmq_remoting::body::TopicConfig;
use tokio::sync::watch;

/// From the last heal to a whole set, and from there to everything read back.
const LIMIT: Duration = Duration::from_secs(120);
const BODY: usize = 256;

#[derive(Clone, Copy, ValueEnum)]
enum Whose {
    Raftmq,
    JavaDledger,
    JavaMaster,
}

#[derive(Parser)]
struct Args {
    /// Names of faults; none: they are listed.
    faults: Vec<String>,
    #[arg(long, default_value = "/tmp/raftmq-bed")]
    dir: PathBuf,
    /// Where mqbroker and mqnamesrv are.
    #[arg(long, default_value = "target/release")]
    bin_dir: PathBuf,
    #[arg(long, value_enum, default_value = "raftmq")]
    servers: Whose,
    #[arg(long, default_value_t = 3)]
    replicas: usize,
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// s
    #[arg(long, default_value_t = 3.0)]
    interval: f64,
    /// s
    #[arg(long, default_value_t = 5.0)]
    hold: f64,
    #[arg(long)]
    overlap: bool,
    /// Messages a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    #[arg(long = "set", value_parser = key_value)]
    settings: Vec<(String, String)>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if args.faults.is_empty() {
        for fault in catalogue() {
            println!(
                "{:32} {} [{}]",
                fault.name,
                fault.says,
                fault.options.join(" ")
            );
        }
        return ExitCode::SUCCESS;
    }
    match run(args).await {
        Ok(good) if good => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

async fn run(args: Args) -> Result<bool, BenchError> {
    let needs = |pick: fn(&raftmq_jepsen::nemesis::Needs) -> bool| {
        let named = |n: &String| n.split(':').next().unwrap_or_default().to_owned();
        let names: Vec<_> = args.faults.iter().map(named).collect();
        let mut all = catalogue()
            .iter()
            .filter(|f| names.iter().any(|n| n == f.name));
        all.any(|f| pick(&f.needs))
    };
    let java = PathBuf::from("benches/java-peer/run");
    let absolute = |path: &PathBuf| std::path::absolute(path).map_err(BenchError::io(path));
    let mut options = BedOptions::new(
        match args.servers {
            Whose::Raftmq => Servers::RaftMq(absolute(&args.bin_dir)?),
            Whose::JavaDledger => Servers::JavaDledger(absolute(&java)?),
            Whose::JavaMaster => Servers::JavaMaster(absolute(&java)?),
        },
        args.dir.clone(),
    );
    options.replicas = args.replicas;
    options.network = needs(|n| n.network);
    options.disks = needs(|n| n.disks);
    options.clocks = needs(|n| n.clocks);
    options.settings = args.settings.clone();
    let bed = Arc::new(Bed::start(options).await?);
    let traffic = TrafficOptions {
        namesrv: bed.namesrv_addr(),
        topic: "Disturbed".to_owned(),
        producer_group: "disturb-producer".to_owned(),
        consumer_group: "disturb-consumer".to_owned(),
        rate: args.rate,
        route_poll: Duration::from_millis(500),
    };
    let topic = TopicConfig {
        topic_name: traffic.topic.clone(),
        read_queue_nums: 4,
        write_queue_nums: 4,
        ..TopicConfig::default()
    };
    bed.admin().create_topic(CLUSTER_NAME, &topic).await?;
    let tally = Arc::new(Tally::new(run_number(), BODY));
    let sender = start(&traffic, &tally).await?;
    println!(
        "up; the history is in {}",
        args.dir.join("history.jsonl").display()
    );

    let history = args.dir.join("history.jsonl");
    let file = File::create(&history).map_err(BenchError::io(&history))?;
    let recorder = Arc::new(Recorder::new(Box::new(file)));
    let (stop, stopped) = watch::channel(false);
    let plan = Plan {
        seed: args.seed,
        faults: args.faults.clone(),
        interval: Duration::from_secs_f64(args.interval),
        hold: Duration::from_secs_f64(args.hold),
        overlap: args.overlap,
    };
    let nemesis = tokio::spawn(drive(bed.clone(), plan, recorder, stopped));
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let _ = stop.send(true);
    let done = nemesis.await;
    let summary = done.map_err(|e| BenchError::Usage(format!("the nemesis failed: {e}")))??;
    let healed = Instant::now();
    let whole = bed.wait_whole(LIMIT).await;
    println!(
        "whole after {:.1} s: {whole:?}",
        healed.elapsed().as_secs_f64()
    );
    let unfinished = sender.finish(LIMIT).await;
    let consumer = consume(&traffic, tally.clone()).await?;
    let deadline = Instant::now() + LIMIT;
    while tally.counts().lost > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let counts = tally.counts();
    consumer.shutdown().await;
    bed.stop().await;
    tell(&summary);
    println!(
        "acked={} lost={} unfinished={unfinished} longest_gap_ms={} problems={} failures={} missing={}",
        counts.acked,
        counts.lost,
        tally.longest_gap().as_millis(),
        summary.problems.len(),
        summary.failures.len(),
        summary.missing().join(","),
    );
    let good = summary.problems.is_empty() && summary.failures.is_empty();
    Ok(
        good && summary.missing().is_empty()
            && counts.lost == 0
            && unfinished == 0
            && whole.is_ok(),
    )
}

/// The route of a new topic takes a moment.
async fn start(traffic: &TrafficOptions, tally: &Arc<Tally>) -> Result<Sender, BenchError> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match Sender::start(traffic, tally.clone()).await {
            Err(_) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => return other,
        }
    }
}

fn tell(summary: &Summary) {
    for (name, count) in &summary.counts {
        println!(
            "{name:32} took place {} of {} times",
            count.took_place, count.began
        );
    }
    for failure in &summary.failures {
        println!("failure: {failure}");
    }
    for problem in &summary.problems {
        println!("problem: {problem}");
    }
}
