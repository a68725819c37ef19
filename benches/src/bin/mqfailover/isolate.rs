//! A leader that lives on and does not lead any more: cut from the other replicas but not from its clients, held (SIGSTOP) for
//! some seconds and then let go, or with a disk that hangs for so long. What it acknowledges afterwards, when the others take over, and whether anything that a consumer
//! sees goes back.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use raftmq_benches::BenchError;
use raftmq_benches::netns::Namespaces;
use raftmq_benches::prober::Back;
use raftmq_benches::samples::{Figure, Samples, ms};
use serde::Serialize;
use serde_json::json;

use crate::BedArgs;
use crate::bed::{Bed, Wishes};
use crate::clusters::REPLICAS;
use crate::outcome::Outcome;

/// Longest wait for another leader.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a cut lasts after another leader has acknowledged something, and how long the old one is watched afterwards.
const WATCH: Duration = Duration::from_secs(2);
/// How often the name server's route is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest random pause before.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct IsolateArgs {
    /// How often.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    times: u32,

    #[command(flatten)]
    bed: BedArgs,
}

#[derive(Args)]
pub struct PauseArgs {
    /// How often.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    times: u32,

    /// How long the leader is held, s.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// Not the process but the file system of its store is held (fsfreeze, root): every broker's folder below --dir must be one.
    #[arg(long, requires = "dir")]
    freeze: bool,

    #[command(flatten)]
    bed: BedArgs,
}

/// One time; ms from the cut or the stop.
#[derive(Serialize)]
struct Time {
    victim: String,
    /// Until another replica acknowledged a send.
    others_ms: f64,
    /// Until the old leader's last acknowledgement of something it stored itself; 0 when there was none.
    last_ack_ms: f64,
    /// The same from when it could act again; held leaders only.
    late_ack_ms: Option<f64>,
    /// Ends of the queue that went back: the replica asked, ms from the cut or the end of the hold until it was asked and until it
    /// answered, the end, and the one known before.
    went_back: Vec<(usize, f64, f64, i64, i64)>,
    /// How often the route was seen to name the old leader after it had named another one.
    routed_back: u32,
}

/// Cuts and heals.
///
/// # Errors
/// Not root, or the cluster does not come up or back.
pub async fn isolate(args: IsolateArgs) -> Result<Outcome, BenchError> {
    let namespaces = Arc::new(Namespaces::make(REPLICAS * usize::from(args.bed.sets))?);
    let wishes = Wishes {
        namespaces: Some(namespaces.clone()),
        ..Wishes::default()
    };
    let mut bed = Bed::start(&args.bed, &wishes).await?;
    println!("{}", bed.describe());
    let mut times = Vec::new();
    for _ in 0..args.times {
        bed.settle(PAUSE).await?;
        let victim = bed.master().await?;
        let before = Instant::now();
        namespaces.cut(victim)?;
        bed.prober.look_after(Instant::now(), victim);
        let others = bed.first_ack(LIMIT).await?.acked - before;
        let routed_back = watch_route(&bed, victim).await?;
        let last = bed.prober.last_by(victim);
        namespaces.heal(victim)?;
        times.push(Time {
            victim: bed.name(victim).0,
            others_ms: ms(others),
            last_ack_ms: since(before, last),
            late_ack_ms: None,
            went_back: went_back(&bed, before),
            routed_back,
        });
        say(&times);
    }
    finish(bed, args.bed, "isolated", times).await
}

/// Holds and lets go.
///
/// # Errors
/// The cluster does not come up or back.
pub async fn pause(args: PauseArgs) -> Result<Outcome, BenchError> {
    let mut bed = Bed::start(&args.bed, &Wishes::default()).await?;
    println!("{}", bed.describe());
    let mut times = Vec::new();
    for _ in 0..args.times {
        bed.settle(PAUSE).await?;
        let victim = bed.master().await?;
        let before = Instant::now();
        hold(&args, &bed, victim, true)?;
        bed.prober.look_after(Instant::now(), victim);
        let others = bed.first_ack(LIMIT).await?.acked - before;
        tokio::time::sleep(Duration::from_secs(args.seconds).saturating_sub(before.elapsed()))
            .await;
        // What it had answered before lies in sockets no longer.
        let held = bed.prober.last_by(victim);
        let awake = Instant::now();
        hold(&args, &bed, victim, false)?;
        let routed_back = watch_route(&bed, victim).await?;
        let late = bed.prober.last_by(victim).filter(|at| *at > awake);
        times.push(Time {
            victim: bed.name(victim).0,
            others_ms: ms(others),
            last_ack_ms: since(before, held),
            late_ack_ms: late.map(|at| ms(at - awake)),
            went_back: went_back(&bed, awake),
            routed_back,
        });
        say(&times);
    }
    let what = if args.freeze { "hung" } else { "held" };
    finish(bed, args.bed, what, times).await
}

