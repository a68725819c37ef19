//! One run: a cluster, its faults, its clients, and afterwards the verdict. What belongs to it is in one directory: `history.jsonl`,
//! `history.edn`, `run.json` (the settings, and what the runner saw), `replicas.json` (the verdict over files that are gone),
//! `results.json`, `report.html` and `logs/`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use raftmq_benches::programs::Servers;
use serde_json::Value;
use tokio::sync::watch;

use crate::bed::{Bed, BedOptions};
use crate::checker::{self, Evidence, recovery, register, replicas};
use crate::history::{Kind, Recorder};
use crate::nemesis::{self, Plan, catalogue};
use crate::ops::Ops;
use crate::settings::{Ack, Flush, Settings, Whose};
use crate::workload::client::Place;
use crate::workload::{Clients, Workload, transaction};
use crate::{edn, report};

/// The variable that tells a sabotaged broker which promise to break.
const SABOTAGE: &str = "RAFTMQ_SABOTAGE";
/// Clients work so long before the first fault.
const WARM_UP: Duration = Duration::from_secs(2);
/// And so much longer than the limit of recovery after the last.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// Until all replicas have everything.
const WHOLE_LIMIT: Duration = Duration::from_secs(90);
/// Where the cluster is, below the run's directory; removed unless the run failed.
const CLUSTER: &str = "cluster";

/// What a run needs besides its settings.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Where everything goes.
    pub dir: PathBuf,
    /// Our binaries.
    pub bin_dir: PathBuf,
    /// The folder `benches` of the sources, for Java servers.
    pub scripts: PathBuf,
    /// From one heal to the next fault.
    pub interval: Duration,
    /// Of a fault.
    pub hold: Duration,
    /// Two faults at a time.
    pub overlap: bool,
    /// Further settings of the brokers.
    pub broker_settings: Vec<(String, String)>,
    /// The servers' data is kept whatever the verdict is.
    pub keep: bool,
    /// How the history is judged.
    pub judge: Judge,
}

/// How a history is judged.
#[derive(Clone, Debug)]
pub struct Judge {
    /// The Go module of the second opinion on registers.
    pub porcupine: PathBuf,
    /// Without it nothing is valid.
    pub porcupine_required: bool,
}

/// Runs, judges, and writes everything down. What keeps the run from being one is in the results, not an error.
///
/// # Errors
/// The directory cannot be written.
pub async fn test(settings: &Settings, ground: &Ground) -> Result<Value, BenchError> {
    let dir = &ground.dir;
    let cluster = dir.join(CLUSTER);
    if cluster.exists() {
        std::fs::remove_dir_all(&cluster).map_err(BenchError::io(&cluster))?;
    }
    std::fs::create_dir_all(dir).map_err(BenchError::io(dir))?;
    let mut settings = settings.clone();
    for old in ["replicas.json", "results.json"] {
        // Of an earlier run in this place.
        let _ = std::fs::remove_file(dir.join(old));
    }
    if let Err(error) = play(&mut settings, ground).await {
        settings.harness_failure.get_or_insert(error.to_string());
    }
    write_json(&dir.join("run.json"), &settings)?;
    if let Err(error) = copy_logs(&cluster.join("logs"), &dir.join("logs")) {
        eprintln!("the servers' logs are not kept: {error}");
    }
    let results = judge(dir, &ground.judge)?;
    if !ground.keep && results.get("valid?") != Some(&Value::Bool(false)) {
        // Nothing hangs on it any more.
        let _ = std::fs::remove_dir_all(&cluster);
    }
    Ok(results)
}

async fn play(settings: &mut Settings, ground: &Ground) -> Result<(), BenchError> {
    let workload = Workload::named(&settings.workload)
        .ok_or_else(|| BenchError::Usage(format!("there is no workload {}", settings.workload)))?;
    let path = ground.dir.join("history.jsonl");
    let file = File::create(&path).map_err(BenchError::io(&path))?;
    let bed = Arc::new(Bed::start(bed_options(settings, ground)?).await?);
    let recorder = Arc::new(Recorder::new(Box::new(file)));
    let place = Place {
        namesrv: bed.namesrv_addr(),
        set: bed.set().to_owned(),
        addrs: bed.addrs(),
    };
    let mut clients = Clients::start(workload, place, settings, recorder.clone()).await?;
    let done = phases(settings, ground, &bed, &recorder, &mut clients).await;
    bed.stop().await;
    recorder.flush().map_err(BenchError::io(&path))?;
    if done.is_ok() && settings.servers == Whose::Raftmq && settings.not_whole.is_none() {
        let stores: Vec<_> = (0..settings.replicas).map(|r| bed.store_dir(r)).collect();
        let may_be_lost = settings.committed_may_be_lost();
        let check = move || replicas::check(&stores, may_be_lost).json();
        let verdict = tokio::task::spawn_blocking(check).await;
        let verdict = verdict
            .unwrap_or_else(|e| serde_json::json!({"valid?": "unknown", "why": e.to_string()}));
        write_json(&ground.dir.join("replicas.json"), &verdict)?;
    }
    done
}

