//! The pull loop of one assigned queue: a task that ends when the queue is given up.

use std::sync::Arc;
use std::time::Duration;

use raftmq_remoting::body::MessageQueue;
use raftmq_remoting::header::PullMessageRequestHeader;
use raftmq_remoting::message::sysflag::pull as flag;
use raftmq_remoting::response_code;

use super::process_queue::ProcessQueue;
use super::{Ctx, consume};
use crate::consumer::{PullResult, PullStatus};
use crate::error::ClientError;
use crate::route::MASTER_ID;

/// Pause after a failed pull.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// Pause after FLOW_CONTROL.
const PAUSE_AFTER_FLOW_CONTROL: Duration = Duration::from_millis(20);

pub(super) async fn run(ctx: Arc<Ctx>, queue: MessageQueue, process: Arc<ProcessQueue>) {
    tokio::select! {
        () = process.stop.cancelled() => {}
        () = pull_on(&ctx, &queue, &process) => {}
    }
}

async fn pull_on(ctx: &Arc<Ctx>, queue: &MessageQueue, process: &Arc<ProcessQueue>) {
    let mut broker_id = MASTER_ID;
    loop {
        process.wait_for_room().await;
        match pull(ctx, queue, process, broker_id).await {
            Ok(result) => {
                broker_id = result.suggested_broker_id;
                if result.status == PullStatus::OffsetIllegal {
                    return begin_anew(ctx, queue, process, result.next_begin_offset).await;
                }
                process.pulled(&result.messages, result.next_begin_offset);
                consume::submit(ctx, process, result.messages);
            }
            Err(e) => {
                tracing::debug!(?queue, error = %e, "pull failed");
                let flow_control = e.code() == Some(response_code::FLOW_CONTROL);
                tokio::time::sleep(if flow_control {
                    PAUSE_AFTER_FLOW_CONTROL
                } else {
                    PAUSE_AFTER_ERROR
                })
                .await;
            }
        }
    }
}

async fn pull(
    ctx: &Ctx,
    queue: &MessageQueue,
    process: &ProcessQueue,
    broker_id: i64,
) -> Result<PullResult, ClientError> {
    let no_route = || ClientError::NoRoute {
        topic: queue.topic.clone(),
    };
    let route = ctx.instance.route(&queue.topic, false).await?;
    let addr = route
        .pull_addr(&queue.broker_name, broker_id)
        .ok_or_else(no_route)?;
    let subscription = ctx.subscriptions.get(&queue.topic).ok_or_else(no_route)?;
    let mut sys_flag = flag::SUSPEND | flag::SUBSCRIPTION;
    let mut commit_offset = 0;
    if ctx.is_clustering()
        && route.master(&queue.broker_name) == Some(addr)
        && let Some(offset) = process.offset_to_commit().filter(|o| *o > 0)
    {
        sys_flag |= flag::COMMIT_OFFSET;
        commit_offset = offset;
    }
    let header = PullMessageRequestHeader {
        consumer_group: ctx.config.group.as_str().into(),
        topic: queue.topic.as_str().into(),
        queue_id: queue.queue_id,
        queue_offset: process.next(),
        max_msg_nums: ctx.config.pull_batch,
        sys_flag,
        commit_offset,
        suspend_timeout_millis: i64::try_from(ctx.config.hold.as_millis()).unwrap_or(i64::MAX),
        subscription: Some(subscription.expression.as_str().into()),
        sub_version: subscription.version,
        expression_type: Some("TAG".into()),
        ..PullMessageRequestHeader::default()
    };
    let mut result = ctx.instance.pull(addr, &queue.broker_name, &header).await?;
    result.messages.retain(|m| subscription.matches(m.tags()));
    Ok(result)
}

/// The offset was outside the queue: commits the corrected one, gives the queue up and asks for it again, so that messages
/// of before do not move the new offset.
async fn begin_anew(ctx: &Ctx, queue: &MessageQueue, process: &ProcessQueue, offset: i64) {
    tracing::warn!(
        ?queue,
        asked = process.next(),
        corrected = offset,
        "offset outside the queue"
    );
    if ctx.is_clustering() {
        let committed = async {
            let addr = ctx.instance.queue_addr(queue).await?;
            ctx.instance
                .commit_offset(&addr, &ctx.config.group, queue, offset)
                .await
        };
        if let Err(e) = committed.await {
            tracing::warn!(?queue, offset, error = %e, "corrected offset not committed");
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
    } else {
        ctx.local_offsets.lock().insert(queue.clone(), offset);
    }
    ctx.assigned.lock().remove(queue);
    process.stop.cancel();
    ctx.instance.group_changed.notify_one();
}
