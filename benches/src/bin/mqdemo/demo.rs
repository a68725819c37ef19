//! The demonstration: traffic, `kill -9` of the leader, the leader's return, the count.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq_benches::tally::run_number;
use raftmq_benches::traffic::{Sender, TrafficOptions, consume};
use raftmq_benches::{BenchError, Cluster, ClusterOptions, Tally};

use crate::show::{Screen, grouped, millis};

/// Body of a message, bytes.
const BODY: usize = 1024;
/// Queues of the topic.
const QUEUES: i32 = 8;
/// Time from the start to a leader.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for another leader.
const ELECTION_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for the broker that was killed to be back.
const RETURN_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for what is sent to be acknowledged, and for what is acknowledged to be consumed.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// How often progress is shown.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long each part of a round lasts.
struct Times {
    before_kill: Duration,
    until_restart: Duration,
    after_restart: Duration,
}

const ONE_KILL: Times = Times {
    before_kill: Duration::from_secs(6),
    until_restart: Duration::from_secs(4),
    after_restart: Duration::from_secs(6),
};
const MANY_KILLS: Times = Times {
    before_kill: Duration::from_secs(2),
    until_restart: Duration::from_secs(2),
    after_restart: Duration::from_secs(2),
};

/// What to show and how.
pub struct Demo {
    pub plain: bool,
    pub kills: Option<u32>,
    pub rate: u32,
    pub route_poll: Duration,
}

/// What a kill cost.
struct Round {
    election: Duration,
    /// Longest time between two acknowledgements.
    gap: Duration,
}

/// A run under way.
struct Run {
    screen: Screen,
    cluster: Cluster,
    set: String,
    tally: Arc<Tally>,
    started: Instant,
}

impl Demo {
    /// Runs it; the exit status says whether something acknowledged was lost.
    ///
    /// # Errors
    /// The cluster does not come up or does not come back.
    pub async fn run(self, options: ClusterOptions) -> Result<ExitCode, BenchError> {
        let screen = Screen::new(self.plain);
        let replicas = options.replicas;
        if replicas < 3 {
            return Err(BenchError::Usage(
                "a set goes on without its leader only when it has 3 replicas or more".to_owned(),
            ));
        }
        screen.progress("Starting a name server and the replicas…");
        let began = Instant::now();
        let mut cluster = Cluster::start(options)?;
        cluster.wait_ready(READY_LIMIT).await?;
        let set = cluster.sets().into_iter().next().unwrap_or_default();
        screen.line(&format!(
            "A name server on {} and {replicas} replicas of {set}, ready after {} ms:",
            cluster.namesrv_addr(),
            began.elapsed().as_millis()
        ));
        let master = cluster.master(&set).await?.unwrap_or_default();
        for broker in &cluster.brokers {
            let leads = if broker.addr == master {
                screen.bold("  leads")
            } else {
                String::new()
            };
            screen.line(&format!(
                "  {}  {}{leads}",
                broker.process.name(),
                broker.addr
            ));
        }

        let traffic = self.traffic(&cluster);
        cluster.create_topic(&traffic.topic, QUEUES).await?;
        let tally = Arc::new(Tally::new(run_number(), BODY));
        let consumer = consume(&traffic, tally.clone()).await?;
        let sender = Sender::start(&traffic, tally.clone()).await?;
        screen.line(&format!(
            "A producer sends {} messages of {BODY} bytes a second; a consumer reads them.",
            self.rate
        ));

        let mut run = Run {
            screen,
            cluster,
            set,
            tally,
            started: Instant::now(),
        };
        let times = if self.kills.is_some() {
            MANY_KILLS
        } else {
            ONE_KILL
        };
        let kills = self.kills.unwrap_or(1);
        let mut rounds = Vec::new();
        for round in 1..=kills {
            rounds.push(run.round(&times, round).await?);
        }

        let unanswered = sender.finish(DRAIN_LIMIT).await;
        if unanswered > 0 {
            run.screen
                .line(&format!("{unanswered} messages were never acknowledged."));
        }
        run.drain().await;
        consumer.shutdown().await;
        let (screen, tally) = (run.screen, run.tally);
        run.cluster.stop();
        let lost = tally.counts().lost;
        if self.kills.is_some() {
            many_results(&screen, &tally, &rounds);
        } else {
            one_result(&screen, &tally, &rounds, self.plain);
        }
        Ok(if lost == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn traffic(&self, cluster: &Cluster) -> TrafficOptions {
        TrafficOptions {
            namesrv: cluster.namesrv_addr(),
            topic: format!("Demo{}", run_number() / 1_000_000),
            producer_group: "demo-producer".to_owned(),
            consumer_group: "demo-consumer".to_owned(),
            rate: self.rate,
            route_poll: self.route_poll,
        }
    }
}

impl Run {
    /// Steady traffic, a kill, an election, the return of the killed one.
    async fn round(&mut self, times: &Times, number: u32) -> Result<Round, BenchError> {
        self.watch(times.before_kill, "").await?;
        let master = self.cluster.master(&self.set).await?.unwrap_or_default();
        let Some(victim) = self.cluster.broker_at(&master) else {
            return Err(BenchError::Usage(format!(
                "the master {master} is not one of this cluster's brokers"
            )));
        };
        let name = self.cluster.brokers[victim].process.name().to_owned();
        self.tally.forget_gap();
        let killed = Instant::now();
        self.cluster.brokers[victim].process.kill();
        let text = self.screen.red(&format!("kill -9 of the leader {name}"));
        self.say(&format!("{text} (kill {number})"));
        let new = self
            .cluster
            .wait_new_master(&self.set, &master, ELECTION_LIMIT)
            .await?;
        let election = killed.elapsed();
        let new_name = self
            .cluster
            .broker_at(&new)
            .map_or(new, |i| self.cluster.brokers[i].process.name().to_owned());
        let text = self.screen.green(&format!("{new_name} leads"));
        self.say(&format!("{text} after {} ms", millis(election)));

        self.watch(times.until_restart.saturating_sub(killed.elapsed()), "")
            .await?;
        let gap = self.tally.longest_gap();
        self.cluster.brokers[victim].process.restart()?;
        let restarted = Instant::now();
        self.say(&format!("{name} is started again"));
        self.wait_for_return().await?;
        self.say(&format!(
            "{name} is back after {} ms",
            restarted.elapsed().as_millis()
        ));
        self.watch(times.after_restart.saturating_sub(restarted.elapsed()), "")
            .await?;
        Ok(Round {
            election,
            gap: gap.max(self.tally.longest_gap()),
        })
    }

    async fn wait_for_return(&mut self) -> Result<(), BenchError> {
        let all = self.cluster.brokers.len();
        let deadline = Instant::now() + RETURN_LIMIT;
        while self.cluster.registered(&self.set).await.unwrap_or(0) < all {
            if Instant::now() >= deadline {
                let what = "the broker that was killed did not register again".to_owned();
                return Err(BenchError::Timeout {
                    what,
                    seconds: RETURN_LIMIT.as_secs(),
                });
            }
            self.watch(LOOK_EVERY, "").await?;
        }
        Ok(())
    }

    /// Lets time pass and shows what happens.
    async fn watch(&mut self, time: Duration, doing: &str) -> Result<(), BenchError> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.cluster.check_processes()?;
            self.show(doing);
            tokio::time::sleep(LOOK_EVERY.min(until.saturating_duration_since(Instant::now())))
                .await;
        }
        Ok(())
    }

