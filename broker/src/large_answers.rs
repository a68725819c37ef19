//! Requests whose answer is much larger than they are: lists of all topics, statistics of all queues.
//!
//! A few bytes ask for megabytes, so these have a lane of their own: [`AT_ONCE`] are worked on at a time, on blocking threads
//! and not on a connection's task, [`WAITING`] wait for their turn, and none begins while [`UNREAD_BYTES`] of their answers
//! have not left for their clients. Beyond that they are told to come back (SYSTEM_BUSY). Sends and pulls never meet them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use raftmq_remoting::codes::{request, response};
use raftmq_remoting::command::{Body, RemotingCommand};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::broker::Broker;
use crate::call::Call;

/// Worked on at a time.
const AT_ONCE: usize = 2;
/// That wait for their turn; each is a small request.
const WAITING: usize = 1_024;
/// Bytes of such answers that are on their way to clients.
pub const UNREAD_BYTES: usize = 32 << 20;
/// Smaller answers are not counted, bytes.
const SMALL: usize = 64 << 10;
/// How often it is looked whether answers have left.
const LOOK: Duration = Duration::from_millis(20);
/// How long one waits for that.
const PATIENCE: Duration = Duration::from_secs(2);

/// The requests, in ascending order.
const LARGE: &[i32] = &[
    request::GET_ALL_TOPIC_CONFIG,
    request::GET_ALL_CONSUMER_OFFSET,
    request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG,
    request::GET_TOPIC_STATS_INFO,
    request::GET_CONSUMER_CONNECTION_LIST,
    request::GET_PRODUCER_CONNECTION_LIST,
    request::GET_CONSUME_STATS,
    request::INVOKE_BROKER_TO_RESET_OFFSET,
    request::INVOKE_BROKER_TO_GET_CONSUMER_STATUS,
    request::QUERY_TOPIC_CONSUME_BY_WHO,
    request::QUERY_CONSUME_TIME_SPAN,
    request::GET_SYSTEM_TOPIC_LIST_FROM_BROKER,
    request::QUERY_CORRECTION_OFFSET,
    request::CLONE_GROUP_OFFSET,
    request::GET_BROKER_CONSUME_STATS,
    request::QUERY_CONSUME_QUEUE,
    request::GET_ALL_PRODUCER_INFO,
    request::QUERY_TOPICS_BY_CONSUMER,
];

/// Whether the answer to such a request may be large.
pub fn is_large(code: i32) -> bool {
    LARGE.binary_search(&code).is_ok()
}

/// The lane.
pub struct LargeAnswers {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    unread: Arc<AtomicUsize>,
}

impl Default for LargeAnswers {
    fn default() -> Self {
        Self {
            running: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: AtomicUsize::new(0),
            unread: Arc::default(),
        }
    }
}

/// A place in the lane, until the request is answered.
pub struct Ticket {
    _running: OwnedSemaphorePermit,
    unread: Arc<AtomicUsize>,
}

impl Ticket {
    /// Counts the answer's body until it was written to the client.
    pub fn count(&self, answer: &mut RemotingCommand) {
        if let Body::One(body) = &answer.body
            && body.len() > SMALL
        {
            let counted = Unread::new(body.clone(), self.unread.clone());
            answer.body = Bytes::from_owner(counted).into();
        }
    }
}

/// A body that is counted as long as anybody has it.
struct Unread {
    body: Bytes,
    all: Arc<AtomicUsize>,
}

impl Unread {
    fn new(body: Bytes, all: Arc<AtomicUsize>) -> Self {
        all.fetch_add(body.len(), Ordering::Relaxed);
        Self { body, all }
    }
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.all.fetch_sub(self.body.len(), Ordering::Relaxed);
    }
}

impl LargeAnswers {
    /// Bytes of answers on their way.
    pub fn unread(&self) -> usize {
        self.unread.load(Ordering::Relaxed)
    }

    /// Waits for a place; None: too many wait, or nobody reads what was answered.
    async fn enter(&self) -> Option<Ticket> {
        let running = self.running.clone().acquire_owned().await.ok()?;
        let room = async {
            while self.unread() >= UNREAD_BYTES {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, room).await.ok()?;
        Some(Ticket {
            _running: running,
            unread: self.unread.clone(),
        })
    }

    /// Runs `handler` when there is a place for the call.
    pub fn run(&self, broker: &Arc<Broker>, mut call: Call, handler: fn(&Arc<Broker>, Call)) {
        const BUSY: &str = "[OVERLOAD]too many large answers are asked for, start flow control";
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return call.error(response::SYSTEM_BUSY, BUSY);
        }
        let broker = broker.clone();
        broker.runtime.clone().spawn(async move {
            let lane = &broker.large_answers;
            call.large = lane.enter().await;
            lane.waiting.fetch_sub(1, Ordering::Relaxed);
            if call.large.is_none() {
                return call.error(response::SYSTEM_BUSY, BUSY);
            }
            let shared = broker.clone();
            let done = broker
                .runtime
                .spawn_blocking(move || handler(&shared, call));
            if let Err(e) = done.await {
                tracing::error!(error = %e, "a large answer failed");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_for_search() {
        assert!(LARGE.is_sorted());
        assert!(
            LARGE
                .iter()
                .all(|code| crate::dispatch::find(*code).is_some())
        );
    }

    #[tokio::test]
    async fn a_few_at_a_time_and_none_while_nobody_reads() {
        let lane = LargeAnswers::default();
        let first = lane.enter().await.expect("a place");
        let _second = lane.enter().await.expect("another");
        let third = tokio::time::timeout(Duration::from_millis(100), lane.enter()).await;
        assert!(third.is_err(), "it waits");
        let mut answer = RemotingCommand::response(0).with_body(vec![7; UNREAD_BYTES]);
        first.count(&mut answer);
        drop(first);
        assert_eq!(lane.unread(), UNREAD_BYTES);
        assert!(lane.enter().await.is_none(), "nobody reads the first");
        assert_eq!(answer.body.len(), UNREAD_BYTES);
        drop(answer);
        assert_eq!(lane.unread(), 0);
        assert!(lane.enter().await.is_some());
    }
}
