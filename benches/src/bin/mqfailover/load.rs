//! What runs beside a measurement: an open loop at half of what the set can take, a closed loop of one message at a time, and
//! who consumes them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raftmq_benches::traffic::{TrafficOptions, consume};
use raftmq_benches::{BenchError, Cluster, Tally};
use raftmq_client::{ClientConfig, Message, Producer, ProducerConfig, PushConsumer, SendStatus};
use serde_json::Value;
use tokio::task::JoinHandle;

/// Body of a message, bytes.
pub const BODY: usize = 1024;
/// Queues of a topic on each set.
const QUEUES: i32 = 8;
/// `pollNameServerInterval` of these clients.
const ROUTE_POLL: Duration = Duration::from_millis(200);
/// Pause of the closed loop after a failed send.
const PAUSE: Duration = Duration::from_millis(20);

/// Who is in the books of a topic.
pub struct Book {
    pub tally: Arc<Tally>,
    pub consumer: PushConsumer,
}

impl Book {
    /// A topic and who reads it.
    ///
    /// # Errors
    /// The topic cannot be made.
    pub async fn open(
        cluster: &Cluster,
        topic: &str,
        tally: Arc<Tally>,
    ) -> Result<Self, BenchError> {
        cluster.create_topic(topic, QUEUES).await?;
        let consumer = consume(&traffic(cluster, topic, 0), tally.clone()).await?;
        Ok(Self { tally, consumer })
    }
}

/// A producer and a consumer of a topic.
pub fn traffic(cluster: &Cluster, topic: &str, rate: u32) -> TrafficOptions {
    TrafficOptions {
        namesrv: cluster.namesrv_addr(),
        topic: topic.to_owned(),
        producer_group: format!("{topic}-producer"),
        consumer_group: format!("{topic}-consumer"),
        rate,
        route_poll: ROUTE_POLL,
    }
}

/// `mqbench --mode produce` with 64 messages of 1 KiB in flight; its report.
///
/// # Errors
/// It failed.
pub async fn mqbench(
    bin_dir: &Path,
    cluster: &Cluster,
    args: &[&str],
) -> Result<Value, BenchError> {
    let program = bin_dir.join("mqbench");
    let mut command = Command::new(&program);
    command
        .args(["-n", &cluster.namesrv_addr(), "-s", &BODY.to_string()])
        .arg("--json")
        .args(args);
    let ended = tokio::task::spawn_blocking(move || command.output()).await;
    let output = ended
        .unwrap_or_else(|e| Err(std::io::Error::other(e)))
        .map_err(BenchError::io(&program))?;
    match serde_json::from_slice(&output.stdout) {
        Ok(report) if output.status.success() => Ok(report),
        _ => Err(BenchError::Usage(format!(
            "mqbench failed: {}",
            String::from_utf8_lossy(&output.stderr)
        ))),
    }
}

/// Half of the messages a second that `mqbench` brings through; more than 0.
///
/// # Errors
/// It failed.
pub async fn half_of_maximum(
    bin_dir: &Path,
    cluster: &Cluster,
    is_java: bool,
) -> Result<u32, BenchError> {
    // A JVM is slow until it has compiled what is used.
    let warm_up = if is_java { "20" } else { "2" };
    let args = [
        "-t",
        "FailoverMaximum",
        "--seconds",
        "5",
        "--warm-up",
        warm_up,
    ];
    let report = mqbench(bin_dir, cluster, &args).await?;
    let most = report["messages_per_second"].as_f64().unwrap_or_default();
    Ok((most / 2.0).max(1.0) as u32)
}

struct Shared {
    producer: Producer,
    topic: String,
    tally: Arc<Tally>,
    failed: AtomicU64,
}

/// One message after the other, by this project's client with its defaults.
pub struct ClosedLoop {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl ClosedLoop {
    /// Begins to send.
    ///
    /// # Errors
    /// The topic has no route.
    pub async fn start(
        cluster: &Cluster,
        topic: &str,
        tally: Arc<Tally>,
    ) -> Result<Self, BenchError> {
        let mut config = ProducerConfig::new(cluster.namesrv_addr(), format!("{topic}-producer"));
        config.client = ClientConfig {
            poll_name_server_interval: ROUTE_POLL,
            ..config.client
        };
        let producer = Producer::new(config)?;
        producer.prepare(topic).await?;
        let shared = Arc::new(Shared {
            producer,
            topic: topic.to_owned(),
            tally,
            failed: AtomicU64::new(0),
        });
        let task = tokio::spawn(shared.clone().run());
        Ok(Self { shared, task })
    }

    /// Sends that failed so far, each try of a message counted.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// The longest time between two acknowledgements since [`Self::forget_gap`].
    pub fn longest_gap(&self) -> Duration {
        self.shared.tally.longest_gap()
    }

    pub fn forget_gap(&self) {
        self.shared.tally.forget_gap();
    }

    /// Ends it; a message under way is given up.
    pub async fn finish(self) {
        self.task.abort();
        self.shared.producer.shutdown().await;
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        while let Some(number) = self.tally.next() {
            let message = Message::new(self.topic.as_str(), self.tally.body(number));
            match self.producer.send(message).await {
                Ok(sent) if sent.status == SendStatus::Ok => self.tally.acked(number),
                _ => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// # Errors
/// The deadline is over.
pub fn late(deadline: Instant, limit: Duration, what: &str) -> Result<(), BenchError> {
    if Instant::now() < deadline {
        return Ok(());
    }
    Err(BenchError::Timeout {
        what: what.to_owned(),
        seconds: limit.as_secs(),
    })
}
