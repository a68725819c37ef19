//! A cluster of real processes on loopback: one name server and sets of replicated brokers.
//!
//! Every process has a settings file with RocketMQ's keys and a log file in the cluster's directory. All of them end
//! with the [`Cluster`], whatever way it goes.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use raftmq_client::{Admin, ClientConfig, Message, MessageQueue, Producer, ProducerConfig};

use crate::error::BenchError;
use crate::process::{Program, ServerProcess};

/// Name of the cluster in routes and `mqadmin`.
pub const CLUSTER_NAME: &str = "RaftMQCluster";
/// Sets at most: they are called broker-a to broker-z.
pub const MAX_SETS: usize = 26;
/// Replicas of a set at most, as many as one Raft group sensibly has.
pub const MAX_REPLICAS: usize = 9;
/// Distance of the client ports of two brokers: each takes two below its own and one above.
const PORT_STEP: u16 = 10;
/// Distance of the replication port above the client port.
const PEER_PORT: u16 = 1;
/// Distance of the second client port below the first.
const SECOND_PORT: u16 = 2;
/// Commitlog segments are allocated whole; a cluster on one machine should not take gigabytes to start.
const SEGMENT_BYTES: u32 = 256 << 20;
/// A topic that exists on every broker from its first start; the probe goes there.
const PROBE_TOPIC: &str = "BenchmarkTest";
/// How often a cluster that starts is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time the processes have to end in order.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What to start.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Where `mqnamesrv` and `mqbroker` are.
    pub bin_dir: PathBuf,
    /// Settings, logs and data. What an earlier run left is used again.
    pub dir: PathBuf,
    pub namesrv_port: u16,
    /// Client port of the first broker; the next ones are 10 apart.
    pub port_base: u16,
    /// 1 to [`MAX_SETS`].
    pub sets: usize,
    /// 1 to [`MAX_REPLICAS`].
    pub replicas: usize,
    /// Settings for every broker, in place of the ones here.
    pub settings: Vec<(String, String)>,
}

/// The directory this program was started from, where its servers are, too.
///
/// # Errors
/// The system does not say where this program is.
pub fn own_bin_dir() -> Result<PathBuf, BenchError> {
    let own = std::env::current_exe().map_err(BenchError::io("this program"))?;
    let dir = own.parent().unwrap_or(Path::new("."));
    // Tests and benchmarks are one folder deeper.
    let dir = if dir.ends_with("deps") {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    };
    Ok(dir.to_owned())
}

impl ClusterOptions {
    fn port(&self, broker: usize) -> Option<u16> {
        u16::try_from(broker)
            .ok()?
            .checked_mul(PORT_STEP)?
            .checked_add(self.port_base)
    }

    /// Every port the cluster listens on.
    fn ports(&self) -> Result<Vec<u16>, BenchError> {
        let mut ports = vec![self.namesrv_port];
        for broker in 0..self.sets * self.replicas {
            let port = self
                .port(broker)
                .filter(|p| *p > SECOND_PORT && *p < u16::MAX - PEER_PORT);
            let port = port.ok_or_else(|| {
                BenchError::Usage(format!("no room for all ports from {} on", self.port_base))
            })?;
            ports.extend([port - SECOND_PORT, port, port + PEER_PORT]);
        }
        Ok(ports)
    }

    /// # Errors
    /// A port is taken, or one occurs twice.
    fn check_ports(&self) -> Result<(), BenchError> {
        let ports = self.ports()?;
        if ports.iter().collect::<BTreeSet<_>>().len() < ports.len() {
            return Err(BenchError::Usage(format!(
                "port {} of the name server is one of the brokers', too",
                self.namesrv_port
            )));
        }
        match ports.into_iter().find(|p| !is_free(*p)) {
            Some(taken) => Err(BenchError::PortTaken(taken)),
            None => Ok(()),
        }
    }

    /// Chooses ports that are free now, from a range that nothing usual listens in.
    ///
    /// # Errors
    /// There are none.
    pub fn choose_ports(&mut self) -> Result<(), BenchError> {
        // Away from the system's ephemeral ports (32768 and up), which clients get while brokers restart.
        for base in (20_000..30_000_u16).step_by(100) {
            self.namesrv_port = base;
            self.port_base = base + 11;
            if self.check_ports().is_ok() {
                return Ok(());
            }
        }
        Err(BenchError::Usage(
            "no free ports between 20000 and 30000".to_owned(),
        ))
    }

