//! A simulated machine: its disk, its clocks, and perhaps a replica that runs on them. Every process has a runtime of its own
//! with one thread and a paused clock, so that a kill is the end of the runtime, a stopped process is one that gets no turn,
//! and clocks run at different speeds.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use raftmq_raft::ground::{Ground, Net as ReplicaNet};
use raftmq_raft::{
    Arrived, Command, FlushEvery, FlushMode, Observer, Peer, Policy, Proposal, ProposeError,
    Replica, ReplicaOptions, Stored,
};
use raftmq_store::Env;
use raftmq_store::commitlog::marks::Mark;
use raftmq_store::commitlog::{Drive, EntryId};
use raftmq_store::kv::KvDisk;
use raftmq_store::vfs::{Crash, FileSystem, SimFs};
use tokio::runtime::Runtime;

use super::dice::Dice;
use super::net::Net;
use super::wire::{HostWire, take_arrivals};
use super::world::{GROUP, QUEUES, TOPIC};

/// Wall clocks begin here: any moment will do.
const EPOCH_MS: i64 = 1_700_000_000_000;
/// Longest time a clean stop takes, ms.
const STOPS_WITHIN: u64 = 3_000;
/// Time between two rounds of what the housekeeper and the flusher do, ms.
const HOUSEKEEPING: u64 = 1_000;
/// Time between two checkpoints of the log, ms.
const CHECKPOINT: u64 = 5_000;
const HEARTBEAT: Duration = Duration::from_millis(50);
const ELECTION_MIN: Duration = Duration::from_millis(200);
const ELECTION_MAX: Duration = Duration::from_millis(400);

struct Silent;

impl Observer for Silent {
    fn messages_applied(&self, _arrived: &[Arrived]) {}
    fn topics_changed(&self) {}
    fn groups_changed(&self) {}
    fn timers_changed(&self) {}
}

/// What became of a proposal.
pub type Settled = (u64, Result<Stored, ProposeError>);

/// Something to do at the beginning of a host's turn.
pub enum Act {
    /// Propose this under a number.
    Propose(u64, Proposal),
    /// Hand the leadership to somebody.
    Transfer,
    /// Give up the log before a place where it could begin, drawn with this number.
    Trim(u64),
}

/// What is seen of a replica at the end of its turn.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The term it leads in.
    pub leads_in: Option<u64>,
    /// It serves, under its lease.
    pub serving: bool,
    /// Its last applied entry.
    pub applied: Option<Mark>,
    /// Its last entry.
    pub last: Option<EntryId>,
    /// Next offset of each queue, as a consumer sees it.
    pub next_offset: [i64; QUEUES],
    /// Consumer offset of each queue.
    pub offsets: [i64; QUEUES],
    /// Why it has ended.
    pub ended: Option<String>,
    /// Why it may not vote.
    pub restriction: Option<String>,
}

/// A running process.
struct Process {
    runtime: Runtime,
    replica: Replica,
    /// Its own age, ms.
    age: u64,
}

/// See the module's text.
pub struct Host {
    number: usize,
    options: ReplicaOptions,
    /// The disk.
    pub fs: SimFs,
    kv: Arc<KvDisk>,
    boot: u32,
    wall: Arc<AtomicI64>,
    /// What the wall clock is wrong by, ms.
    pub wall_error: i64,
    /// What the monotonic clock gains, thousandths.
    pub drift: i64,
    gained: i64,
    process: Option<Process>,
    /// Operations of the disk take so many ms longer.
    pub slow_disk: u64,
    disk_ready: u64,
    /// Not run for so many ms.
    pub missed: u64,
    settled: Arc<Mutex<VecDeque<Settled>>>,
    net: Arc<Net>,
}

/// Address of a host's peer port.
pub fn address(host: usize) -> String {
    format!("10.0.0.{}:10912", host + 1)
}

/// What all replicas of a run have in common.
#[derive(Debug, Clone)]
pub struct Common {
    /// How many there are.
    pub replicas: usize,
    /// When an entry counts as persisted.
    pub flush: FlushMode,
    /// When sends are answered.
    pub policy: Policy,
    /// Bytes of a log segment.
    pub segment_size: u64,
}

