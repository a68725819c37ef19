//! One run: start, attack with restarts in between, wait until the set is whole, compare, restart everything, compare again.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use raftmq_benches::BenchError;
use raftmq_remoting::{RemotingCommand, request_code};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::answers::{self, Answers};
use super::attack::{Shared, Tally, attack};
use super::bodies;
use super::draw::{Drawer, Server};
use super::peers;
use crate::bed::tools::off;
use crate::bed::{Bed, BedOptions};
use crate::checker::verdict::Valid;
use crate::checker::{panics, replicas};
use crate::settings::Settings;

/// Limit of a set's becoming whole after the attack, and after the last restart.
const WHOLE_LIMIT: Duration = Duration::from_secs(120);
/// Time in which a process that is asked to stop must have done so.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// Time after which clients that are gone, and buffers of closed connections, must be gone from memory.
const SETTLE: Duration = Duration::from_secs(12);
/// How often the attack is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often settings that were changed are taken back, so that the attack does not end at a closed door.
const RESTORE: Duration = Duration::from_secs(5);
/// How often progress is told.
const TELL: Duration = Duration::from_secs(10);
/// Growth of a replica's resident memory over the run from which on it counts as a leak, MiB.
const MEMORY_LIMIT_MIB: u64 = 256;
/// Distance of a broker's second client port below, and of its peer port above, the one for clients.
const SECOND_PORT: u16 = 2;
const PEER_PORT: u16 = 1;

/// What is wanted.
pub struct Plan {
    pub seed: u64,
    /// Requests at most.
    pub requests: u64,
    /// Time of the attack at most.
    pub limit: Duration,
    pub connections: usize,
    /// Restarts of replicas during the attack.
    pub restarts: u32,
    /// Keeps the stores of a valid run.
    pub keep: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    pub requests: u64,
    pub connections: u64,
    /// Request codes that were answered.
    pub codes: usize,
    /// Right requests that succeeded.
    pub succeeded: u64,
    /// Processes that ended by themselves, or panicked.
    pub died: usize,
    /// Logs, queues, metadata and answers are the same everywhere.
    pub identical: bool,
    /// Replicas that came back at the end, with the same answers.
    pub restarted: usize,
    pub replicas: usize,
    pub memory_growth_mib: u64,
    /// What is wrong, in sentences.
    pub findings: Vec<String>,
}

impl Outcome {
    pub fn valid(&self) -> Valid {
        match self.findings.is_empty() && self.succeeded > 0 {
            true => Valid::True,
            false => Valid::False,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "enemy: requests={} connections={} codes={} succeeded={} died={} identical={} restarted={}/{} memory_growth_mib={} valid={}",
            self.requests,
            self.connections,
            self.codes,
            self.succeeded,
            self.died,
            self.identical,
            self.restarted,
            self.replicas,
            self.memory_growth_mib,
            self.valid() == Valid::True
        )
    }
}

/// Runs it. What it finds is in the outcome; an error is the harness's own.
///
/// # Errors
/// The set does not start, or a file cannot be read or written.
pub async fn run(plan: &Plan, options: BedOptions) -> Result<Outcome, BenchError> {
    let dir = options.dir.clone();
    let bed = Bed::start(options).await?;
    let mut outcome = Outcome {
        replicas: bed.replicas(),
        ..Outcome::default()
    };
    sleep(Duration::from_secs(3)).await;
    let mut before = Vec::new();
    for replica in 0..bed.replicas() {
        before.push(bed.resident_bytes(replica).await.unwrap_or(0));
    }
    let shared = Arc::new(shared(plan, &bed));
    let attacked = under_attack(plan, &bed, &shared, &mut before).await;
    outcome.requests = shared.tally.requests.load(Ordering::Relaxed);
    outcome.connections = shared.tally.connections.load(Ordering::Relaxed);
    outcome.codes = shared.tally.codes();
    outcome.succeeded = shared.tally.succeeded.load(Ordering::Relaxed);
    write_tally(&dir, &shared.tally)?;
    match attacked {
        Ok(()) => afterwards(&bed, &before, &mut outcome).await?,
        Err(error) => {
            outcome.died += 1;
            outcome.findings.push(format!("during the attack: {error}"));
            let kept = keep_recent(&dir, &shared)?;
            println!("the newest requests are in {}", kept.display());
            bed.stop().await;
        }
    }
    panicked(&bed, &mut outcome);
    if outcome.valid() == Valid::True && !plan.keep {
        for replica in 0..bed.replicas() {
            let store = bed.store_dir(replica);
            off(move || std::fs::remove_dir_all(&store).map_err(BenchError::io(&store))).await?;
        }
    }
    Ok(outcome)
}

