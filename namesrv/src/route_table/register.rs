//! REGISTER_BROKER: a broker says who it is and which topics its set has.

use std::time::{Duration, Instant};

use raftmq_remoting::body::{DataVersion, QueueData, RegisterBrokerBody, TopicConfig};
use raftmq_remoting::message::perm;

use super::{
    BrokerSet, DEFAULT_HEARTBEAT_TIMEOUT, MASTER_ID, MAX_MEMBERS, MAX_TOPICS, Member, MinIdChange,
    RouteTable, State, TopicQueues,
};

/// One registration.
#[derive(Clone, Debug, Default)]
pub struct Registration {
    pub cluster: String,
    pub broker_name: String,
    pub addr: String,
    pub broker_id: i64,
    pub ha_addr: String,
    pub zone: Option<String>,
    /// None: [`DEFAULT_HEARTBEAT_TIMEOUT`].
    pub timeout: Option<Duration>,
    /// None: a broker of before 5.0, which never stands in for its master.
    pub enable_acting_master: Option<bool>,
    /// Topics of the set that are absent from `body` lose their queues.
    pub delete_absent_topics: bool,
    /// The connection it came on; when that closes, the broker is gone.
    pub connection: u64,
    pub body: RegisterBrokerBody,
}

/// A registration that was answered with success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// The claim to be master lost against a newer one; the broker is not in the table.
    pub stale: bool,
    /// For a follower: address and HA address of its master, when there is one.
    pub master: Option<(String, String)>,
    pub min_id_change: Option<MinIdChange>,
}

/// Longest name or address that is kept, bytes; of addresses several may be in one.
const MAX_TEXT: usize = 1024;
/// Filter servers of one broker; nobody has any since RocketMQ 4.
const MAX_FILTER_SERVERS: usize = 64;

