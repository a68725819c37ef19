//! Answering requests (`DefaultRequestProcessor`): typed header in, table asked, response out.
//!
//! Runs on the connections' read tasks. Everything is answered at once from memory, but for changes of the key-value
//! configuration and of settings, which a writing thread answers when the file holds them. Registrations are handled in the order
//! of their connection, and before its close is.

mod brokers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use raftmq_remoting::body::{GetBrokerMemberGroupResponseBody, KVTable, TopicRouteData};
use raftmq_remoting::header::{
    AddWritePermOfBrokerRequestHeader, AddWritePermOfBrokerResponseHeader,
    DeleteKVConfigRequestHeader, DeleteTopicFromNamesrvRequestHeader,
    GetBrokerMemberGroupRequestHeader, GetKVConfigRequestHeader, GetKVConfigResponseHeader,
    GetKVListByNamespaceRequestHeader, GetRouteInfoRequestHeader, GetTopicsByClusterRequestHeader,
    HeaderError, PutKVConfigRequestHeader, RegisterTopicRequestHeader,
    WipeWritePermOfBrokerRequestHeader, WipeWritePermOfBrokerResponseHeader,
};
use raftmq_remoting::json::Limits;
use raftmq_remoting::{
    Channel, Handler, RemotingCommand, Request, json, request_code, response_code,
};

use crate::config::NamesrvConfig;
use crate::error::{ConfigError, KvError};
use crate::kv_config::{Change, KvConfig, ORDER_TOPIC_CONFIG};
use crate::route_table::{RouteTable, UnitTopics};

/// Serves the name server's requests.
pub struct NamesrvHandler {
    config: Arc<ArcSwap<NamesrvConfig>>,
    /// Settings that were changed while the server ran, now or before.
    changes: KvConfig,
    routes: RouteTable,
    kv: KvConfig,
    started: Instant,
    /// Open connections by id, for what the name server says by itself.
    channels: Mutex<AHashMap<u64, Channel>>,
}

/// A request that is answered with an error code and a remark.
struct Refused {
    code: i32,
    remark: String,
}

impl Refused {
    fn new(code: i32, remark: impl ToString) -> Self {
        Self {
            code,
            remark: remark.to_string(),
        }
    }

    fn system_error(remark: impl ToString) -> Self {
        Self::new(response_code::SYSTEM_ERROR, remark)
    }
}

impl From<HeaderError> for Refused {
    fn from(e: HeaderError) -> Self {
        Self::system_error(e)
    }
}

type Answer = Result<RemotingCommand, Refused>;

fn success() -> RemotingCommand {
    RemotingCommand::response(response_code::SUCCESS)
}

fn json_body<T: serde::Serialize>(body: &T) -> Answer {
    Ok(success().with_body(json::to_bytes(body)))
}

impl NamesrvHandler {
    pub fn new(config: NamesrvConfig, kv: KvConfig, changes: KvConfig) -> Self {
        let kept = changes.namespace(CHANGES).unwrap_or_default();
        for (key, value) in &kept {
            tracing::info!("setting {key}={value}, as updateNamesrvConfig said");
        }
        Self {
            config: Arc::new(ArcSwap::from_pointee(config.with(&kept))),
            changes,
            routes: RouteTable::default(),
            kv,
            started: Instant::now(),
            channels: Mutex::default(),
        }
    }

    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// Time between two calls of [`Self::evict`].
    pub fn scan_interval(&self) -> Duration {
        Duration::from_millis(self.config.load().scan_not_active_broker_interval)
    }

    /// Removes brokers that are silent for too long.
    pub fn evict(&self, now: Instant) {
        self.routes
            .evict(now)
            .into_iter()
            .for_each(|change| self.notify(change));
    }

    /// Ends the writing threads; blocks for the time of one file write each.
    pub fn close(&self) {
        self.kv.close();
        self.changes.close();
    }