fn shared(plan: &Plan, bed: &Bed) -> Shared {
    let mut addrs = bed.addrs();
    let second = addrs
        .iter()
        .filter_map(|a| moved(a, |port| port.checked_sub(SECOND_PORT)));
    let second: Vec<_> = second.collect();
    addrs.extend(second);
    Shared {
        brokers: Drawer::new(plan.seed, Server::Broker),
        namesrv: Drawer::new(plan.seed, Server::Namesrv),
        addrs,
        namesrv_addr: bed.namesrv_addr(),
        next: AtomicU64::new(0),
        end: plan.requests,
        stop: AtomicBool::new(false),
        tally: Tally::default(),
        recent: (0..plan.connections)
            .map(|_| Mutex::new(VecDeque::new()))
            .collect(),
    }
}

/// The address with another port.
fn moved(addr: &str, port: impl Fn(u16) -> Option<u16>) -> Option<String> {
    let (host, was) = addr.rsplit_once(':')?;
    Some(format!("{host}:{}", port(was.parse().ok()?)?))
}

/// The attack, from the first request to the last. An error: a process has died.
async fn under_attack(
    plan: &Plan,
    bed: &Bed,
    shared: &Arc<Shared>,
    before: &mut [u64],
) -> Result<(), BenchError> {
    let mut tasks = JoinSet::new();
    for number in 0..plan.connections {
        tasks.spawn(attack(shared.clone(), number));
    }
    let peers: Vec<_> = bed
        .addrs()
        .iter()
        .filter_map(|a| moved(a, |p| p.checked_add(PEER_PORT)))
        .collect();
    for number in 0..2 {
        tasks.spawn(peers::attack(
            shared.clone(),
            peers.clone(),
            bed.set().to_owned(),
            plan.seed ^ number,
        ));
    }
    let began = Instant::now();
    let (mut restored, mut told) = (began, began);
    let mut restarts = 0;
    let mut result = Ok(());
    while !tasks.is_empty() && result.is_ok() && began.elapsed() < plan.limit {
        tokio::select! {
            _ = tasks.join_next() => {}
            () = sleep(LOOK) => {}
        }
        result = bed.check_processes().await;
        if restored.elapsed() > RESTORE {
            restored = Instant::now();
            restore(bed).await;
        }
        let done = shared.tally.requests.load(Ordering::Relaxed);
        if told.elapsed() > TELL {
            told = Instant::now();
            let each = done as f64 / began.elapsed().as_secs_f64();
            println!(
                "{done} requests, {each:.0} a second, {} connections",
                shared.tally.connections.load(Ordering::Relaxed)
            );
        }
        let part = (done as f64 / plan.requests as f64)
            .max(began.elapsed().as_secs_f64() / plan.limit.as_secs_f64());
        let due = f64::from(restarts + 1) / f64::from(plan.restarts + 1);
        if result.is_ok() && restarts < plan.restarts && part >= due {
            // The first replica runs from the beginning to the end: its memory is measured over all of it.
            let replica = 1 + restarts as usize % (bed.replicas() - 1).max(1);
            result = restart(bed, replica, restarts.is_multiple_of(2), before).await;
            restarts += 1;
        }
    }
    shared.stop.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    result.and(bed.check_processes().await)
}

/// Takes settings back that requests have changed. A set without a leader is asked again the next time.
async fn restore(bed: &Bed) {
    if let Some(leader) = bed.leader().await {
        let request = RemotingCommand::request(request_code::UPDATE_BROKER_CONFIG);
        let request = request.with_body(bodies::restore());
        let addrs = bed.addrs();
        let _ = bed.admin().call(&addrs[leader], request).await;
    }
}

/// Kills a replica, or stops it in order, and starts it again.
async fn restart(
    bed: &Bed,
    replica: usize,
    kill: bool,
    before: &mut [u64],
) -> Result<(), BenchError> {
    if replica >= bed.replicas() {
        return Ok(());
    }
    if kill {
        bed.kill(&[replica]).await?;
    } else {
        bed.ask_to_stop(&[replica]).await?;
        let ended = bed.wait_ended(replica, STOP_LIMIT).await?;
        match ended {
            Some(ended) if ended.code == Some(0) => {}
            Some(ended) => {
                return Err(BenchError::Usage(format!(
                    "n{replica} was asked to stop: {}",
                    ended.words
                )));
            }
            None => {
                return Err(BenchError::Usage(format!(
                    "n{replica} was asked to stop and has not, within {STOP_LIMIT:?}"
                )));
            }
        }
    }
    sleep(Duration::from_secs(1)).await;
    bed.start_replicas(&[replica]).await?;
    sleep(Duration::from_secs(3)).await;
    before[replica] = bed.resident_bytes(replica).await.unwrap_or(0);
    Ok(())
}

