//! What can be done to one replica, or to several at one moment: its process, its power, its directory, its clock.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use raftmq_benches::{BenchError, Cluster};

use super::Bed;
use super::disk::Disk;
use super::tools::{off, run};

/// How often the end of a process is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a process ended without being killed here.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code; None: a signal.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// Its last words.
    pub words: String,
}

impl Bed {
    /// One action on the processes, off the runtime's threads.
    async fn act<T: Send + 'static>(
        &self,
        action: impl FnOnce(&mut Cluster) -> Result<T, BenchError> + Send + 'static,
    ) -> Result<T, BenchError> {
        let cluster = self.cluster.clone();
        off(move || action(&mut cluster.lock())).await
    }

    /// Kills processes (-9) and waits until they are gone. Answers those that had run.
    ///
    /// # Errors
    /// Only the bed's own.
    pub async fn kill(&self, replicas: &[usize]) -> Result<Vec<usize>, BenchError> {
        let replicas = replicas.to_vec();
        self.act(move |cluster| Ok(kill(cluster, &replicas))).await
    }

    /// Starts processes that do not run; before that, a disk whose power failed is mounted again, in another boot.
    ///
    /// # Errors
    /// A process or a disk cannot be started; the others were tried.
    pub async fn start_replicas(&self, replicas: &[usize]) -> Result<(), BenchError> {
        let (replicas, disks) = (replicas.to_vec(), self.disks.clone());
        let beliefs = self.beliefs.clone();
        self.act(move |cluster| {
            let mut outcome = Ok(());
            for replica in replicas {
                let Some(broker) = cluster.brokers.get_mut(replica) else {
                    continue;
                };
                if let Some(disk) = disks.get(replica).filter(|disk| disk.is_shut()) {
                    broker.process.kill();
                    let again = disk.recover();
                    outcome = outcome.and(again).and(beliefs[replica].boot_anew());
                }
                outcome = outcome.and(broker.process.restart());
            }
            outcome
        })
        .await
    }

    /// Holds processes (SIGSTOP) or lets them go on. Answers those that run.
    ///
    /// # Errors
    /// Only the bed's own.
    pub async fn hold(&self, replicas: &[usize], held: bool) -> Result<Vec<usize>, BenchError> {
        let replicas = replicas.to_vec();
        self.act(move |cluster| {
            let mut running = Vec::new();
            for replica in replicas {
                if let Some(broker) = cluster.brokers.get_mut(replica)
                    && broker.process.pid().is_some()
                    && broker.process.ended().is_none()
                {
                    broker.process.hold(held);
                    running.push(replica);
                }
            }
            Ok(running)
        })
        .await
    }

    /// Asks processes to end (SIGTERM).
    ///
    /// # Errors
    /// Only the bed's own.
    pub async fn ask_to_stop(&self, replicas: &[usize]) -> Result<(), BenchError> {
        let replicas = replicas.to_vec();
        self.act(move |cluster| {
            for broker in replicas.iter().filter_map(|r| cluster.brokers.get(*r)) {
                broker.process.ask_to_stop();
            }
            Ok(())
        })
        .await
    }

    /// Waits for a process that ends by itself; None: it still runs.
    ///
    /// # Errors
    /// Only the bed's own.
    pub async fn wait_ended(
        &self,
        replica: usize,
        limit: Duration,
    ) -> Result<Option<Ended>, BenchError> {
        let deadline = Instant::now() + limit;
        loop {
            let look = self.act(move |cluster| {
                let Some(broker) = cluster.brokers.get_mut(replica) else {
                    return Ok(None);
                };
                let status = broker.process.ended();
                let words = broker.process.check().err();
                Ok(status.zip(words).map(|(status, words)| Ended {
                    code: status.code(),
                    signal: status.signal(),
                    words: words.to_string(),
                }))
            });
            let ended = look.await?;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Fails the power of replicas at one moment: what they had not fsynced is gone, and their processes are. They come back with
    /// [`Self::start_replicas`], in another boot.
    ///
    /// # Errors
    /// The bed has no disks, or one cannot be shut.
    pub async fn power_off(&self, replicas: &[usize]) -> Result<Vec<usize>, BenchError> {
        let held = self.hold(replicas, true).await?;
        let (all, disks) = (held.clone(), self.disks.clone());
        self.act(move |cluster| {
            let shut = shut(&disks, &all);
            kill(cluster, &all);
            shut
        })
        .await?;
        Ok(held)
    }

    /// Fails the disks under running processes: every write and fsync is an error from now on.
    ///
    /// # Errors
    /// As [`Self::power_off`].
    pub async fn fail_disks(&self, replicas: &[usize]) -> Result<(), BenchError> {
        let (all, disks) = (replicas.to_vec(), self.disks.clone());
        off(move || shut(&disks, &all)).await
    }

    /// Does something with a replica's disk.
    ///
    /// # Errors
    /// The bed has no disks; the action's own.
    pub async fn with_disk<T: Send + 'static>(
        &self,
        replica: usize,
        action: impl FnOnce(&Disk) -> Result<T, BenchError> + Send + 'static,
    ) -> Result<T, BenchError> {
        let disks = self.disks.clone();
        off(move || action(disks.get(replica).ok_or_else(no_disks)?)).await
    }

    /// Sets a replica's clock so many seconds off.
    ///
    /// # Errors
    /// The bed has no clocks of its own; I/O.
    pub fn set_clock(&self, replica: usize, seconds: f64) -> Result<(), BenchError> {
        match self.beliefs.get(replica) {
            Some(beliefs) if self.options.clocks => beliefs.set_clock(seconds),
            _ => Err(BenchError::Usage("the bed has no clocks of its own".into())),
        }
    }

    /// Deletes a replica's store. Its process must not run.
    ///
    /// # Errors
    /// I/O.
    pub async fn wipe(&self, replica: usize) -> Result<(), BenchError> {
        let store = self.store_dir(replica);
        off(move || remove(&store)).await
    }

    /// Puts a replica's store aside, or what was put aside back. Its process must not run.
    ///
    /// # Errors
    /// I/O; nothing was put aside.
    pub async fn set_aside(&self, replica: usize, aside: bool) -> Result<(), BenchError> {
        let (store, other) = (self.store_dir(replica), self.home(replica).join("aside"));
        off(move || {
            let (from, to) = if aside {
                (store, other)
            } else {
                (other, store)
            };
            if fs::exists(&from).map_err(BenchError::io(&from))? {
                remove(&to)?;
                fs::rename(&from, &to).map_err(BenchError::io(&from))?;
            }
            Ok(())
        })
        .await
    }

    /// Where copies of a replica's files can be kept, off its disk.
    pub fn copy_dir(&self, replica: usize) -> PathBuf {
        self.options.dir.join(format!("copy-n{replica}"))
    }

    /// Kills the name server. False: it did not run.
    ///
    /// # Errors
    /// Only the bed's own.
    pub async fn kill_namesrv(&self) -> Result<bool, BenchError> {
        self.act(|cluster| {
            let ran = cluster.namesrv.pid().is_some();
            cluster.namesrv.kill();
            Ok(ran)
        })
        .await
    }

    /// Starts the name server when it does not run.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start_namesrv(&self) -> Result<(), BenchError> {
        self.act(|cluster| cluster.namesrv.restart()).await
    }

    /// Process ids of the replicas that run.
    pub async fn pids(&self) -> Vec<Option<u32>> {
        let pids =
            self.act(|cluster| Ok(cluster.brokers.iter().map(|b| b.process.pid()).collect()));
        pids.await.unwrap_or_default()
    }
}

