//! `--serve`: a cluster in the foreground.
//!
//! It stays when a broker ends, as one does in a test that kills it; SIGUSR1 starts again what ended.

use std::time::Duration;

use raftmq_benches::stop::StopSignal;
use raftmq_benches::{BenchError, Cluster, ClusterOptions};
use tokio::signal::unix::{SignalKind, signal};

/// Time from the start to a leader in every set; a store of many gigabytes is recovered within it.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// How often ended processes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs until `stop`.
///
/// # Errors
/// The cluster does not come up, or the name server ended.
pub async fn serve(options: ClusterOptions, stop: &mut StopSignal) -> Result<(), BenchError> {
    let mut again = signal(SignalKind::user_defined1()).map_err(BenchError::io("SIGUSR1"))?;
    let logs = options.dir.join("logs");
    let mut cluster = Cluster::start(options)?;
    tokio::select! {
        ready = cluster.wait_ready(READY_LIMIT) => ready?,
        () = stop.received() => return Ok(()),
    }
    tell(&cluster);
    println!("# Logs: {}", logs.display());
    let mut told = vec![false; cluster.brokers.len()];
    loop {
        tokio::select! {
            () = stop.received() => break,
            _ = again.recv() => {
                for broker in &mut cluster.brokers {
                    broker.process.restart()?;
                }
                tell_pids(&cluster);
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        cluster.namesrv.check()?;
        for (broker, told) in cluster.brokers.iter_mut().zip(&mut told) {
            let ended = broker.process.ended().is_some();
            if ended && !*told {
                eprintln!(
                    "mqdemo: {} ended; SIGUSR1 to {} starts it again",
                    broker.process.name(),
                    std::process::id()
                );
            }
            *told = ended;
        }
    }
    cluster.stop();
    Ok(())
}

fn tell(cluster: &Cluster) {
    let namesrv = cluster.namesrv_addr();
    let sets: Vec<_> = cluster
        .sets()
        .into_iter()
        .map(|set| {
            let addrs: Vec<_> = cluster
                .brokers
                .iter()
                .filter(|b| b.set == set)
                .map(|b| b.addr.as_str())
                .collect();
            format!("{set}:{}", addrs.join(","))
        })
        .collect();
    let name = raftmq_benches::cluster::CLUSTER_NAME;
    println!(
        "READY NAMESRV_ADDR={namesrv} CLUSTER={name} BROKERS={}",
        sets.join(";")
    );
    tell_pids(cluster);
    println!("# A Java client or RocketMQ's own tools, from the RocketMQ distribution:");
    println!("#   export NAMESRV_ADDR={namesrv}");
    println!("#   sh bin/mqadmin clusterList");
    println!("#   sh bin/tools.sh org.apache.rocketmq.example.quickstart.Producer");
    println!("#   or in your own program: producer.setNamesrvAddr(\"{namesrv}\");");
    println!("# Ctrl-C ends the cluster.");
}

/// `PIDS namesrv=… broker-a-n0=…`, for whoever wants to measure or kill one.
fn tell_pids(cluster: &Cluster) {
    let processes =
        std::iter::once(&cluster.namesrv).chain(cluster.brokers.iter().map(|b| &b.process));
    let pids: Vec<_> = processes
        .filter_map(|p| Some(format!("{}={}", p.name(), p.pid()?)))
        .collect();
    println!("PIDS {}", pids.join(" "));
}
