//! The test bed: one set of real processes whose network, disks, clocks and files can be disturbed.
//!
//! [`Bed`] starts and ends it and knows who leads; [`replica`] is what can be done to one replica's process and directory, [`members`]
//! to the set's membership, [`rot`] to files, [`disk`] to a disk, [`identity`] to what a process believes of its machine, [`relay`] to packets ([`packet`]
//! decides about each), and links are cut by `raftmq_benches::netns`. Nothing here decides when: that is the [`crate::nemesis`].
//!
//! Everything but kills and pauses needs root. A bed never leaves a process, a mount or a namespace behind, unless it is killed itself.

pub mod disk;
pub mod identity;
mod look;
pub mod members;
pub mod packet;
pub mod relay;
pub mod replica;
pub mod rot;
pub mod tools;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use raftmq_benches::cluster::Broker;
use raftmq_benches::netns::Namespaces;
use raftmq_benches::programs::Servers;
use raftmq_benches::{BenchError, Cluster, ClusterOptions};
use raftmq_client::{Admin, ClientConfig};

use disk::{Disk, Shared};
use identity::Beliefs;
use relay::Relay;
use tools::{is_root, off};

/// From the start of the processes to a set that serves; JVMs are slow.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// Limit of one look at one server.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// Replicas of a bed at most.
const MAX_REPLICAS: usize = 9;
/// What every broker of ours gets unless other settings are given: segments so small that a run fills many, with all that is done
/// at their ends, and a scrubber that is round soon.
const OURS: [(&str, &str); 2] = [
    ("mappedFileSizeCommitLog", "1048576"),
    ("scrubBytesPerSecond", "67108864"),
];
/// What Apache's get: segments that a small disk has room for.
const THEIRS: [(&str, &str); 1] = [("mappedFileSizeCommitLog", "67108864")];

/// What to start.
#[derive(Clone, Debug)]
pub struct BedOptions {
    pub servers: Servers,
    /// 1 to 9.
    pub replicas: usize,
    /// Settings, logs and data; new or empty.
    pub dir: PathBuf,
    /// Network namespaces, for faults of links and packets.
    pub network: bool,
    /// A file system for each replica, for faults of power and disks.
    pub disks: bool,
    /// MiB of each.
    pub disk_mib: u64,
    /// libfaketime, for faults of clocks.
    pub clocks: bool,
    /// For what befalls packets.
    pub seed: u64,
    /// Settings for every broker, in place of the bed's own.
    pub settings: Vec<(String, String)>,
    /// Environment variables for every broker.
    pub env: Vec<(String, String)>,
}

impl BedOptions {
    /// Three replicas on loopback.
    pub fn new(servers: Servers, dir: PathBuf) -> Self {
        Self {
            servers,
            replicas: 3,
            dir,
            network: false,
            disks: false,
            disk_mib: 2048,
            clocks: false,
            seed: 0,
            settings: Vec::new(),
            env: Vec::new(),
        }
    }
}

/// See the module's text. All of it can be used by several tasks at once.
pub struct Bed {
    /// Locked for single actions only, always on a thread that may block.
    cluster: Arc<Mutex<Cluster>>,
    spare: Arc<Mutex<Option<Broker>>>,
    /// Some member may not be what it was at the start.
    members_changed: AtomicBool,
    beliefs: Vec<Beliefs>,
    admin: Arc<Admin>,
    relay: Option<Relay>,
    disks: Arc<Vec<Disk>>,
    _shared: Option<Shared>,
    namespaces: Option<Arc<Namespaces>>,
    addrs: Vec<String>,
    namesrv: String,
    set: String,
    options: BedOptions,
}