fn kill(cluster: &mut Cluster, replicas: &[usize]) -> Vec<usize> {
    // All of them stand still before the first is gone: this is one moment.
    let mut running = Vec::new();
    for replica in replicas {
        if let Some(broker) = cluster.brokers.get_mut(*replica)
            && broker.process.pid().is_some()
            && broker.process.ended().is_none()
        {
            broker.process.hold(true);
            running.push(*replica);
        }
    }
    for replica in &running {
        cluster.brokers[*replica].process.kill();
    }
    running
}

fn shut(disks: &[Disk], replicas: &[usize]) -> Result<(), BenchError> {
    let some: Vec<_> = replicas.iter().filter_map(|r| disks.get(*r)).collect();
    match some.len() == replicas.len() {
        true if some.is_empty() => Ok(()),
        true => Disk::shut(&some),
        false => Err(no_disks()),
    }
}

fn no_disks() -> BenchError {
    BenchError::Usage("the bed has no disks of its own".into())
}

/// Copies a file or a directory in place of whatever is there.
///
/// # Errors
/// I/O.
pub fn copy(from: &Path, to: &Path) -> Result<(), BenchError> {
    remove(to)?;
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(BenchError::io(parent))?;
    }
    run("cp", ["-a".as_ref(), from.as_os_str(), to.as_os_str()])
}

/// What is not there is not missed.
fn remove(path: &Path) -> Result<(), BenchError> {
    let removed = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(BenchError::io(path)(e)),
        _ => Ok(()),
    }
}