fn options(number: usize, common: &Common) -> ReplicaOptions {
    let peers = (0..common.replicas).map(|n| Peer {
        name: format!("n{n}"),
        addr: address(n),
    });
    ReplicaOptions {
        store_dir: PathBuf::from("/store"),
        segment_size: common.segment_size,
        flush: common.flush,
        flush_every: FlushEvery::default(),
        warm_segments: false,
        scrub_rate: 1 << 20,
        catch_up_rate: 0,
        accept_data_loss: false,
        cluster: "SimulatedCluster".into(),
        set: "simulated".into(),
        self_name: format!("n{number}"),
        peers: peers.collect(),
        bootstrap: false,
        peer_bind: SocketAddr::from(([10, 0, 0, number as u8 + 1], 10912)),
        peer_advertise: address(number),
        client_advertise: format!("10.0.0.{}:10911", number + 1),
        policy: common.policy.clone(),
        heartbeat: HEARTBEAT,
        election_min: ELECTION_MIN,
        election_max: ELECTION_MAX,
        ack_timeout: Duration::from_millis(2_500),
        waiting_room: Duration::from_secs(2),
        waiting_room_bytes: 16 << 20,
    }
}

impl Host {
    /// A machine with an empty disk and no process.
    pub fn new(number: usize, common: &Common, net: Arc<Net>, seed: u64) -> Self {
        let fs = SimFs::new(seed);
        let made = fs
            .create_dir_all(Path::new("/store"))
            .and_then(|()| fs.sync_all(Path::new("/")));
        if let Err(error) = made {
            unreachable!("an empty disk in memory takes a directory: {error}");
        }
        Self {
            number,
            options: options(number, common),
            fs,
            kv: Arc::default(),
            boot: 1,
            wall: Arc::new(AtomicI64::new(EPOCH_MS)),
            wall_error: 0,
            drift: 0,
            gained: 0,
            process: None,
            slow_disk: 0,
            disk_ready: 0,
            missed: 0,
            settled: Arc::default(),
            net,
        }
    }

    /// Whether a process runs.
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// The replica, when there is one.
    pub fn replica(&self) -> Option<&Replica> {
        self.process.as_ref().map(|p| &p.replica)
    }

    fn ground(&self) -> Ground {
        let (kv, wall) = (self.kv.clone(), self.wall.clone());
        Ground {
            env: Env {
                fs: Arc::new(self.fs.clone()),
                open_kv: Arc::new(move |_| kv.open()),
            },
            boot: format!("boot-{}", self.boot),
            now_ms: Arc::new(move || wall.load(Ordering::Relaxed)),
            net: ReplicaNet::Simulated(Arc::new(HostWire {
                net: self.net.clone(),
                host: self.number,
            })),
            drive: Drive::Caller,
            newest_version: raftmq_store::version::NEWEST,
        }
    }