impl Bed {
    /// Starts everything and waits until the set takes messages.
    ///
    /// # Errors
    /// Something that is wanted is not possible here (root, a package), or the set does not come up.
    pub async fn start(mut options: BedOptions) -> Result<Self, BenchError> {
        if !(1..=MAX_REPLICAS).contains(&options.replicas) {
            let why = format!("a bed has 1 to {MAX_REPLICAS} replicas");
            return Err(BenchError::Usage(why));
        }
        if (options.network || options.disks) && !is_root() {
            let why = "namespaces and disks of the replicas' own need root";
            return Err(BenchError::Usage(why.into()));
        }
        std::fs::create_dir_all(&options.dir).map_err(BenchError::io(&options.dir))?;
        let dir = std::path::absolute(&options.dir).map_err(BenchError::io(&options.dir))?;
        options.dir = dir;
        let made = options.clone();
        let (shared, disks, beliefs, namespaces, relay) = off(move || ground(&made)).await?;
        let often = !matches!(options.servers, Servers::RaftMq(_));
        let wrapper = |beliefs: &Beliefs| {
            let mut command = beliefs.wrapper(options.network, often);
            if !options.env.is_empty() {
                command.push("/usr/bin/env".to_owned());
                command.extend(options.env.iter().map(|(k, v)| format!("{k}={v}")));
            }
            command
        };
        let wrappers = beliefs.iter().map(wrapper).collect();
        let own: &[(&str, &str)] = if often { &THEIRS } else { &OURS };
        let text = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        let mut own: Vec<_> = own.iter().map(text).collect();
        own.retain(|(key, _)| options.settings.iter().all(|(k, _)| k != key));
        own.extend(options.settings.iter().cloned());
        let mut cluster = ClusterOptions {
            servers: options.servers.clone(),
            dir: options.dir.clone(),
            namesrv_port: 0,
            port_base: 0,
            sets: 1,
            replicas: options.replicas,
            settings: own,
            namespaces: namespaces.clone(),
            peers_listen_behind: 0,
            wrappers,
        };
        cluster.choose_ports()?;
        let mut cluster = off(move || Cluster::start(cluster)).await?;
        let ready = cluster.wait_ready(READY_LIMIT).await;
        let namesrv = cluster.namesrv_addr();
        let admin = Admin::with_config(ClientConfig {
            request_timeout: LOOK_LIMIT,
            ..ClientConfig::new(namesrv.clone())
        })?;
        let bed = Self {
            addrs: cluster.brokers.iter().map(|b| b.addr.clone()).collect(),
            set: cluster.sets().into_iter().next().unwrap_or_default(),
            cluster: Arc::new(Mutex::new(cluster)),
            spare: Arc::default(),
            members_changed: AtomicBool::new(false),
            beliefs,
            admin: Arc::new(admin),
            relay,
            disks: Arc::new(disks),
            _shared: shared,
            namespaces,
            namesrv,
            options,
        };
        // Only now, so that everything is undone in order when it failed.
        ready.map(|()| bed)
    }

    /// `host:port` of the name server.
    pub fn namesrv_addr(&self) -> String {
        self.namesrv.clone()
    }

    /// Client addresses of the replicas, by number.
    pub fn addrs(&self) -> Vec<String> {
        self.addrs.clone()
    }

    /// Name of the set.
    pub fn set(&self) -> &str {
        &self.set
    }

    /// How many replicas it has.
    pub fn replicas(&self) -> usize {
        self.options.replicas
    }

    /// What was started.
    pub fn options(&self) -> &BedOptions {
        &self.options
    }

    /// Whether the servers are ours.
    pub fn is_ours(&self) -> bool {
        matches!(self.options.servers, Servers::RaftMq(_))
    }

    /// Administrative calls, each within a second.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// The network, when there is one.
    ///
    /// # Errors
    /// The bed was started without.
    pub fn network(&self) -> Result<&Arc<Namespaces>, BenchError> {
        let missing = || BenchError::Usage("the bed has no network of its own".into());
        self.namespaces.as_ref().ok_or_else(missing)
    }

    /// The relay of packets, when there is a network.
    ///
    /// # Errors
    /// The bed was started without.
    pub fn relay(&self) -> Result<&Relay, BenchError> {
        let missing = || BenchError::Usage("the bed has no network of its own".into());
        self.relay.as_ref().ok_or_else(missing)
    }

    /// A replica's own directory, `store` is in it.
    fn home(&self, replica: usize) -> PathBuf {
        home(&self.options.dir, &self.set, replica)
    }