/// The faults, the time after them, the final reads.
async fn phases(
    settings: &mut Settings,
    ground: &Ground,
    bed: &Arc<Bed>,
    recorder: &Arc<Recorder>,
    clients: &mut Clients,
) -> Result<(), BenchError> {
    tokio::time::sleep(WARM_UP).await;
    if settings.sabotage.is_some() {
        // A set that loses everything, its members included, is another matter than one that loses messages.
        for replica in 0..settings.replicas {
            let store = bed.store_dir(replica);
            let synced = File::open(&store).and_then(|s| Ok(rustix::fs::syncfs(s)?));
            synced.map_err(BenchError::io(store))?;
        }
    }
    let (stop, stopped) = watch::channel(false);
    let plan = Plan {
        seed: settings.seed,
        faults: settings.faults.clone(),
        interval: ground.interval,
        hold: ground.hold,
        overlap: ground.overlap,
    };
    if settings.faults.is_empty() {
        tokio::time::sleep(Duration::from_secs(settings.seconds)).await;
    } else {
        let driven = tokio::spawn(nemesis::drive(bed.clone(), plan, recorder.clone(), stopped));
        tokio::time::sleep(Duration::from_secs(settings.seconds)).await;
        // Nobody listens only when it has ended already.
        let _ = stop.send(true);
        let driven = driven.await;
        let summary =
            driven.map_err(|e| BenchError::Usage(format!("the nemesis failed: {e}")))??;
        let counts = summary.counts.iter();
        settings.happened = counts
            .map(|(name, c)| (name.clone(), c.took_place.into()))
            .collect();
        settings.problems = summary.problems;
        if let Some(failure) = summary.failures.first() {
            settings.harness_failure = Some(failure.clone());
        }
    }
    recorder.nemesis(Kind::Info, recovery::HEALED, &[], "");
    let healed = Instant::now();
    let limit = Duration::from_millis(settings.recovery_limit_ms);
    let whole = bed.wait_whole(WHOLE_LIMIT).await;
    settings.whole_ms = u64::try_from(healed.elapsed().as_millis()).ok();
    if let Err(error) = whole {
        settings.whole_ms = None;
        settings.not_whole = Some(error.to_string());
    }
    tokio::time::sleep((limit + AFTERWARDS).saturating_sub(healed.elapsed())).await;
    clients.stop().await;
    recorder.nemesis(Kind::Info, recovery::STOPPED, &[], "");
    // Who was not whole with clients will not be without them.
    if settings.not_whole.is_none()
        && let Err(error) = bed.wait_whole(WHOLE_LIMIT).await
    {
        settings.not_whole = Some(error.to_string());
    }
    if let Err(missing) = clients.read_all().await {
        settings.not_whole.get_or_insert(missing);
    }
    Ok(())
}

