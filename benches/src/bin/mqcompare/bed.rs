//! The clusters that are compared, running at the same time in a directory of their own, and the driver that loads them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use raftmq_benches::page_cache::evict;
use raftmq_benches::proc_stat::Usage;
use raftmq_benches::process::{Program, ServerProcess};
use raftmq_benches::{BenchError, Cluster, ClusterOptions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::case::{Case, Flush};

/// From the start of the processes to the first accepted message; JVMs are slow.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Until a broker that was asked to end is killed.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How often the end of a program is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// After a case may go on: replicated ones elect a leader again.
const SETTLE: Duration = Duration::from_millis(500);
/// From a replica's port for the others to the one it listens on behind a relay.
const BEHIND_RELAY: u16 = 50;
/// Distance of the ports of two cases.
const PORT_STEP: u16 = 100;
/// A case that keeps more than this is begun anew, bytes: disks are smaller than all that is sent. A Java one later, for it has
/// to be loaded first again.
const MOST_KEPT: u64 = 4 << 30;
const MOST_KEPT_JAVA: u64 = 8 << 30;

/// Where things are.
pub struct Places {
    /// `mqbroker`, `mqnamesrv`, `mqbench`.
    pub bin_dir: PathBuf,
    /// The script that starts a Java server.
    pub java_run: PathBuf,
    /// For everything that is written; removed at the end.
    pub work: PathBuf,
    /// First of [`Case::ALL`] times 100 ports; None: free ones.
    pub port: Option<u16>,
    /// How long a Java case is loaded before it is measured, s.
    pub first_load: u64,
    /// The same for ours.
    pub own_first_load: u64,
}

impl Places {
    /// Runs a program of `bin_dir` until it ends, at most for `limit`; the JSON of its last line.
    ///
    /// # Errors
    /// It fails, takes too long, or prints no JSON.
    pub async fn tool(
        &self,
        name: &str,
        args: &[String],
        limit: Duration,
    ) -> Result<Value, BenchError> {
        let log = self.work.join(format!("{name}.out"));
        // It is appended to.
        let _ = std::fs::remove_file(&log);
        let mut process = ServerProcess::start(Program {
            name: name.to_owned(),
            path: self.bin_dir.join(name),
            args: args.to_vec(),
            log: log.clone(),
        })?;
        let deadline = Instant::now() + limit;
        let status = loop {
            match process.ended() {
                Some(status) => break status,
                None if Instant::now() >= deadline => {
                    let what = format!("{name} {} did not end", args.join(" "));
                    let seconds = limit.as_secs();
                    return Err(BenchError::Timeout { what, seconds });
                }
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        let text = std::fs::read_to_string(&log).map_err(BenchError::io(&log))?;
        let last = text.lines().last().unwrap_or_default();
        match serde_json::from_str(last) {
            Ok(report) if status.success() => Ok(report),
            _ if status.success() && last.is_empty() => Ok(Value::Null),
            _ => {
                let first = text.lines().next().unwrap_or_default();
                Err(BenchError::Usage(format!("{name} failed: {first}")))
            }
        }
    }
}

/// One case.
struct Running {
    cluster: Cluster,
    dir: PathBuf,
    /// Between the replicas.
    _relay: Option<ServerProcess>,
}

impl Running {
    fn pids(&self) -> Vec<u32> {
        let brokers = self.cluster.brokers.iter();
        brokers.filter_map(|b| b.process.pid()).collect()
    }
}

/// Running cases of one flush mode.
pub struct Bed<'a> {
    pub places: &'a Places,
    pub flush: Flush,
    running: BTreeMap<Case, Running>,
    /// Their brokers stand still (SIGSTOP) while another is measured: three idle JVMs take half a processor.
    held: BTreeSet<Case>,
}

impl<'a> Bed<'a> {
    pub fn new(places: &'a Places, flush: Flush) -> Self {
        Self {
            places,
            flush,
            running: BTreeMap::new(),
            held: BTreeSet::new(),
        }
    }

    /// Starts a case on empty directories unless it runs; the time until it accepted a message, if it was started.
    ///
    /// # Errors
    /// A process cannot be started or accepts nothing in time.
    pub async fn start(&mut self, case: Case) -> Result<Option<Duration>, BenchError> {
        if self.running.contains_key(&case) {
            return Ok(None);
        }
        let dir = self.places.work.join(case.name());
        let mut options = ClusterOptions {
            servers: case.servers(self.places.bin_dir.clone(), self.places.java_run.clone()),
            dir: dir.clone(),
            namesrv_port: 0,
            port_base: 0,
            sets: 1,
            replicas: case.replicas(),
            settings: case.settings(self.flush),
            namespaces: None,
            peers_listen_behind: 0,
            wrappers: Vec::new(),
        };
        match self.places.port {
            Some(first) => {
                options.namesrv_port = first
                    .checked_add(case as u16 * PORT_STEP)
                    .ok_or_else(|| BenchError::Usage(format!("no room for ports from {first}")))?;
                options.port_base = options.namesrv_port.saturating_add(11);
            }
            None => options.choose_ports()?,
        }
        let relay = case
            .peer_delay_ms()
            .map(|ms| self.relay(&mut options, ms))
            .transpose()?;
        let began = Instant::now();
        let cluster = Cluster::start(options)?;
        let args = ["--mode", "probe", "-t", "probe", "-n"].map(str::to_owned);
        let mut args = args.to_vec();
        args.push(cluster.namesrv_addr());
        args.extend(["--seconds".to_owned(), START_LIMIT.as_secs().to_string()]);
        let running = self.running.entry(case).or_insert(Running {
            cluster,
            dir,
            _relay: relay,
        });
        self.places
            .tool("mqbench", &args, START_LIMIT + Duration::from_secs(10))
            .await?;
        let took = began.elapsed();
        running.cluster.wait_ready(START_LIMIT).await?;
        Ok(Some(took))
    }

    /// A relay in front of every replica's port for the others.
    fn relay(&self, options: &mut ClusterOptions, ms: u32) -> Result<ServerProcess, BenchError> {
        let mut args = vec!["--delay-ms".to_owned(), ms.to_string()];
        for port in options.peer_ports()? {
            args.extend(["--listen".to_owned(), format!("127.0.0.1:{port}")]);
            let behind = port.saturating_add(BEHIND_RELAY);
            args.extend(["--to".to_owned(), format!("127.0.0.1:{behind}")]);
        }
        options.peers_listen_behind = BEHIND_RELAY;
        ServerProcess::start(Program {
            name: "mqdelay".to_owned(),
            path: self.places.bin_dir.join("mqdelay"),
            args,
            log: self.places.work.join("mqdelay.out"),
        })
    }

    /// Lets a case go on and holds all others.
    async fn only(&mut self, case: Case) -> Result<(), BenchError> {
        let others: Vec<_> = self
            .running
            .keys()
            .copied()
            .filter(|c| *c != case)
            .collect();
        for other in others {
            if self.held.insert(other) {
                self.signal(other, Signal::STOP);
            }
        }
        if self.go_on(case) {
            let args = ["--mode", "probe", "-t", "probe", "--seconds", "60", "-n"];
            let mut args = args.map(str::to_owned).to_vec();
            args.push(self.get(case)?.cluster.namesrv_addr());
            self.places.tool("mqbench", &args, START_LIMIT).await?;
            tokio::time::sleep(SETTLE).await;
        }
        Ok(())
    }

    fn go_on(&mut self, case: Case) -> bool {
        let was_held = self.held.remove(&case);
        if was_held {
            self.signal(case, Signal::CONT);
        }
        was_held
    }

    fn signal(&self, case: Case, signal: Signal) {
        let pids = self
            .running
            .get(&case)
            .map(Running::pids)
            .unwrap_or_default();
        for pid in pids.into_iter().filter_map(|p| Pid::from_raw(p as i32)) {
            // One that has ended is noticed when it is used.
            let _ = kill_process(pid, signal);
        }
    }

    /// Starts a case and loads it for a while: memory and files are new in the first seconds, and a JVM is slow until it has
    /// compiled what is used.
    ///
    /// # Errors
    /// As [`Self::start`], or the load fails.
    pub async fn start_warm(&mut self, case: Case) -> Result<(), BenchError> {
        if self.start(case).await?.is_some() {
            let seconds = match case.is_java() {
                true => self.places.first_load,
                false => self.places.own_first_load,
            };
            let flags = ["-t", "first", "--warm-up", "0", "--seconds"].map(str::to_owned);
            let mut flags = flags.to_vec();
            flags.push(seconds.to_string());
            let limit = Duration::from_secs(seconds + 60);
            self.mqbench(case, &flags, limit).await?;
        }
        Ok(())
    }

    /// mqbench against a case, with the process ids of its brokers; its report.
    ///
    /// # Errors
    /// The case does not run, or mqbench fails or does not end in time.
    pub async fn mqbench(
        &mut self,
        case: Case,
        flags: &[String],
        limit: Duration,
    ) -> Result<Value, BenchError> {
        self.only(case).await?;
        let running = self.get(case)?;
        let pids: Vec<_> = running.pids().iter().map(u32::to_string).collect();
        let mut args = vec!["-n".to_owned(), running.cluster.namesrv_addr()];
        args.extend(["--json".to_owned(), "--pids".to_owned(), pids.join(",")]);
        args.extend_from_slice(flags);
        self.places.tool("mqbench", &args, limit).await
    }

    fn get(&self, case: Case) -> Result<&Running, BenchError> {
        let missing = || BenchError::Usage(format!("{} does not run", case.name()));
        self.running.get(&case).ok_or_else(missing)
    }

    /// Processor time so far and memory now of all brokers of a case.
    pub fn usage(&self, case: Case) -> Usage {
        let running = self.running.get(&case);
        running.map_or_else(Usage::default, |r| Usage::of_all(&r.pids()))
    }

    /// Begins a case anew when it has kept too much.
    ///
    /// # Errors
    /// As [`Self::start_warm`].
    pub async fn make_room(&mut self, case: Case) -> Result<(), BenchError> {
        let most = match case.is_java() {
            true => MOST_KEPT_JAVA,
            false => MOST_KEPT,
        };
        if self.running.get(&case).is_some_and(|r| kept(&r.dir) > most) {
            self.end(case);
            self.start_warm(case).await?;
        }
        Ok(())
    }

    /// Ends a case at once and removes what it wrote.
    pub fn end(&mut self, case: Case) {
        self.go_on(case);
        if let Some(Running { cluster, dir, .. }) = self.running.remove(&case) {
            drop(cluster);
            // What cannot be removed goes with the working directory.
            let _ = std::fs::remove_dir_all(dir);
        }
    }

    /// Ends all cases but these.
    pub fn end_others(&mut self, cases: &[Case]) {
        let others: Vec<_> = self.running.keys().copied().collect();
        for case in others.into_iter().filter(|c| !cases.contains(c)) {
            self.end(case);
        }
    }

    /// Stops the brokers of a case in order, drops their files from the page cache and starts them again.
    ///
    /// # Errors
    /// A file cannot be read, or they do not come back in time.
    pub async fn restart_cold(&mut self, case: Case) -> Result<(), BenchError> {
        self.only(case).await?;
        let Some(Running { cluster, dir, .. }) = self.running.get_mut(&case) else {
            return Ok(());
        };
        let deadline = Instant::now() + STOP_LIMIT;
        let mut brokers = cluster.brokers.iter_mut().map(|b| &mut b.process);
        brokers.by_ref().for_each(|p| p.ask_to_stop());
        for broker in &mut cluster.brokers {
            while broker.process.ended().is_none() && Instant::now() < deadline {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            broker.process.finish(Instant::now());
        }
        evict(dir)?;
        for broker in &mut cluster.brokers {
            broker.process.restart()?;
        }
        cluster.wait_ready(START_LIMIT).await
    }
}

/// Bytes on the disk of everything in `dir` and below. Files go away meanwhile.
fn kept(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |path: PathBuf| match std::fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => kept(&path),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(|entry| of(entry.path())).sum()
}