    /// Starts the process.
    ///
    /// # Errors
    /// The store does not open.
    pub fn start(&mut self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|e| e.to_string())?;
        self.net.up(self.number);
        let (ground, options) = (self.ground(), self.options.clone());
        let opened = runtime.block_on(async {
            let began = tokio::time::Instant::now();
            let opened = Replica::open_on(ground, options, Arc::new(Silent)).await;
            (opened, began.elapsed())
        });
        match opened {
            (Ok(replica), took) if took.is_zero() => {
                self.process = Some(Process {
                    runtime,
                    replica,
                    age: 0,
                });
                Ok(())
            }
            (opened, took) => {
                self.net.down(self.number, false);
                Err(match opened {
                    Ok(_) => format!("a start waited for {took:?}"),
                    Err(error) => error.to_string(),
                })
            }
        }
    }

    /// The process is killed.
    pub fn kill(&mut self, dice: &mut Dice) {
        self.end(false);
        self.fs = self.fs.crash(Crash::Kill, dice.next());
    }

    /// The machine loses its power: what was not synced may be gone.
    pub fn lose_power(&mut self, dice: &mut Dice) {
        self.end(true);
        self.fs = self.fs.crash(Crash::Power, dice.next());
        self.kv.lose_power(|n| dice.below(n as u64) as usize);
        self.boot += 1;
    }

    fn end(&mut self, power: bool) {
        self.net.down(self.number, power);
        self.missed = 0;
        // Tasks that end with their runtime may not write any more.
        self.fs.kill_after(0);
        if let Some(process) = self.process.take() {
            drop(process.replica);
            drop(process.runtime);
        }
    }

    /// The process ends by itself, as it is asked to.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self) -> Result<(), String> {
        let Some(process) = self.process.take() else {
            return Ok(());
        };
        let replica = process.replica.clone();
        let stopped = process.runtime.block_on(async {
            let stopping = tokio::spawn({
                let replica = replica.clone();
                async move { replica.shutdown().await }
            });
            for _ in 0..STOPS_WITHIN {
                tokio::time::sleep(Duration::from_millis(1)).await;
                replica.step();
                if stopping.is_finished() {
                    return stopping.await.map_err(|e| e.to_string());
                }
            }
            Err("a clean stop does not end".to_owned())
        });
        self.net.down(self.number, false);
        self.missed = 0;
        let poisoned = process.replica.log().progress().poisoned();
        drop(process);
        drop(replica);
        match stopped? {
            Ok(()) => Ok(()),
            Err(_) if poisoned.is_some() => Ok(()),
            Err(error) => Err(format!("a clean stop failed: {error}")),
        }
    }

    /// What became of proposals since the last call.
    pub fn settled(&self) -> VecDeque<Settled> {
        std::mem::take(&mut *self.settled.lock())
    }

    /// Lets the process run for a millisecond of simulated time (of its own clock: more or less), after what it missed.
    pub fn turn(&mut self, now_ms: u64, acts: Vec<Act>) -> Option<Look> {
        self.wall.store(
            EPOCH_MS + now_ms as i64 + self.wall_error,
            Ordering::Relaxed,
        );
        self.gained += self.drift;
        let extra = self.gained / 1_000;
        self.gained -= extra * 1_000;
        let own = (1 + extra).max(0) as u64;
        let missed = std::mem::take(&mut self.missed);
        let works = now_ms >= self.disk_ready;
        let (net, number, settled) = (&self.net, self.number, &self.settled);
        let process = self.process.as_mut()?;
        let replica = &process.replica;
        let before = process.age;
        process.age += own + missed;
        let due = |every: u64| process.age / every > before / every;
        let (keeps_house, checkpoints) = (due(HOUSEKEEPING), due(CHECKPOINT));
        let (look, worked) = process.runtime.block_on(async {
            if missed > 0 {
                tokio::time::advance(Duration::from_millis(missed)).await;
            }
            take_arrivals(net, number);
            acts.into_iter()
                .for_each(|act| perform(replica, act, settled));
            if own > 0 {
                tokio::time::sleep(Duration::from_millis(own)).await;
            }
            let mut worked = 0;
            if works {
                worked = replica.step();
                if keeps_house && let Err(error) = replica.keep_house() {
                    tracing::warn!(%error, "housekeeping");
                }
                if checkpoints {
                    replica.checkpoint();
                }
            }
            (look(replica), worked)
        });
        if worked > 0 {
            self.disk_ready = now_ms + self.slow_disk;
        }
        Some(look)
    }
}

fn perform(replica: &Replica, act: Act, settled: &Arc<Mutex<VecDeque<Settled>>>) {
    match act {
        Act::Propose(number, mut proposal) => {
            proposal.deadline = tokio::time::Instant::now().into_std() + Duration::from_secs(3);
            let settled = settled.clone();
            replica.propose(proposal, move |result| {
                settled.lock().push_back((number, result));
            });
        }
        Act::Trim(number) => {
            let places = replica.boundaries();
            let place = match number % 2 {
                0 => places.last(),
                _ => places.get(number as usize % places.len().max(1)),
            };
            let Some(place) = place else { return };
            let trim = Proposal {
                messages: Vec::new(),
                commands: vec![Command::TrimTo {
                    position: place.position,
                }],
                ack: None,
                only_term: replica.leads_in(),
                deadline: tokio::time::Instant::now().into_std() + Duration::from_secs(1),
            };
            replica.propose(trim, |_| {});
        }
        Act::Transfer => {
            let replica = replica.clone();
            tokio::spawn(async move {
                if let Err(error) = replica.transfer_leader(None).await {
                    tracing::debug!(%error, "no transfer");
                }
            });
        }
    }
}

fn look(replica: &Replica) -> Look {
    let (mut next_offset, mut offsets) = ([0; QUEUES], [0; QUEUES]);
    for queue in 0..QUEUES {
        let range = replica.queue_range(TOPIC, queue as i32);
        next_offset[queue] = range.map_or(0, |(_, next)| next);
        let offset = replica.state().offset(GROUP, TOPIC, queue as i32);
        offsets[queue] = offset.unwrap_or(0);
    }
    Look {
        leads_in: replica.leads_in(),
        serving: replica.is_serving(),
        applied: replica.applied(),
        last: replica.log().bounds().1,
        next_offset,
        offsets,
        ended: replica.ended(),
        restriction: replica.restriction(),
    }
}
