//! A cluster of real processes on loopback: one name server and sets of replicated brokers.
//!
//! Every process has a settings file with RocketMQ's keys and a log file in the cluster's directory. All of them end
//! with the [`Cluster`], whatever way it goes.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq_client::{Admin, ClientConfig};

use crate::error::BenchError;
use crate::netns::{IP, Namespaces};
use crate::process::ServerProcess;
pub use crate::programs::CLUSTER_NAME;
use crate::programs::{Launch, Seat, Servers};

/// Sets at most: they are called broker-a to broker-z.
pub const MAX_SETS: usize = 26;
/// Where everything listens unless it is in namespaces.
const LOOPBACK: &str = "127.0.0.1";
/// Replicas of a set at most, as many as one Raft group sensibly has.
pub const MAX_REPLICAS: usize = 9;
/// Distance of the client ports of two brokers: each takes two below its own and one above.
const PORT_STEP: u16 = 10;
/// Distance of the second client port below the first.
const SECOND_PORT: u16 = 2;
/// Time the processes have to end in order.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What to start.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    pub servers: Servers,
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
    /// One for each broker; without them everything is on loopback.
    pub namespaces: Option<Arc<Namespaces>>,
    /// Our replicas listen for each other so many ports above the one they tell, where something passes everything on.
    pub peers_listen_behind: u16,
    /// A command for each broker that gets the broker's program and arguments as its own last ones and ends as that program;
    /// brokers without one are started directly.
    pub wrappers: Vec<Vec<String>>,
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

    /// The ports that the replicas tell each other.
    ///
    /// # Errors
    /// No room for them.
    pub fn peer_ports(&self) -> Result<Vec<u16>, BenchError> {
        let ports = self.ports()?;
        Ok(ports.into_iter().skip(3).step_by(3).collect())
    }

    /// Every port the cluster listens on.
    fn ports(&self) -> Result<Vec<u16>, BenchError> {
        let mut ports = vec![self.namesrv_port];
        for broker in 0..self.sets * self.replicas {
            let port = self
                .port(broker)
                .filter(|p| *p > SECOND_PORT && *p < u16::MAX - self.servers.peer_port());
            let port = port.ok_or_else(|| {
                BenchError::Usage(format!("no room for all ports from {} on", self.port_base))
            })?;
            ports.extend([port - SECOND_PORT, port, port + self.servers.peer_port()]);
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

    fn broker(&self, name: &str, set: usize, replica: usize) -> Option<(String, Launch)> {
        let first = set * self.replicas;
        let port = self.port(first + replica)?;
        let peers = (first..first + self.replicas)
            .map(|broker| Some((self.host(broker), self.port(broker)?)))
            .collect::<Option<Vec<_>>>()?;
        let host = &self.host(first + replica);
        let seat = Seat {
            name,
            set: &set_name(set),
            replica,
            host,
            port,
            peers: &peers,
            namesrv: &self.namesrv_addr(),
            dir: &self.dir,
        };
        let mut settings = self.settings.clone();
        if self.peers_listen_behind > 0 {
            let told = port + self.servers.peer_port();
            let behind = told.checked_add(self.peers_listen_behind)?;
            settings.push(("peerListenPort".to_owned(), behind.to_string()));
        }
        let mut launch = self.servers.broker(&seat, &settings);
        if let Some(wrapper) = self.wrappers.get(first + replica) {
            launch.wrap(wrapper);
        }
        if let Some(namespaces) = &self.namespaces {
            let name = namespaces.name(first + replica);
            launch.wrap(&[IP, "netns", "exec", &name].map(str::to_owned));
        }
        Some((format!("{host}:{port}"), launch))
    }

    /// Writes the settings and starts the program.
    fn start(&self, name: String, launch: Launch) -> Result<ServerProcess, BenchError> {
        let file = self.dir.join(format!("{name}.conf"));
        std::fs::write(&file, &launch.settings).map_err(BenchError::io(&file))?;
        let log = self.dir.join("logs").join(format!("{name}.log"));
        ServerProcess::start(launch.program(name, &file, log))
    }

    fn host(&self, broker: usize) -> String {
        match &self.namespaces {
            Some(all) => all.host(broker),
            None => LOOPBACK.to_owned(),
        }
    }

    fn namesrv_host(&self) -> String {
        match &self.namespaces {
            Some(all) => all.own_host(),
            None => LOOPBACK.to_owned(),
        }
    }

    fn namesrv_addr(&self) -> String {
        format!("{}:{}", self.namesrv_host(), self.namesrv_port)
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
    pub(crate) options: ClusterOptions,
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
        let start = |name, launch| options.start(name, launch);
        let launch =
            options
                .servers
                .namesrv(&options.dir, &options.namesrv_host(), options.namesrv_port);
        let namesrv = start("namesrv".to_owned(), launch)?;
        let mut brokers = Vec::new();
        for set in 0..options.sets {
            for replica in 0..options.replicas {
                let name = format!("{}-n{replica}", set_name(set));
                let Some((addr, launch)) = options.broker(&name, set, replica) else {
                    continue;
                };
                brokers.push(Broker {
                    set: set_name(set),
                    addr,
                    process: start(name, launch)?,
                });
            }
        }
        let admin = Admin::with_config(ClientConfig {
            request_timeout: Duration::from_secs(2),
            ..ClientConfig::new(options.namesrv_addr())
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
        self.options.namesrv_addr()
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

    /// # Errors
    /// A process that was not killed here has ended.
    pub fn check_processes(&mut self) -> Result<(), BenchError> {
        self.namesrv.check()?;
        self.brokers.iter_mut().try_for_each(|b| b.process.check())
    }

    /// Deletes the directory of a broker that does not run, and takes these keys out of its settings.
    ///
    /// # Errors
    /// A file cannot be removed, read or written.
    pub fn wipe_broker(&self, broker: usize, without: &[&str]) -> Result<(), BenchError> {
        let Some(name) = self.brokers.get(broker).map(|b| b.process.name()) else {
            return Ok(());
        };
        let data = self.options.dir.join(name);
        std::fs::remove_dir_all(&data).map_err(BenchError::io(data))?;
        let file = self.options.dir.join(format!("{name}.conf"));
        let settings = std::fs::read_to_string(&file).map_err(BenchError::io(&file))?;
        let kept = settings.lines().filter(|line| {
            let key = line.split_once('=').map_or(*line, |(key, _)| key);
            !without.contains(&key)
        });
        let kept: String = kept.map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, kept).map_err(BenchError::io(file))
    }

    /// Starts one more broker for the only set, which has no list of replicas and finds the set through the name server. Nothing
    /// else here counts it as a replica.
    ///
    /// # Errors
    /// There is no room for it, or it cannot be started.
    pub fn start_spare(&self) -> Result<Broker, BenchError> {
        let replica = self.options.replicas;
        let name = format!("{}-n{replica}", set_name(0));
        let made = self.options.broker(&name, 0, replica);
        let Some((addr, mut launch)) = made.filter(|_| self.options.sets == 1) else {
            return Err(BenchError::Usage(format!("no room for {name}")));
        };
        let settings = launch.settings.lines();
        let kept = settings.filter(|line| !line.starts_with("raftPeers="));
        launch.settings = kept.map(|line| format!("{line}\n")).collect();
        Ok(Broker {
            set: set_name(0),
            addr,
            process: self.options.start(name, launch)?,
        })
    }

    /// Ends everything in order: brokers, then the name server. What does not end by itself is killed.
    pub fn stop(mut self) {
        self.end();
    }

    /// As [`Self::stop`]; what is asked of the cluster afterwards fails.
    pub fn end(&mut self) {
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
            servers: Servers::RaftMq("/nowhere".into()),
            dir: "/data".into(),
            namesrv_port: 9876,
            port_base: 10911,
            sets: 2,
            replicas: 3,
            settings: Vec::new(),
            namespaces: None,
            peers_listen_behind: 0,
            wrappers: Vec::new(),
        }
    }

    #[test]
    fn every_process_has_ports_of_its_own() {
        assert_eq!(options().ports().unwrap().len(), 19);
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
