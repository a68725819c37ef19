//! kill -9 of the leader, again and again: how long until the set, the name server's route and a Java client are over it.
//!
//! The killed process stays down until all of them are, so that none is helped by its return. The next kill waits until the
//! set is whole and then a random time, so that kills do not fall into step with anybody's timers.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use raftmq_benches::BenchError;
use raftmq_benches::samples::{Figure, Samples, ms};
use serde::Serialize;
use serde_json::json;

use crate::bed::{Bed, Wishes};
use crate::java::{JavaGap, epoch_us};
use crate::outcome::Outcome;
use crate::{BedArgs, Peer};

/// Longest wait for another master or an acknowledgement; above two route polls of a Java client.
const LIMIT: Duration = Duration::from_secs(90);
/// Longest random pause before a kill; with a client that polls routes more rarely, its poll.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct KillArgs {
    /// How often [default: 50; Java servers 10].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    kills: Option<u32>,

    /// Whose outage the last line tells; the set's own is measured in any case.
    #[arg(long, value_enum, default_value_t = Client::Probe)]
    client: Client,

    #[command(flatten)]
    bed: BedArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Client {
    /// Asks each replica every 10 ms.
    Probe,
    /// The Java client 5.3.3, pollNameServerInterval=1000.
    #[value(name = "java-1s")]
    Java1s,
    /// The same with its default of 30 s.
    #[value(name = "java-30s")]
    Java30s,
}

impl Client {
    fn poll(self) -> Option<Duration> {
        match self {
            Self::Probe => None,
            Self::Java1s => Some(Duration::from_secs(1)),
            Self::Java30s => Some(Duration::from_secs(30)),
        }
    }
}

/// What one kill cost; ms from the kill.
#[derive(Serialize)]
struct Kill {
    victim: String,
    /// Until a replica acknowledged a send.
    set_ms: f64,
    /// Until the name server showed another master.
    route_ms: f64,
    /// Of an application with this project's client that polls routes every 200 ms: its longest pause.
    load_pause_ms: Option<f64>,
    java: Option<JavaGap>,
}

/// Kills and measures.
///
/// # Errors
/// The cluster does not come up, or does not come back.
pub async fn run(args: KillArgs) -> Result<Outcome, BenchError> {
    let is_java = args.bed.peer == Peer::JavaDledger;
    let times = args.kills.unwrap_or(if is_java { 10 } else { 50 });
    let wishes = Wishes {
        java_poll: args.client.poll(),
        ..Wishes::default()
    };
    let mut bed = Bed::start(&args.bed, &wishes).await?;
    println!("{}", bed.describe());
    let facts = bed.facts();
    let pause = args.client.poll().unwrap_or(PAUSE).max(PAUSE);
    let mut kills = Vec::new();
    for number in 1..=times {
        bed.settle(pause).await?;
        let kill = one(&mut bed).await?;
        println!(
            "kill {number}: {} dead, acknowledged after {} ms, routed after {} ms{}",
            kill.victim,
            Figure(Some(kill.set_ms)),
            Figure(Some(kill.route_ms)),
            kill.java.as_ref().map_or(String::new(), |j| format!(
                ", Java after {} ms ({} failed)",
                Figure(Some(j.set_ms)),
                j.failed
            )),
        );
        kills.push(kill);
    }
    bed.wait_whole().await?;
    let totals = bed.finish().await?;
    println!("{} acknowledged", totals.acked);

    let set: Samples = kills.iter().map(|k| k.set_ms).collect();
    let java = |of: fn(&JavaGap) -> f64| kills.iter().filter_map(move |k| k.java.as_ref().map(of));
    let java_set: Samples = java(|j| j.set_ms).collect();
    let told = if java_set.is_empty() { &set } else { &java_set };
    let last = format!(
        "kills={times} p50_ms={:.0} p99_ms={:.0} lost={}",
        told.percentile(50).unwrap_or(f64::NAN),
        told.percentile(99).unwrap_or(f64::NAN),
        totals.lost
    );
    let rows = vec![
        ("kill to route", kills.iter().map(|k| k.route_ms).collect()),
        (
            "acknowledgement to route",
            kills.iter().map(|k| k.route_ms - k.set_ms).collect(),
        ),
        (
            "longest pause of the load (200 ms poll)",
            kills.iter().filter_map(|k| k.load_pause_ms).collect(),
        ),
        ("Java client: to the set again", java_set.clone()),
        ("Java client: to any set", java(|j| j.any_ms).collect()),
        (
            "Java client: longest pause",
            java(|j| j.longest_pause_ms).collect(),
        ),
        (
            "Java client: failed sends (number)",
            java(|j| j.failed as f64).collect(),
        ),
        ("the set itself: kill to acknowledgement", set.clone()),
    ];
    Ok(Outcome {
        title: "ms".to_owned(),
        rows,
        last,
        good: totals.lost == 0,
        raw: json!({"setup": facts, "kills": kills, "acked": totals.acked, "lost": totals.lost}),
        file: args.bed.json,
    })
}

async fn one(bed: &mut Bed) -> Result<Kill, BenchError> {
    let victim = bed.master().await?;
    let broker = &mut bed.cluster.brokers[victim];
    let (name, addr) = (broker.process.name().to_owned(), broker.addr.clone());
    let (killed, killed_us) = (Instant::now(), epoch_us());
    // Returns when it is gone; what is asked from then on, nobody but the others can answer.
    broker.process.kill();
    let dead_us = epoch_us();
    bed.prober.look_after(Instant::now(), victim);
    bed.forget_gaps();
    let route = async {
        bed.cluster
            .wait_new_master(&bed.set, &addr, LIMIT)
            .await
            .map(|_| killed.elapsed())
    };
    let (ack, route) = tokio::try_join!(bed.first_ack(LIMIT), route)?;
    let java = match &mut bed.java {
        Some(java) => Some(java.gap(&bed.set, (killed_us, dead_us), LIMIT).await?),
        None => None,
    };
    // The load's client looks for the route a little later.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let load_pause_ms = bed.load_gap().map(ms);
    bed.cluster.brokers[victim].process.restart()?;
    Ok(Kill {
        victim: name,
        set_ms: ms(ack.acked - killed),
        route_ms: ms(route),
        load_pause_ms,
        java,
    })
}
