//! Starting and stopping a broker: the ports, the replica, and the tasks that run beside the requests.
//!
//! [`Service::start`] returns once both client ports are open and the replica's store is recovered; a leader may not
//! exist yet. [`Service::stop`] takes the broker out of the name servers first, so that clients leave before the ports
//! close. The replica has a runtime of its own; everything here runs on the caller's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use raftmq_raft::{FlushEvery, FlushMode, Peer, RaftError, Replica, ReplicaOptions};
use raftmq_remoting::channel::Channel;
use raftmq_remoting::client::{ClientOptions, RemotingClient};
use raftmq_remoting::server::{Server, ServerOptions};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::broker::Broker;
use crate::client_manager::{self, ClientManager};
use crate::cold_reads::ColdReads;
use crate::config::{Config, FlushDiskType};
use crate::creation::Creations;
use crate::dispatch::ClientPort;
use crate::error::BrokerError;
use crate::forward::Forwarder;
use crate::http::{self, HttpPort};
use crate::offset::{self, OffsetCommits};
use crate::register::Shown;
use crate::room::{self, Room};
use crate::settings::{self, Settings};
use crate::signals::{Hooks, Signals};
use crate::stats::{self, Stats};
use crate::stored_properties::Stamps;
use crate::{
    drain, find_set, first_service, long_polling, raft_gauges, register, retention, timer,
    transaction,
};

/// Distance of the second client port below listenPort.
const SECOND_PORT: u16 = 2;

/// `flushCommitLogLeastPages` counts pages of this many bytes.
const PAGE: u64 = 4096;

/// Time for what is under way when the ports are about to be closed.
const LAST_ANSWERS: Duration = Duration::from_millis(300);

/// Time the name server tasks have to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// How a set comes into being when its directory is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// From the configured peers, or not at all.
    FromPeers,
    /// As a set of one replica.
    Bootstrap,
}

/// What a replica does when the end of its log may be missing, after a power cut or damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostEnd {
    /// It takes no part in elections until the other replicas have shown what was acknowledged.
    Wait,
    /// It goes on with what it has: an operator's decision. Acknowledged messages may be lost.
    Accept,
}

/// A running broker.
pub struct Service {
    broker: Arc<Broker>,
    servers: Vec<Server>,
    http: Option<HttpPort>,
    tasks: Vec<JoinHandle<()>>,
    registrations: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    name_server_client: RemotingClient,
}

impl Service {
    /// Opens the store, the peer port and the client ports.
    ///
    /// # Errors
    /// A setting cannot work, a port is taken, or the store cannot be opened.
    pub async fn start(config: Config, birth: Birth) -> Result<Service, BrokerError> {
        Self::start_with(config, birth, LostEnd::Wait).await
    }

