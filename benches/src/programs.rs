//! Which programs a cluster is made of and what settings each gets: ours, or the Java servers that ours are measured
//! against. Both read properties files with RocketMQ's keys.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::process::Program;

/// Name of a cluster of ours in routes and `mqadmin`; the Java one has the same, so that tools need not care.
pub const CLUSTER_NAME: &str = "RaftMQCluster";
/// Commitlog segments are allocated whole; a cluster on one machine should not take gigabytes to start.
const SEGMENT_BYTES: u32 = 256 << 20;

/// Whose servers.
#[derive(Clone, Debug)]
pub enum Servers {
    /// `mqnamesrv` and `mqbroker` of this directory.
    RaftMq(PathBuf),
    /// The Java name server and brokers with DLedger, started by this script (`java-peer/run`).
    JavaDledger(PathBuf),
    /// A Java master that waits for nobody when it is alone and for every one of its slaves otherwise; the same script.
    JavaMaster(PathBuf),
}

/// One broker's place in a cluster.
pub struct Seat<'a> {
    /// `broker-a-n0`
    pub name: &'a str,
    /// `broker-a`
    pub set: &'a str,
    pub replica: usize,
    pub host: &'a str,
    /// Client port.
    pub port: u16,
    /// Hosts and client ports of all replicas of the set, this one included, in order.
    pub peers: &'a [(String, u16)],
    /// `host:port` of the name server.
    pub namesrv: &'a str,
    /// The cluster's directory.
    pub dir: &'a Path,
}

/// A program to start and its settings file's text.
pub struct Launch {
    pub path: PathBuf,
    /// Before the settings file's name.
    pub args: Vec<String>,
    pub settings: String,
}

impl Launch {
    /// Has it started by another command: a program and its arguments, which the present ones follow.
    pub fn wrap(&mut self, command: &[String]) {
        let Some((program, args)) = command.split_first() else {
            return;
        };
        let inner = text(&std::mem::replace(&mut self.path, program.into()));
        let before = args.iter().cloned().chain([inner]);
        self.args.splice(0..0, before);
    }

    /// The program, its settings in `file`, its words in `log`.
    pub fn program(self, name: String, file: &Path, log: PathBuf) -> Program {
        let mut args = self.args;
        args.push(text(file));
        Program {
            name,
            path: self.path,
            args,
            log,
        }
    }
}

impl Servers {
    /// Distance of the port for replication above the client port.
    pub fn peer_port(&self) -> u16 {
        match self {
            Self::RaftMq(_) | Self::JavaMaster(_) => 1,
            // The next one is its port for slaves, whether there are any or not.
            Self::JavaDledger(_) => 3,
        }
    }

    /// The name server of the cluster in `dir`.
    pub fn namesrv(&self, dir: &Path, host: &str, port: u16) -> Launch {
        let settings = [
            ("listenPort", port.to_string()),
            ("bindAddress", host.to_owned()),
            ("kvConfigPath", text(&dir.join("kvConfig.json"))),
        ];
        self.launch(dir, "namesrv", settings.to_vec(), &[])
    }