    fn answer(&self, cmd: &RemotingCommand, channel: &Channel) -> Answer {
        use request_code as code;
        let config = self.config.load();
        match cmd.code {
            code::GET_ROUTEINFO_BY_TOPIC => self.route(cmd, &config),
            code::REGISTER_BROKER => self.register(cmd, channel, &config),
            code::UNREGISTER_BROKER => self.unregister(cmd),
            code::BROKER_HEARTBEAT => self.heartbeat(cmd),
            code::QUERY_DATA_VERSION => self.data_version(cmd),
            code::GET_BROKER_MEMBER_GROUP => {
                let h: GetBrokerMemberGroupRequestHeader = cmd.header()?;
                let broker_member_group = self.routes.member_group(&h.cluster_name, &h.broker_name);
                json_body(&GetBrokerMemberGroupResponseBody {
                    broker_member_group,
                })
            }
            code::GET_BROKER_CLUSTER_INFO => json_body(&self.routes.cluster_info()),

            code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => {
                listed(config.enable_all_topic_list)?;
                json_body(&self.routes.all_topics())
            }
            code::GET_TOPICS_BY_CLUSTER => {
                listed(config.enable_topic_list)?;
                let h: GetTopicsByClusterRequestHeader = cmd.header()?;
                json_body(&self.routes.topics_of_cluster(&h.cluster))
            }
            code::GET_SYSTEM_TOPIC_LIST_FROM_NS => {
                listed(config.enable_topic_list)?;
                json_body(&self.routes.system_topics())
            }
            code::GET_UNIT_TOPIC_LIST => self.unit_topics(&config, UnitTopics::Unit),
            code::GET_HAS_UNIT_SUB_TOPIC_LIST => self.unit_topics(&config, UnitTopics::Subscribed),
            code::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST => {
                self.unit_topics(&config, UnitTopics::SubscribedNotUnit)
            }

            code::REGISTER_TOPIC_IN_NAMESRV => self.register_topic(cmd),
            code::DELETE_TOPIC_IN_NAMESRV => {
                let h: DeleteTopicFromNamesrvRequestHeader = cmd.header()?;
                self.routes.delete_topic(
                    &h.topic,
                    h.cluster_name.as_deref().filter(|c| !c.is_empty()),
                );
                Ok(success())
            }
            code::WIPE_WRITE_PERM_OF_BROKER => {
                let h: WipeWritePermOfBrokerRequestHeader = cmd.header()?;
                let wipe_topic_count = count(self.routes.wipe_write_permission(&h.broker_name));
                Ok(
                    success()
                        .with_header(&WipeWritePermOfBrokerResponseHeader { wipe_topic_count }),
                )
            }
            code::ADD_WRITE_PERM_OF_BROKER => {
                let h: AddWritePermOfBrokerRequestHeader = cmd.header()?;
                let add_topic_count = count(self.routes.add_write_permission(&h.broker_name));
                Ok(success().with_header(&AddWritePermOfBrokerResponseHeader { add_topic_count }))
            }

            code::GET_KV_CONFIG => self.kv_get(cmd),
            code::GET_KVLIST_BY_NAMESPACE => self.kv_list(cmd),
            code::GET_NAMESRV_CONFIG => Ok(success().with_body(config.to_properties())),
            other => Err(Refused::new(
                response_code::REQUEST_CODE_NOT_SUPPORTED,
                format!(" request type {other} not supported"),
            )),
        }
    }

    fn route(&self, cmd: &RemotingCommand, config: &NamesrvConfig) -> Answer {
        if config.need_wait_for_service
            && self.started.elapsed() < Duration::from_secs(config.wait_seconds_for_service)
        {
            return Err(Refused::system_error("name server not ready"));
        }
        let h: GetRouteInfoRequestHeader = cmd.header()?;
        let Some(mut route) = self.routes.route(&h.topic, config.support_acting_master) else {
            let topic = h.topic;
            return Err(Refused::new(
                response_code::TOPIC_NOT_EXIST,
                format!(
                    "No topic route info in name server for the topic: {topic}\n\
                     See https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details."
                ),
            ));
        };
        if config.order_message_enable {
            route.order_topic_conf = self.kv.get(ORDER_TOPIC_CONFIG, &h.topic);
        }
        Ok(success().with_body(
            route.to_json_for(cmd.version, h.accept_standard_json_only.unwrap_or(false)),
        ))
    }

    fn unit_topics(&self, config: &NamesrvConfig, which: UnitTopics) -> Answer {
        listed(config.enable_topic_list)?;
        json_body(&self.routes.unit_topics(which))
    }

    fn register_topic(&self, cmd: &RemotingCommand) -> Answer {
        let h: RegisterTopicRequestHeader = cmd.header()?;
        let route: TopicRouteData = match &cmd.body.to_bytes() {
            empty if empty.is_empty() => TopicRouteData::default(),
            body => parse(body, "TopicRouteData")?,
        };
        if self.routes.register_topic(&h.topic, route.queue_datas) {
            Ok(success())
        } else {
            Err(Refused::system_error("too many topics"))
        }
    }

