//! The run, step by step.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq_benches::cluster::own_bin_dir;
use raftmq_benches::proc_stat::Usage;
use raftmq_benches::programs::Servers;
use raftmq_benches::samples::ms;
use raftmq_benches::tally::run_number;
use raftmq_benches::{BenchError, Cluster, ClusterOptions};
use raftmq_client::{ClientConfig, Producer, ProducerConfig};
use serde_json::{Value, json};

use crate::Args;
use crate::book::{Book, Sums, now_ms};
use crate::read;
use crate::recall::Recaller;
use crate::send::Target;

const TOPIC: &str = "Timers";
/// Of the timers that wait.
const FAR_TOPIC: &str = "TimersAhead";
const QUEUES: i32 = 4;
/// The first and the last time the waiting timers are due at, from now.
const AHEAD: (Duration, Duration) = (
    Duration::from_secs(3_600),
    Duration::from_secs(365 * 86_400),
);
/// Ten a second are idle.
const IDLE_RATE: u32 = 10;
/// Sends a second that a set surely takes, for the time between sending and being due.
const SENDS: u32 = 4_000;
const LEAD: Duration = Duration::from_secs(3);
const READY: Duration = Duration::from_secs(120);
const WHOLE: Duration = Duration::from_secs(600);
/// Until the last message is consumed, after it was due.
const DRAIN: Duration = Duration::from_secs(60);
/// Until a killed leader is started again.
const DOWN: Duration = Duration::from_secs(5);
/// Before memory is read.
const SETTLE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

struct Run<'a> {
    args: &'a Args,
    cluster: Cluster,
    set: String,
    target: Target,
    facts: serde_json::Map<String, Value>,
}

/// Does everything; true when all that must hold did.
///
/// # Errors
/// The set cannot be started or does not come back.
pub async fn run(args: &Args) -> Result<bool, BenchError> {
    let (dir, _temporary) = directory(args)?;
    let own = [
        ("timerMaxDelaySec", "31622400"),
        ("recallMessageEnable", "true"),
    ];
    let mut settings: Vec<(String, String)> = own
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    settings.extend(args.settings.clone());
    let mut options = ClusterOptions {
        servers: Servers::RaftMq(own_bin_dir()?),
        dir,
        namesrv_port: 0,
        port_base: 0,
        sets: 1,
        replicas: args.replicas.into(),
        settings,
        namespaces: None,
        peers_listen_behind: 0,
        wrappers: Vec::new(),
    };
    match args.port {
        Some(port) => (options.namesrv_port, options.port_base) = (port, port + 11),
        None => options.choose_ports()?,
    }
    let mut cluster = Cluster::start(options)?;
    cluster.wait_ready(READY).await?;
    let set = cluster.sets().into_iter().next().unwrap_or_default();
    cluster.create_topic(TOPIC, QUEUES).await?;
    cluster.create_topic(FAR_TOPIC, QUEUES).await?;
    let client = ClientConfig {
        poll_name_server_interval: Duration::from_millis(200),
        connect_timeout: Duration::from_secs(1),
        ..ClientConfig::new(cluster.namesrv_addr())
    };
    let mut producer = ProducerConfig::new(cluster.namesrv_addr(), "mqtimers");
    producer.client = client.clone();
    let target = Target {
        producer: Producer::new(producer)?,
        topic: TOPIC.to_owned(),
        run: run_number(),
        book: Arc::new(Book::default()),
    };
    let _readers = read::start(client, TOPIC, target.run, target.book.clone()).await?;
    let mut run = Run {
        args,
        cluster,
        set,
        target,
        facts: serde_json::Map::new(),
    };
    run.memory("memory_before");
    run.fill().await?;
    run.memory("memory_with_pending");
    let mut good = true;
    if args.idle_seconds > 0 {
        let sums = run.measure(IDLE_RATE, args.idle_seconds, false, 0).await?;
        good &= run.tell("idle", &sums, false);
    }
    let recall = args.recall_percent;
    let sums = run.measure(args.due_rate, args.seconds, args.kill, recall);
    let sums = sums.await?;
    good &= run.tell(if args.kill { "killed" } else { "due" }, &sums, args.kill);
    run.memory("memory_after");
    if args.restart {
        run.restart().await?;
    }
    if let Some(file) = &args.json {
        let text = format!("{:#}\n", Value::Object(run.facts.clone()));
        std::fs::write(file, text).map_err(BenchError::io(file))?;
    }
    println!("{} {}", sums.line("result"), run.summary());
    run.cluster.stop();
    Ok(good)
}

