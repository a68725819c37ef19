//! A replica dies with its disk: its process is killed and its directory deleted, and an empty broker of the same name, without a
//! list of replicas, finds the set through the name server. How long until it is a voter that is in sync, and what that costs
//! the load meanwhile.

use std::time::{Duration, Instant};

use clap::Args;
use raftmq_benches::BenchError;
use raftmq_benches::samples::{Samples, ms};
use serde_json::json;

use crate::BedArgs;
use crate::bed::{Bed, Wishes};
use crate::clusters::{REPLICAS, bin_dir};
use crate::load::{BODY, late, mqbench};
use crate::outcome::Outcome;

/// The load is measured for so long before.
const BASELINE: Duration = Duration::from_secs(10);
/// Longest time until the new replica is a voter.
const LIMIT: Duration = Duration::from_secs(1200);
/// How often the set's state is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest wait after the end of the catching up for an acknowledgement of the load.
const PAUSE: Duration = Duration::from_secs(2);

#[derive(Args)]
pub struct ReplaceArgs {
    /// Data in the set before, GiB.
    #[arg(long, default_value_t = 1.0)]
    gib: f64,

    /// Replace the leader instead of a follower.
    #[arg(long)]
    leader: bool,

    #[command(flatten)]
    bed: BedArgs,
}

/// Fills, kills, deletes, replaces.
///
/// # Errors
/// The new replica does not become a voter in time.
pub async fn run(args: ReplaceArgs) -> Result<Outcome, BenchError> {
    let mut bed = Bed::start(&args.bed, &Wishes::default()).await?;
    println!("{}", bed.describe());
    let messages = (args.gib * f64::from(1 << 30) / BODY as f64) as u64;
    let (messages, limit) = (messages.to_string(), LIMIT.as_secs().to_string());
    let fill = [
        "-t",
        "FailoverFill",
        "--warm-up",
        "0",
        "--messages",
        &messages,
        "--seconds",
        &limit,
    ];
    mqbench(&bin_dir(&args.bed)?, &bed.cluster, &fill).await?;
    bed.settle(PAUSE).await?;

    let leader = bed.master().await?;
    let victim = match args.leader {
        true => leader,
        false => (leader + 1) % REPLICAS,
    };
    bed.forget_gaps();
    let before = (bed.acked(), Instant::now());
    tokio::time::sleep(BASELINE).await;
    let usual = rate(&bed, before);
    let gap_before = bed.prober.longest_gap();
    let log_bytes = bed.cluster.log_end(&bed.cluster.brokers[leader].addr).await;

    bed.forget_gaps();
    let killed = Instant::now();
    bed.cluster.brokers[victim].process.kill();
    bed.prober.look_after(Instant::now(), victim);
    bed.first_ack(LIMIT).await?;
    bed.cluster.wipe_broker(victim, &["raftPeers"])?;
    let start = (bed.acked(), Instant::now());
    bed.cluster.brokers[victim].process.restart()?;
    let asked = bed.cluster.brokers[(victim + 1) % REPLICAS].addr.clone();
    let addr = bed.cluster.brokers[victim].addr.clone();
    let (mut joined, deadline) = (None, Instant::now() + LIMIT);
    loop {
        bed.cluster.check_processes()?;
        if let Ok(status) = bed.cluster.admin().raft_status(&asked).await {
            let mut here = status
                .replicas
                .iter()
                .filter(|r| r.client_addr == addr && r.reachable);
            if here.clone().next().is_some() && joined.is_none() {
                joined = Some(start.1.elapsed());
            }
            if status.replicas.len() == REPLICAS && here.any(|r| r.voter) {
                break;
            }
        }
        late(deadline, LIMIT, "the new replica is no voter")?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let voter = start.1.elapsed();
    let meanwhile = rate(&bed, start);
    let gap = bed.prober.longest_gap();
    let load_gap = bed.load_gap();
    bed.settle(PAUSE).await?;
    let (all, facts) = (killed.elapsed(), bed.facts());
    let totals = bed.finish().await?;
    let kept = match usual > 0.0 {
        true => format!("{:.2}", meanwhile / usual),
        false => "-".to_owned(),
    };
    let gib = log_bytes.unwrap_or_default() as f64 / f64::from(1 << 30);
    let line = format!(
        "gib={gib:.2} joined_ms={:.0} voter_ms={:.0} mib_per_s={:.0} kept={kept} gap_ms={:.0} gap_before_ms={:.0} load_gap_ms={:.0} lost={}",
        joined.map_or(f64::NAN, ms),
        ms(voter),
        gib * 1024.0 / voter.as_secs_f64(),
        ms(gap),
        ms(gap_before),
        load_gap.map_or(f64::NAN, ms),
        totals.lost
    );
    Ok(Outcome {
        title: "ms".to_owned(),
        rows: vec![("kill to whole again", Samples::from_iter([ms(all)]))],
        raw: json!({"setup": facts, "result": line, "usual_rate": usual, "rate_meanwhile": meanwhile}),
        last: line,
        good: totals.lost == 0,
        file: args.bed.json,
    })
}

/// Acknowledged messages of the load a second since then.
fn rate(bed: &Bed, (acked, since): (u64, Instant)) -> f64 {
    (bed.acked() - acked) as f64 / since.elapsed().as_secs_f64()
}