fn bed_options(settings: &Settings, ground: &Ground) -> Result<BedOptions, BenchError> {
    let servers = match settings.servers {
        Whose::Raftmq => Servers::RaftMq(ground.bin_dir.clone()),
        Whose::JavaDledger => Servers::JavaDledger(java(ground)?),
        Whose::JavaMaster => Servers::JavaMaster(java(ground)?),
    };
    let faults = catalogue().iter().filter(|fault| {
        let name = |wanted: &String| wanted.split(':').next() == Some(fault.name);
        settings.faults.iter().any(name)
    });
    let needs: Vec<_> = faults.map(|f| f.needs).collect();
    let mut broker = vec![
        (
            "flushDiskType",
            match settings.flush {
                Flush::Sync => "SYNC_FLUSH",
                Flush::Async => "ASYNC_FLUSH",
            },
        ),
        ("slaveReadEnable", "true"),
    ];
    if settings.servers == Whose::Raftmq {
        // One that leads when it is stopped serves on for clients with old routes, which here are gone by then.
        broker.push(("drainTimeout", "2000"));
        broker.push(match settings.ack {
            Ack::Sync => ("brokerRole", "SYNC_MASTER"),
            Ack::Async => ("brokerRole", "ASYNC_MASTER"),
            Ack::All => ("ackQuorum", "all"),
        });
    }
    if settings.trims {
        broker.push(("cleanResourceInterval", "1000"));
    }
    let majority = (settings.replicas / 2 + 1).to_string();
    if settings.servers == Whose::JavaMaster {
        // As many as a majority of ours: the master and, of two slaves, one.
        broker.push(("inSyncReplicas", &majority));
    }
    if settings.workload == "transaction" {
        broker.extend(transaction::BROKER);
    }
    let broker = broker
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()));
    Ok(BedOptions {
        replicas: settings.replicas,
        network: needs.iter().any(|n| n.network),
        disks: needs.iter().any(|n| n.disks),
        clocks: needs.iter().any(|n| n.clocks),
        seed: settings.seed,
        env: settings
            .sabotage
            .iter()
            .map(|sabotage| (SABOTAGE.to_owned(), sabotage.clone()))
            .collect(),
        settings: broker
            .chain(ground.broker_settings.iter().cloned())
            .collect(),
        ..BedOptions::new(servers, ground.dir.join(CLUSTER))
    })
}

fn java(ground: &Ground) -> Result<PathBuf, BenchError> {
    let run = ground.scripts.join("java-peer").join("run");
    std::path::absolute(&run).map_err(BenchError::io(run))
}

/// Judges the run in `dir` (again), and writes results, report and EDN.
///
/// # Errors
/// Something of it is missing or cannot be written. A history that makes no sense is in the results.
pub fn judge(dir: &Path, how: &Judge) -> Result<Value, BenchError> {
    let settings: Settings = read_json(&dir.join("run.json"))?;
    let path = dir.join("history.jsonl");
    let (ops, unreadable) = match read_ops(&path) {
        Ok(ops) => (ops, None),
        Err(why) => (Ops::default(), Some(why)),
    };
    let program = dir.join("porcupine");
    let built = match ops.registers.is_empty() {
        true => Err("no registers".to_owned()),
        false => register::build_porcupine(&how.porcupine, &program),
    };
    let logs = logs(&dir.join("logs"));
    let mut results = checker::check(&Evidence {
        ops: &ops,
        settings: &settings,
        logs: &logs,
        replicas: read_json(&dir.join("replicas.json")).ok(),
        porcupine: built
            .as_ref()
            .map(|()| program.as_path())
            .map_err(String::as_str),
        porcupine_required: how.porcupine_required,
    });
    // It is big and quickly built.
    let _ = std::fs::remove_file(&program);
    if let (Some(why), Some(all)) = (unreadable, results.as_object_mut()) {
        all.insert("valid?".to_owned(), Value::from("unknown"));
        all.insert("why".to_owned(), Value::from(why));
    }
    write_json(&dir.join("results.json"), &results)?;
    let page = dir.join("report.html");
    std::fs::write(&page, report::page(&ops, &settings, &results)).map_err(BenchError::io(page))?;
    let out = dir.join("history.edn");
    if let Ok(history) = File::open(&path) {
        let file = File::create(&out).map_err(BenchError::io(&out))?;
        if let Err(error) = edn::export(BufReader::new(history), file) {
            eprintln!("{}: {error}", out.display());
        }
    }
    Ok(results)
}

fn read_ops(path: &Path) -> Result<Ops, String> {
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ops::read(BufReader::with_capacity(1 << 20, file)).map_err(|e| e.to_string())
}

fn logs(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut logs: Vec<_> = files.map(|f| f.path()).filter(|p| p.is_file()).collect();
    logs.sort();
    logs
}

fn copy_logs(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for log in logs(to) {
        std::fs::remove_file(log)?;
    }
    for log in logs(from) {
        if let Some(name) = log.file_name() {
            std::fs::copy(&log, to.join(name))?;
        }
    }
    Ok(())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, BenchError> {
    let file = File::open(path).map_err(BenchError::io(path))?;
    serde_json::from_reader(BufReader::new(file))
        .map_err(|e| BenchError::Usage(format!("{}: {e}", path.display())))
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), BenchError> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|e| BenchError::Usage(format!("{}: {e}", path.display())))?;
    std::fs::write(path, text).map_err(BenchError::io(path))
}
