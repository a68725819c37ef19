//! Sends timers, many at a time, each until it is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use raftmq_benches::BenchError;
use raftmq_client::{Message, Producer, SendStatus};
use tokio::sync::Semaphore;

use crate::book::Book;
use crate::read::{body, id};

/// Sends under way.
const IN_FLIGHT: usize = 512;
/// Pause before a failed message is sent again.
const PAUSE: Duration = Duration::from_millis(20);

/// Where timers go.
#[derive(Clone)]
pub struct Target {
    pub producer: Producer,
    pub topic: String,
    pub run: u64,
    pub book: Arc<Book>,
}

impl Target {
    /// Sends a timer for each of these times and waits until all are acknowledged.
    ///
    /// # Errors
    /// The runtime ends.
    pub async fn send(&self, due_ms: impl Iterator<Item = i64>) -> Result<(), BenchError> {
        let places = Arc::new(Semaphore::new(IN_FLIGHT));
        let ended = |_| BenchError::Usage("the sends ended early".to_owned());
        for due in due_ms {
            let place = places.clone().acquire_owned().await.map_err(ended)?;
            let number = self.book.add(due);
            self.try_one(number, place);
        }
        let all = u32::try_from(IN_FLIGHT).unwrap_or(u32::MAX);
        drop(places.acquire_many(all).await.map_err(ended)?);
        Ok(())
    }

    fn try_one(&self, number: usize, place: tokio::sync::OwnedSemaphorePermit) {
        let message = Message::new(self.topic.as_str(), body(self.run, number));
        let due = self.book.due_ms(number).to_string();
        let message = message
            .property("TIMER_DELIVER_MS", due)
            .property("UNIQ_KEY", id(self.run, number));
        let target = self.clone();
        let runtime = tokio::runtime::Handle::current();
        self.producer
            .clone()
            .send_with(message, move |sent| match sent {
                Ok(sent) if sent.status == SendStatus::Ok => {
                    target.book.acked(number);
                    drop(place);
                }
                _ => drop(runtime.spawn(async move {
                    tokio::time::sleep(PAUSE).await;
                    target.try_one(number, place);
                })),
            });
    }
}
