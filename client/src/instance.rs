//! What every handle stands on: connections, routes, heartbeats (`MQClientInstance`).
//!
//! Two tasks: one asks for known routes again, one tells brokers that this client lives. Both end with the instance.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::{Mutex, RwLock};
use raftmq_remoting::body::HeartbeatData;
use raftmq_remoting::validate::AUTO_CREATE_TOPIC;
use raftmq_remoting::{
    Channel, ClientOptions, Handler, RemotingClient, RemotingCommand, Request, json, request_code,
    response_code,
};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::name_servers::NameServers;
use crate::route::{MASTER_ID, TopicRoute};

/// Routes kept at most; further topics are looked up at each use.
const MAX_ROUTES: usize = 100_000;

/// The shared state; see [`Instance`].
pub(crate) struct Shared {
    pub(crate) config: ClientConfig,
    pub(crate) client_id: String,
    pub(crate) remoting: RemotingClient,
    pub(crate) names: NameServers,
    routes: RwLock<AHashMap<String, Arc<TopicRoute>>>,
    /// One lookup at a time: those who wait for it find its result.
    looking_up: tokio::sync::Mutex<()>,
    /// Open connections by address, for senders that cannot wait.
    channels: RwLock<AHashMap<String, Channel>>,
    /// What brokers are told; empty sets mean that there is nothing to tell.
    heartbeat: Mutex<HeartbeatData>,
    /// A broker says that the members of our group changed.
    pub(crate) group_changed: Arc<Notify>,
}

/// A client's connections and tasks.
pub(crate) struct Instance {
    shared: Arc<Shared>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Deref for Instance {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// Requests from brokers: only the news of a changed group means something to this client.
struct PushHandler {
    group_changed: Arc<Notify>,
}

impl Handler for PushHandler {
    fn handle(&self, request: Request) {
        if request.cmd.code == request_code::NOTIFY_CONSUMER_IDS_CHANGED {
            self.group_changed.notify_one();
            return request.reply(RemotingCommand::response(response_code::SUCCESS));
        }
        let remark = format!(" request type {} not supported", request.cmd.code);
        request.reply(
            RemotingCommand::response(response_code::REQUEST_CODE_NOT_SUPPORTED)
                .with_remark(remark),
        );
    }
}

impl Instance {
    /// # Errors
    /// The name server list is not one.
    pub(crate) fn start(config: ClientConfig) -> Result<Self, ClientError> {
        let names = NameServers::parse(&config.namesrv_addrs)?;
        let group_changed = Arc::new(Notify::new());
        let options = ClientOptions {
            connect_timeout: config.connect_timeout,
            ..ClientOptions::default()
        };
        let push = Arc::new(PushHandler {
            group_changed: group_changed.clone(),
        });
        let client_id = config.client_id();
        let shared = Arc::new(Shared {
            heartbeat: Mutex::new(HeartbeatData {
                client_id: client_id.clone(),
                ..HeartbeatData::default()
            }),
            client_id,
            remoting: RemotingClient::new(options, Some(push)),
            names,
            routes: RwLock::default(),
            looking_up: tokio::sync::Mutex::default(),
            channels: RwLock::default(),
            group_changed,
            config,
        });
        let poll = AbortOnDropHandle::new(tokio::spawn(poll_routes(shared.clone())));
        let beat = AbortOnDropHandle::new(tokio::spawn(beat(shared.clone())));
        Ok(Self {
            shared,
            _tasks: [poll, beat],
        })
    }
}

async fn poll_routes(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shared.config.poll_name_server_interval).await;
        let topics: Vec<String> = shared.routes.read().keys().cloned().collect();
        for topic in topics {
            if let Err(e) = shared.refresh_route(&topic).await {
                tracing::debug!(topic, error = %e, "route not refreshed, the old one stays");
            }
        }
    }
}

async fn beat(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shared.config.heartbeat_broker_interval).await;
        shared.heartbeat_all().await;
    }
}

impl Shared {
    /// The route of a topic: the known one, or asked for now. With `template` a topic that does not exist gets the route
    /// of the template topic, as a producer wants it.
    pub(crate) async fn route(
        &self,
        topic: &str,
        template: bool,
    ) -> Result<Arc<TopicRoute>, ClientError> {
        let known = || {
            self.known_route(topic)
                .filter(|r| template || !r.is_template)
        };
        if let Some(route) = known() {
            return Ok(route);
        }
        let _one = self.looking_up.lock().await;
        if let Some(route) = known() {
            return Ok(route);
        }
        match self.refresh_route(topic).await {
            Err(ClientError::NoRoute { .. }) if template => {
                let timeout = self.config.request_timeout;
                let data = self
                    .names
                    .route(&self.remoting, AUTO_CREATE_TOPIC, timeout)
                    .await
                    .map_err(|e| match e {
                        ClientError::NoRoute { .. } => ClientError::NoRoute {
                            topic: topic.to_owned(),
                        },
                        e => e,
                    })?;
                Ok(self.keep_route(topic, TopicRoute::from_template(topic, data)))
            }
            other => other,
        }
    }

