//! What clients of all workloads are made of: one request at a time, to one replica, without retries, and its outcome as it can be
//! known: it took effect, it certainly did not, or nobody can say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use raftmq_client::{Admin, ClientConfig};
use raftmq_remoting::{
    ClientOptions, RemotingClient, RemotingCommand, RemotingError, response_code,
};

use crate::history::{Kind, Process, Recorder};
use crate::random::Random;
use crate::settings::{Settings, Whose};
use crate::value::Value;

/// Longest wait for an answer. A broker answers for itself after less.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_millis(800);
/// Connections to each replica that the clients share.
const CONNECTIONS: usize = 4;
/// How often the master is looked up.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two looks at whether writing is welcome again.
const HUSHED: Duration = Duration::from_millis(5);
/// After a refusal, so that a broker that refuses is not asked ten thousand times a second.
const REST: Duration = Duration::from_millis(20);

/// Where the cluster is.
#[derive(Clone, Debug)]
pub struct Place {
    /// `host:port` of the name server.
    pub namesrv: String,
    /// The broker set.
    pub set: String,
    /// Client addresses of its replicas, by number.
    pub addrs: Vec<String>,
}

/// A queue of the run.
#[derive(Clone, Debug)]
pub struct Queue {
    pub topic: String,
    pub id: i32,
}

/// What all clients of a run share.
pub struct Shared {
    pub place: Place,
    pub settings: Settings,
    pub recorder: Arc<Recorder>,
    /// The queues of the history, by number.
    pub queues: Vec<Queue>,
    clients: Vec<RemotingClient>,
    master: AtomicUsize,
    next_process: AtomicU32,
    stopped: AtomicBool,
}

/// How a request went that was not answered with success.
#[derive(Debug)]
pub struct Failure {
    /// Whether it may have taken effect, or may later.
    pub maybe: bool,
    pub code: Option<i32>,
    pub why: String,
}

impl Shared {
    /// Processes below `threads` are the clients' first.
    pub fn new(
        place: Place,
        settings: Settings,
        queues: Vec<Queue>,
        recorder: Arc<Recorder>,
        threads: u32,
    ) -> Arc<Self> {
        let options = ClientOptions {
            connect_timeout: CONNECT,
            ..ClientOptions::default()
        };
        let client = |_| RemotingClient::new(options.clone(), None);
        Arc::new(Self {
            place,
            settings,
            recorder,
            queues,
            clients: (0..CONNECTIONS).map(client).collect(),
            master: AtomicUsize::new(0),
            next_process: AtomicU32::new(threads),
            stopped: AtomicBool::new(false),
        })
    }

    /// Whether the clients should come to an end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Asks the clients to come to an end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// The master the name server told last.
    pub fn master(&self) -> u8 {
        u8::try_from(self.master.load(Ordering::Acquire)).unwrap_or(0)
    }