    fn broker_file(&self, name: &str, set: usize, replica: usize, port: u16) -> String {
        let first = set * self.replicas;
        let peers: Vec<_> = (0..self.replicas)
            .filter_map(|r| {
                Some(format!(
                    "n{r}-127.0.0.1:{}",
                    self.port(first + r)? + PEER_PORT
                ))
            })
            .collect();
        let mut settings = vec![
            ("brokerClusterName", CLUSTER_NAME.to_owned()),
            ("brokerName", set_name(set)),
            ("brokerRole", "SYNC_MASTER".to_owned()),
            ("flushDiskType", "ASYNC_FLUSH".to_owned()),
            ("listenPort", port.to_string()),
            ("bindAddress", "127.0.0.1".to_owned()),
            ("brokerIP1", "127.0.0.1".to_owned()),
            ("namesrvAddr", format!("127.0.0.1:{}", self.namesrv_port)),
            (
                "storePathRootDir",
                self.dir
                    .join(name)
                    .join("store")
                    .to_string_lossy()
                    .into_owned(),
            ),
            ("mappedFileSizeCommitLog", SEGMENT_BYTES.to_string()),
            ("raftPeers", peers.join(";")),
            ("raftSelfId", format!("n{replica}")),
        ];
        settings.retain(|(key, _)| !self.settings.iter().any(|(k, _)| k == key));
        let given = self.settings.iter().map(|(k, v)| (k.as_str(), v.clone()));
        settings
            .into_iter()
            .chain(given)
            .fold(String::new(), |mut text, (key, value)| {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{key}={}", value.replace('\\', "\\\\"));
                text
            })
    }
}