fn directory(args: &Args) -> Result<(PathBuf, Option<tempfile::TempDir>), BenchError> {
    if let Some(dir) = &args.dir {
        return Ok((std::path::absolute(dir).map_err(BenchError::io(dir))?, None));
    }
    let temporary = tempfile::Builder::new().prefix("raftmq-timers.").tempdir();
    let temporary = temporary.map_err(BenchError::io(std::env::temp_dir()))?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

impl Run<'_> {
    /// Resident memory of every replica, MiB.
    fn memory(&mut self, name: &str) {
        let pids = self.cluster.brokers.iter().filter_map(|b| b.process.pid());
        let mib: Vec<u64> = pids.filter_map(Usage::of).map(|u| u.rss >> 20).collect();
        println!("{name}_mib={mib:?}");
        self.facts.insert(format!("{name}_mib"), json!(mib));
    }

    /// The timers that wait, spread evenly over the time ahead.
    async fn fill(&mut self) -> Result<(), BenchError> {
        let count = i64::from(self.args.pending);
        if count == 0 {
            return Ok(());
        }
        let far = Target {
            topic: FAR_TOPIC.to_owned(),
            book: Arc::new(Book::default()),
            ..self.target.clone()
        };
        let span = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        let (first, last) = (now_ms() + span(AHEAD.0), now_ms() + span(AHEAD.1));
        // Coprime with any count below, so that neighbours in the log are not neighbours in time.
        const STEP: i64 = 982_451_653;
        let due = |n: i64| first + (n * STEP % count) * ((last - first) / count);
        let since = Instant::now();
        far.send((0..count).map(due)).await?;
        let seconds = since.elapsed().as_secs_f64();
        let rate = (count as f64 / seconds).round();
        println!("pending: timers={count} seconds={seconds:.1} sends_per_second={rate}");
        self.facts.insert("pending".to_owned(), json!(count));
        self.facts
            .insert("pending_sends_per_s".to_owned(), json!(rate));
        self.cluster.wait_whole(&self.set, WHOLE).await?;
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    /// So many timers a second, all sent before the first is due.
    async fn measure(
        &mut self,
        rate: u32,
        seconds: u32,
        kill: bool,
        recall_percent: u8,
    ) -> Result<Sums, BenchError> {
        let from = self.target.book.len();
        let count = i64::from(rate) * i64::from(seconds);
        let lead = LEAD + Duration::from_secs_f64(count as f64 / f64::from(SENDS));
        let start = now_ms() + i64::try_from(lead.as_millis()).unwrap_or(0);
        let due = |n: i64| start + n * 1_000 / i64::from(rate);
        self.target.send((0..count).map(due)).await?;
        if now_ms() >= start {
            let what = format!("{count} timers sent");
            let seconds = lead.as_secs();
            return Err(BenchError::Timeout { what, seconds });
        }
        let wanted_back = |n: &usize| n % 100 < usize::from(recall_percent);
        let numbers = (from..self.target.book.len()).filter(wanted_back).collect();
        let recalls = tokio::spawn(Arc::new(self.recaller()).run(numbers));
        wait_until(start + count * 500 / i64::from(rate)).await;
        if kill {
            self.kill_leader().await?;
        }
        wait_until(due(count)).await;
        let deadline = Instant::now() + DRAIN;
        while self.target.book.missing(from) > 0 && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if recalls.await.is_err() {
            return Err(BenchError::Usage("the recalls ended early".to_owned()));
        }
        // What comes twice comes now.
        tokio::time::sleep(LEAD).await;
        Ok(self.target.book.sums(from))
    }

    fn recaller(&self) -> Recaller {
        let brokers = self.cluster.brokers.iter();
        Recaller {
            client: Recaller::client(),
            addrs: brokers.map(|b| b.addr.clone()).collect(),
            set: self.set.clone(),
            topic: self.target.topic.clone(),
            run: self.target.run,
            book: self.target.book.clone(),
        }
    }

    async fn kill_leader(&mut self) -> Result<(), BenchError> {
        let master = self.cluster.master(&self.set).await?;
        let victim = master.as_deref().and_then(|m| self.cluster.broker_at(m));
        let victim = victim.ok_or_else(|| BenchError::Usage("no master to kill".to_owned()))?;
        let process = &mut self.cluster.brokers[victim].process;
        println!("kill -9 of {}", process.name());
        process.kill();
        tokio::time::sleep(DOWN).await;
        self.cluster.brokers[victim].process.restart()
    }

    /// Prints and keeps sums; whether they are as they must be.
    fn tell(&mut self, name: &str, sums: &Sums, may_repeat: bool) -> bool {
        println!("{}", sums.line(name));
        self.facts.insert(name.to_owned(), sums.json());
        sums.early + sums.lost + sums.ghosts == 0 && (may_repeat || sums.duplicated == 0)
    }

    /// All replicas killed and started again; then one killed, emptied and started.
    async fn restart(&mut self) -> Result<(), BenchError> {
        self.cluster.wait_whole(&self.set, WHOLE).await?;
        self.cluster
            .brokers
            .iter_mut()
            .for_each(|b| b.process.kill());
        let since = Instant::now();
        for broker in &mut self.cluster.brokers {
            broker.process.restart()?;
        }
        // Old registrations are still there: what counts is an acknowledged timer.
        let far = now_ms() + 86_400_000;
        self.target.send(std::iter::once(far)).await?;
        let serves = ms(since.elapsed());
        self.facts.insert("restart_ms".to_owned(), json!(serves));
        self.cluster.wait_whole(&self.set, WHOLE).await?;
        self.memory("memory_restarted");

        let master = self.cluster.master(&self.set).await?;
        let leader = master.as_deref().and_then(|m| self.cluster.broker_at(m));
        let victim = (leader.unwrap_or(0) + 1) % self.cluster.brokers.len();
        self.cluster.brokers[victim].process.kill();
        self.cluster.wipe_broker(victim, &["raftPeers"])?;
        let since = Instant::now();
        self.cluster.brokers[victim].process.restart()?;
        self.cluster.wait_whole(&self.set, WHOLE).await?;
        let whole = ms(since.elapsed());
        self.facts.insert("replaced_ms".to_owned(), json!(whole));
        self.memory("memory_replaced");
        println!("restart_ms={serves:.0} replaced_ms={whole:.0}");
        Ok(())
    }

    fn summary(&self) -> String {
        let of = |name: &str| {
            self.facts
                .get(name)
                .map_or("-".to_owned(), Value::to_string)
        };
        format!(
            "pending={} restart_ms={} replaced_ms={}",
            self.args.pending,
            of("restart_ms"),
            of("replaced_ms")
        )
    }
}

async fn wait_until(at_ms: i64) {
    let left = u64::try_from(at_ms - now_ms()).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(left)).await;
}
