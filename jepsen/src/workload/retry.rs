//! Consumers that give every message back, as often as it comes, until it is dead.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Outgoing;
use super::client::Thread;
use super::requests::{Shape, Wrote};

/// How often a message is given back and comes again.
pub const MOST_TIMES: u32 = 2;
/// When there is nothing to read.
const NOTHING: Duration = Duration::from_millis(20);
/// After the senders stopped, consumers go on until nothing has come for so long: a message comes again after one second.
const QUIET: Duration = Duration::from_secs(5);
/// And no longer than this.
const LIMIT: Duration = Duration::from_secs(60);

/// Number of the queue in which messages come again.
pub fn again_queue(queues: u32) -> u32 {
    queues
}

/// Number of the queue of the dead.
pub fn dead_queue(queues: u32) -> u32 {
    queues + 1
}

/// When anything was last given back.
#[derive(Default)]
pub struct Positions {
    busy: Mutex<Option<Instant>>,
}

/// The first thread consumes what came again, a few others the queues, the rest sends.
pub async fn run(thread: Thread, positions: std::sync::Arc<Positions>) {
    let settings = &thread.shared.settings;
    let consumers = settings.queues.min(settings.concurrency / 2).max(1);
    match thread.number {
        0 => {
            let queue = again_queue(settings.queues);
            consume(thread, vec![queue], &positions).await;
        }
        n if n <= consumers => {
            let queues = (n - 1..settings.queues).step_by(consumers as usize);
            let queues = queues.collect();
            consume(thread, queues, &positions).await;
        }
        _ => send(thread).await,
    }
}

async fn send(mut thread: Thread) {
    let mut outgoing = Outgoing::of(&thread);
    while let Some((queue, message)) = outgoing.next(&mut thread).await {
        thread.send(queue, message, None).await;
    }
}

async fn consume(mut thread: Thread, queues: Vec<u32>, positions: &Positions) {
    let mut at: Vec<(u32, i64)> = queues.into_iter().map(|q| (q, 0)).collect();
    let mut stopped: Option<Instant> = None;
    loop {
        if thread.shared.is_stopped() {
            let since = *stopped.get_or_insert_with(Instant::now);
            let busy = positions.busy.lock().unwrap_or(since).max(since);
            if busy.elapsed() > QUIET || since.elapsed() > LIMIT {
                return;
            }
        }
        let mut found = false;
        for (queue, next) in &mut at {
            let via = thread.via();
            let Some(polled) = thread.poll(*queue, via, *next, Shape::Seeks).await else {
                continue;
            };
            for message in &polled.messages {
                found = true;
                *positions.busy.lock() = Some(Instant::now());
                while thread.send_back(message, MOST_TIMES).await != Wrote::Done {
                    if stopped.is_some_and(|s| s.elapsed() > LIMIT) {
                        return;
                    }
                    if thread.shared.is_stopped() {
                        stopped.get_or_insert_with(Instant::now);
                    }
                }
            }
            *next = polled.next;
        }
        if !found {
            tokio::time::sleep(NOTHING).await;
        }
    }
}
