//! What the clients of a run do. Each operation is one request with an honest outcome ([`client`], [`requests`]); a workload
//! decides which ones ([`log`], [`register`], [`resume`], [`retry`], [`transaction`]) and, after everything is healed, reads what is there
//! ([`last_reads`]).

pub mod client;
mod last_reads;
mod log;
mod register;
mod requests;
mod resume;
pub mod retry;
pub mod transaction;
pub mod value;

use std::sync::Arc;
use std::time::Duration;

use raftmq_benches::BenchError;
use raftmq_client::Admin;
use raftmq_remoting::body::{SubscriptionGroupConfig, TopicConfig};
use tokio::task::JoinSet;

use self::client::{Place, Queue, Shared, Thread};
use crate::history::Recorder;
use crate::settings::Settings;

/// The topic of all workloads.
const TOPIC: &str = "jepsen";
/// Tries to create it.
const TRIES: usize = 50;
/// Time between them.
const PAUSE: Duration = Duration::from_millis(200);

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    Log,
    Ordered,
    Register,
    MaxOffset,
    Resume,
    Delay,
    Retry,
    Transaction,
}

impl Workload {
    /// All of them, with their names and a line about each.
    pub const ALL: [(Self, &'static str, &'static str); 8] = [
        (
            Self::Log,
            "log",
            "unique messages into several queues, read from the end and from before, and ends of queues",
        ),
        (
            Self::Ordered,
            "ordered",
            "each sender's messages to its queue, one after the other, again until they are acknowledged",
        ),
        (
            Self::Register,
            "register",
            "consumer offsets as registers: reads, writes, reads followed by writes",
        ),
        (
            Self::MaxOffset,
            "max-offset",
            "messages and many reads of the ends of queues, of every replica",
        ),
        (
            Self::Resume,
            "resume",
            "consumers that commit, crash and go on from the committed offset",
        ),
        (
            Self::Delay,
            "delay",
            "delayed messages: none early, none lost",
        ),
        (
            Self::Retry,
            "retry",
            "consumers give every message back until it is dead",
        ),
        (
            Self::Transaction,
            "transaction",
            "half messages: committed, rolled back, or left open until the broker asks",
        ),
    ];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, n, _)| *n == name);
        found.map(|(workload, _, _)| *workload)
    }

    /// Whether it sends messages.
    pub fn sends(self) -> bool {
        self != Self::Register
    }

    /// The queues of its history: those of the topic, and where messages go besides.
    fn queues(self, settings: &Settings) -> Vec<Queue> {
        let topic = |name: &str, id| Queue {
            topic: name.to_owned(),
            id,
        };
        let ids = 0..i32::try_from(settings.queues).unwrap_or(1);
        let mut queues: Vec<_> = ids.map(|id| topic(TOPIC, id)).collect();
        if self == Self::Retry {
            queues.push(topic(&format!("%RETRY%{}", requests::GROUP), 0));
            queues.push(topic(&format!("%DLQ%{}", requests::GROUP), 0));
        }
        queues
    }
}

/// The clients of a run.
pub struct Clients {
    workload: Workload,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    last_question: Arc<transaction::LastQuestion>,
}

impl Clients {
    /// Creates topic and group and starts.
    ///
    /// # Errors
    /// The topic cannot be created.
    pub async fn start(
        workload: Workload,
        place: Place,
        settings: &Settings,
        recorder: Arc<Recorder>,
    ) -> Result<Self, BenchError> {
        create(&place, settings).await?;
        let queues = workload.queues(settings);
        let threads = settings.concurrency.max(MIN_THREADS);
        // One further process for each replica's final reads, then those who are asked about transactions.
        let readers = threads + u32::try_from(place.addrs.len()).unwrap_or(0);
        let processes = readers + transaction::ANSWERERS;
        let shared = Shared::new(place, settings.clone(), queues, recorder, processes);
        let mut tasks = JoinSet::new();
        let follows = shared.clone();
        tasks.spawn(async move { follows.follow_master().await });
        let last_question = Arc::new(transaction::LastQuestion::default());
        if workload == Workload::Transaction {
            let answers = transaction::answer(shared.clone(), readers, last_question.clone());
            tasks.spawn(answers);
        }
        let registers = Arc::new(register::Registers::default());
        let positions = Arc::new(retry::Positions::default());
        for number in 0..threads {
            let thread = shared.thread(number);
            match workload {
                Workload::Log => tasks.spawn(log::mixed(thread)),
                Workload::Ordered => tasks.spawn(log::ordered(thread)),
                Workload::MaxOffset => tasks.spawn(log::ends(thread)),
                Workload::Delay => tasks.spawn(log::delayed(thread)),
                Workload::Register => tasks.spawn(register::run(thread, registers.clone())),
                Workload::Resume => tasks.spawn(resume::run(thread)),
                Workload::Retry => tasks.spawn(retry::run(thread, positions.clone())),
                Workload::Transaction => tasks.spawn(transaction::run(thread)),
            };
        }
        Ok(Self {
            workload,
            shared,
            tasks,
            last_question,
        })
    }

