//! A group of consumers that read, commit and crash: after a crash the committed offset is asked for and reading goes on there. On
//! even queues every commit is answered; on odd ones half of them are sent without waiting, as consumers do.

use std::time::Duration;

use super::Outgoing;
use super::client::Thread;
use super::requests::Shape;

/// Polls between two crashes, at most.
const LIFE: usize = 20;
/// When there is nothing to read.
const NOTHING: Duration = Duration::from_millis(20);

/// One consumer a queue; the other threads send.
pub async fn run(mut thread: Thread) {
    let queues = thread.shared.settings.queues;
    if thread.number < queues.min(thread.shared.settings.concurrency / 2).max(1) {
        return consume(thread).await;
    }
    let mut outgoing = Outgoing::of(&thread);
    while let Some((queue, message)) = outgoing.next(&mut thread).await {
        thread.send(queue, message, None).await;
    }
}

async fn consume(mut thread: Thread) {
    let queue = thread.number;
    while !thread.shared.is_stopped() {
        let Some(committed) = thread.query(queue).await else {
            continue;
        };
        let mut at = committed.unwrap_or(0);
        let mut shape = Shape::Seeks;
        for _ in 0..=thread.random.below(LIFE) {
            let via = thread.via();
            let process = thread.process;
            let Some(polled) = thread.poll(queue, via, at, shape).await else {
                continue;
            };
            at = polled.next;
            shape = if process == thread.process {
                Shape::Follows
            } else {
                Shape::Seeks
            };
            if polled.messages.is_empty() {
                tokio::time::sleep(NOTHING).await;
                continue;
            }
            let oneway = queue % 2 == 1 && thread.random.below(2) == 0;
            let before = thread.process;
            thread.commit(queue, at, oneway).await;
            if before != thread.process {
                shape = Shape::Seeks;
            }
            if thread.shared.is_stopped() {
                break;
            }
        }
    }
}
