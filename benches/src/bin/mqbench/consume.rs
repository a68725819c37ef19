//! Draining a topic: every queue from its first message to what was its last one at the start. One task a queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use raftmq_benches::BenchError;
use raftmq_benches::proc_stat::Usage;
use raftmq_client::{ClientConfig, ClientError, MessageQueue, PullConsumer, PullStatus};
use tokio::task::JoinSet;

use super::Args;
use super::report::{Counted, Report, Spent, histogram, record};

/// Pause after a failed pull.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Drained {
    messages: u64,
    bytes: u64,
    errors: BTreeMap<String, u64>,
}

/// Drains the topic, or as much of it as there is time for.
///
/// # Errors
/// The topic has no route, or a queue's offsets cannot be asked for.
pub async fn run(args: &Args) -> Result<Report, BenchError> {
    let mut consumers = Vec::new();
    for _ in 0..args.connections {
        consumers.push(Arc::new(PullConsumer::new(
            ClientConfig::new(&args.namesrv),
            &args.group,
        )?));
    }
    let Some(first) = consumers.first() else {
        return Err(BenchError::Usage("no connections".to_owned()));
    };
    let mut work = Vec::new();
    for queue in first.queues(&args.topic).await? {
        let range = first.min_offset(&queue).await?..first.max_offset(&queue).await?;
        if !range.is_empty() {
            work.push((queue, range));
        }
    }
    let own = || Usage::of(std::process::id()).unwrap_or_default().cpu;
    let (own_before, servers_before, began) = (own(), Usage::of_all(&args.pids), Instant::now());
    let deadline = began + Duration::from_secs(args.seconds);
    let pulls = Arc::new(Mutex::new(histogram()));
    let mut tasks = JoinSet::new();
    for (i, (queue, range)) in work.into_iter().enumerate() {
        let consumer = consumers[i % consumers.len()].clone();
        tasks.spawn(drain(
            consumer,
            queue,
            range,
            args.batch,
            deadline,
            pulls.clone(),
        ));
    }
    let mut total = Drained::default();
    while let Some(ended) = tasks.join_next().await {
        // A task that panicked has said so; its queue is missing from the sum.
        let Ok(drained) = ended else { continue };
        total.messages += drained.messages;
        total.bytes += drained.bytes;
        for (what, times) in drained.errors {
            *total.errors.entry(what).or_default() += times;
        }
    }
    let time = began.elapsed();
    let spent = Spent {
        servers_before,
        servers_after: Usage::of_all(&args.pids),
        own: own().saturating_sub(own_before),
    };
    for consumer in &consumers {
        consumer.shutdown().await;
    }
    Ok(Report::from(Counted {
        mode: "consume",
        topic: args.topic.clone(),
        time,
        messages: total.messages,
        bytes: total.bytes,
        histogram: pulls.lock().clone(),
        errors: total.errors,
        spent,
        with_servers: !args.pids.is_empty(),
    }))
}

async fn drain(
    consumer: Arc<PullConsumer>,
    queue: MessageQueue,
    range: std::ops::Range<i64>,
    batch: i32,
    deadline: Instant,
    pulls: Arc<Mutex<Histogram<u64>>>,
) -> Drained {
    let mut drained = Drained::default();
    let mut offset = range.start;
    while offset < range.end && Instant::now() < deadline {
        let began = Instant::now();
        match consumer.pull(&queue, "*", offset, batch, None).await {
            Ok(result) if result.status == PullStatus::Found => {
                record(&mut pulls.lock(), began.elapsed());
                drained.messages += u64::try_from(result.messages.len()).unwrap_or(0);
                drained.bytes += result
                    .messages
                    .iter()
                    .map(|m| u64::try_from(m.body.len()).unwrap_or(0))
                    .sum::<u64>();
                offset = result.next_begin_offset.max(offset);
            }
            Ok(result) => {
                *drained
                    .errors
                    .entry(format!("{:?}", result.status))
                    .or_default() += 1;
                offset = result.next_begin_offset.max(offset);
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            Err(e) => {
                let what = match &e {
                    ClientError::Broker { code, .. } => format!("code {code}"),
                    e => e.to_string(),
                };
                *drained.errors.entry(what).or_default() += 1;
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
    drained
}
