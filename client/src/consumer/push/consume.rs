//! Calling the listener, and giving messages back that it could not consume.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::process_queue::ProcessQueue;
use super::{ConsumeStatus, Ctx};
use crate::error::ClientError;
use crate::message::ReceivedMessage;

/// Messages that could not be given back are consumed again after this.
const PAUSE_BEFORE_RETRY: Duration = Duration::from_secs(5);

/// Hands pulled messages to the listener, in batches, each in a task. The number of tasks is bounded by the messages a
/// queue may have in memory.
pub(super) fn submit(ctx: &Arc<Ctx>, process: &Arc<ProcessQueue>, messages: Vec<ReceivedMessage>) {
    let mut messages = messages.into_iter();
    loop {
        let batch: Vec<_> = messages.by_ref().take(ctx.config.consume_batch).collect();
        if batch.is_empty() {
            return;
        }
        tokio::spawn(consume(ctx.clone(), process.clone(), batch));
    }
}

async fn consume(ctx: Arc<Ctx>, process: Arc<ProcessQueue>, mut batch: Vec<ReceivedMessage>) {
    while !batch.is_empty() {
        {
            let Ok(_permit) = ctx.permits.acquire().await else {
                return;
            };
            if process.stop.is_cancelled() {
                return;
            }
            let status = call(&ctx, batch.clone()).await;
            if status == ConsumeStatus::Success {
                return batch.iter().for_each(|m| process.done(m.queue_offset));
            }
            let mut kept = Vec::new();
            for mut message in batch {
                match give_back(&ctx, &message).await {
                    Ok(()) => process.done(message.queue_offset),
                    Err(e) => {
                        tracing::warn!(msg_id = message.msg_id, error = %e, "message not given back, consumed again here");
                        message.reconsume_times += 1;
                        kept.push(message);
                    }
                }
            }
            batch = kept;
        }
        if !batch.is_empty() {
            tokio::select! {
                () = process.stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE_BEFORE_RETRY) => {}
            }
        }
    }
}

async fn call(ctx: &Ctx, messages: Vec<ReceivedMessage>) -> ConsumeStatus {
    let panicked = || {
        tracing::error!(group = ctx.config.group, "the listener panicked");
        ConsumeStatus::Later
    };
    let Ok(mut future) = catch_unwind(AssertUnwindSafe(|| (ctx.listener)(messages))) else {
        return panicked();
    };
    std::future::poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)))
            .unwrap_or_else(|_| Poll::Ready(panicked()))
    })
    .await
}

async fn give_back(ctx: &Ctx, message: &ReceivedMessage) -> Result<(), ClientError> {
    if !ctx.is_clustering() {
        tracing::warn!(
            msg_id = message.msg_id,
            "not consumed, and a broadcasting consumer does not retry"
        );
        return Ok(());
    }
    let addr = ctx.instance.queue_addr(&message.queue).await?;
    ctx.instance
        .send_back(
            &addr,
            &ctx.config.group,
            message,
            ctx.config.max_reconsume_times,
        )
        .await
}