fn set_name(set: usize) -> String {
    let letter = u8::try_from(set).map_or('z', |n| char::from(b'a' + n.min(25)));
    format!("broker-{letter}")
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// One replica.
pub struct Broker {
    /// `broker-a`
    pub set: String,
    /// `host:port` for clients.
    pub addr: String,
    pub process: ServerProcess,
}

/// A running cluster.
pub struct Cluster {
    pub namesrv: ServerProcess,
    /// Set by set.
    pub brokers: Vec<Broker>,
    options: ClusterOptions,
    admin: Admin,
}

impl Cluster {
    /// Writes the settings and starts every process. They may not serve yet: see [`Self::wait_ready`].
    ///
    /// # Errors
    /// A port is taken, a file cannot be written, or a program cannot be started. Nothing is left running then.
    pub fn start(options: ClusterOptions) -> Result<Self, BenchError> {
        options.check_ports()?;
        let logs = options.dir.join("logs");
        std::fs::create_dir_all(&logs).map_err(BenchError::io(&logs))?;
        let namesrv_addr = format!("127.0.0.1:{}", options.namesrv_port);
        let launch = |name: String, program: &str, settings: String| {
            let file = options.dir.join(format!("{name}.conf"));
            std::fs::write(&file, settings).map_err(BenchError::io(&file))?;
            ServerProcess::start(Program {
                path: options.bin_dir.join(program),
                args: vec!["-c".to_owned(), file.to_string_lossy().into_owned()],
                log: logs.join(format!("{name}.log")),
                name,
            })
        };
        let kv = options.dir.join("kvConfig.json");
        let settings = format!(
            "listenPort={}\nbindAddress=127.0.0.1\nkvConfigPath={}\n",
            options.namesrv_port,
            kv.display()
        );
        let namesrv = launch("namesrv".to_owned(), "mqnamesrv", settings)?;
        let mut brokers = Vec::new();
        for set in 0..options.sets {
            for replica in 0..options.replicas {
                let Some(port) = options.port(brokers.len()) else {
                    continue;
                };
                let name = format!("{}-n{replica}", set_name(set));
                let settings = options.broker_file(&name, set, replica, port);
                brokers.push(Broker {
                    set: set_name(set),
                    addr: format!("127.0.0.1:{port}"),
                    process: launch(name, "mqbroker", settings)?,
                });
            }
        }
        let admin = Admin::with_config(ClientConfig {
            request_timeout: Duration::from_secs(2),
            ..ClientConfig::new(namesrv_addr)
        })?;
        Ok(Self {
            namesrv,
            brokers,
            options,
            admin,
        })
    }

    /// `host:port` of the name server.
    pub fn namesrv_addr(&self) -> String {
        format!("127.0.0.1:{}", self.options.namesrv_port)
    }

    /// Administrative calls to this cluster.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// The names of the sets, in order.
    pub fn sets(&self) -> Vec<String> {
        (0..self.options.sets).map(set_name).collect()
    }

    /// Where broker `addr` is in [`Self::brokers`].
    pub fn broker_at(&self, addr: &str) -> Option<usize> {
        self.brokers.iter().position(|b| b.addr == addr)
    }

    /// The address that the name server has as master of `set`.
    ///
    /// # Errors
    /// The name server does not answer.
    pub async fn master(&self, set: &str) -> Result<Option<String>, BenchError> {
        let info = self.admin.cluster_info().await?;
        let data = info.broker_addr_table.get(set);
        Ok(data.and_then(|b| b.broker_addrs.get(&0)).cloned())
    }

    /// How many brokers of `set` the name server knows.
    ///
    /// # Errors
    /// The name server does not answer.
    pub async fn registered(&self, set: &str) -> Result<usize, BenchError> {
        let info = self.admin.cluster_info().await?;
        Ok(info
            .broker_addr_table
            .get(set)
            .map_or(0, |b| b.broker_addrs.len()))
    }

    /// Waits until the name server routes to a master of every set that takes a message, and knows every replica.
    ///
    /// # Errors
    /// It takes longer than `limit`, or a process ended by itself.
    pub async fn wait_ready(&mut self, limit: Duration) -> Result<(), BenchError> {
        let deadline = Instant::now() + limit;
        let replicas = self.options.replicas;
        for set in self.sets() {
            loop {
                let missing = match (self.registered(&set).await, self.master(&set).await) {
                    (Ok(n), Ok(Some(_))) if n >= replicas => break,
                    (Ok(n), Ok(Some(_))) => {
                        format!("{} of the {replicas} replicas of {set} registered", n)
                    }
                    (Ok(_), Ok(None)) => format!("no master of {set} registered"),
                    (Err(e), _) | (_, Err(e)) => format!("no answer of the name server ({e})"),
                };
                self.pause_until(deadline, limit, missing).await?;
            }
        }
        for set in self.sets() {
            while let Err(e) = self.probe(&set).await {
                self.pause_until(deadline, limit, format!("{set} took no message ({e})"))
                    .await?;
            }
        }
        Ok(())
    }

    /// # Errors
    /// The deadline is over, or a process ended by itself.
    async fn pause_until(
        &mut self,
        deadline: Instant,
        limit: Duration,
        what: String,
    ) -> Result<(), BenchError> {
        self.check_processes()?;
        if Instant::now() >= deadline {
            return Err(BenchError::Timeout {
                what,
                seconds: limit.as_secs(),
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }

    /// # Errors
    /// A process that was not killed here has ended.
    pub fn check_processes(&mut self) -> Result<(), BenchError> {
        self.namesrv.check()?;
        self.brokers.iter_mut().try_for_each(|b| b.process.check())
    }

    async fn probe(&self, set: &str) -> Result<(), BenchError> {
        let mut config = ProducerConfig::new(self.namesrv_addr(), "raftmq-probe");
        config.send_timeout = Duration::from_secs(1);
        let producer = Producer::new(config)?;
        let queue = MessageQueue::new(PROBE_TOPIC, set, 0);
        let sent = producer
            .send_to(Message::new(PROBE_TOPIC, "probe"), queue)
            .await;
        producer.shutdown().await;
        sent?;
        Ok(())
    }

    /// Waits until `set` has another master than `old`.
    ///
    /// # Errors
    /// It takes longer than `limit`.
    pub async fn wait_new_master(
        &self,
        set: &str,
        old: &str,
        limit: Duration,
    ) -> Result<String, BenchError> {
        /// The figure this ends is a few hundred milliseconds.
        const LOOK_EVERY: Duration = Duration::from_millis(4);
        let deadline = Instant::now() + limit;
        loop {
            if let Ok(Some(master)) = self.master(set).await
                && master != old
            {
                return Ok(master);
            }
            if Instant::now() >= deadline {
                let what = format!("no other master of {set} than {old}");
                return Err(BenchError::Timeout {
                    what,
                    seconds: limit.as_secs(),
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends everything in order: brokers, then the name server. What does not end by itself is killed.
    pub fn stop(mut self) {
        let deadline = Instant::now() + STOP_GRACE;
        self.brokers.iter().for_each(|b| b.process.ask_to_stop());
        for broker in &mut self.brokers {
            broker.process.finish(deadline);
        }
        self.namesrv.ask_to_stop();
        self.namesrv
            .finish(deadline.max(Instant::now() + Duration::from_secs(1)));
        self.admin.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ClusterOptions {
        ClusterOptions {
            bin_dir: "/nowhere".into(),
            dir: "/data".into(),
            namesrv_port: 9876,
            port_base: 10911,
            sets: 2,
            replicas: 3,
            settings: vec![
                ("brokerRole".into(), "ASYNC_MASTER".into()),
                ("ackTimeoutMs".into(), "500".into()),
            ],
        }
    }

    #[test]
    fn every_broker_gets_its_own_ports_and_its_sets_peers() {
        let options = options();
        let file = options.broker_file("broker-b-n2", 1, 2, options.port(5).unwrap());
        for line in [
            "listenPort=10961",
            "brokerName=broker-b",
            "raftSelfId=n2",
            "raftPeers=n0-127.0.0.1:10942;n1-127.0.0.1:10952;n2-127.0.0.1:10962",
            "storePathRootDir=/data/broker-b-n2/store",
            "brokerRole=ASYNC_MASTER",
            "ackTimeoutMs=500",
        ] {
            assert!(file.lines().any(|l| l == line), "{line} in\n{file}");
        }
        assert_eq!(file.matches("brokerRole=").count(), 1, "{file}");
        assert_eq!(options.ports().unwrap().len(), 19);
    }

    #[test]
    fn ports_that_cannot_be_are_refused() {
        let high = ClusterOptions {
            port_base: 65_500,
            ..options()
        };
        assert!(matches!(high.ports(), Err(BenchError::Usage(_))));
        let same = ClusterOptions {
            namesrv_port: 10_912,
            ..options()
        };
        assert!(matches!(same.check_ports(), Err(BenchError::Usage(_))));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = listener.local_addr().unwrap().port();
        let taken_options = ClusterOptions {
            namesrv_port: taken,
            port_base: 20_011,
            ..options()
        };
        assert!(matches!(taken_options.check_ports(), Err(BenchError::PortTaken(p)) if p == taken));
    }
}
