//! Sending. Every lane has its share of the requests under way; a clock, if there is one, uses all of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftmq_benches::BenchError;
use raftmq_remoting::SerializeType;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::lane::Lane;
use super::measure::{self, Measured};
use super::plan::{self, Plan};
use super::report::{Counted, Report};
use super::sender::{Due, Requests, Sender};
use super::stats::{Shared, Stats};
use super::template::{Shape, Template};
use super::{Args, pace};

/// What all templates take together at most, bytes.
const MAX_TEMPLATES: usize = 512 << 20;
/// Time for what is on its way when the connections are closed: the servers should not see a reset.
const LINGER: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Warms up, measures, stops.
///
/// # Errors
/// The topic has no master.
pub async fn run(args: &Args) -> Result<Report, BenchError> {
    let shared = Arc::new(Shared::new(args.timeout()));
    let mut tasks = JoinSet::new();
    let plan = plan::find(args, &mut tasks).await?;
    let lanes = start(args, &shared, &plan, &mut tasks)?;
    measure::connected(&shared, lanes.count).await;
    lanes.begin(args, &shared, &mut tasks);
    let warm_up = Duration::from_secs(args.warm_up);
    let mut measured = measure::measure(args, &shared, warm_up, std::future::pending()).await?;
    finish(&shared, &mut measured.total).await;
    sleep(LINGER).await;
    tasks.shutdown().await;
    Ok(report("produce", args, measured))
}

/// The report of a run: of what was sent, or in mode "consume" of what was consumed.
pub fn report(mode: &'static str, args: &Args, measured: Measured) -> Report {
    let Measured {
        time,
        total,
        spent,
        slow_share,
    } = measured;
    let (messages, bytes) = match mode {
        "consume" => (total.consumed, total.bytes),
        _ => (total.sent, total.sent * u64::from(args.size)),
    };
    Report::from(Counted {
        mode,
        topic: args.topic.clone(),
        time,
        messages,
        bytes,
        slow_share,
        total,
        spent,
        with_servers: !args.pids.is_empty(),
    })
}

/// Lanes that are connecting.
pub struct Lanes {
    pub count: usize,
    /// Of all lanes, for a clock.
    due: Vec<Arc<Due>>,
}

/// Starts the lanes. With a clock, nothing is sent before [`Lanes::begin`].
///
/// # Errors
/// The messages are too long.
pub fn start(
    args: &Args,
    shared: &Arc<Shared>,
    plan: &Plan,
    tasks: &mut JoinSet<()>,
) -> Result<Lanes, BenchError> {
    let shape = Shape {
        body: body(args.size),
        serialize: serialize(args),
        batch: args.send_batch,
        oneway: args.oneway,
        keys: args.keys,
        run_id: shared.run_id,
    };
    let sets = requests(args, plan, &shape)?;
    let count = args.connections as usize * sets.len();
    let mut due = Vec::new();
    let numbered = (0..count).zip(sets.iter().cycle());
    for (number, (set, requests)) in numbered {
        let clock = args.rate.map(|_| Arc::new(Due::default()));
        due.extend(clock.clone());
        // With fewer senders than lanes, the last lanes have none.
        let inflight = args.inflight as usize;
        let share = inflight / count + usize::from(number < inflight % count);
        let lane = Lane {
            set: set.clone(),
            shared: shared.clone(),
            routes: plan.routes.clone(),
            tail: shape.tail(),
            patience: shared.timeout,
        };
        let senders = if clock.is_some() { 0 } else { share as u32 };
        let sender = Sender::new(shared.clone(), requests.clone(), number, senders, clock);
        tasks.spawn(lane.run(sender));
    }
    Ok(Lanes { count, due })
}

impl Lanes {
    /// Starts the clock, if there is one.
    pub fn begin(self, args: &Args, shared: &Arc<Shared>, tasks: &mut JoinSet<()>) {
        let Some(rate) = args.rate else { return };
        let limit = args.inflight as usize;
        let pace = pace::run(shared.clone(), self.due, rate, args.send_batch, limit);
        tasks.spawn(async move {
            if let Err(e) = pace.await {
                eprintln!("mqbench: {e}");
            }
        });
    }
}

/// No more requests; waits for those that a clock started, as the slowest answers are the last ones.
pub async fn finish(shared: &Shared, total: &mut Stats) {
    shared.stop.store(true, Ordering::Relaxed);
    let deadline = Instant::now() + shared.timeout;
    while shared.under_way.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
        sleep(LOOK_EVERY).await;
    }
    shared.stats.lock().drain_into(total);
}

/// How headers are written.
pub fn serialize(args: &Args) -> SerializeType {
    match args.binary {
        true => SerializeType::RocketMq,
        false => SerializeType::Json,
    }
}

fn body(size: u32) -> Bytes {
    (0..size)
        .map(|i| b'a' + u8::try_from(i % 26).unwrap_or(0))
        .collect()
}

/// The requests of every set.
fn requests(
    args: &Args,
    plan: &Plan,
    shape: &Shape,
) -> Result<Vec<(String, Arc<Requests>)>, BenchError> {
    let tags: Vec<_> = match args.tags {
        None => vec![None],
        Some(count) => (0..count).map(|n| Some(format!("tag{n}"))).collect(),
    };
    let (mut sets, mut bytes) = (Vec::new(), 0);
    for (set, queues) in &plan.sets {
        let mut templates = Vec::new();
        for (topic, queues) in plan.topics.iter().zip(queues) {
            for tag in &tags {
                let template = Template::new(shape, set, topic, tag.as_deref(), *queues)?;
                bytes += template.len();
                if bytes > MAX_TEMPLATES {
                    let what = "too many topics, tags and messages of a request together";
                    return Err(BenchError::Usage(what.to_owned()));
                }
                templates.push(template);
            }
        }
        let requests = Requests {
            templates,
            queues: queues.clone(),
            tags: tags.len(),
            batch: args.send_batch,
            oneway: args.oneway,
        };
        sets.push((set.clone(), Arc::new(requests)));
    }
    Ok(sets)
}