    /// Follows what the name server says, for as long as this is polled.
    pub async fn follow_master(&self) {
        let config = ClientConfig {
            request_timeout: Duration::from_secs(1),
            ..ClientConfig::new(self.place.namesrv.clone())
        };
        let Ok(admin) = Admin::with_config(config) else {
            return;
        };
        loop {
            if let Ok(info) = admin.cluster_info().await {
                let set = info.broker_addr_table.get(&self.place.set);
                let addr = set.and_then(|b| b.broker_addrs.get(&0));
                let number = addr.and_then(|a| self.place.addrs.iter().position(|b| a == b));
                if let Some(number) = number {
                    self.master.store(number, Ordering::Release);
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// One thread of a client.
    pub fn thread(self: &Arc<Self>, number: u32) -> Thread {
        Thread {
            shared: self.clone(),
            number,
            process: number,
            random: Random::new(self.settings.seed ^ (u64::from(number) << 32)),
        }
    }

    /// Whether a refusal with this code says that nothing was done. SYSTEM_ERROR and whatever else a broker says is unknown.
    fn is_refusal(&self, code: i32) -> bool {
        match code {
            response_code::TOPIC_NOT_EXIST
            | response_code::NO_PERMISSION
            | response_code::MESSAGE_ILLEGAL
            | response_code::SUBSCRIPTION_GROUP_NOT_EXIST => true,
            // What the others mean by these is not sure.
            response_code::SERVICE_NOT_AVAILABLE | response_code::SYSTEM_BUSY => {
                self.settings.servers == Whose::Raftmq
            }
            _ => false,
        }
    }
}

/// One thread of a client: has one operation at a time. After one of unknown outcome it goes on as another process, for the old one
/// may still take effect.
pub struct Thread {
    pub shared: Arc<Shared>,
    pub number: u32,
    pub process: u32,
    pub random: Random,
}

impl Thread {
    /// Whom to ask next. Of eight threads four stay with one replica whatever happens, which passes requests on, or is a master that
    /// should know that it is none any more; the others ask mostly the master, as clients do, and sometimes anybody.
    pub fn via(&mut self) -> u8 {
        let replicas = self.shared.place.addrs.len();
        let ours = self.shared.settings.servers == Whose::Raftmq;
        if ours && self.number / 4 % 2 == 1 {
            let home = (self.number / 8) as usize % replicas.max(1);
            return u8::try_from(home).unwrap_or(0);
        }
        let others = match self.shared.settings.servers {
            Whose::Raftmq => 2,
            // They refuse.
            Whose::JavaDledger | Whose::JavaMaster => 16,
        };
        if self.random.below(others) == 0 {
            u8::try_from(self.random.below(replicas)).unwrap_or(0)
        } else {
            self.shared.master()
        }
    }

    /// Whom to ask for what a slave of Apache's answers from its own store, and may be behind with.
    pub fn via_knowing(&mut self) -> u8 {
        match self.shared.settings.servers {
            Whose::Raftmq => self.via(),
            Whose::JavaDledger | Whose::JavaMaster => self.shared.master(),
        }
    }

    /// A queue that messages are sent to.
    pub fn any_queue(&mut self) -> u32 {
        let queues = self.shared.settings.queues as usize;
        u32::try_from(self.random.below(queues)).unwrap_or(0)
    }

    /// Waits until writing is welcome.
    pub async fn may_write(&self) {
        while self.shared.recorder.is_hushed() && !self.shared.is_stopped() {
            tokio::time::sleep(HUSHED).await;
        }
    }

    /// Notes that an operation begins.
    pub fn begin(&self, f: &str, value: &Value) {
        let process = Process::Client(self.process);
        self.shared.recorder.note(process, Kind::Invoke, f, value);
    }

    /// Notes that it took effect.
    pub fn ok(&self, f: &str, value: &Value) {
        let process = Process::Client(self.process);
        self.shared.recorder.note(process, Kind::Ok, f, value);
    }

    /// Notes that it failed, and rests a moment. A failed read took no effect, whatever happened.
    pub async fn failed(&mut self, f: &str, failure: &Failure, is_read: bool) {
        let maybe = failure.maybe && !is_read;
        let value = Value {
            code: failure.code,
            why: Some(failure.why.clone()),
            ..Value::default()
        };
        let kind = if maybe { Kind::Info } else { Kind::Fail };
        let process = Process::Client(self.process);
        self.shared.recorder.note(process, kind, f, &value);
        if maybe {
            self.process = self.shared.next_process.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(REST).await;
    }

    fn client(&self) -> &RemotingClient {
        &self.shared.clients[self.number as usize % CONNECTIONS]
    }

    fn addr(&self, via: u8) -> &str {
        let addrs = &self.shared.place.addrs;
        addrs.get(usize::from(via)).map_or("", String::as_str)
    }

    /// Asks replica `via`. Codes of `accepted` are answers, the others failures.
    pub async fn ask(
        &self,
        via: u8,
        cmd: RemotingCommand,
        accepted: &[i32],
    ) -> Result<RemotingCommand, Failure> {
        let (client, addr) = (self.client(), self.addr(via));
        let answer = client.invoke(addr, cmd, TIMEOUT).await;
        match answer {
            Ok(answer) if accepted.contains(&answer.code) => Ok(answer),
            Ok(answer) => Err(Failure {
                maybe: !self.shared.is_refusal(answer.code),
                code: Some(answer.code),
                why: answer.remark.unwrap_or_default(),
            }),
            Err(error) => {
                // A connection through a network that was cut stays silent for long after it is healed.
                if matches!(error, RemotingError::Timeout { .. })
                    && let Ok(Ok(channel)) =
                        tokio::time::timeout(Duration::ZERO, client.channel(addr)).await
                {
                    channel.close("no answer");
                }
                Err(Failure {
                    maybe: !error.surely_not_sent(),
                    code: None,
                    why: error.to_string(),
                })
            }
        }
    }

    /// Sends a request that is not answered. Ok says that it is on its way.
    pub async fn tell(&self, via: u8, cmd: RemotingCommand) -> Result<(), Failure> {
        let told = self.client().oneway(self.addr(via), cmd).await;
        told.map_err(|error| Failure {
            maybe: !error.surely_not_sent(),
            code: None,
            why: error.to_string(),
        })
    }
}
