//! Dividing a topic's queues among the members of a group, the same way at every member: by average.

use std::collections::BTreeSet;
use std::sync::Arc;

use raftmq_remoting::body::MessageQueue;
use raftmq_remoting::validate::is_retry_topic;

use super::process_queue::ProcessQueue;
use super::{Commit, Ctx, pull_loop};
use crate::consumer::ConsumeFrom;
use crate::error::ClientError;

/// The queues of member `id`: consecutive ones, the first members get one more when it does not come out even. Queues and
/// members must be sorted.
pub(super) fn allocate(queues: &[MessageQueue], members: &[String], id: &str) -> Vec<MessageQueue> {
    let Some(index) = members.iter().position(|m| m == id) else {
        return Vec::new();
    };
    let (each, more) = (queues.len() / members.len(), queues.len() % members.len());
    let start = index * each + index.min(more);
    let count = each + usize::from(index < more);
    queues[start..start + count].to_vec()
}

/// Rebalances now, at every interval, and when a broker says that the group changed.
pub(super) async fn run(ctx: Arc<Ctx>) {
    let mut told = BTreeSet::new();
    loop {
        let round = rebalance(&ctx, &mut told);
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = round => {}
        }
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = ctx.instance.group_changed.notified() => {}
            () = tokio::time::sleep(ctx.config.rebalance_interval) => {}
        }
    }
}

async fn rebalance(ctx: &Arc<Ctx>, told: &mut BTreeSet<String>) {
    for topic in ctx.subscriptions.keys() {
        // A topic that is not there yet is looked for at each round.
        if let Err(e) = ctx.instance.route(topic, false).await
            && !is_retry_topic(topic)
        {
            tracing::warn!(topic, error = %e, "no route to a subscribed topic");
        }
    }
    let brokers = ctx.instance.broker_addrs(false);
    if brokers != *told {
        ctx.instance.heartbeat_all().await;
        *told = brokers;
    }
    for topic in ctx.subscriptions.keys() {
        if let Err(e) = rebalance_topic(ctx, topic).await {
            tracing::debug!(topic, error = %e, "not rebalanced, the queues stay as they are");
        }
    }
}

async fn rebalance_topic(ctx: &Arc<Ctx>, topic: &str) -> Result<(), ClientError> {
    let Some(route) = ctx.instance.known_route(topic) else {
        return Ok(());
    };
    let mine = if ctx.is_clustering() {
        let mut members = None;
        // Any broker of the topic knows the group; the first that answers counts.
        for broker in route.brokers.keys() {
            let Some(addr) = route.master(broker).or_else(|| route.any_addr(broker)) else {
                continue;
            };
            members = Some(ctx.instance.consumer_ids(addr, &ctx.config.group).await);
            if matches!(members, Some(Ok(_))) {
                break;
            }
        }
        let members = members.unwrap_or_else(|| {
            Err(ClientError::NoRoute {
                topic: topic.to_owned(),
            })
        })?;
        allocate(&route.subscribe, &members, &ctx.instance.client_id)
    } else {
        route.subscribe.clone()
    };

    let given_up: Vec<_> = {
        let mut assigned = ctx.assigned.lock();
        let gone: Vec<_> = assigned
            .keys()
            .filter(|q| q.topic == topic && !mine.contains(q))
            .cloned()
            .collect();
        gone.into_iter()
            .filter_map(|q| assigned.remove_entry(&q))
            .collect()
    };
    for (queue, process) in given_up {
        process.stop.cancel();
        tracing::info!(?queue, "queue given up");
        ctx.commit(&queue, &process, Commit::Confirmed).await;
    }
    for queue in mine {
        if ctx.assigned.lock().contains_key(&queue) {
            continue;
        }
        match begin_offset(ctx, &queue).await {
            Ok(offset) => take(ctx, queue, offset),
            // The next round tries again: a wrong start would skip or repeat messages.
            Err(e) => tracing::warn!(?queue, error = %e, "no offset to begin at"),
        }
    }
    Ok(())
}

fn take(ctx: &Arc<Ctx>, queue: MessageQueue, offset: i64) {
    tracing::info!(?queue, offset, "queue taken");
    let config = &ctx.config;
    let stop = ctx.stop.child_token();
    let process = Arc::new(ProcessQueue::new(
        offset,
        config.cached_messages_per_queue,
        config.cached_bytes_per_queue,
        stop,
    ));
    ctx.assigned.lock().insert(queue.clone(), process.clone());
    tokio::spawn(pull_loop::run(ctx.clone(), queue, process));
}

/// Where to begin: at the committed offset, or where the configuration says.
async fn begin_offset(ctx: &Ctx, queue: &MessageQueue) -> Result<i64, ClientError> {
    let addr = ctx.instance.queue_addr(queue).await?;
    let known = if ctx.is_clustering() {
        ctx.instance
            .committed_offset(&addr, &ctx.config.group, queue)
            .await?
    } else {
        ctx.local_offsets.lock().get(queue).copied()
    };
    if let Some(offset) = known {
        return Ok(offset);
    }
    match ctx.config.from {
        ConsumeFrom::LastOffset if is_retry_topic(&queue.topic) => Ok(0),
        ConsumeFrom::LastOffset => ctx.instance.max_offset(&addr, queue).await,
        ConsumeFrom::FirstOffset => ctx.instance.min_offset(&addr, queue).await,
        ConsumeFrom::Timestamp(_) if is_retry_topic(&queue.topic) => {
            ctx.instance.max_offset(&addr, queue).await
        }
        ConsumeFrom::Timestamp(ms) => ctx.instance.search_offset(&addr, queue, ms).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_has_one_owner_and_shares_are_even() {
        for queues in 0..20usize {
            for members in 1..8usize {
                let all: Vec<_> = (0..queues)
                    .map(|i| MessageQueue::new("t", "b", i as i32))
                    .collect();
                let ids: Vec<_> = (0..members).map(|i| format!("c{i}")).collect();
                let shares: Vec<_> = ids.iter().map(|id| allocate(&all, &ids, id)).collect();
                assert_eq!(shares.concat(), all);
                let (min, max) = (
                    shares.iter().map(Vec::len).min().unwrap(),
                    shares.iter().map(Vec::len).max().unwrap(),
                );
                assert!(max - min <= 1);
            }
        }
    }

    #[test]
    fn shares_are_those_of_the_java_strategy() {
        let all: Vec<_> = (0..8).map(|i| MessageQueue::new("t", "b", i)).collect();
        let ids: Vec<_> = ["a", "b", "c"].map(String::from).into();
        let share = |id| {
            allocate(&all, &ids, id)
                .iter()
                .map(|q| q.queue_id)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (share("a"), share("b"), share("c")),
            (vec![0, 1, 2], vec![3, 4, 5], vec![6, 7])
        );
        assert!(share("stranger").is_empty());
    }
}
