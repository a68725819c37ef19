//! A rolling upgrade from one release to the next, and the way back, on real processes under load.
//!
//! For each order of the three replicas: all run the old program; one after the other is killed (-9) and comes back as the
//! new one; between the steps the leader, whoever it is, is killed and comes back as what it was. A raise of the set's
//! version is refused as long as one replica is old. Then all go back, forward again, and the version is raised; from then
//! on a replica with the old program is kept out. All the while a producer sends and a consumer reads: what was
//! acknowledged must arrive.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use raftmq_benches::cluster::{ClusterOptions, own_bin_dir};
use raftmq_benches::programs::Servers;
use raftmq_benches::tally::run_number;
use raftmq_benches::traffic::{Sender, TrafficOptions, consume};
use raftmq_benches::{BenchError, Cluster, Tally};
use raftmq_remoting::body::RaftStatus;

const SET: &str = "broker-a";
const TOPIC: &str = "Upgrade";
const REPLICAS: usize = 3;
/// Every order in which three replicas can be upgraded.
const ORDERS: [[usize; REPLICAS]; 6] = [
    [0, 1, 2],
    [2, 1, 0],
    [1, 0, 2],
    [1, 2, 0],
    [0, 2, 1],
    [2, 0, 1],
];
/// Longest wait for a set that serves, or is whole again.
const PATIENCE: Duration = Duration::from_secs(90);
/// For so long a replica with the old program is looked at after the raise.
const KEPT_OUT: Duration = Duration::from_secs(6);

/// A rolling upgrade under load, in every order of three replicas, with kill -9 at each step.
#[derive(Parser)]
#[command(name = "mqupgrade", version)]
struct Args {
    /// Where the old mqnamesrv and mqbroker are.
    #[arg(long, value_name = "DIR")]
    old: PathBuf,

    /// Where the new ones are [default: beside this program].
    #[arg(long, value_name = "DIR")]
    new: Option<PathBuf>,

    /// Orders to try, of six; 1 is the short form.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=6))]
    orders: u16,

    /// Messages a second.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,

    /// Keeps data and logs here; without it in a temporary directory that is removed.
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("mqupgrade: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), BenchError> {
    let new = match &args.new {
        Some(dir) => dir.clone(),
        None => own_bin_dir()?,
    };
    let temporary = tempfile::tempdir().map_err(BenchError::io("a temporary directory"))?;
    let dir = args.dir.as_deref().unwrap_or(temporary.path());
    let mut acked = 0;
    for order in ORDERS.iter().take(usize::from(args.orders)) {
        let name = order.map(|n| n.to_string()).concat();
        let began = Instant::now();
        let counts = Upgrade::start(&args, &new, &dir.join(&name)).await?;
        let counts = counts.through(*order).await?;
        println!(
            "order {name}: {} acknowledged, 0 lost, {} duplicated, {} sends failed, {:.0} s",
            counts.acked,
            counts.duplicated,
            counts.failed,
            began.elapsed().as_secs_f64()
        );
        acked += counts.acked;
    }
    println!("orders={} acked={acked} lost=0", args.orders);
    Ok(())
}

/// What became of the messages of one order.
struct Counts {
    acked: u64,
    duplicated: u64,
    failed: u64,
}

/// A set on its way.
struct Upgrade {
    cluster: Cluster,
    dir: PathBuf,
    old: PathBuf,
    new: PathBuf,
    tally: Arc<Tally>,
    traffic: TrafficOptions,
    sender: Sender,
}

fn failed(what: String) -> BenchError {
    BenchError::Usage(what)
}

impl Upgrade {
    /// Three replicas of the old program, under load.
    async fn start(args: &Args, new: &Path, dir: &Path) -> Result<Self, BenchError> {
        std::fs::create_dir_all(dir).map_err(BenchError::io(dir))?;
        let absolute = |path: &Path| std::fs::canonicalize(path).map_err(BenchError::io(path));
        let (dir, old, new) = (absolute(dir)?, absolute(&args.old)?, absolute(new)?);
        // A broker is whatever its link points at when it is started.
        let script = dir.join("start");
        let text = "#!/bin/sh\nlink=$1; shift 2; exec \"$(readlink \"$link\")\" \"$@\"\n";
        std::fs::write(&script, text).map_err(BenchError::io(&script))?;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&script, mode).map_err(BenchError::io(&script))?;
        let mut wrappers = Vec::new();
        for nth in 0..REPLICAS {
            point(&dir, nth, &old)?;
            let words = [script.clone(), link(&dir, nth)];
            let words = words.map(|path| path.to_string_lossy().into_owned());
            wrappers.push(words.to_vec());
        }
        let mut options = ClusterOptions {
            servers: Servers::RaftMq(new.clone()),
            dir: dir.join("cluster"),
            namesrv_port: 0,
            port_base: 0,
            sets: 1,
            replicas: REPLICAS,
            settings: vec![("mappedFileSizeCommitLog".into(), (4 << 20).to_string())],
            namespaces: None,
            peers_listen_behind: 0,
            wrappers,
        };
        options.choose_ports()?;
        std::fs::create_dir_all(&options.dir).map_err(BenchError::io(&options.dir))?;
        let mut cluster = Cluster::start(options)?;
        cluster.wait_ready(PATIENCE).await?;
        cluster.create_topic(TOPIC, 4).await?;
        let traffic = TrafficOptions {
            namesrv: cluster.namesrv_addr(),
            topic: TOPIC.to_owned(),
            producer_group: "upgrade-producer".to_owned(),
            consumer_group: "upgrade-consumer".to_owned(),
            rate: args.rate,
            route_poll: Duration::from_millis(200),
        };
        let tally = Arc::new(Tally::new(run_number(), 1024));
        let sender = Sender::start(&traffic, tally.clone()).await?;
        Ok(Self {
            cluster,
            dir,
            old,
            new,
            tally,
            traffic,
            sender,
        })
    }