    /// A broker; `given` replaces settings made here.
    pub fn broker(&self, seat: &Seat<'_>, given: &[(String, String)]) -> Launch {
        let store = seat.dir.join(seat.name).join("store");
        let peers: Vec<_> = (0..)
            .zip(seat.peers)
            .map(|(r, (host, port))| format!("n{r}-{host}:{}", port + self.peer_port()))
            .collect();
        let mut settings = vec![
            ("brokerClusterName", CLUSTER_NAME.to_owned()),
            ("brokerName", seat.set.to_owned()),
            ("flushDiskType", "ASYNC_FLUSH".to_owned()),
            ("listenPort", seat.port.to_string()),
            ("bindAddress", seat.host.to_owned()),
            ("brokerIP1", seat.host.to_owned()),
            ("namesrvAddr", seat.namesrv.to_owned()),
            ("storePathRootDir", text(&store)),
            ("mappedFileSizeCommitLog", SEGMENT_BYTES.to_string()),
        ];
        match self {
            Self::RaftMq(_) => settings.extend([
                ("brokerRole", "SYNC_MASTER".to_owned()),
                ("raftPeers", peers.join(";")),
                ("raftSelfId", format!("n{}", seat.replica)),
            ]),
            Self::JavaMaster(_) => {
                let role = match (seat.replica, seat.peers.len()) {
                    (0, 1) => "ASYNC_MASTER",
                    (0, _) => "SYNC_MASTER",
                    _ => "SLAVE",
                };
                settings.extend([
                    ("brokerId", seat.replica.to_string()),
                    ("brokerRole", role.to_owned()),
                    // Without it SYNC_MASTER of 5.x does not wait for a slave.
                    ("inSyncReplicas", seat.peers.len().to_string()),
                ]);
            }
            Self::JavaDledger(_) => settings.extend([
                ("enableDLegerCommitLog", "true".to_owned()),
                ("dLegerGroup", seat.set.to_owned()),
                ("dLegerPeers", peers.join(";")),
                ("dLegerSelfId", format!("n{}", seat.replica)),
                ("sendMessageThreadPoolNums", "16".to_owned()),
            ]),
        }
        if !matches!(self, Self::RaftMq(_)) {
            settings.extend([
                ("brokerIP2", seat.host.to_owned()),
                ("autoCreateTopicEnable", "true".to_owned()),
                ("diskMaxUsedSpaceRatio", "95".to_owned()),
                ("storePathCommitLog", text(&store.join("commitlog"))),
            ]);
        }
        self.launch(seat.dir, seat.name, settings, given)
    }

    fn launch(
        &self,
        dir: &Path,
        name: &str,
        mut settings: Vec<(&str, String)>,
        given: &[(String, String)],
    ) -> Launch {
        settings.retain(|(key, _)| !given.iter().any(|(k, _)| k == key));
        let given = given.iter().map(|(k, v)| (k.as_str(), v.clone()));
        let settings =
            settings
                .into_iter()
                .chain(given)
                .fold(String::new(), |mut text, (key, value)| {
                    // Writing to a String cannot fail.
                    let _ = writeln!(text, "{key}={}", value.replace('\\', "\\\\"));
                    text
                });
        let is_broker = name != "namesrv";
        let (path, mut args) = match self {
            Self::RaftMq(bin_dir) => {
                let program = if is_broker { "mqbroker" } else { "mqnamesrv" };
                (bin_dir.join(program), Vec::new())
            }
            Self::JavaDledger(run) | Self::JavaMaster(run) => {
                let class = if is_broker {
                    "org.apache.rocketmq.broker.BrokerStartup"
                } else {
                    "org.apache.rocketmq.namesrv.NamesrvStartup"
                };
                (run.clone(), vec![text(&dir.join(name)), class.to_owned()])
            }
        };
        args.push("-c".to_owned());
        Launch {
            path,
            args,
            settings,
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A setting as it is given on a command line.
///
/// # Errors
/// It is no key=value.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("key=value is wanted".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_broker_gets_its_own_ports_and_its_sets_peers() {
        let peers: Vec<_> = [10941, 10951, 10961]
            .map(|port| ("127.0.0.1".to_owned(), port))
            .into();
        let seat = Seat {
            name: "broker-b-n2",
            set: "broker-b",
            replica: 2,
            host: "127.0.0.1",
            port: 10961,
            peers: &peers,
            namesrv: "127.0.0.1:9876",
            dir: Path::new("/data"),
        };
        let given = [
            ("brokerRole".to_owned(), "ASYNC_MASTER".to_owned()),
            ("ackTimeoutMs".to_owned(), "500".to_owned()),
        ];
        let ours = Servers::RaftMq("/bin".into()).broker(&seat, &given);
        assert_eq!(ours.path, Path::new("/bin/mqbroker"));
        let file = ours.settings;
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
        let slave = Servers::JavaMaster("/run".into())
            .broker(&seat, &[])
            .settings;
        for line in ["brokerId=2", "brokerRole=SLAVE", "inSyncReplicas=3"] {
            assert!(slave.lines().any(|l| l == line), "{line} in\n{slave}");
        }
        let java = Servers::JavaDledger("/run".into()).broker(&seat, &[]);
        let line = "dLegerPeers=n0-127.0.0.1:10944;n1-127.0.0.1:10954;n2-127.0.0.1:10964";
        assert!(
            java.settings.lines().any(|l| l == line),
            "{}",
            java.settings
        );
    }
}
