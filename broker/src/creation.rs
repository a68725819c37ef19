//! Topics and groups that come into being because somebody uses them.
//!
//! Concurrent creations of one topic make one proposal; the others wait for it. A group is created in the background
//! with RocketMQ's defaults, which hold for it at once. Runs on the master alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use raftmq_raft::ProposeError;
use raftmq_remoting::body::{SubscriptionGroupConfig, TopicConfig};
use raftmq_remoting::codes::response;
use raftmq_store::Command;

use crate::broker::{Broker, now_ms};
use crate::call::Call;
use crate::names;

/// Creations under way at once; each is one small proposal.
const MAX_CREATIONS: usize = 4_096;

/// Requests that wait for one creation.
const MAX_WAITERS: usize = 8_192;

/// Topics and groups being created.
#[derive(Default)]
pub struct Creations {
    topics: Mutex<HashMap<String, Vec<Call>>>,
    groups: Mutex<HashSet<String>>,
}

impl Creations {
    /// Whether a group is being created.
    pub fn group_pending(&self, name: &str) -> bool {
        self.groups.lock().contains(name)
    }
}

/// Creates a topic and starts `call` over when it exists.
pub fn create_topic_then(broker: &Arc<Broker>, config: TopicConfig, call: Call) {
    let name = config.topic_name.clone();
    let full = |call: Call| {
        call.error(
            response::SYSTEM_BUSY,
            "[OVERLOAD]too many topics are being created",
        )
    };
    {
        let mut topics = broker.creations.topics.lock();
        if let Some(waiters) = topics.get_mut(&name) {
            if waiters.len() >= MAX_WAITERS {
                drop(topics);
                return full(call);
            }
            waiters.push(call);
            return;
        }
        if topics.len() >= MAX_CREATIONS {
            drop(topics);
            return full(call);
        }
        topics.insert(name.clone(), vec![call]);
    }
    propose_topic(broker, name, config);
}

/// Creates a topic in the background, for example the retry topic of a group that just came up.
pub fn create_topic_soon(broker: &Arc<Broker>, config: TopicConfig) {
    let name = config.topic_name.clone();
    {
        let mut topics = broker.creations.topics.lock();
        if topics.contains_key(&name) || topics.len() >= MAX_CREATIONS {
            return;
        }
        topics.insert(name.clone(), Vec::new());
    }
    propose_topic(broker, name, config);
}

fn propose_topic(broker: &Arc<Broker>, name: String, config: TopicConfig) {
    let deadline = Instant::now() + broker.config().ack_timeout();
    let proposal = broker.commands(
        vec![Command::PutTopic {
            config,
            now_ms: now_ms(),
        }],
        deadline,
    );
    let shared = broker.clone();
    broker.replica.propose(proposal, move |result| {
        let waiters = shared
            .creations
            .topics
            .lock()
            .remove(&name)
            .unwrap_or_default();
        match result {
            Ok(_) => {
                tracing::info!(topic = %name, "created topic");
                if !waiters.is_empty() {
                    // Whoever gets the first message's answer may ask for the route at once.
                    shared.when_shown(|broker| {
                        waiters.into_iter().for_each(|call| broker.again(call));
                    });
                }
            }
            Err(ProposeError::NotLeader(_) | ProposeError::WrongTerm) => {
                waiters.into_iter().for_each(|call| shared.again(call));
            }
            Err(e) => {
                tracing::warn!(topic = %name, error = %e, "cannot create topic");
                waiters.into_iter().for_each(|call| refused(call, &e));
            }
        }
    });
}

/// The waiting request itself was not stored, whatever became of the topic.
fn refused(call: Call, error: &ProposeError) {
    match error {
        ProposeError::Busy => call.error(
            response::SYSTEM_BUSY,
            "[OVERLOAD]the topic cannot be created now",
        ),
        ProposeError::Unstorable(why) => call.error(response::INVALID_PARAMETER, why.clone()),
        _ => call.refuse("the topic cannot be created now, try again"),
    }
}

/// A group's retry topic as it must be for so many queues: it is written to all of them, and read from those it had, too. None:
/// it is so already, or the group has none.
pub fn with_retry_queues(topic: &TopicConfig, queues: i32) -> Option<TopicConfig> {
    if queues <= 0 || (topic.write_queue_nums == queues && topic.read_queue_nums >= queues) {
        return None;
    }
    let mut config = topic.clone();
    config.write_queue_nums = queues;
    config.read_queue_nums = topic.read_queue_nums.max(queues);
    Some(config)
}

/// The group's settings. A missing group is created in the background when that is allowed; None: it is not, or the name
/// is not a group name.
pub fn group(broker: &Arc<Broker>, name: &str) -> Option<Arc<SubscriptionGroupConfig>> {
    if let Some(config) = broker.state().group(name) {
        return Some(config);
    }
    if !broker.config().auto_create_group && !names::is_system_group(name) {
        return None;
    }
    if !names::is_group_name(name) {
        return None;
    }
    let config = default_group(name);
    // Followers answer with the defaults; the master hears of the group from the same client and creates it.
    if broker.leads() {
        create_group_soon(broker, config.clone());
    }
    Some(Arc::new(config))
}

/// RocketMQ's defaults.
pub fn default_group(name: &str) -> SubscriptionGroupConfig {
    SubscriptionGroupConfig {
        group_name: name.to_owned(),
        ..Default::default()
    }
}

fn create_group_soon(broker: &Arc<Broker>, config: SubscriptionGroupConfig) {
    let name = config.group_name.clone();
    {
        let mut groups = broker.creations.groups.lock();
        if groups.len() >= MAX_CREATIONS || !groups.insert(name.clone()) {
            return;
        }
    }
    let deadline = Instant::now() + broker.config().ack_timeout();
    let proposal = broker.commands(
        vec![Command::PutGroup {
            config,
            now_ms: now_ms(),
        }],
        deadline,
    );
    let shared = broker.clone();
    broker.replica.propose(proposal, move |result| {
        shared.creations.groups.lock().remove(&name);
        match result {
            Ok(_) => tracing::info!(group = %name, "created subscription group"),
            Err(e) => tracing::warn!(group = %name, error = %e, "cannot create subscription group"),
        }
    });
}

/// A topic of the broker's own making: `queues` queues, to read and to write.
pub fn plain_topic(name: &str, queues: i32, permission: i32) -> TopicConfig {
    TopicConfig {
        topic_name: name.to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm: permission,
        ..Default::default()
    }
}