    async fn through(mut self, order: [usize; REPLICAS]) -> Result<Counts, BenchError> {
        let consumer = consume(&self.traffic, self.tally.clone()).await?;
        let (old, new) = (self.old.clone(), self.new.clone());
        for (at, nth) in order.into_iter().enumerate() {
            self.replace(nth, &new).await?;
            self.kill_leader().await?;
            if at + 1 < REPLICAS {
                self.expect_refusal(order[REPLICAS - 1]).await?;
            }
        }
        self.expect_version(0).await?;
        step("the way back");
        for nth in order {
            self.replace(nth, &old).await?;
            self.kill_leader().await?;
        }
        step("forward again");
        for nth in order {
            self.replace(nth, &new).await?;
        }
        step("the raise");
        let addr = self.cluster.brokers[order[0]].addr.clone();
        let after = self.cluster.admin().finalize_upgrade(&addr).await?;
        if after.set_version == 0 {
            return Err(failed("the version is not raised".to_owned()));
        }
        self.kill_leader().await?;
        self.expect_version(after.set_version).await?;
        self.keep_out(order[1]).await?;
        self.replace(order[1], &new).await?;

        let failed_sends = self.sender.failed();
        let left = self.sender.finish(PATIENCE).await;
        if left > 0 {
            return Err(failed(format!("{left} messages were never acknowledged")));
        }
        let deadline = Instant::now() + PATIENCE;
        while self.tally.counts().lost > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let counts = self.tally.counts();
        consumer.shutdown().await;
        self.cluster.stop();
        if counts.lost > 0 {
            return Err(failed(format!(
                "{} of {} acknowledged messages are lost",
                counts.lost, counts.acked
            )));
        }
        Ok(Counts {
            acked: counts.acked,
            duplicated: counts.duplicated,
            failed: failed_sends,
        })
    }

    /// Kills a replica and brings it back as another program.
    async fn replace(&mut self, nth: usize, program: &Path) -> Result<(), BenchError> {
        let name = match program == self.new {
            true => "new",
            false => "old",
        };
        step(&format!("n{nth} becomes {name}"));
        self.cluster.brokers[nth].process.kill();
        point(&self.dir, nth, program)?;
        self.cluster.brokers[nth].process.restart()?;
        self.whole().await
    }