    /// As [`Service::start`], with a word about a log that may have lost its end.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub async fn start_with(
        config: Config,
        birth: Birth,
        lost_end: LostEnd,
    ) -> Result<Service, BrokerError> {
        config.check_registration()?;
        let peers = config.peers()?;
        let store_dir = Path::new(&config.store_dir);
        let joins = !config.name_servers().is_empty();
        if birth == Birth::FromPeers && peers.is_empty() && !joins && is_empty(store_dir) {
            return Err(BrokerError::NotBorn {
                dir: store_dir.to_owned(),
            });
        }
        let bind = config
            .bind_ip()
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let (port, second_port) = match config.listen_port {
            0 => (free_port(bind)?, 0),
            port => (port, port - SECOND_PORT),
        };
        let store_host = config.advertised(port);
        let signals = Signals::new();
        let mut options = replica_options(&config, birth, store_host)?;
        options.accept_data_loss = lost_end == LostEnd::Accept;
        let opened = Replica::open(options, Arc::new(Hooks(signals.clone()))).await;
        let replica = opened.map_err(|error| match error {
            RaftError::NothingToAccept => BrokerError::UselessSwitch {
                switch: "--accept-data-loss",
                reason: "there is nothing to accept, the end of this replica's log is not in doubt; if the set has no \
                         leader, too few of its voters are there"
                    .to_owned(),
            },
            error => error.into(),
        })?;
        let broker = make(config, store_host, replica, signals);

        let main = listen(&broker, SocketAddr::new(bind, port), true).await?;
        let second = listen(&broker, SocketAddr::new(bind, second_port), false).await?;
        if bind.is_unspecified() {
            tracing::warn!(%port, "the client ports are open to every network, without TLS and access control");
        }
        let http = http::open(&broker).await?;
        let (stop, stopped) = watch::channel(false);
        let name_server_client = RemotingClient::new(ClientOptions::default(), None);
        let servers = broker.config().name_servers();
        let registrations = servers
            .into_iter()
            .map(|addr| {
                let client = name_server_client.clone();
                tokio::spawn(register::run(broker.clone(), client, addr, stopped.clone()))
            })
            .collect();
        let tasks = vec![
            tokio::spawn(room::run(broker.clone())),
            tokio::spawn(long_polling::run_woken(broker.clone())),
            tokio::spawn(long_polling::watch(broker.clone())),
            tokio::spawn(offset::run(broker.clone())),
            tokio::spawn(client_manager::run(broker.clone())),
            tokio::spawn(timer::run(broker.clone())),
            tokio::spawn(transaction::run(broker.clone())),
            tokio::spawn(retention::watch_disk(broker.clone())),
            tokio::spawn(retention::run(broker.clone())),
            tokio::spawn(first_service::run(broker.clone())),
            tokio::spawn(stats::run(broker.clone())),
            tokio::spawn(raft_gauges::run(broker.clone())),
            tokio::spawn(find_set::run(broker.clone(), name_server_client.clone())),
        ];
        Ok(Service {
            broker,
            servers: vec![main, second],
            http,
            tasks,
            registrations,
            stop,
            name_server_client,
        })
    }

    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Where clients connect: listenPort.
    pub fn addr(&self) -> SocketAddr {
        self.servers[0].local_addr()
    }

    /// The second client port.
    pub fn second_addr(&self) -> SocketAddr {
        self.servers[1].local_addr()
    }

    /// Where metrics and health are shown, if at all.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|port| port.addr)
    }

    /// The line RocketMQ prints when a broker has started.
    pub fn boot_line(&self) -> String {
        let config = self.broker.config();
        let mut line = format!(
            "The broker[{}, {}] boot success. serializeType=JSON",
            config.name, self.broker.store_host
        );
        if !config.namesrv_addr.is_empty() {
            line.push_str(" and name server is ");
            line.push_str(&config.namesrv_addr);
        }
        line
    }

    /// Why `--bootstrap` has no effect on this directory; None: it is a set of one replica.
    pub async fn is_no_set_of_one(&self) -> Option<String> {
        /// Time until a replica that belongs to a set knows its members.
        const KNOWN: Duration = Duration::from_secs(2);
        let end = tokio::time::Instant::now() + KNOWN;
        while self.broker.replica.role().members.is_empty() && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let role = self.broker.replica.role();
        let config = self.broker.config();
        let names: Vec<&str> = role.members.iter().map(|m| m.name.as_str()).collect();
        (names.len() > 1).then(|| {
            format!(
                "{} belongs to the set {} of {}, and a set is created in an empty directory only",
                config.store_dir,
                config.group(),
                names.join(", ")
            )
        })
    }

    /// Resolves when the replica has stopped for good; the process must not go on.
    pub async fn failed(&self) -> RaftError {
        self.broker.replica.stopped().await
    }

    /// Hands leadership over and goes on forwarding until clients know the new master; then [`Service::stop`]. May be
    /// cancelled.
    pub async fn drain(&self) {
        let replicas = &self.broker.forwarding;
        let is_client = |channel: &Channel| !replicas.lock().contains(&channel.id());
        let has_clients = || {
            let mut servers = self.servers.iter();
            servers.any(|server| server.channels().iter().any(is_client))
        };
        drain::run(&self.broker, has_clients).await;
    }

    /// Leaves the name servers, closes the ports and the store.
    ///
    /// # Errors
    /// The store could not be closed cleanly.
    pub async fn stop(self) -> Result<(), BrokerError> {
        self.stop.send_replace(true);
        for registration in self.registrations {
            if tokio::time::timeout(GOODBYE, registration).await.is_err() {
                tracing::warn!("a name server does not answer, leaving without a goodbye");
            }
        }
        if self.broker.draining.load(Ordering::Relaxed) {
            let open = self.servers.iter().flat_map(Server::channels);
            let newest = open.map(|channel| channel.id()).max().unwrap_or(0);
            self.broker.closing.store(newest, Ordering::Relaxed);
            tokio::time::sleep(LAST_ANSWERS).await;
        }
        for server in self.servers {
            server.shutdown().await;
        }
        for task in self.tasks.into_iter().chain(self.http.map(|p| p.task)) {
            task.abort();
        }
        self.name_server_client.close();
        self.broker.forwarder.close();
        self.broker.replica.shutdown().await?;
        Ok(())
    }
}