/// Holds the process, or its disk, or lets go.
fn hold(args: &PauseArgs, bed: &Bed, victim: usize, held: bool) -> Result<(), BenchError> {
    let Some(dir) = args.bed.dir.as_ref().filter(|_| args.freeze) else {
        bed.cluster.brokers[victim].process.hold(held);
        return Ok(());
    };
    let (name, _) = bed.name(victim);
    let done = Command::new("fsfreeze")
        .arg(if held { "-f" } else { "-u" })
        .arg(dir.join(&name))
        .status()
        .map_err(BenchError::io("fsfreeze"))?;
    match done.success() {
        true => Ok(()),
        false => Err(BenchError::Usage(format!(
            "the file system of {name} cannot be frozen"
        ))),
    }
}

/// How often the name server names `old` again during [`WATCH`], once it has named another one.
async fn watch_route(bed: &Bed, old: usize) -> Result<u32, BenchError> {
    let old = bed.cluster.brokers.get(old).map(|b| b.addr.clone());
    let (mut moved, mut back) = (false, 0);
    let until = Instant::now() + WATCH;
    while Instant::now() < until {
        let master = bed.cluster.master(&bed.set).await?;
        match master.is_some() && master != old {
            true => moved = true,
            false if moved => back += 1,
            false => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(back)
}

fn went_back(bed: &Bed, from: Instant) -> Vec<(usize, f64, f64, i64, i64)> {
    let signed = |at: Instant| {
        ms(at.saturating_duration_since(from)) - ms(from.saturating_duration_since(at))
    };
    let all = bed.prober.went_back().into_iter();
    all.map(|b| {
        (
            b.asked,
            signed(b.issued),
            signed(b.answered),
            b.end,
            b.known,
        )
    })
    .collect()
}

fn since(from: Instant, to: Option<Instant>) -> f64 {
    to.map_or(0.0, |to| ms(to.saturating_duration_since(from)))
}

fn say(times: &[Time]) {
    if let Some(time) = times.last() {
        println!(
            "{}: {}, its last acknowledgement after {} ms, the others' first after {} ms{}",
            times.len(),
            time.victim,
            Figure(Some(time.last_ack_ms)),
            Figure(Some(time.others_ms)),
            time.late_ack_ms.map_or(String::new(), |ms| format!(
                ", ACKNOWLEDGED {ms} ms AFTER IT WOKE"
            )),
        );
    }
}

async fn finish(
    mut bed: Bed,
    args: BedArgs,
    what: &str,
    times: Vec<Time>,
) -> Result<Outcome, BenchError> {
    bed.wait_whole().await?;
    let facts = bed.facts();
    let totals = bed.finish().await?;
    let others: Samples = times.iter().map(|t| t.others_ms).collect();
    let last: Samples = times.iter().map(|t| t.last_ack_ms).collect();
    let late = times.iter().filter(|t| t.late_ack_ms.is_some()).count();
    let routed_back: u32 = times.iter().map(|t| t.routed_back).sum();
    let line = format!(
        "{what}={} last_ack_max_ms={:.0} others_p50_ms={:.0} others_p99_ms={:.0} late_acks={late} routed_back={routed_back} \
         sends_back={} ends_back={} acked={} lost={}",
        times.len(),
        last.percentile(100).unwrap_or_default(),
        others.percentile(50).unwrap_or_default(),
        others.percentile(99).unwrap_or_default(),
        totals.back.sends,
        totals.back.ends,
        totals.acked,
        totals.lost,
    );
    Ok(Outcome {
        title: "ms".to_owned(),
        rows: vec![
            ("the old leader's last acknowledgement", last),
            ("the others' first acknowledgement", others),
        ],
        last: line,
        good: totals.lost == 0 && late == 0 && routed_back == 0 && totals.back == Back::default(),
        raw: json!({"setup": facts, "times": times, "back": totals.back, "acked": totals.acked, "lost": totals.lost}),
        file: args.json,
    })
}