/// A registration that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// A broker's first registration must carry its whole topic table; one topic alone is an update that overtook it.
    #[error("register broker failed")]
    SingleTopicFirst,
    #[error("register broker failed: {0} is blank")]
    Blank(&'static str),
    #[error("register broker failed: {0} is longer than {MAX_TEXT} bytes")]
    TooLong(&'static str),
    #[error("register broker failed: more than {MAX_FILTER_SERVERS} filter servers")]
    TooManyFilterServers,
    #[error("register broker failed: more than {MAX_MEMBERS} brokers")]
    TooManyMembers,
    #[error("register broker failed: more than {MAX_TOPICS} topics")]
    TooManyTopics,
}

/// How a claim to a broker id ends, decided before the table changes.
enum Claim {
    Granted,
    /// Another address holds the id with a newer state version.
    Stale {
        holder: String,
        held: i64,
    },
}

impl RouteTable {
    /// Takes a broker in, or renews it.
    ///
    /// The rules, in this order:
    /// - an address has one id in its set: its older id is given up;
    /// - the id of another address is taken over, unless that one's `stateVersion` is higher. Brokers put their Raft term
    ///   there, so a stale master never replaces a newer one and a newer one takes over at once. The loser is told
    ///   nothing, and is not in the table until it registers as something else;
    /// - topics count from the master, or, in a set that wants an acting master, from the lowest id (without write
    ///   permission). They are taken when the id is new, the data version differs, or the set did not have the topic.
    ///
    /// # Errors
    /// The table is unchanged, but for an older id of the address that was given up.
    pub fn register(&self, r: Registration, now: Instant) -> Result<Registered, RegistrationError> {
        for (what, text) in [
            ("the cluster name", &r.cluster),
            ("the broker name", &r.broker_name),
            ("the address", &r.addr),
        ] {
            if text.trim().is_empty() {
                return Err(RegistrationError::Blank(what));
            }
        }
        let zone = r.zone.as_deref().unwrap_or_default();
        let texts = [
            ("the cluster name", r.cluster.as_str()),
            ("the broker name", &r.broker_name),
            ("the address", &r.addr),
            ("the second address", &r.ha_addr),
            ("the zone", zone),
        ];
        let wrapper = &r.body.topic_config_serialize_wrapper;
        let topics = wrapper.topic_config_table.keys();
        let topics = topics.map(|topic| ("a topic", topic.as_str()));
        let servers = r.body.filter_server_list.iter();
        let servers = servers.map(|server| ("a filter server", server.as_str()));
        for (what, text) in texts.into_iter().chain(topics).chain(servers) {
            if text.len() > MAX_TEXT {
                return Err(RegistrationError::TooLong(what));
            }
        }
        if r.body.filter_server_list.len() > MAX_FILTER_SERVERS {
            return Err(RegistrationError::TooManyFilterServers);
        }
        self.state.write().register(r, now)
    }
}

impl State {
    fn register(
        &mut self,
        mut r: Registration,
        now: Instant,
    ) -> Result<Registered, RegistrationError> {
        let wrapper = std::mem::take(&mut r.body.topic_config_serialize_wrapper);
        let version = wrapper.data_version;
        let known_topics = self.topics.len();
        if known_topics + wrapper.topic_config_table.len() > MAX_TOPICS
            && wrapper
                .topic_config_table
                .keys()
                .filter(|t| !self.topics.contains_key(*t))
                .count()
                + known_topics
                > MAX_TOPICS
        {
            return Err(RegistrationError::TooManyTopics);
        }

        let set = self.sets.get(&r.broker_name);
        let old_id = set.and_then(|s| s.id_of(&r.addr));
        let old_min_id = set.and_then(BrokerSet::min_id);
        let holds_id = set.is_some_and(|s| s.members.contains_key(&r.broker_id));
        let old_version = old_id
            .and_then(|id| set?.members.get(&id))
            .map(|m| m.data_version);
        let claim = set.map_or(Claim::Granted, |s| claim(s, &r, &version));
        if !holds_id && wrapper.topic_config_table.len() == 1 {
            tracing::warn!(broker = %r.broker_name, id = r.broker_id, addr = %r.addr, "one topic from an unknown broker, refused");
            return Err(RegistrationError::SingleTopicFirst);
        }
        if old_id.is_none() && !holds_id && self.member_count() >= MAX_MEMBERS {
            return Err(RegistrationError::TooManyMembers);
        }
        if let Claim::Stale { holder, held } = claim {
            tracing::warn!(
                broker = %r.broker_name, id = r.broker_id, addr = %r.addr, state_version = version.state_version,
                %holder, holder_state_version = held, "registration of an older state, ignored"
            );
            self.remove_member(&r.broker_name, &r.addr);
            return Ok(Registered {
                stale: true,
                ..Registered::default()
            });
        }

        let set = self.sets.entry(r.broker_name.clone()).or_default();
        if let Some(id) = old_id.filter(|id| *id != r.broker_id) {
            set.members.remove(&id);
        }
        if set.members.is_empty() {
            set.cluster = r.cluster;
        } else if set.cluster != r.cluster {
            tracing::warn!(broker = %r.broker_name, addr = %r.addr, cluster = %r.cluster, first = %set.cluster, "one broker name in two clusters");
        }
        set.zone = r.zone;
        set.enable_acting_master = r.enable_acting_master.unwrap_or(false);
        if old_id != Some(r.broker_id) {
            tracing::info!(broker = %r.broker_name, id = r.broker_id, addr = %r.addr, state_version = version.state_version, "broker registered");
        }
        set.members.insert(
            r.broker_id,
            Member {
                addr: r.addr,
                ha_addr: r.ha_addr,
                data_version: version,
                seen: now,
                timeout: r.timeout.unwrap_or(DEFAULT_HEARTBEAT_TIMEOUT),
                connection: r.connection,
                filter_servers: std::mem::take(&mut r.body.filter_server_list),
            },
        );
        let is_master = r.broker_id == MASTER_ID;
        let is_prime_slave =
            !is_master && r.enable_acting_master.is_some() && set.min_id() == Some(r.broker_id);
        let without_write = (is_prime_slave && set.enable_acting_master) || set.write_wiped;
        let min_id_change = old_min_id
            .is_some_and(|min| r.broker_id < min)
            .then(|| set.min_id_change(&r.broker_name, None))
            .flatten();
        let master = (!is_master)
            .then(|| {
                set.members
                    .get(&MASTER_ID)
                    .map(|m| (m.addr.clone(), m.ha_addr.clone()))
            })
            .flatten();

        if is_master || is_prime_slave {
            // Beyond what the Java name server compares: an id taken over from another address is a change, too.
            let changed = old_id != Some(r.broker_id) || old_version != Some(version);
            if r.delete_absent_topics && wrapper.topic_queue_mapping_info_map.is_empty() {
                self.drop_queues(&r.broker_name, |topic| {
                    !wrapper.topic_config_table.contains_key(topic)
                });
            }
            for (topic, mut config) in wrapper.topic_config_table {
                if without_write {
                    config.perm &= !perm::WRITE;
                }
                self.set_queues(&r.broker_name, topic, &config, changed);
            }
            if changed {
                for (topic, mapping) in wrapper.topic_queue_mapping_info_map {
                    if let Some(at) = self
                        .topics
                        .get_mut(&topic)
                        .and_then(|b| b.get_mut(&r.broker_name))
                    {
                        at.mapping = Some(mapping);
                    }
                }
            }
        }
        Ok(Registered {
            stale: false,
            master,
            min_id_change,
        })
    }

    /// Gives a topic its queues at a set: always when it had none there, else only when the data `changed`.
    fn set_queues(
        &mut self,
        broker_name: &str,
        topic: String,
        config: &TopicConfig,
        changed: bool,
    ) {
        let queues = QueueData {
            broker_name: broker_name.to_owned(),
            perm: config.perm,
            read_queue_nums: config.read_queue_nums,
            topic_sys_flag: config.topic_sys_flag,
            write_queue_nums: config.write_queue_nums,
        };
        let brokers = self.topics.entry(topic).or_default();
        match brokers.get_mut(broker_name) {
            Some(at) if changed => at.queues = queues,
            Some(_) => {}
            None => drop(brokers.insert(
                broker_name.to_owned(),
                TopicQueues {
                    queues,
                    mapping: None,
                },
            )),
        }
    }
}

fn claim(set: &BrokerSet, r: &Registration, version: &DataVersion) -> Claim {
    match set.members.get(&r.broker_id) {
        Some(holder)
            if holder.addr != r.addr
                && holder.data_version.state_version > version.state_version =>
        {
            Claim::Stale {
                holder: holder.addr.clone(),
                held: holder.data_version.state_version,
            }
        }
        _ => Claim::Granted,
    }
}
