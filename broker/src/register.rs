//! Registration at the name servers.
//!
//! One task for each name server, so that a slow one delays nobody. The master registers as id 0 as soon as it serves and
//! only under its lease, with the term as state version, so that an older master cannot overwrite a newer one. A follower
//! registers with its own id; a master that was deposed first waits until the name server shows the new one (or
//! [`DEMOTION_WAIT`]), because a name server drops an address's old id before it compares versions, and producers lose
//! queues without an id 0. Always the full topic table: every [`registerNameServerPeriod`](crate::config::Config), and at
//! once, gathered for [`GATHER`], when topics change.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftmq_remoting::body::{GetBrokerMemberGroupResponseBody, RegisterBrokerBody};
use raftmq_remoting::channel::RemotingError;
use raftmq_remoting::client::RemotingClient;
use raftmq_remoting::codes::{request, response};
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{
    GetBrokerMemberGroupRequestHeader, RegisterBrokerRequestHeader, UnRegisterBrokerRequestHeader,
};
use raftmq_remoting::json;
use raftmq_remoting::message::body_crc;
use tokio::sync::{Notify, watch};

use crate::broker::Broker;
use crate::topic_admin;

/// Topic changes that come within this time make one registration.
const GATHER: Duration = Duration::from_millis(10);

/// How long a deposed master waits for the new one to appear.
const DEMOTION_WAIT: Duration = Duration::from_secs(5);

/// How often it looks.
const DEMOTION_LOOK: Duration = Duration::from_millis(200);

/// Pause after a failed registration; grows to this.
const MAX_PAUSE: Duration = Duration::from_secs(5);
const MIN_PAUSE: Duration = Duration::from_millis(200);

/// Time a name server has to answer when the broker stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// A name server refuses a first registration with a single topic.
const MIN_TOPICS: usize = 2;

/// Longest time an administrator's topic change waits for the name servers before it is answered.
const SHOWN_WAIT: Duration = Duration::from_secs(1);

/// The id the master has.
const MASTER_ID: i64 = 0;

/// One name server.
struct NameServer {
    addr: String,
    broker: Arc<Broker>,
    client: RemotingClient,
    /// The id this broker is registered with here.
    registered: Option<i64>,
    /// When this replica lost leadership while registered as master.
    deposed: Option<Instant>,
}

/// Which version of the topic table each name server has; one that does not answer is not in it.
#[derive(Default)]
pub struct Shown {
    versions: Mutex<HashMap<String, i64>>,
    changed: Notify,
}

impl Shown {
    fn set(&self, addr: &str, counter: i64) {
        self.versions.lock().insert(addr.to_owned(), counter);
        self.changed.notify_waiters();
    }

    fn forget(&self, addr: &str) {
        self.versions.lock().remove(addr);
        self.changed.notify_waiters();
    }

    /// Whether no name server has it.
    pub fn is_nowhere(&self) -> bool {
        self.versions.lock().is_empty()
    }

    /// Waits until every name server that answers has this version of the topic table, at most [`SHOWN_WAIT`]: a
    /// client that has just made a topic finds its route at once.
    pub async fn wait(&self, counter: i64) {
        let shown = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.versions.lock().values().all(|v| *v >= counter) {
                    return;
                }
                changed.await;
            }
        };
        // Late or not, the topic is made.
        let _ = tokio::time::timeout(SHOWN_WAIT, shown).await;
    }
}

/// What to do now.
enum Step {
    /// With this id.
    Register(i64),
    /// Look again soon.
    Wait,
    /// Nothing to say yet.
    Idle,
}

/// Keeps this broker registered at `addr` until `stop`; then takes it out.
pub async fn run(
    broker: Arc<Broker>,
    client: RemotingClient,
    addr: String,
    mut stop: watch::Receiver<bool>,
) {
    let period = Duration::from_millis(broker.config().register_period_ms);
    let mut role = broker.replica.watch_role();
    let mut server = NameServer {
        addr,
        broker: broker.clone(),
        client,
        registered: None,
        deposed: None,
    };
    let mut pause = MIN_PAUSE;
    loop {
        let changed = broker.signals.topics.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        role.mark_unchanged();
        let step = tokio::select! {
            step = server.step() => step,
            _ = stop.changed() => break,
        };
        let wait = match step {
            Ok(Step::Register(_)) => {
                pause = MIN_PAUSE;
                period
            }
            Ok(Step::Wait) => DEMOTION_LOOK,
            Ok(Step::Idle) => period.min(MAX_PAUSE),
            Err(why) => {
                broker.shown.forget(&server.addr);
                tracing::warn!(name_server = %server.addr, %why, "cannot register");
                pause = (pause * 2).min(MAX_PAUSE);
                pause
            }
        };
        let gather = tokio::select! {
            () = tokio::time::sleep(wait) => false,
            () = &mut changed => true,
            done = role.changed() => if done.is_err() { break } else { false },
            _ = stop.changed() => break,
        };
        if gather {
            tokio::time::sleep(GATHER).await;
        }
    }
    broker.shown.forget(&server.addr);
    server.unregister().await;
}

