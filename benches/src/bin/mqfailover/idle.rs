//! What replicas cost that have nothing to do: no clients but the name server, no messages.

use std::time::Duration;

use clap::Args;
use raftmq_benches::BenchError;
use raftmq_benches::proc_stat::Usage;
use serde_json::json;

use crate::BedArgs;
use crate::clusters;
use crate::outcome::Outcome;

/// Pause after the start.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Args)]
pub struct IdleArgs {
    /// How long, s.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,

    #[command(flatten)]
    bed: BedArgs,
}

/// Waits and counts.
///
/// # Errors
/// The cluster does not come up.
pub async fn run(args: IdleArgs) -> Result<Outcome, BenchError> {
    let running = clusters::start(&args.bed, None).await?;
    let master = running.cluster.master(&running.set).await?;
    tokio::time::sleep(SETTLE).await;
    let usage = || -> Vec<Usage> {
        let brokers = running.cluster.brokers.iter();
        let pids = brokers.map(|b| b.process.pid().unwrap_or_default());
        pids.map(|pid| Usage::of(pid).unwrap_or_default()).collect()
    };
    let before = usage();
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let mut replicas = Vec::new();
    for ((broker, before), after) in running.cluster.brokers.iter().zip(before).zip(usage()) {
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        let percent = 100.0 * cpu / args.seconds as f64;
        let (rss, leads) = (after.rss >> 20, Some(&broker.addr) == master.as_ref());
        println!(
            "{}{}: {percent:.1} % of a processor, {rss} MiB",
            broker.process.name(),
            if leads { " (leader)" } else { "" }
        );
        replicas.push(json!({"name": broker.process.name(), "leads": leads, "cpu_percent": percent, "rss_mib": rss}));
    }
    running.cluster.stop();
    let most = |key: &str| {
        let figures = replicas.iter().filter_map(|r| r[key].as_f64());
        figures.fold(0.0, f64::max)
    };
    Ok(Outcome {
        title: String::new(),
        rows: Vec::new(),
        last: format!(
            "replicas={} cpu_percent_max={:.1} rss_mib_max={:.0}",
            replicas.len(),
            most("cpu_percent"),
            most("rss_mib")
        ),
        good: true,
        raw: json!({"seconds": args.seconds, "replicas": replicas}),
        file: args.bed.json,
    })
}
