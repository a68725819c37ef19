//! Sending in a closed loop: each answer starts the next send, on the task that read it. Or in an open one: a clock does
//! ([`super::pace`]).
//!
//! A [`Lane`] is a connection to a master with its share of the messages under way. Only what failed leaves the loop: it
//! waits for the keeper, the one task here, which also connects anew, to where the route then leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use raftmq_benches::BenchError;
use raftmq_benches::proc_stat::Usage;
use raftmq_client::{Admin, ClientConfig, ClientError};
use raftmq_remoting::header::SendMessageRequestHeader;
use raftmq_remoting::message::{properties, unique_id};
use raftmq_remoting::validate::AUTO_CREATE_TOPIC;
use raftmq_remoting::{
    ByteStr, Channel, ClientOptions, RemotingClient, RemotingCommand, RemotingError, SerializeType,
    request_code, response_code,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::report::{Counted, Report, Spent, histogram, record};
use super::{Args, pace};

/// How often the keeper looks; also the pause of a sender after an error.
const KEEPER_TICK: Duration = Duration::from_millis(5);
/// Producer group of the sends.
const GROUP: &str = "mqbench";

struct Stats {
    ok: u64,
    histogram: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

impl Stats {
    fn new() -> Self {
        Self {
            ok: 0,
            histogram: histogram(),
            errors: BTreeMap::new(),
        }
    }
}

/// What all lanes send.
pub struct Common {
    topic: ByteStr,
    body: Bytes,
    serialize: SerializeType,
    timeout: Duration,
    /// A clock starts the sends, not the answers.
    open_loop: bool,
    /// Messages under way that a clock started.
    pub under_way: AtomicUsize,
    pub stop: AtomicBool,
}

pub struct Lane {
    common: Arc<Common>,
    client: RemotingClient,
    set: ByteStr,
    queues: u32,
    next_queue: AtomicU32,
    channel: Mutex<Option<Channel>>,
    /// Senders that wait for the keeper.
    waiting: AtomicUsize,
    stats: Mutex<Stats>,
}

impl Lane {
    fn command(&self) -> RemotingCommand {
        let mut encoded = properties::Builder::with_capacity(64);
        encoded
            .push(properties::UNIQ_KEY, &unique_id())
            .push("WAIT", "true");
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let queue = self.next_queue.fetch_add(1, Ordering::Relaxed) % self.queues;
        let header = SendMessageRequestHeader {
            producer_group: ByteStr::from_static(GROUP),
            topic: self.common.topic.clone(),
            default_topic: ByteStr::from_static(AUTO_CREATE_TOPIC),
            default_topic_queue_nums: 4,
            queue_id: i32::try_from(queue).unwrap_or(0),
            born_timestamp: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
            properties: ByteStr::from_utf8(encoded.build()).ok(),
            reconsume_times: Some(0),
            broker_name: Some(self.set.clone()),
            ..SendMessageRequestHeader::default()
        };
        let mut command = RemotingCommand::request(request_code::SEND_MESSAGE_V2)
            .with_body(self.common.body.clone());
        command.serialize = self.common.serialize;
        header.encode_v2(&mut command.ext);
        command
    }

    fn open_channel(&self) -> Option<Channel> {
        self.channel
            .lock()
            .as_ref()
            .filter(|c| !c.is_closed())
            .cloned()
    }

    /// The next message of one sender.
    fn send(self: &Arc<Self>) {
        if self.common.stop.load(Ordering::Relaxed) {
            return;
        }
        let Some(channel) = self.open_channel() else {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let lane = self.clone();
        let began = Instant::now();
        channel.invoke_with(self.command(), self.common.timeout, move |answer| {
            lane.answered(began, answer)
        });
    }

    /// A message that should have been sent at `due`.
    pub fn send_due(self: &Arc<Self>, due: Instant) {
        let Some(channel) = self.open_channel() else {
            // The keeper connects.
            self.waiting.store(1, Ordering::Relaxed);
            *self
                .stats
                .lock()
                .errors
                .entry("no connection".to_owned())
                .or_default() += 1;
            return;
        };
        let lane = self.clone();
        self.common.under_way.fetch_add(1, Ordering::Relaxed);
        channel.invoke_with(self.command(), self.common.timeout, move |answer| {
            lane.common.under_way.fetch_sub(1, Ordering::Relaxed);
            let mut stats = lane.stats.lock();
            let error = match answer {
                Ok(answer) if answer.code == response_code::SUCCESS => {
                    stats.ok += 1;
                    return record(&mut stats.histogram, due.elapsed());
                }
                Ok(answer) => format!("code {}", answer.code),
                Err(e) => name_of(&e).to_owned(),
            };
            *stats.errors.entry(error).or_default() += 1;
        });
    }

    fn answered(self: Arc<Self>, began: Instant, answer: Result<RemotingCommand, RemotingError>) {
        let error = match answer {
            Ok(answer) if answer.code == response_code::SUCCESS => {
                let mut stats = self.stats.lock();
                stats.ok += 1;
                record(&mut stats.histogram, began.elapsed());
                drop(stats);
                return self.send();
            }
            Ok(answer) => format!("code {}", answer.code),
            Err(e) => name_of(&e).to_owned(),
        };
        // Not from here: an error may come before `invoke_with` has returned.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        *self.stats.lock().errors.entry(error).or_default() += 1;
    }

    /// Lets those go on that wait; connects to `addr` first if need be.
    async fn keep(self: &Arc<Self>, addr: Option<&str>) {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        if self.open_channel().is_none() {
            let Some(addr) = addr else { return };
            match self.client.channel(addr).await {
                Ok(channel) => *self.channel.lock() = Some(channel),
                Err(e) => {
                    *self
                        .stats
                        .lock()
                        .errors
                        .entry(name_of(&e).to_owned())
                        .or_default() += 1;
                    return;
                }
            }
        }
        let senders = self.waiting.swap(0, Ordering::Relaxed);
        if !self.common.open_loop {
            (0..senders).for_each(|_| self.send());
        }
    }
}

fn name_of(error: &RemotingError) -> &'static str {
    match error {
        RemotingError::Timeout { .. } => "timeout",
        RemotingError::Closed { .. } => "connection closed",
        RemotingError::NotSent { .. } => "not sent",
        RemotingError::Connect { .. } => "no connection",
        RemotingError::TooManyInFlight { .. } => "too many in flight",
        RemotingError::Frame(_) => "frame",
    }
}

/// Masters by set, and their queues for the topic.
pub async fn masters(
    admin: &Admin,
    topic: &str,
) -> Result<BTreeMap<String, (String, u32)>, ClientError> {
    let route = admin.topic_route(topic).await?;
    let masters = route.broker_datas.iter().filter_map(|broker| {
        let addr = broker.broker_addrs.get(&0)?;
        let queues = route
            .queue_datas
            .iter()
            .find(|q| q.broker_name == broker.broker_name)?;
        let count = u32::try_from(queues.write_queue_nums)
            .ok()
            .filter(|n| *n > 0)?;
        Some((broker.broker_name.clone(), (addr.clone(), count)))
    });
    Ok(masters.collect())
}

/// Warms up, measures, stops.
///
/// # Errors
/// The topic has no master.
pub async fn run(args: &Args) -> Result<Report, BenchError> {
    let admin = Admin::with_config(ClientConfig {
        request_timeout: Duration::from_secs(1),
        ..ClientConfig::new(&args.namesrv)
    })?;
    let common = Arc::new(Common {
        topic: args.topic.as_str().into(),
        body: (0..args.size)
            .map(|i| b'a' + u8::try_from(i % 26).unwrap_or(0))
            .collect(),
        serialize: if args.binary {
            SerializeType::RocketMq
        } else {
            SerializeType::Json
        },
        timeout: Duration::from_millis(args.timeout_ms),
        open_loop: args.rate.is_some(),
        under_way: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    });
    let sets = masters(&admin, &args.topic).await?;
    if sets.is_empty() {
        return Err(ClientError::NoRoute {
            topic: args.topic.clone(),
        }
        .into());
    }
    let mut lanes = Vec::new();
    for _ in 0..args.connections {
        for (set, (_, queues)) in &sets {
            lanes.push(Arc::new(Lane {
                common: common.clone(),
                client: RemotingClient::new(ClientOptions::default(), None),
                set: set.as_str().into(),
                queues: *queues,
                next_queue: AtomicU32::new(u32::try_from(lanes.len()).unwrap_or(0)),
                channel: Mutex::default(),
                waiting: AtomicUsize::new(0),
                stats: Mutex::new(Stats::new()),
            }));
        }
    }
    // With fewer senders than lanes, the last lanes have none; a clock uses all of them.
    let lane_count = lanes.len();
    let senders = usize::try_from(args.inflight).unwrap_or(1);
    for sender in 0..if args.rate.is_some() {
        lane_count
    } else {
        senders
    } {
        lanes[sender % lane_count]
            .waiting
            .fetch_add(1, Ordering::Relaxed);
    }
    let keeper = Keeper {
        admin: &admin,
        topic: &args.topic,
        lanes: &lanes,
    };
    // Connected before the clock starts.
    keeper.look().await;
    let pace = args.rate.map(|rate| {
        let sending: Vec<_> = lanes.clone();
        pace::start(common.clone(), sending, rate, senders)
    });

    let idle = Usage::of_all(&args.pids);
    let warm_up = Duration::from_secs(args.warm_up);
    keeper.keep(warm_up, None, &mut None).await;
    for lane in &lanes {
        *lane.stats.lock() = Stats::new();
    }
    let own = || Usage::of(std::process::id()).unwrap_or_default().cpu;
    let (own_before, mut servers_before, began) =
        (own(), Usage::of_all(&args.pids), Instant::now());
    servers_before.rss = idle.rss;
    let mut enough = signal(SignalKind::user_defined1())
        .map(Some)
        .map_err(BenchError::io("SIGUSR1"))?;
    let time = Duration::from_secs(args.seconds);
    keeper.keep(time, args.messages, &mut enough).await;
    let time = began.elapsed();
    common.stop.store(true, Ordering::Relaxed);
    let spent = Spent {
        servers_before,
        servers_after: Usage::of_all(&args.pids),
        own: own().saturating_sub(own_before),
    };
    if let Some(pace) = pace {
        // The slowest answers are the last ones.
        let deadline = Instant::now() + common.timeout;
        while common.under_way.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            tokio::time::sleep(KEEPER_TICK).await;
        }
        // A panic has said so itself.
        let _ = pace.join();
    }

    let mut total = Stats::new();
    for lane in &lanes {
        let stats = lane.stats.lock();
        total.ok += stats.ok;
        // The histograms have the same bounds.
        let _ = total.histogram.add(&stats.histogram);
        for (what, times) in &stats.errors {
            *total.errors.entry(what.clone()).or_default() += times;
        }
    }
    // What is still under way is not counted; the servers should not see a reset.
    tokio::time::sleep(Duration::from_millis(100)).await;
    lanes.iter().for_each(|lane| lane.client.close());
    Ok(Report::from(Counted {
        mode: "produce",
        topic: args.topic.clone(),
        time,
        messages: total.ok,
        bytes: total.ok * u64::from(args.size),
        histogram: total.histogram,
        errors: total.errors,
        spent,
        with_servers: !args.pids.is_empty(),
    }))
}

/// Keeps the lanes connected.
struct Keeper<'a> {
    admin: &'a Admin,
    topic: &'a str,
    lanes: &'a [Arc<Lane>],
}

