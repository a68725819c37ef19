//! Reads the topic of a run: a task for each queue, which pulls and is held by the broker until something comes.

use std::sync::Arc;
use std::time::Duration;

use raftmq_benches::BenchError;
use raftmq_client::{ClientConfig, PullConsumer};
use tokio::task::JoinSet;

use crate::book::Book;

/// Messages of one pull.
const BATCH: i32 = 32;
/// How long a broker holds a pull.
const HOLD: Duration = Duration::from_secs(1);
/// Pause after a failed pull.
const PAUSE: Duration = Duration::from_millis(20);

/// Writes down every message of `run` in `topic` until the tasks are dropped.
///
/// # Errors
/// The topic has no route.
pub async fn start(
    client: ClientConfig,
    topic: &str,
    run: u64,
    book: Arc<Book>,
) -> Result<JoinSet<()>, BenchError> {
    let consumer = Arc::new(PullConsumer::new(client, "mqtimers-reader")?);
    let mut tasks = JoinSet::new();
    for queue in consumer.queues(topic).await? {
        let (consumer, book) = (consumer.clone(), book.clone());
        tasks.spawn(async move {
            let mut offset = 0;
            loop {
                let pulled = consumer.pull(&queue, "*", offset, BATCH, Some(HOLD)).await;
                let Ok(pulled) = pulled else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                for message in pulled.messages {
                    offset = message.queue_offset + 1;
                    if let Some(number) = number(run, &message.body) {
                        book.seen(number, message.store_timestamp);
                    }
                }
            }
        });
    }
    Ok(tasks)
}

/// The unique id of a message.
pub fn id(run: u64, number: usize) -> String {
    format!("{run:016X}-{number}")
}

/// The body of a message.
pub fn body(run: u64, number: usize) -> String {
    format!("{run} {number}")
}

fn number(run: u64, body: &[u8]) -> Option<usize> {
    let (of, number) = std::str::from_utf8(body).ok()?.split_once(' ')?;
    (of.parse() == Ok(run)).then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_back() {
        assert_eq!(number(7, body(7, 12).as_bytes()), Some(12));
        assert_eq!(number(8, body(7, 12).as_bytes()), None);
        assert_eq!(number(7, b"7"), None);
    }
}
