//! Planned changes of the leader through the administration's request, to a random replica and asked of a random one: the
//! longest pauses of an open loop (the load), a closed loop and the prober around each, beside those of an equal time before.

use std::time::{Duration, Instant};

use clap::Args;
use raftmq_benches::BenchError;
use raftmq_benches::samples::{Figure, Samples, ms};
use serde::Serialize;
use serde_json::json;

use crate::BedArgs;
use crate::bed::{Bed, Wishes};
use crate::clusters::REPLICAS;
use crate::outcome::Outcome;

/// Pauses are looked for in so long before a change, and in so long after it has ended.
const WINDOW: Duration = Duration::from_millis(1500);
/// Longest random pause before.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest wait for the route.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Args)]
pub struct TransferArgs {
    /// How often.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    times: u32,

    #[command(flatten)]
    bed: BedArgs,
}

/// The longest pauses of a time, ms.
#[derive(Clone, Copy, Serialize)]
struct Gaps {
    open: Option<f64>,
    closed: f64,
    prober: f64,
}

impl Gaps {
    fn of(bed: &Bed) -> Self {
        Self {
            open: bed.load_gap().map(ms),
            closed: bed.closed.as_ref().map_or(0.0, |c| ms(c.longest_gap())),
            prober: ms(bed.prober.longest_gap()),
        }
    }

    /// Of the two clients.
    fn longest(&self) -> f64 {
        self.open.unwrap_or_default().max(self.closed)
    }
}

#[derive(Serialize)]
struct Transfer {
    from: String,
    to: String,
    /// Why the set refused it; empty when it did not.
    refused: String,
    /// Until the request was answered, ms.
    answered_ms: f64,
    /// Until the name server showed the new leader, ms.
    route_ms: Option<f64>,
    before: Gaps,
    around: Gaps,
    failed_sends: u64,
}

/// Changes leaders.
///
/// # Errors
/// The cluster does not come up.
pub async fn run(args: TransferArgs) -> Result<Outcome, BenchError> {
    let wishes = Wishes {
        closed_loop: true,
        ..Wishes::default()
    };
    let mut bed = Bed::start(&args.bed, &wishes).await?;
    println!("{}", bed.describe());
    let mut all = Vec::new();
    for number in 1..=args.times {
        bed.settle(PAUSE).await?;
        let one = one(&mut bed).await?;
        println!(
            "transfer {number}: {} to {}, answered after {} ms{}, routed after {} ms, longest pauses {} ms open, {} ms closed, {} failed",
            one.from,
            one.to,
            Figure(Some(one.answered_ms)),
            if one.refused.is_empty() {
                String::new()
            } else {
                format!(" (refused: {})", one.refused)
            },
            Figure(one.route_ms),
            Figure(one.around.open),
            Figure(Some(one.around.closed)),
            one.failed_sends
        );
        all.push(one);
    }
    let facts = bed.facts();
    let failed = bed.failed();
    let totals = bed.finish().await?;
    let refused = all.iter().filter(|t| !t.refused.is_empty()).count();
    let done = || all.iter().filter(|t| t.refused.is_empty());
    let longest: Samples = done().map(|t| t.around.longest()).collect();
    let line = format!(
        "transfers={} refused={refused} gap_p50_ms={:.0} gap_p99_ms={:.0} failed={failed} lost={}",
        all.len(),
        longest.percentile(50).unwrap_or(f64::NAN),
        longest.percentile(99).unwrap_or(f64::NAN),
        totals.lost
    );
    let rows = vec![
        ("request to answer", done().map(|t| t.answered_ms).collect()),
        (
            "request to route",
            done().filter_map(|t| t.route_ms).collect(),
        ),
        (
            "longest pause before: open loop",
            all.iter().filter_map(|t| t.before.open).collect(),
        ),
        (
            "longest pause before: closed loop",
            all.iter().map(|t| t.before.closed).collect(),
        ),
        (
            "longest pause: open loop",
            done().filter_map(|t| t.around.open).collect(),
        ),
        (
            "longest pause: closed loop",
            done().map(|t| t.around.closed).collect(),
        ),
        (
            "longest pause: prober",
            done().map(|t| t.around.prober).collect(),
        ),
        ("longest pause of both clients", longest),
    ];
    Ok(Outcome {
        title: "ms".to_owned(),
        rows,
        last: line,
        good: failed == 0 && totals.lost == 0 && refused == 0,
        raw: json!({"setup": facts, "transfers": all, "failed": failed, "acked": totals.acked, "lost": totals.lost}),
        file: args.bed.json,
    })
}

async fn one(bed: &mut Bed) -> Result<Transfer, BenchError> {
    let from = bed.master().await?;
    let step = 1 + bed.random(REPLICAS as u64 - 1) as usize;
    let to = (from + step) % REPLICAS;
    let asked = bed.random(REPLICAS as u64) as usize;
    let (old, ask) = (
        bed.cluster.brokers[from].addr.clone(),
        bed.cluster.brokers[asked].addr.clone(),
    );
    bed.forget_gaps();
    tokio::time::sleep(WINDOW).await;
    let (before, failed) = (Gaps::of(bed), bed.failed());

    bed.forget_gaps();
    let began = Instant::now();
    let target = bed.name(to).1;
    let route = async {
        // None when it was refused, or the new one died at once.
        let found = bed.cluster.wait_new_master(&bed.set, &old, LIMIT).await;
        found.ok().map(|_| began.elapsed())
    };
    let request = async {
        let answer = bed.cluster.admin().transfer_leader(&ask, &target).await;
        (answer, began.elapsed())
    };
    let (route, (answer, answered)) = tokio::join!(route, request);
    tokio::time::sleep(WINDOW).await;
    Ok(Transfer {
        from: bed.name(from).0,
        to: bed.name(to).0,
        refused: answer.err().map_or(String::new(), |e| e.to_string()),
        answered_ms: ms(answered),
        route_ms: route.map(ms),
        before,
        around: Gaps::of(bed),
        failed_sends: bed.failed() - failed,
    })
}