impl Keeper<'_> {
    /// Works for as long as `time`, until this many messages are sent, or until the signal.
    async fn keep(&self, time: Duration, messages: Option<u64>, enough: &mut Option<Signal>) {
        let until = Instant::now() + time;
        loop {
            self.look().await;
            let sent = || {
                self.lanes
                    .iter()
                    .map(|lane| lane.stats.lock().ok)
                    .sum::<u64>()
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || messages.is_some_and(|wanted| sent() >= wanted) {
                return;
            }
            let signalled = async {
                match enough {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = signalled => return,
                () = tokio::time::sleep(left.min(KEEPER_TICK)) => {}
            }
        }
    }

    /// Connects what is not connected, and lets those go on that wait.
    async fn look(&self) {
        let lost = |lane: &Arc<Lane>| {
            lane.waiting.load(Ordering::Relaxed) > 0 && lane.open_channel().is_none()
        };
        if !self.lanes.iter().any(lost) {
            for lane in self.lanes {
                lane.keep(None).await;
            }
            return;
        }
        let found = masters(self.admin, self.topic).await.unwrap_or_default();
        for lane in self.lanes {
            let addr = found.get(lane.set.as_ref() as &str);
            lane.keep(addr.map(|(addr, _)| addr.as_str())).await;
        }
    }
}
