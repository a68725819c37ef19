//! Topics, which sets serve them with how many queues, and where the masters are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftmq_benches::BenchError;
use raftmq_client::{Admin, ClientConfig, ClientError};
use raftmq_remoting::body::TopicConfig;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Args;
use super::lane::PAUSE;

/// Java brokers tell the name server of a new topic at once; this is for a slow machine.
const ROUTE_LIMIT: Duration = Duration::from_secs(10);
/// Topics that are made or asked for at a time.
const AT_ONCE: usize = 16;
/// The only set there is with `--raw-addr`.
const RAW_SET: &str = "raw";

/// Who takes messages.
pub struct Plan {
    pub topics: Vec<String>,
    /// Queues of each topic on each set.
    pub sets: BTreeMap<String, Vec<u32>>,
    pub routes: Arc<Routes>,
}

/// Where the masters are.
pub struct Routes {
    addrs: Mutex<BTreeMap<String, String>>,
    asked: Notify,
}

impl Routes {
    /// The master of a set.
    pub fn addr(&self, set: &str) -> Option<String> {
        self.addrs.lock().get(set).cloned()
    }

    /// Something is wrong: the name server is asked again.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    async fn keep(self: Arc<Self>, admin: Admin, topic: String) {
        loop {
            self.asked.notified().await;
            if let Ok(found) = masters(&admin, &topic).await {
                *self.addrs.lock() = addrs(found);
            }
            sleep(PAUSE).await;
        }
    }
}

fn addrs(found: BTreeMap<String, (String, u32)>) -> BTreeMap<String, String> {
    found
        .into_iter()
        .map(|(set, (addr, _))| (set, addr))
        .collect()
}

/// The names of all topics.
pub fn topics(args: &Args) -> Vec<String> {
    let more = (1..args.topics).map(|n| format!("{}-{n}", args.topic));
    std::iter::once(args.topic.clone()).chain(more).collect()
}

/// Finds out; the routes are kept up to date by a task of `tasks`.
///
/// # Errors
/// A topic has no master.
pub async fn find(args: &Args, tasks: &mut JoinSet<()>) -> Result<Plan, BenchError> {
    let topics = topics(args);
    if let Some(addr) = &args.raw_addr {
        let addrs = [(RAW_SET.to_owned(), addr.clone())];
        return Ok(Plan {
            sets: [(RAW_SET.to_owned(), vec![args.queues as u32; topics.len()])].into(),
            topics,
            routes: Arc::new(Routes {
                addrs: Mutex::new(addrs.into()),
                asked: Notify::new(),
            }),
        });
    }
    let admin = Arc::new(admin(args)?);
    let found = for_each(&topics, |topic| {
        let admin = admin.clone();
        async move { Ok(masters(&admin, &topic).await?) }
    })
    .await?;
    let mut sets: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for masters in &found {
        for (set, (_, queues)) in masters {
            sets.entry(set.clone()).or_default().push(*queues);
        }
    }
    // Requests are dealt out by the number of the topic.
    sets.retain(|_, queues| queues.len() == topics.len());
    let routes = Arc::new(Routes {
        addrs: Mutex::new(addrs(found.into_iter().next().unwrap_or_default())),
        asked: Notify::new(),
    });
    if sets.is_empty() {
        let topic = args.topic.clone();
        return Err(ClientError::NoRoute { topic }.into());
    }
    let keeper = self::admin(args)?;
    tasks.spawn(routes.clone().keep(keeper, args.topic.clone()));
    Ok(Plan {
        topics,
        sets,
        routes,
    })
}

fn admin(args: &Args) -> Result<Admin, BenchError> {
    Ok(Admin::with_config(ClientConfig {
        request_timeout: Duration::from_secs(1),
        ..ClientConfig::new(&args.namesrv)
    })?)
}

/// Does something for every one of `all`, some at a time; the results in the same order.
///
/// # Errors
/// The first that came up.
pub async fn for_each<I, T, F>(all: &[I], work: impl Fn(I) -> F) -> Result<Vec<T>, BenchError>
where
    I: Clone,
    T: Send + 'static,
    F: Future<Output = Result<T, BenchError>> + Send + 'static,
{
    let mut results = Vec::with_capacity(all.len());
    for some in all.chunks(AT_ONCE) {
        let running: Vec<_> = some
            .iter()
            .cloned()
            .map(|i| tokio::spawn(work(i)))
            .collect();
        for one in running {
            let ended = one.await.map_err(|e| BenchError::Usage(e.to_string()))?;
            results.push(ended?);
        }
    }
    Ok(results)
}

/// Masters by set, and their queues for the topic.
///
/// # Errors
/// The topic has no route.
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

/// All topics on every master of every cluster the name server knows, routed.
///
/// # Errors
/// One cannot be made.
pub async fn prepare_topics(args: &Args) -> Result<(), BenchError> {
    if args.raw_addr.is_some() {
        return Ok(());
    }
    let admin = Arc::new(Admin::new(&args.namesrv)?);
    let clusters: Vec<_> = admin
        .cluster_info()
        .await?
        .cluster_addr_table
        .into_keys()
        .collect();
    if clusters.is_empty() {
        return Err(BenchError::Usage("no broker is registered".to_owned()));
    }
    let queues = args.queues;
    for_each(&topics(args), |topic| {
        let (admin, clusters) = (admin.clone(), clusters.clone());
        async move {
            let config = TopicConfig {
                topic_name: topic.clone(),
                read_queue_nums: queues,
                write_queue_nums: queues,
                ..TopicConfig::default()
            };
            for cluster in &clusters {
                admin.create_topic(cluster, &config).await?;
            }
            let deadline = Instant::now() + ROUTE_LIMIT;
            while let Err(e) = admin.topic_route(&topic).await {
                if Instant::now() >= deadline {
                    return Err(e.into());
                }
                sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        }
    })
    .await?;
    admin.shutdown();
    Ok(())
}
