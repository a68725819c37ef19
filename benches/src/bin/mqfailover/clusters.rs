//! The cluster that a sub-command breaks: where its files, programs and ports are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use raftmq_benches::cluster::own_bin_dir;
use raftmq_benches::netns::Namespaces;
use raftmq_benches::programs::Servers;
use raftmq_benches::{BenchError, Cluster, ClusterOptions};

use crate::{BedArgs, Peer};

/// Replicas of a set.
pub const REPLICAS: usize = 3;
/// From the start of the processes to a set that serves; JVMs are slow.
pub const READY_LIMIT: Duration = Duration::from_secs(120);
/// Until a replica that was started again has everything.
pub const WHOLE_LIMIT: Duration = Duration::from_secs(300);

/// A cluster and its directory.
pub struct Running {
    pub cluster: Cluster,
    /// The set that is broken.
    pub set: String,
    pub dir: PathBuf,
    pub temporary: Option<tempfile::TempDir>,
}

/// Starts it and waits until its first set is whole.
///
/// # Errors
/// Something cannot be started or does not serve in time.
pub async fn start(
    args: &BedArgs,
    namespaces: Option<Arc<Namespaces>>,
) -> Result<Running, BenchError> {
    let (dir, temporary) = directory(args)?;
    let mut options = ClusterOptions {
        servers: match args.peer {
            Peer::Raftmq => Servers::RaftMq(bin_dir(args)?),
            Peer::JavaDledger => Servers::JavaDledger(script(args, "java-peer/run")?),
        },
        dir: dir.clone(),
        namesrv_port: 0,
        port_base: 0,
        sets: args.sets.into(),
        replicas: REPLICAS,
        settings: args.settings.clone(),
        namespaces,
        peers_listen_behind: 0,
        wrappers: Vec::new(),
    };
    match args.port {
        Some(port) => (options.namesrv_port, options.port_base) = (port, port + 11),
        None => options.choose_ports()?,
    }
    let mut cluster = Cluster::start(options)?;
    cluster.wait_ready(READY_LIMIT).await?;
    let set = cluster.sets().into_iter().next().unwrap_or_default();
    cluster.wait_whole(&set, WHOLE_LIMIT).await?;
    Ok(Running {
        cluster,
        set,
        dir,
        temporary,
    })
}

fn directory(args: &BedArgs) -> Result<(PathBuf, Option<tempfile::TempDir>), BenchError> {
    if let Some(dir) = &args.dir {
        return Ok((std::path::absolute(dir).map_err(BenchError::io(dir))?, None));
    }
    let temporary = tempfile::Builder::new()
        .prefix("raftmq-failover.")
        .tempdir()
        .map_err(BenchError::io(std::env::temp_dir()))?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

/// Where the servers and `mqbench` are.
///
/// # Errors
/// The system does not say where this program is.
pub fn bin_dir(args: &BedArgs) -> Result<PathBuf, BenchError> {
    args.bin_dir.clone().map_or_else(own_bin_dir, Ok)
}

/// A script of the folder benches, as an absolute path.
///
/// # Errors
/// There is no current directory.
pub fn script(args: &BedArgs, name: &str) -> Result<PathBuf, BenchError> {
    let path = args.scripts.join(name);
    std::path::absolute(&path).map_err(BenchError::io(path))
}