    /// Where a replica's store is.
    pub fn store_dir(&self, replica: usize) -> PathBuf {
        self.home(replica).join("store")
    }

    /// What a replica's process printed. (A Java server's own log is in its home.)
    pub fn log_file(&self, replica: usize) -> PathBuf {
        let name = format!("{}-n{replica}.log", self.set);
        self.options.dir.join("logs").join(name)
    }

    /// Undoes every fault and starts every process that does not run. A replica that ends by itself is not this one's to find:
    /// see [`Self::wait_whole`].
    ///
    /// # Errors
    /// Something cannot be undone; the rest was tried all the same.
    pub async fn heal_all(&self) -> Result<(), BenchError> {
        let disks = self.disks.clone();
        let thawed = off(move || {
            disks
                .iter()
                .try_for_each(|d| d.thaw().and_then(|()| d.free()))
        });
        let thawed = thawed.await;
        let relayed = self.relay.as_ref().map_or(Ok(()), Relay::end);
        let linked = self.namespaces.as_ref().map_or(Ok(()), |n| n.heal_all());
        let clocks = self.beliefs.iter().try_for_each(|b| b.set_clock(0.0));
        let all: Vec<_> = (0..self.replicas()).collect();
        let resumed = self.hold(&all, false).await;
        let started = self.start_replicas(&all).await;
        let named = self.start_namesrv().await;
        thawed.and(relayed).and(linked).and(clocks)?;
        resumed.and(started).and(named)?;
        if self.members_changed.load(Ordering::Relaxed) {
            self.settle_members().await?;
        }
        Ok(())
    }

    /// Ends every process, in order where that goes. The files stay where they are until the bed is dropped.
    pub async fn stop(&self) {
        let (cluster, spare, disks) =
            (self.cluster.clone(), self.spare.clone(), self.disks.clone());
        let ended = off(move || {
            disks.iter().try_for_each(Disk::thaw)?;
            drop(spare.lock().take());
            cluster.lock().end();
            Ok(())
        });
        if let Err(error) = ended.await {
            eprintln!("not everything has ended in order: {error}");
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // A process that waits for a frozen disk cannot even be killed.
        for disk in self.disks.iter() {
            let _ = disk.thaw();
        }
        drop(self.spare.lock().take());
        let mut cluster = self.cluster.lock();
        cluster.brokers.iter_mut().for_each(|b| b.process.kill());
        cluster.namesrv.kill();
        if self.options.clocks {
            identity::sweep();
        }
    }
}

/// `DIR/broker-a-n1`, as the cluster names it.
fn home(dir: &Path, set: &str, replica: usize) -> PathBuf {
    dir.join(format!("{set}-n{replica}"))
}

type Ground = (
    Option<Shared>,
    Vec<Disk>,
    Vec<Beliefs>,
    Option<Arc<Namespaces>>,
    Option<Relay>,
);

/// Everything that has to be there before the processes.
fn ground(options: &BedOptions) -> Result<Ground, BenchError> {
    const SET: &str = "broker-a";
    let dir = &options.dir;
    let (mut shared, mut disks, mut beliefs) = (None, Vec::new(), Vec::new());
    if options.disks {
        shared = Some(Shared::make(dir)?);
    }
    for replica in 0..options.replicas {
        let name = format!("{SET}-n{replica}");
        if options.disks {
            let image = dir.join(format!("{name}.img"));
            if image.exists() {
                let why = format!("{} is another run's", image.display());
                return Err(BenchError::Usage(why));
            }
            disks.push(Disk::make(
                image,
                home(dir, SET, replica),
                options.disk_mib,
            )?);
        }
        beliefs.push(Beliefs::make(dir, &name, options.disks, options.clocks)?);
    }
    let (mut namespaces, mut relay) = (None, None);
    if options.network {
        // One more, for a replica that joins.
        let made = Arc::new(Namespaces::make(options.replicas + 1)?);
        relay = Some(Relay::make(made.clone(), options.seed)?);
        namespaces = Some(made);
    }
    Ok((shared, disks, beliefs, namespaces, relay))
}
