//! A producer at a steady rate and a consumer, as an application would write them.
//!
//! The producer is one task that starts sends; their ends are callbacks. A send that failed is sent again a little
//! later, with the same number, until it is acknowledged: what an application must do that may not lose anything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftmq_client::{
    ClientConfig, ConsumeFrom, ConsumeStatus, Message, Producer, ProducerConfig, PushConfig,
    PushConsumer, SendResult, SendStatus,
};
use tokio::task::JoinHandle;

use crate::error::BenchError;
use crate::tally::Tally;

/// Messages sent and not acknowledged at most: an application's own bound.
const MAX_IN_FLIGHT: usize = 1024;
/// Pause before a failed message is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How often the producer looks what is due.
const TICK: Duration = Duration::from_millis(2);
/// Limit of one send; shorter than the default so that a broker that hangs is noticed.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);

/// Who talks to whom about what.
#[derive(Clone, Debug)]
pub struct TrafficOptions {
    pub namesrv: String,
    pub topic: String,
    pub producer_group: String,
    pub consumer_group: String,
    /// Messages a second.
    pub rate: u32,
    /// `pollNameServerInterval` of both clients.
    pub route_poll: Duration,
}

impl TrafficOptions {
    fn client(&self) -> ClientConfig {
        ClientConfig {
            poll_name_server_interval: self.route_poll,
            // A broker that came back should know its consumers before it leads.
            heartbeat_broker_interval: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            ..ClientConfig::new(&self.namesrv)
        }
    }
}

struct Shared {
    producer: Producer,
    tally: Arc<Tally>,
    topic: String,
    /// Started and not acknowledged, those that wait for their next try included.
    in_flight: AtomicUsize,
    /// Numbers to send again and when, the oldest first. Bounded by `in_flight`.
    again: Mutex<VecDeque<(Instant, u64)>>,
    last_error: Mutex<String>,
    failed: AtomicU64,
    no_new: AtomicBool,
    stop: AtomicBool,
}

/// The running producer.
pub struct Sender {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sender {
    /// Connects and begins to send.
    ///
    /// # Errors
    /// The topic has no route.
    pub async fn start(options: &TrafficOptions, tally: Arc<Tally>) -> Result<Self, BenchError> {
        let mut config = ProducerConfig::new(&options.namesrv, &options.producer_group);
        config.client = options.client();
        config.send_timeout = SEND_TIMEOUT;
        let producer = Producer::new(config)?;
        producer.prepare(&options.topic).await?;
        let shared = Arc::new(Shared {
            producer,
            tally,
            topic: options.topic.clone(),
            in_flight: AtomicUsize::new(0),
            again: Mutex::default(),
            last_error: Mutex::default(),
            failed: AtomicU64::new(0),
            no_new: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let task = tokio::spawn(run(shared.clone(), options.rate));
        Ok(Self { shared, task })
    }

    /// Why the last failed send failed; empty when none did.
    pub fn last_error(&self) -> String {
        self.shared.last_error.lock().clone()
    }

    /// How many sends failed so far, each try of a message counted.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Starts no further messages and waits until those under way are acknowledged, `limit` at most. Returns how many
    /// are not.
    pub async fn finish(self, limit: Duration) -> usize {
        let deadline = Instant::now() + limit;
        self.shared.no_new.store(true, Ordering::Relaxed);
        let left = || self.shared.in_flight.load(Ordering::Relaxed);
        while left() > 0 && Instant::now() < deadline {
            tokio::time::sleep(TICK).await;
        }
        self.shared.stop.store(true, Ordering::Relaxed);
        let left = left();
        self.shared.producer.shutdown().await;
        left
    }
}

/// Starts what is due: first what failed, then new messages, never faster than twice the rate.
async fn run(shared: Arc<Shared>, rate: u32) {
    let mut clock = tokio::time::interval(TICK);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut due = 0.0;
    let mut last = Instant::now();
    loop {
        clock.tick().await;
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        // What could not be sent during an outage is not caught up in a burst.
        due = (due + (now - last).as_secs_f64() * f64::from(rate)).min(f64::from(rate) / 10.0);
        last = now;
        while let Some(number) = shared.next_again(now) {
            send(&shared, number);
        }
        while due >= 1.0
            && !shared.no_new.load(Ordering::Relaxed)
            && shared.in_flight.load(Ordering::Relaxed) < MAX_IN_FLIGHT
        {
            let Some(number) = shared.tally.next() else {
                break;
            };
            due -= 1.0;
            shared.in_flight.fetch_add(1, Ordering::Relaxed);
            send(&shared, number);
        }
    }
}

fn send(shared: &Arc<Shared>, number: u64) {
    let message = Message::new(shared.topic.as_str(), shared.tally.body(number));
    let ended = shared.clone();
    shared
        .producer
        .send_with(message, move |result| ended.ended(number, result));
}

impl Shared {
    fn next_again(&self, now: Instant) -> Option<u64> {
        let mut again = self.again.lock();
        match again.front() {
            Some((when, _)) if *when <= now => again.pop_front().map(|(_, number)| number),
            _ => None,
        }
    }

    fn ended(&self, number: u64, result: Result<SendResult, raftmq_client::ClientError>) {
        let why = match result {
            Ok(sent) if sent.status == SendStatus::Ok => {
                self.tally.acked(number);
                self.in_flight.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            Ok(sent) => format!("{:?}", sent.status),
            Err(e) => e.to_string(),
        };
        *self.last_error.lock() = why;
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.again
            .lock()
            .push_back((Instant::now() + RETRY_PAUSE, number));
    }
}

/// Joins the consumer group from the first message on and counts what comes.
///
/// # Errors
/// No name server answers.
pub async fn consume(
    options: &TrafficOptions,
    tally: Arc<Tally>,
) -> Result<PushConsumer, BenchError> {
    let mut config = PushConfig::new(&options.namesrv, &options.consumer_group)
        .subscribe(&options.topic, "*")?;
    config.client = options.client();
    config.from = ConsumeFrom::FirstOffset;
    config.consume_batch = 32;
    config.consume_concurrency = 8;
    config.rebalance_interval = Duration::from_secs(2);
    config.commit_interval = Duration::from_secs(1);
    config.shutdown_wait = Duration::from_secs(2);
    let listener = move |messages: Vec<raftmq_client::ReceivedMessage>| {
        for message in &messages {
            tally.consumed(&message.body);
        }
        std::future::ready(ConsumeStatus::Success)
    };
    Ok(PushConsumer::start(config, listener).await?)
}