    /// Asks the clients to end and waits for them.
    pub async fn stop(&mut self) {
        self.shared.stop();
        let running = self.shared.settings.concurrency.max(MIN_THREADS) as usize;
        for _ in 0..running {
            self.tasks.join_next().await;
        }
    }

    /// Reads everything there is, of every replica where that can be asked. The cluster must be whole. Says what could not be read.
    pub async fn read_all(&mut self) -> Result<(), String> {
        if !self.workload.sends() {
            return Ok(());
        }
        if self.workload == Workload::Delay {
            let longest = requests::DELAYS.iter().map(|(_, ms)| *ms).max();
            let longest = Duration::from_millis(longest.unwrap_or(0).into());
            tokio::time::sleep(longest + last_reads::GRACE).await;
        }
        if self.workload == Workload::Transaction {
            let all_ended = self.last_question.wait().await;
            // Nothing is written any more.
            self.tasks.abort_all();
            if !all_ended {
                return Err("brokers still ask about transactions".to_owned());
            }
        }
        last_reads::all(&self.shared).await
    }
}

/// Fewer threads cannot play all parts.
const MIN_THREADS: u32 = 4;

async fn create(place: &Place, settings: &Settings) -> Result<(), BenchError> {
    let admin = Admin::new(place.namesrv.clone())?;
    let queues = i32::try_from(settings.queues).unwrap_or(1);
    let topic = TopicConfig {
        topic_name: TOPIC.to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        ..TopicConfig::default()
    };
    let group = SubscriptionGroupConfig {
        group_name: requests::GROUP.to_owned(),
        retry_queue_nums: 1,
        ..SubscriptionGroupConfig::default()
    };
    for left in (0..TRIES).rev() {
        let cluster = raftmq_benches::cluster::CLUSTER_NAME;
        let mut made = admin.create_topic(cluster, &topic).await;
        if made.is_ok() {
            made = admin.create_group(cluster, &group).await;
        }
        match made {
            Ok(()) => return Ok(()),
            Err(error) if left == 0 => return Err(error.into()),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    Ok(())
}

/// The messages of one sender, at the pace of the run.
pub(crate) struct Outgoing {
    pace: Pace,
    number: u64,
}

impl Outgoing {
    fn of(thread: &Thread) -> Self {
        Self {
            pace: Pace::of(thread),
            number: 0,
        }
    }

    /// The next one and the queue it goes to, when it is time; None when the run comes to its end.
    async fn next(&mut self, thread: &mut Thread) -> Option<(u32, u64)> {
        if thread.shared.is_stopped() {
            return None;
        }
        self.pace.wait().await;
        let message = value::of(thread.number, self.number);
        self.number += 1;
        Some((thread.any_queue(), message))
    }
}

/// Waits as long as the rate of all threads together asks for.
pub(crate) struct Pace {
    every: Option<tokio::time::Interval>,
}

impl Pace {
    fn of(thread: &Thread) -> Self {
        let settings = &thread.shared.settings;
        let threads = settings.concurrency.max(MIN_THREADS);
        let every = (settings.rate > 0).then(|| {
            let period =
                Duration::from_secs(1).mul_f64(f64::from(threads) / f64::from(settings.rate));
            let mut clock = tokio::time::interval(period.max(Duration::from_micros(1)));
            clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            clock
        });
        Self { every }
    }

    async fn wait(&mut self) {
        if let Some(clock) = &mut self.every {
            clock.tick().await;
        }
    }
}