    /// Kills whoever leads and brings it back as it was.
    async fn kill_leader(&mut self) -> Result<(), BenchError> {
        let master = self.cluster.master(SET).await?;
        let nth = master.and_then(|addr| self.cluster.broker_at(&addr));
        let Some(nth) = nth else {
            return Err(failed("nobody leads".to_owned()));
        };
        step(&format!("n{nth} leads and is killed"));
        self.cluster.brokers[nth].process.kill();
        self.cluster
            .wait_new_master(SET, &self.cluster.brokers[nth].addr.clone(), PATIENCE)
            .await?;
        self.cluster.brokers[nth].process.restart()?;
        self.whole().await
    }

    /// Waits until every replica has everything and says of itself what it is.
    async fn whole(&mut self) -> Result<(), BenchError> {
        self.cluster.wait_whole(SET, PATIENCE).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await;
            let reached = status.as_ref().is_ok_and(|s| {
                s.leader_id != 0
                    && s.replicas
                        .iter()
                        .all(|r| r.reachable && r.restriction.is_empty())
            });
            if reached {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(failed(format!("the set is not well again: {status:?}")));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The set as its leader sees it.
    async fn status(&self) -> Result<RaftStatus, BenchError> {
        let master = self.cluster.master(SET).await?;
        let addr = master.unwrap_or_else(|| self.cluster.brokers[0].addr.clone());
        Ok(self.cluster.admin().raft_status(&addr).await?)
    }

    async fn expect_version(&self, version: u32) -> Result<(), BenchError> {
        let status = self.status().await?;
        let all = status
            .replicas
            .iter()
            .all(|r| r.set_version == i64::from(version));
        match status.set_version == version && all {
            true => Ok(()),
            false => Err(failed(format!("version {version} is wanted: {status:?}"))),
        }
    }

    /// A raise is refused while replica `old` is old: by the new leader, which names it, or by the old one, which knows no raise.
    async fn expect_refusal(&self, old: usize) -> Result<(), BenchError> {
        let status = self.status().await?;
        let leader = status.leader_name.clone();
        let knows = status
            .replicas
            .iter()
            .any(|r| r.name == leader && r.newest_version > 0);
        let master = self.cluster.master(SET).await?.unwrap_or_default();
        match self.cluster.admin().finalize_upgrade(&master).await {
            Ok(_) => Err(failed(format!("raised although n{old} is old"))),
            Err(e) if knows && !e.to_string().contains(&format!("n{old}")) => {
                Err(failed(format!("a refusal that does not name n{old}: {e}")))
            }
            Err(_) => Ok(()),
        }
    }

    /// After the raise a replica with the old program takes no part; the others go on.
    async fn keep_out(&mut self, nth: usize) -> Result<(), BenchError> {
        step(&format!("n{nth} comes back old and is kept out"));
        self.cluster.brokers[nth].process.kill();
        point(&self.dir, nth, &self.old)?;
        self.cluster.brokers[nth].process.restart()?;
        let deadline = Instant::now() + KEPT_OUT;
        let acked = self.tally.counts().acked;
        while Instant::now() < deadline {
            if let Ok(Some(master)) = self.cluster.master(SET).await
                && self.cluster.broker_at(&master) == Some(nth)
            {
                return Err(failed(format!("n{nth} leads with the old program")));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // It may have ended by itself; if it runs it gets nothing.
        let addr = self.cluster.brokers[nth].addr.clone();
        let (own, master) = (
            self.cluster.log_end(&addr).await,
            self.cluster.master(SET).await?,
        );
        let ahead = self.cluster.log_end(&master.unwrap_or_default()).await;
        if own.is_some() && own >= ahead {
            return Err(failed(format!("n{nth} follows with the old program")));
        }
        match self.tally.counts().acked > acked {
            true => Ok(()),
            false => Err(failed("the others do not go on".to_owned())),
        }
    }
}

fn link(dir: &Path, nth: usize) -> PathBuf {
    dir.join(format!("n{nth}"))
}

/// Has a replica's link point at a program.
fn point(dir: &Path, nth: usize, program: &Path) -> Result<(), BenchError> {
    let link = link(dir, nth);
    let _ = std::fs::remove_file(&link);
    let target = program.join("mqbroker");
    std::os::unix::fs::symlink(target, &link).map_err(BenchError::io(&link))
}

fn step(what: &str) {
    println!("  {what}");
    let _ = std::io::stdout().flush();
}