    pub(crate) fn known_route(&self, topic: &str) -> Option<Arc<TopicRoute>> {
        self.routes.read().get(topic).cloned()
    }

    /// Asks for the route of a topic and keeps it. A failure leaves the known route alone.
    pub(crate) async fn refresh_route(&self, topic: &str) -> Result<Arc<TopicRoute>, ClientError> {
        let data = self
            .names
            .route(&self.remoting, topic, self.config.request_timeout)
            .await?;
        Ok(self.keep_route(topic, TopicRoute::new(topic, data)))
    }

    fn keep_route(&self, topic: &str, route: TopicRoute) -> Arc<TopicRoute> {
        let mut routes = self.routes.write();
        match routes.get(topic) {
            Some(known) if **known == route => return known.clone(),
            Some(_) => tracing::info!(topic, "route changed"),
            None => {}
        }
        let route = Arc::new(route);
        if routes.len() < MAX_ROUTES || routes.contains_key(topic) {
            routes.insert(topic.to_owned(), route.clone());
        }
        route
    }

    /// The open connection to `addr`, if there is one.
    pub(crate) fn open_channel(&self, addr: &str) -> Option<Channel> {
        self.channels
            .read()
            .get(addr)
            .filter(|c| !c.is_closed())
            .cloned()
    }

    /// The connection to `addr`, made now if need be.
    pub(crate) async fn channel(&self, addr: &str) -> Result<Channel, ClientError> {
        if let Some(channel) = self.open_channel(addr) {
            return Ok(channel);
        }
        let channel = self.remoting.channel(addr).await?;
        let mut channels = self.channels.write();
        channels.retain(|_, c| !c.is_closed());
        channels.insert(addr.to_owned(), channel.clone());
        Ok(channel)
    }

    /// A request that must be answered with success.
    pub(crate) async fn call(
        &self,
        addr: &str,
        cmd: RemotingCommand,
    ) -> Result<RemotingCommand, ClientError> {
        self.call_within(addr, cmd, self.config.request_timeout)
            .await
    }

    pub(crate) async fn call_within(
        &self,
        addr: &str,
        cmd: RemotingCommand,
        timeout: Duration,
    ) -> Result<RemotingCommand, ClientError> {
        let answer = self.remoting.invoke(addr, cmd, timeout).await?;
        match answer.code {
            response_code::SUCCESS => Ok(answer),
            code => Err(ClientError::Broker {
                addr: addr.to_owned(),
                code,
                remark: answer.remark.unwrap_or_default(),
            }),
        }
    }

    /// Changes what brokers are told from the next heartbeat on.
    pub(crate) fn edit_heartbeat(&self, edit: impl FnOnce(&mut HeartbeatData)) {
        edit(&mut self.heartbeat.lock());
    }

    /// Addresses of all known routes: every broker for a consumer, masters alone for a producer.
    pub(crate) fn broker_addrs(&self, masters_only: bool) -> BTreeSet<String> {
        let routes = self.routes.read();
        let brokers = routes.values().flat_map(|r| r.brokers.values());
        brokers
            .flatten()
            .filter(|(id, _)| !masters_only || **id == MASTER_ID)
            .map(|(_, a)| a.clone())
            .collect()
    }

    /// Tells the brokers of all known routes that this client lives and what it does.
    pub(crate) async fn heartbeat_all(&self) {
        let data = self.heartbeat.lock().clone();
        if data.producer_data_set.is_empty() && data.consumer_data_set.is_empty() {
            return;
        }
        let body = json::to_bytes(&data);
        let beats = self
            .broker_addrs(data.consumer_data_set.is_empty())
            .into_iter()
            .map(|addr| {
                let cmd =
                    RemotingCommand::request(request_code::HEART_BEAT).with_body(body.clone());
                async move {
                    if let Err(e) = self.call(&addr, cmd).await {
                        tracing::debug!(addr, error = %e, "heartbeat failed");
                    }
                }
            });
        join_all(beats).await;
    }
}

/// Waits for all futures, polling them together.
pub(crate) async fn join_all<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        waiting.retain_mut(|f| f.as_mut().poll(cx).is_pending());
        if waiting.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}