    /// Waits until everything acknowledged is consumed.
    async fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN_LIMIT;
        while self.tally.counts().lost > 0 && Instant::now() < deadline {
            self.show("draining");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn show(&self, doing: &str) {
        let counts = self.tally.counts();
        self.screen.progress(&format!(
            "{:6.1} s  sent {}  acknowledged {}  consumed {}  {doing}",
            self.started.elapsed().as_secs_f64(),
            grouped(counts.sent),
            grouped(counts.acked),
            grouped(counts.consumed),
        ));
    }

    fn say(&self, text: &str) {
        self.screen.line(&format!(
            "{:6.1} s  {text}",
            self.started.elapsed().as_secs_f64()
        ));
    }
}

fn one_result(screen: &Screen, tally: &Tally, rounds: &[Round], plain: bool) {
    let counts = tally.counts();
    let election = rounds.iter().map(|r| millis(r.election)).max().unwrap_or(0);
    let gap = rounds.iter().map(|r| millis(r.gap)).max().unwrap_or(0);
    if plain {
        return screen.line(&format!(
            "acked={} consumed={} lost={} duplicated={} election_ms={election} gap_ms={gap}",
            counts.acked, counts.consumed, counts.lost, counts.duplicated
        ));
    }
    screen.line("");
    screen.table(&[
        ("sent", grouped(counts.sent)),
        ("acknowledged", grouped(counts.acked)),
        ("consumed", grouped(counts.consumed)),
        ("lost", grouped(counts.lost)),
        ("duplicated", grouped(counts.duplicated)),
        ("election", format!("{election} ms")),
        ("longest gap in acknowledgements", format!("{gap} ms")),
    ]);
    screen.line("");
    screen.verdict(&counts);
}

fn many_results(screen: &Screen, tally: &Tally, rounds: &[Round]) {
    let counts = tally.counts();
    let mut elections: Vec<_> = rounds.iter().map(|r| millis(r.election)).collect();
    elections.sort_unstable();
    let gap = rounds.iter().map(|r| millis(r.gap)).max().unwrap_or(0);
    screen.line(&format!(
        "sent={} acked={} consumed={}",
        counts.sent, counts.acked, counts.consumed
    ));
    screen.line(&format!(
        "kills={} lost={} duplicated={} election_ms_median={} election_ms_max={} gap_ms_max={gap}",
        rounds.len(),
        counts.lost,
        counts.duplicated,
        median(&elections),
        elections.last().copied().unwrap_or(0),
    ));
}

/// Of sorted numbers; of an even count the mean of the middle two.
fn median(sorted: &[u128]) -> u128 {
    match sorted.len() {
        0 => 0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]).div_ceil(2),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_of_few_numbers() {
        assert_eq!(median(&[]), 0);
        assert_eq!(median(&[7]), 7);
        assert_eq!(median(&[1, 2]), 2);
        assert_eq!(median(&[1, 5, 9]), 5);
    }
}
