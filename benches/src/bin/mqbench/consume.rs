//! Draining topics: every queue from its first message to what was its last one at the start. And, with
//! [`start`], reading on from there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use raftmq_benches::BenchError;
use raftmq_client::{ClientConfig, MessageQueue, PullConsumer};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Args;
use super::lane::Lane;
use super::measure;
use super::plan::{self, Plan, for_each};
use super::produce::{self, serialize};
use super::puller::{HOLD_MS, MAX_QUEUES, Puller, Pulls};
use super::report::Report;
use super::stats::Shared;

/// Drains the topics, or as much of them as there is time for.
///
/// # Errors
/// A topic has no route, or a queue's offsets cannot be asked for.
pub async fn run(args: &Args) -> Result<Report, BenchError> {
    let shared = Arc::new(Shared::new(args.timeout()));
    let mut tasks = JoinSet::new();
    let plan = plan::find(args, &mut tasks).await?;
    let ranges = ranges(args, &plan).await?;
    let work: Vec<_> = ranges
        .into_iter()
        .filter(|(_, first, end)| first < end)
        .map(|(queue, first, end)| (queue, first, Some(end)))
        .collect();
    let pulls = pulls(args, false, work.len());
    if work.is_empty() {
        pulls.all_done.notify_one();
    }
    let lanes = start(
        args,
        &shared,
        &plan,
        &pulls,
        std::slice::from_ref(&args.group),
        &work,
    )?;
    for (lane, puller) in lanes {
        tasks.spawn(lane.run(puller));
    }
    let done = pulls.all_done.notified();
    let measured = measure::measure(args, &shared, Duration::ZERO, done).await?;
    tasks.shutdown().await;
    Ok(produce::report("consume", args, measured))
}

/// What the pulls of this run are like; `left` queues have an end.
pub fn pulls(args: &Args, hold: bool, left: usize) -> Arc<Pulls> {
    Arc::new(Pulls {
        serialize: serialize(args),
        batch: args.batch,
        expression: args.tag.clone(),
        hold,
        verify: args.verify,
        left: AtomicUsize::new(left),
        all_done: Notify::new(),
    })
}

/// All queues with their first offset and the one after their last.
///
/// # Errors
/// They cannot be asked for.
pub async fn ranges(args: &Args, plan: &Plan) -> Result<Vec<(MessageQueue, i64, i64)>, BenchError> {
    let consumer = Arc::new(PullConsumer::new(
        ClientConfig::new(&args.namesrv),
        &args.group,
    )?);
    let queues = for_each(&plan.topics, |topic| {
        let consumer = consumer.clone();
        async move { Ok(consumer.queues(&topic).await?) }
    })
    .await?
    .concat();
    let ranges = for_each(&queues, |queue| {
        let consumer = consumer.clone();
        async move {
            let first = consumer.min_offset(&queue).await?;
            let end = consumer.max_offset(&queue).await?;
            Ok((queue, first, end))
        }
    })
    .await?;
    consumer.shutdown().await;
    Ok(ranges)
}

/// A lane for every connection of every group, with its share of the group's queues.
///
/// # Errors
/// There are too many queues.
pub fn start(
    args: &Args,
    shared: &Arc<Shared>,
    plan: &Plan,
    pulls: &Arc<Pulls>,
    groups: &[String],
    queues: &[(MessageQueue, i64, Option<i64>)],
) -> Result<Vec<(Lane, Puller)>, BenchError> {
    let mut sets: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for queue in queues {
        sets.entry(&queue.0.broker_name).or_default().push(queue);
    }
    let mut lanes = Vec::new();
    for group in groups {
        for (set, queues) in &sets {
            let count = queues.len().min(args.connections as usize);
            if queues.len().div_ceil(count) > MAX_QUEUES {
                let what = "too many queues for so few connections";
                return Err(BenchError::Usage(what.to_owned()));
            }
            for number in 0..count {
                let own = queues.iter().skip(number).step_by(count);
                let own = own.map(|(queue, offset, end)| pulls.queue(group, queue, *offset, *end));
                let hold = if pulls.hold { HOLD_MS } else { 0 };
                let lane = Lane {
                    set: (*set).to_owned(),
                    shared: shared.clone(),
                    routes: plan.routes.clone(),
                    tail: Default::default(),
                    patience: shared.timeout + Duration::from_millis(hold),
                };
                let own = own.collect::<Result<_, _>>()?;
                lanes.push((lane, Puller::new(shared.clone(), pulls.clone(), own)));
            }
        }
    }
    Ok(lanes)
}