    fn kv_get(&self, cmd: &RemotingCommand) -> Answer {
        let h: GetKVConfigRequestHeader = cmd.header()?;
        match self.kv.get(&h.namespace, &h.key) {
            Some(value) => {
                Ok(success().with_header(&GetKVConfigResponseHeader { value: Some(value) }))
            }
            None => Err(Refused::new(
                response_code::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {} Key: {}", h.namespace, h.key),
            )),
        }
    }

    fn kv_list(&self, cmd: &RemotingCommand) -> Answer {
        let h: GetKVListByNamespaceRequestHeader = cmd.header()?;
        match self.kv.namespace(&h.namespace) {
            Some(table) => json_body(&KVTable { table }),
            None => Err(Refused::new(
                response_code::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {}", h.namespace),
            )),
        }
    }

    fn kv_change(cmd: &RemotingCommand) -> Result<Change, Refused> {
        if cmd.code == request_code::PUT_KV_CONFIG {
            let h: PutKVConfigRequestHeader = cmd.header()?;
            return Ok(Change::Put {
                namespace: h.namespace,
                key: h.key,
                value: h.value,
            });
        }
        let h: DeleteKVConfigRequestHeader = cmd.header()?;
        Ok(Change::Delete {
            namespace: h.namespace,
            key: h.key,
        })
    }

    fn update_config(&self, request: Request) {
        let pairs = match self.config.load().changes(&request.cmd.body.to_bytes()) {
            Ok(pairs) => pairs,
            Err(e) => {
                return request.reply(refusal(match e {
                    ConfigError::BlackList | ConfigError::Fixed(_) => {
                        Refused::new(response_code::NO_PERMISSION, e)
                    }
                    e => Refused::system_error(e),
                }));
            }
        };
        if pairs.is_empty() {
            return request.reply(success());
        }
        let change = Change::PutAll {
            namespace: CHANGES.to_owned(),
            pairs: pairs.clone(),
        };
        let config = self.config.clone();
        self.changes.change(change, move |kept| {
            if kept.is_ok() {
                let changed = config.load().with(pairs.iter().map(|(k, v)| (k, v)));
                config.store(Arc::new(changed));
                tracing::info!(?pairs, "configuration updated");
            }
            request.reply(kept_or_refused(kept));
        });
    }
}

/// The namespace of changed settings in their file.
const CHANGES: &str = "namesrv";

fn kept_or_refused(kept: Result<(), KvError>) -> RemotingCommand {
    match kept {
        Ok(()) => success(),
        Err(e @ KvError::Busy) => refusal(Refused::new(response_code::SYSTEM_BUSY, e)),
        Err(e) => refusal(Refused::system_error(e)),
    }
}

fn listed(enabled: bool) -> Result<(), Refused> {
    if enabled {
        Ok(())
    } else {
        Err(Refused::system_error("disable"))
    }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn parse<T: serde::de::DeserializeOwned>(body: &Bytes, what: &str) -> Result<T, Refused> {
    json::from_request(body, Limits::REQUEST)
        .map_err(|e| Refused::system_error(format!("Failed to decode {what}: {e}")))
}

fn refusal(refused: Refused) -> RemotingCommand {
    RemotingCommand::response(refused.code).with_remark(refused.remark)
}

impl Handler for NamesrvHandler {
    fn handle(&self, request: Request) {
        match request.cmd.code {
            request_code::PUT_KV_CONFIG | request_code::DELETE_KV_CONFIG => {
                match Self::kv_change(&request.cmd) {
                    Err(e) => request.reply(refusal(e)),
                    Ok(change) => self
                        .kv
                        .change(change, move |kept| request.reply(kept_or_refused(kept))),
                }
            }
            request_code::UPDATE_NAMESRV_CONFIG => self.update_config(request),
            _ => {
                let answer = self.answer(&request.cmd, &request.channel);
                request.reply(answer.unwrap_or_else(refusal));
            }
        }
    }

    fn connected(&self, channel: &Channel) {
        self.channels.lock().insert(channel.id(), channel.clone());
    }

    fn disconnected(&self, channel: &Channel) {
        self.channels.lock().remove(&channel.id());
        self.routes
            .connection_closed(channel.id())
            .into_iter()
            .for_each(|change| self.notify(change));
    }
}