impl NameServer {
    async fn step(&mut self) -> Result<Step, String> {
        let step = self.decide().await;
        if let Step::Register(id) = step {
            let counter = self.broker.state().topic_version().counter;
            self.register(id).await?;
            self.broker.shown.set(&self.addr, counter);
            if self.registered != Some(id) {
                tracing::info!(name_server = %self.addr, id, "registered");
            }
            self.registered = Some(id);
            if id != MASTER_ID {
                self.deposed = None;
            }
        }
        Ok(step)
    }

    async fn decide(&mut self) -> Step {
        let broker = self.broker.clone();
        let role = broker.replica.role();
        if role.serving {
            self.deposed = None;
            // The system topics are on their way.
            if broker.state().topics().len() < MIN_TOPICS {
                return Step::Wait;
            }
            // Without the lease somebody else may lead already.
            return if broker.replica.is_serving() {
                Step::Register(MASTER_ID)
            } else {
                Step::Wait
            };
        }
        if role.removed {
            self.unregister().await;
            self.registered = None;
            return Step::Idle;
        }
        // Not a member yet, or nothing replicated yet.
        if role.me.broker_id == 0 || broker.state().topics().len() < MIN_TOPICS {
            return Step::Idle;
        }
        if self.registered == Some(MASTER_ID) {
            let since = *self.deposed.get_or_insert_with(Instant::now);
            if since.elapsed() < DEMOTION_WAIT && !self.shows_another_master().await {
                return Step::Wait;
            }
        }
        Step::Register(role.me.broker_id as i64)
    }

    /// Whether this name server has a master that is not this broker.
    async fn shows_another_master(&self) -> bool {
        let config = self.broker.config();
        let header = GetBrokerMemberGroupRequestHeader {
            cluster_name: config.cluster.clone(),
            broker_name: config.name.clone(),
        };
        let request = RemotingCommand::request_with(request::GET_BROKER_MEMBER_GROUP, &header);
        let Ok(answer) = self.client.invoke(&self.addr, request, GOODBYE).await else {
            return false;
        };
        let Ok(body) =
            json::from_slice::<GetBrokerMemberGroupResponseBody>(&answer.body.to_bytes())
        else {
            return false;
        };
        let own = self.broker.store_host.to_string();
        body.broker_member_group
            .broker_addrs
            .get(&MASTER_ID)
            .is_some_and(|addr| *addr != own)
    }

    async fn register(&self, id: i64) -> Result<(), String> {
        let config = self.broker.config();
        let mut table = topic_admin::table(&self.broker);
        // A broker that may not be written or read says so for each topic.
        if !(self.broker.writable() && self.broker.readable()) {
            for topic in table.topic_config_table.values_mut() {
                topic.perm &= config.permission;
            }
        }
        let body = RegisterBrokerBody {
            topic_config_serialize_wrapper: table,
            filter_server_list: Vec::new(),
        }
        .encode();
        let header = RegisterBrokerRequestHeader {
            broker_name: config.name.clone(),
            broker_addr: self.broker.store_host.to_string(),
            cluster_name: config.cluster.clone(),
            ha_server_addr: ha_addr(self.broker.store_host).to_string(),
            broker_id: id,
            heartbeat_timeout_millis: None,
            enable_acting_master: None,
            compressed: false,
            body_crc32: body_crc(&body) as i32,
        };
        let request =
            RemotingCommand::request_with(request::REGISTER_BROKER, &header).with_body(body);
        let timeout = Duration::from_millis(config.register_timeout_ms);
        check(self.client.invoke(&self.addr, request, timeout).await)
    }

    async fn unregister(&self) {
        let Some(id) = self.registered else { return };
        let config = self.broker.config();
        let header = UnRegisterBrokerRequestHeader {
            broker_name: config.name.clone(),
            broker_addr: self.broker.store_host.to_string(),
            cluster_name: config.cluster.clone(),
            broker_id: id,
        };
        let request = RemotingCommand::request_with(request::UNREGISTER_BROKER, &header);
        match check(self.client.invoke(&self.addr, request, GOODBYE).await) {
            Ok(()) => tracing::info!(name_server = %self.addr, "unregistered"),
            Err(why) => tracing::warn!(name_server = %self.addr, %why, "cannot unregister"),
        }
    }
}

/// A registration must name one; nothing listens there.
fn ha_addr(own: SocketAddr) -> SocketAddr {
    SocketAddr::new(own.ip(), own.port().saturating_add(1))
}

fn check(result: Result<RemotingCommand, RemotingError>) -> Result<(), String> {
    match result {
        Ok(answer) if answer.code == response::SUCCESS => Ok(()),
        Ok(answer) => Err(format!(
            "code {}: {}",
            answer.code,
            answer.remark.unwrap_or_default()
        )),
        Err(e) => Err(e.to_string()),
    }
}
