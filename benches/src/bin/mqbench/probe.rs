//! Waiting until a cluster that starts takes a message.

use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use raftmq_client::{Message, Producer, ProducerConfig};

use super::Args;
use super::plan::prepare_topics;

/// Pause between two tries: what the time to start is measured with.
const PAUSE: Duration = Duration::from_millis(20);

/// Makes the topic and sends one message, again and again until that succeeds.
///
/// # Errors
/// It does not within `--seconds`.
pub async fn run(args: &Args) -> Result<(), BenchError> {
    let deadline = Instant::now() + Duration::from_secs(args.seconds);
    loop {
        match send_one(args).await {
            Ok(()) => return Ok(()),
            Err(e) if Instant::now() >= deadline => {
                let what = format!("no message accepted ({e})");
                return Err(BenchError::Timeout {
                    what,
                    seconds: args.seconds,
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn send_one(args: &Args) -> Result<(), BenchError> {
    prepare_topics(args).await?;
    let mut config = ProducerConfig::new(&args.namesrv, "mqbench-probe");
    config.send_timeout = Duration::from_secs(1);
    let producer = Producer::new(config)?;
    let sent = producer.send(Message::new(&args.topic, "probe")).await;
    producer.shutdown().await;
    sent?;
    Ok(())
}
