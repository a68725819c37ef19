//! Workloads that send to queues and read them.

use std::collections::HashMap;
use std::time::Duration;

use super::client::Thread;
use super::requests::{DELAYS, Shape, Wrote};
use super::{Outgoing, Pace, value};

/// A reader that found little waits so long.
const LITTLE: Duration = Duration::from_millis(10);
/// Messages that are little.
const FEW: usize = 32;
/// Threads that play all parts; each reader reads everything, so the others send.
const ALL_PARTS: u32 = 24;
/// A reader goes back somewhere about once in so many polls.
const BACK: usize = 200;

/// Half the threads send, a quarter reads, a quarter reads ends, too. Of many threads more send.
pub async fn mixed(mut thread: Thread) {
    match thread.number % 4 {
        _ if thread.number >= ALL_PARTS => send(thread, None).await,
        0 | 1 => send(thread, None).await,
        2 => Reader::default().run(&mut thread, 0).await,
        _ => Reader::default().run(&mut thread, 2).await,
    }
}

/// A quarter of the threads sends, the others read ends, and messages now and then.
pub async fn ends(mut thread: Thread) {
    match thread.number % 4 {
        0 => send(thread, None).await,
        _ => Reader::default().run(&mut thread, 8).await,
    }
}

/// Half the threads send with the delay levels in turn, the others read.
pub async fn delayed(mut thread: Thread) {
    match thread.number % 2 {
        0 => send(thread, Some(&DELAYS)).await,
        _ => Reader::default().run(&mut thread, 0).await,
    }
}

async fn send(mut thread: Thread, delays: Option<&[(u32, u32)]>) {
    let mut outgoing = Outgoing::of(&thread);
    while let Some((queue, message)) = outgoing.next(&mut thread).await {
        let level = delays.and_then(|d| thread.random.choose(d).copied());
        thread.send(queue, message, level).await;
    }
}

/// One sender a queue, which goes on only when a message is acknowledged; the other threads read.
pub async fn ordered(mut thread: Thread) {
    let (queue, queues) = (thread.number, thread.shared.settings.queues);
    if queue >= queues.min(thread.shared.settings.concurrency / 2).max(1) {
        return Reader::default().run(&mut thread, 0).await;
    }
    let mut pace = Pace::of(&thread);
    for number in 0.. {
        let message = value::of(thread.number, number);
        loop {
            if thread.shared.is_stopped() {
                return;
            }
            pace.wait().await;
            if thread.send(queue, message, None).await == Wrote::Done {
                break;
            }
        }
    }
}

/// Reads all queues in turn, mostly on from where it was.
#[derive(Default)]
pub struct Reader {
    /// By queue: the next offset, and the process that was there.
    at: HashMap<u32, (i64, u32)>,
}

impl Reader {
    /// For each poll reads `ends` ends of queues.
    pub async fn run(&mut self, thread: &mut Thread, ends: usize) {
        let queues = thread.shared.settings.queues.max(1);
        let mut pace = Pace::of(thread);
        // Each begins elsewhere.
        for turn in thread.number.. {
            if thread.shared.is_stopped() {
                break;
            }
            pace.wait().await;
            for _ in 0..ends {
                let queue = thread.any_queue();
                thread.max_offset(queue).await;
            }
            if !self.poll(thread, turn % queues).await {
                tokio::time::sleep(LITTLE).await;
            }
        }
    }

    /// Whether there was much.
    async fn poll(&mut self, thread: &mut Thread, queue: u32) -> bool {
        let (mut from, mut shape) = match self.at.get(&queue) {
            Some((at, process)) if *process == thread.process => (*at, Shape::Follows),
            Some((at, _)) => (*at, Shape::Seeks),
            None => (0, Shape::Seeks),
        };
        if thread.random.below(BACK) == 0 {
            let all = usize::try_from(from).unwrap_or(0);
            from = i64::try_from(thread.random.below(all + 1)).unwrap_or(0);
            shape = Shape::Seeks;
        }
        let via = thread.via();
        let Some(polled) = thread.poll(queue, via, from, shape).await else {
            return false;
        };
        self.at.insert(queue, (polled.next, thread.process));
        polled.messages.len() >= FEW
    }
}
