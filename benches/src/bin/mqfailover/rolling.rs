//! An update: each replica of a set is asked to stop (SIGTERM), started again when it has ended, and the next one's turn comes when
//! it has caught up, all that under an unmodified Java client with its defaults. Every send that did not end with SEND_OK counts.

use std::time::{Duration, Instant};

use clap::Args;
use raftmq_benches::BenchError;
use raftmq_benches::samples::{Samples, ms};
use serde::Serialize;
use serde_json::json;

use crate::BedArgs;
use crate::bed::{Bed, Wishes};
use crate::clusters::REPLICAS;
use crate::java::{epoch_us, span};
use crate::outcome::Outcome;

/// Longest wait for the end of a broker: its `drainTimeout` and some.
const END_LIMIT: Duration = Duration::from_secs(120);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Pause after a replica is back: what its return breaks is seen as its own.
const AFTER: Duration = Duration::from_secs(2);

#[derive(Args)]
pub struct RollingArgs {
    /// How often all replicas are restarted.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// pollNameServerInterval of the Java client, ms; 30000 is its default.
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    route_poll_ms: u64,

    #[command(flatten)]
    bed: BedArgs,
}

/// One replica's turn, ms.
#[derive(Serialize)]
struct Restart {
    replica: String,
    led: bool,
    /// From the signal to its end.
    end_ms: f64,
    clean: bool,
    /// From its start until it had everything.
    back_ms: f64,
    /// The client's longest time without an acknowledgement from the signal until a little after the return.
    longest_gap_ms: f64,
    failed: Vec<String>,
}

/// Restarts all.
///
/// # Errors
/// A broker does not end or does not come back.
pub async fn run(args: RollingArgs) -> Result<Outcome, BenchError> {
    let wishes = Wishes {
        java_poll: Some(Duration::from_millis(args.route_poll_ms)),
        ..Wishes::default()
    };
    let mut bed = Bed::start(&args.bed, &wishes).await?;
    println!("{}", bed.describe());
    let mut all = Vec::new();
    for turn in 0..args.rounds as usize * REPLICAS {
        bed.settle(AFTER).await?;
        let one = restart(&mut bed, turn % REPLICAS).await?;
        println!(
            "{}{}: ended after {:.0} ms{}, back after {:.0} ms, longest pause {:.0} ms, {} failed",
            one.replica,
            if one.led { " (leader)" } else { "" },
            one.end_ms,
            if one.clean { "" } else { " NOT CLEANLY" },
            one.back_ms,
            one.longest_gap_ms,
            one.failed.len()
        );
        one.failed
            .iter()
            .take(5)
            .for_each(|why| println!("  {why}"));
        all.push(one);
    }
    let facts = bed.facts();
    // Also what failed outside the turns.
    let failed = match &mut bed.java {
        Some(java) => java.sent()?.iter().filter(|s| s.result.is_err()).count(),
        None => 0,
    };
    let totals = bed.finish().await?;
    let gaps: Samples = all.iter().map(|r| r.longest_gap_ms).collect();
    let line = format!(
        "restarts={} failed={failed} lost={} longest_gap_ms={:.0}",
        all.len(),
        totals.lost,
        gaps.percentile(100).unwrap_or(f64::NAN)
    );
    Ok(Outcome {
        title: "ms".to_owned(),
        rows: vec![
            ("signal to end", all.iter().map(|r| r.end_ms).collect()),
            (
                "start to caught up",
                all.iter().map(|r| r.back_ms).collect(),
            ),
            ("Java client: longest pause", gaps),
        ],
        last: line,
        good: failed == 0 && totals.lost == 0 && all.iter().all(|r| r.clean),
        raw: json!({"setup": facts, "restarts": all, "failed": failed, "acked": totals.acked, "lost": totals.lost}),
        file: args.bed.json,
    })
}

async fn restart(bed: &mut Bed, replica: usize) -> Result<Restart, BenchError> {
    let led = bed.master().await? == replica;
    let (began, began_us) = (Instant::now(), epoch_us());
    let process = &mut bed.cluster.brokers[replica].process;
    process.ask_to_stop();
    let status = loop {
        if let Some(status) = process.ended() {
            break status;
        }
        crate::load::late(began + END_LIMIT, END_LIMIT, "a broker did not end")?;
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let ended = began.elapsed();
    let started = Instant::now();
    process.restart()?;
    bed.wait_whole().await?;
    let back = started.elapsed();
    tokio::time::sleep(AFTER).await;
    let (longest_gap_ms, failed) = match &mut bed.java {
        Some(java) => span(java.sent()?, (began_us, epoch_us())),
        None => (0.0, Vec::new()),
    };
    Ok(Restart {
        replica: bed.name(replica).0,
        led,
        end_ms: ms(ended),
        clean: status.success(),
        back_ms: ms(back),
        longest_gap_ms,
        failed,
    })
}