fn make(
    config: Config,
    store_host: SocketAddr,
    replica: Replica,
    signals: Arc<Signals>,
) -> Arc<Broker> {
    let runtime = Handle::current();
    let broker = Arc::new_cyclic(|me| Broker {
        me: me.clone(),
        store_host,
        replica,
        signals,
        clients: ClientManager::default(),
        locks: Default::default(),
        offsets: OffsetCommits::default(),
        room: Room::default(),
        forwarder: Forwarder::new(RemotingClient::new(ClientOptions::default(), None)),
        creations: Creations::default(),
        cold_reads: ColdReads::new(runtime.clone()),
        large_answers: Default::default(),
        inbound: Default::default(),
        shown: Shown::default(),
        stats: Stats::new(&config),
        standing: Default::default(),
        timers: Default::default(),
        recalls: Default::default(),
        sends: Default::default(),
        transactions: Default::default(),
        retention: Default::default(),
        stamps: Stamps::new(&config),
        draining: AtomicBool::new(false),
        closing: AtomicU64::new(0),
        forwarding: Default::default(),
        runtime,
        settings: Settings::new(config),
    });
    // In this order: what is applied in between is not missed.
    let _ = broker.signals.broker.set(Arc::downgrade(&broker));
    settings::refresh(&broker);
    broker
}

async fn listen(broker: &Arc<Broker>, addr: SocketAddr, main: bool) -> Result<Server, BrokerError> {
    let mut options = ServerOptions::new(addr);
    options.idle = Duration::from_secs(broker.config().channel_idle_s);
    options.budget = broker.inbound.clone();
    let handler = Arc::new(ClientPort::new(broker.clone(), main));
    Server::bind(options, handler)
        .await
        .map_err(|source| BrokerError::Listen {
            addr: addr.to_string(),
            source,
        })
}

fn replica_options(
    config: &Config,
    birth: Birth,
    store_host: SocketAddr,
) -> Result<ReplicaOptions, BrokerError> {
    let peers: Vec<Peer> = config
        .peers()?
        .into_iter()
        .map(|p| Peer {
            name: p.name,
            addr: p.addr,
        })
        .collect();
    let peer_ip = config.peer_bind_ip();
    let peer_port = match config.peer_listen_port()? {
        0 => free_port(peer_ip)?,
        port => port,
    };
    let self_name = config.self_name(birth == Birth::Bootstrap);
    let own = peers.iter().find(|p| p.name == self_name);
    let peer_advertise = own.map_or_else(
        || config.advertised(peer_port).to_string(),
        |p| p.addr.clone(),
    );
    Ok(ReplicaOptions {
        store_dir: (&config.store_dir).into(),
        segment_size: config.segment_size,
        flush: match config.flush {
            FlushDiskType::Async => FlushMode::Async,
            FlushDiskType::Sync => FlushMode::Sync,
        },
        flush_every: FlushEvery {
            interval: Duration::from_millis(config.flush_interval_ms),
            least_bytes: config.flush_least_pages * PAGE,
            thorough: Duration::from_millis(config.flush_thorough_ms),
        },
        warm_segments: config.warm_segments,
        scrub_rate: config.scrub_rate,
        catch_up_rate: config.catch_up(),
        accept_data_loss: false,
        cluster: config.cluster.clone(),
        set: config.group().to_owned(),
        self_name: self_name.to_owned(),
        bootstrap: birth == Birth::Bootstrap && peers.is_empty(),
        peers,
        peer_bind: SocketAddr::new(peer_ip, peer_port),
        peer_advertise,
        client_advertise: store_host.to_string(),
        policy: settings::policy(config),
        heartbeat: Duration::from_millis(config.heartbeat_ms),
        election_min: Duration::from_millis(config.election_min_ms),
        election_max: Duration::from_millis(config.election_max_ms),
        ack_timeout: config.ack_timeout(),
        waiting_room: Duration::from_millis(config.waiting_room_ms),
        waiting_room_bytes: config.waiting_room_bytes,
    })
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

/// A port nobody listens on at this moment.
fn free_port(ip: IpAddr) -> Result<u16, BrokerError> {
    let addr = SocketAddr::new(ip, 0);
    TcpListener::bind(addr)
        .and_then(|listener| listener.local_addr())
        .map(|addr| addr.port())
        .map_err(|source| BrokerError::Listen {
            addr: addr.to_string(),
            source,
        })
}
