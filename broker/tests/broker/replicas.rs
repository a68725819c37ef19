//! Three replicas in one process.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use raftmq_broker::{Birth, Config, Service};
use tempfile::TempDir;

use crate::harness::{Client, config};

pub struct Cluster {
    pub services: Vec<Option<Service>>,
    dirs: Vec<TempDir>,
    peers: String,
    change: fn(&mut Config),
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: fn(&mut Config)) -> Self {
        let listeners: Vec<TcpListener> = (0..3)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let peers: Vec<String> = listeners
            .iter()
            .enumerate()
            .map(|(n, l)| format!("n{n}-127.0.0.1:{}", l.local_addr().unwrap().port()))
            .collect();
        drop(listeners);
        let mut cluster = Self {
            services: (0..3).map(|_| None).collect(),
            dirs: (0..3).map(|_| TempDir::new().unwrap()).collect(),
            peers: peers.join(";"),
            change,
        };
        for n in 0..3 {
            cluster.start_one(n).await;
        }
        cluster.wait_for_leader().await;
        cluster
    }

    /// Starts a replica, or starts it again.
    pub async fn start_one(&mut self, n: usize) {
        let mut config = config(&self.dirs[n]);
        config.raft_peers = self.peers.clone();
        config.raft_self_id = format!("n{n}");
        (self.change)(&mut config);
        self.services[n] = Some(
            Service::start(config, Birth::FromPeers)
                .await
                .expect("a replica starts"),
        );
    }

    /// A replica's settings without the list of its peers.
    pub fn alone(&self, n: usize) -> Config {
        config(&self.dirs[n])
    }

    pub async fn stop_one(&mut self, n: usize) {
        if let Some(service) = self.services[n].take() {
            service.stop().await.unwrap();
        }
    }

    pub fn service(&self, n: usize) -> &Service {
        self.services[n].as_ref().expect("running")
    }

    pub fn running(&self) -> impl Iterator<Item = (usize, &Service)> {
        self.services
            .iter()
            .enumerate()
            .filter_map(|(n, s)| s.as_ref().map(|s| (n, s)))
    }

    pub async fn wait_for_leader(&self) -> usize {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let leader = self.running().find(|(_, s)| {
                s.broker().replica.is_serving()
                    && s.broker().state().group("CID_RMQ_SYS_TRANS").is_some()
            });
            if let Some((n, _)) = leader {
                return n;
            }
            assert!(Instant::now() < end, "no leader");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn client(&self, n: usize) -> Client {
        Client::new(&self.service(n).addr().to_string())
    }

    pub async fn stop(self) {
        for service in self.services.into_iter().flatten() {
            service.stop().await.unwrap();
        }
    }
}