/// Everything that is looked at once the attack is over.
async fn afterwards(bed: &Bed, before: &[u64], outcome: &mut Outcome) -> Result<(), BenchError> {
    restore(bed).await;
    if let Err(error) = bed.wait_whole(WHOLE_LIMIT).await {
        outcome
            .findings
            .push(format!("the set is not whole after the attack: {error}"));
    }
    sleep(SETTLE).await;
    for (replica, before) in before.iter().enumerate() {
        let now = bed.resident_bytes(replica).await.unwrap_or(0);
        let grown = now.saturating_sub(*before) >> 20;
        outcome.memory_growth_mib = outcome.memory_growth_mib.max(grown);
        if grown > MEMORY_LIMIT_MIB {
            outcome
                .findings
                .push(format!("n{replica} has grown by {grown} MiB"));
        }
    }
    let said = same_answers(bed, outcome).await;
    bed.stop().await;
    let stores: Vec<PathBuf> = (0..bed.replicas()).map(|r| bed.store_dir(r)).collect();
    let looked = stores.clone();
    let (verdict, states) = off(move || {
        let verdict = replicas::check(&looked, false);
        let states: Result<Vec<_>, _> = looked.into_iter().map(answers::metadata).collect();
        Ok((verdict, states))
    })
    .await?;
    let logs_equal = verdict.valid == Valid::True;
    if !logs_equal {
        outcome
            .findings
            .push(format!("logs or queues differ: {}", verdict.json()));
    }
    let states_equal = match states {
        Ok(states) => {
            let equal = states.windows(2).all(|two| two[0] == two[1]);
            if !equal {
                outcome
                    .findings
                    .push(format!("metadata differs: {states:?}"));
            }
            equal
        }
        Err(error) => {
            outcome
                .findings
                .push(format!("metadata cannot be read: {error}"));
            false
        }
    };
    outcome.identical = said.is_some() && logs_equal && states_equal;
    again(bed, said, outcome).await
}

/// What all replicas say alike; they are given the time that followers may be behind.
async fn same_answers(bed: &Bed, outcome: &mut Outcome) -> Option<Answers> {
    let mut difference = String::new();
    for _ in 0..30 {
        let mut all = Vec::new();
        for addr in bed.addrs() {
            match Answers::of(bed.admin(), &addr).await {
                Ok(answers) => all.push(answers),
                Err(error) => difference = format!("{addr}: {error}"),
            }
        }
        if all.len() == bed.replicas() {
            match all.windows(2).find_map(|two| two[0].difference(&two[1])) {
                None => return all.pop(),
                Some(found) => difference = found,
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
    outcome
        .findings
        .push(format!("replicas answer differently: {difference}"));
    None
}

/// Starts all of them once more: each must come back and say what it said.
async fn again(bed: &Bed, said: Option<Answers>, outcome: &mut Outcome) -> Result<(), BenchError> {
    let all: Vec<usize> = (0..bed.replicas()).collect();
    bed.start_namesrv().await?;
    bed.start_replicas(&all).await?;
    if let Err(error) = bed.wait_whole(WHOLE_LIMIT).await {
        outcome
            .findings
            .push(format!("not every replica comes back: {error}"));
    }
    for addr in bed.addrs() {
        match Answers::of(bed.admin(), &addr).await {
            Ok(now) => match said.as_ref().and_then(|said| said.difference(&now)) {
                None => outcome.restarted += 1,
                Some(found) => outcome.findings.push(format!(
                    "{addr} says another thing after its restart: {found}"
                )),
            },
            Err(error) => outcome
                .findings
                .push(format!("{addr} does not answer after its restart: {error}")),
        }
    }
    if let Err(error) = bed.check_processes().await {
        outcome.died += 1;
        outcome
            .findings
            .push(format!("after the last start: {error}"));
    }
    bed.stop().await;
    Ok(())
}

fn panicked(bed: &Bed, outcome: &mut Outcome) {
    let logs: Vec<PathBuf> = (0..bed.replicas()).map(|r| bed.log_file(r)).collect();
    let namesrv = bed.options().dir.join("logs").join("namesrv.log");
    let all: Vec<_> = logs.into_iter().chain([namesrv]).collect();
    let verdict = panics::check(&all, &Settings::default());
    if verdict.valid != Valid::True {
        outcome.died = outcome.died.max(1);
        outcome
            .findings
            .push(format!("words of a process that died: {}", verdict.json()));
    }
}

/// `answers.tsv`: request code, answer code, how many.
fn write_tally(dir: &Path, tally: &Tally) -> Result<(), BenchError> {
    let answers = tally.answers.lock();
    let lines = answers
        .iter()
        .map(|((code, answer), count)| format!("{code}\t{answer}\t{count}\n"));
    let path = dir.join("answers.tsv");
    std::fs::write(&path, lines.collect::<String>()).map_err(BenchError::io(path))
}

/// Writes the newest requests of every connection, a file each. Answers where.
fn keep_recent(dir: &Path, shared: &Shared) -> Result<PathBuf, BenchError> {
    let place = dir.join("recent");
    std::fs::create_dir_all(&place).map_err(BenchError::io(&place))?;
    for (number, recent) in shared.recent.iter().enumerate() {
        let mut bytes = Vec::new();
        for request in recent.lock().iter() {
            bytes.extend_from_slice(&(request.len() as u32).to_be_bytes());
            bytes.extend_from_slice(request);
        }
        let path = place.join(format!("{number}.requests"));
        std::fs::write(&path, bytes).map_err(BenchError::io(path))?;
    }
    Ok(place)
}
