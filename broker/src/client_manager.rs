//! Who is connected: producers and consumers, as their heartbeats say.
//!
//! Kept on every replica, because clients send heartbeats to every replica: a new master knows its consumers at once.
//! HEART_BEAT (34), UNREGISTER_CLIENT (35), GET_CONSUMER_LIST_BY_GROUP (38) and CHECK_CLIENT_CONFIG (46) are answered by
//! whoever is asked. When a group's members or subscriptions change, every member is told (40) and rebalances. A client
//! goes with its connection, or after `channelExpiredTimeout` without a heartbeat.

mod lookup;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use lookup::Consumer;

use ahash::{HashMap, HashMapExt, HashSet};
use parking_lot::RwLock;
use raftmq_remoting::body::{
    CheckClientRequestBody, Connection, ConsumeFromWhere, ConsumeType, ConsumerConnection,
    ConsumerData, GetConsumerListByGroupResponseBody, HeartbeatData, MessageModel,
    ProducerConnection, SubscriptionData,
};
use raftmq_remoting::channel::Channel;
use raftmq_remoting::codes::{request, response};
use raftmq_remoting::command::{LanguageCode, RemotingCommand};
use raftmq_remoting::header::{
    GetConsumerListByGroupRequestHeader, HeartbeatResponseHeader,
    NotifyConsumerIdsChangedRequestHeader, UnregisterClientRequestHeader,
};
use raftmq_remoting::json::{self, Limits};

use crate::broker::{Broker, perm};
use crate::call::Call;
use crate::creation;
use crate::message_filter::{BY_CLASS, BadFilter, MessageFilter, is_tag_type};
use crate::names;
use crate::random::random_below;
use crate::tag_filter::TagFilter;

/// Groups and subscriptions one heartbeat may name: far above any client, far below what hurts.
const MAX_HEARTBEAT_ITEMS: usize = 10_000;

/// Consumer groups, and producer groups, known at once.
const MAX_GROUPS: usize = 200_000;

/// Bytes that what clients said of themselves may take, roughly: more than a hundred thousand memberships in groups.
const MAX_BYTES: usize = 64 << 20;
/// Of a connection's membership in a group, beyond its client id.
const MEMBER_BYTES: usize = 256;
/// Of a group beyond its name.
const GROUP_BYTES: usize = 512;
/// Of a subscription beyond its texts.
const SUBSCRIPTION_BYTES: usize = 512;
/// Of a tag or its hash beyond its text.
const TAG_BYTES: usize = 48;

/// How long a subscription nobody renews is kept, as in RocketMQ.
const SUBSCRIPTION_LIFE: Duration = Duration::from_secs(600);

/// How often expired clients are looked for.
pub const SCAN: Duration = Duration::from_secs(10);

struct Client {
    channel: Channel,
    /// Shared by all groups that one heartbeat names.
    client_id: Arc<str>,
    language: LanguageCode,
    version: i32,
    seen: Instant,
}

impl Client {
    fn connection(&self) -> Connection {
        Connection {
            client_addr: crate::call::canonical(self.channel.remote()).to_string(),
            client_id: (*self.client_id).to_owned(),
            language: self.language.name().to_owned(),
            version: self.version,
        }
    }

    /// What its membership in a group takes, bytes.
    fn bytes(&self) -> usize {
        MEMBER_BYTES + self.client_id.len()
    }
}

/// What a consumer group wants of a topic.
pub struct Subscription {
    pub data: SubscriptionData,
    pub version: i64,
    /// What it wants, where that can be understood.
    pub filter: Result<MessageFilter, BadFilter>,
    seen: Instant,
}

/// What a subscription takes, bytes: the data and what was made of it.
fn subscription_bytes(data: &SubscriptionData) -> usize {
    let tags: usize = data.tags_set.iter().map(|t| t.len() + TAG_BYTES).sum();
    let texts = data.topic.len() + 2 * data.sub_string.len() + data.expression_type.len();
    SUBSCRIPTION_BYTES + texts + tags + data.code_set.len() * TAG_BYTES
}

impl Subscription {
    fn new(data: SubscriptionData, seen: Instant) -> Self {
        let filter = if data.class_filter_mode {
            Err(BadFilter(BY_CLASS.to_owned()))
        } else if !is_tag_type(&data.expression_type) {
            MessageFilter::new(&data.expression_type, Some(&data.sub_string))
        } else if matches!(data.sub_string.as_str(), "" | "*") {
            Ok(MessageFilter::Tags(TagFilter::All))
        } else {
            let codes = data.code_set.iter().copied().collect();
            Ok(MessageFilter::Tags(TagFilter::of_codes(codes)))
        };
        Self {
            version: data.sub_version,
            data,
            filter,
            seen,
        }
    }
}

impl ConsumerGroup {
    fn bytes(&self, name: &str) -> usize {
        let clients: usize = self.clients.values().map(Client::bytes).sum();
        let subscriptions = self.subscriptions.values();
        let subscriptions: usize = subscriptions.map(|s| subscription_bytes(&s.data)).sum();
        GROUP_BYTES + name.len() + clients + subscriptions
    }
}

struct ConsumerGroup {
    clients: HashMap<u64, Client>,
    subscriptions: BTreeMap<String, Arc<Subscription>>,
    consume_type: ConsumeType,
    model: MessageModel,
    from_where: ConsumeFromWhere,
}

/// What a pull needs to know of its group.
pub struct GroupView {
    pub model: MessageModel,
    pub subscription: Option<Arc<Subscription>>,
}

#[derive(Default)]
struct Tables {
    consumers: HashMap<String, ConsumerGroup>,
    producers: HashMap<String, HashMap<u64, Client>>,
    /// The newest connection of each client that produces.
    producer_ids: HashMap<Arc<str>, Channel>,
    /// Fingerprint of the last full heartbeat on a connection.
    fingerprints: HashMap<u64, i32>,
    /// What producers and consumers take: added to when they say something, counted anew by every scan.
    bytes: usize,
}

impl Tables {
    /// Takes `more` bytes, if there is room.
    fn take(&mut self, more: usize) -> Result<(), Full> {
        if self.bytes + more > MAX_BYTES {
            return Err(Full);
        }
        self.bytes += more;
        Ok(())
    }

    /// Counts what is there.
    fn count(&mut self) {
        let producers = self.producers.iter().map(|(name, clients)| {
            let clients: usize = clients.values().map(Client::bytes).sum();
            GROUP_BYTES + name.len() + clients
        });
        let consumers = self.consumers.iter().map(|(name, group)| group.bytes(name));
        self.bytes = producers.chain(consumers).sum();
    }
}

/// The tables hold as much of clients as they may.
#[derive(Debug, PartialEq, Eq)]
struct Full;

/// How many there are of each kind.
pub type Counts<K> = HashMap<K, usize>;
/// Language and version.
pub type ProducerKind = (LanguageCode, i32);
/// Group, how it consumes, language and version.
pub type ConsumerKind = (String, ConsumeType, LanguageCode, i32);

/// All clients of this replica.
#[derive(Default)]
pub struct ClientManager {
    tables: RwLock<Tables>,
}

/// Everything about the sender of a heartbeat that is not in its body.
struct Sender<'a> {
    channel: &'a Channel,
    client_id: Arc<str>,
    language: LanguageCode,
    version: i32,
    now: Instant,
}

impl Sender<'_> {
    fn client(&self) -> Client {
        Client {
            channel: self.channel.clone(),
            client_id: self.client_id.clone(),
            language: self.language,
            version: self.version,
            seen: self.now,
        }
    }
}

impl ClientManager {
    fn producer_seen(&self, group: &str, sender: &Sender<'_>) -> Result<(), Full> {
        let mut tables = self.tables.write();
        let client = sender.client();
        match tables.producers.get_mut(group) {
            Some(clients) if clients.contains_key(&sender.channel.id()) => {
                let before = clients.insert(sender.channel.id(), client);
                // A connection that calls itself otherwise each time would be known by all of these names.
                if let Some(before) = before.filter(|b| b.client_id != sender.client_id) {
                    forget_id(&mut tables.producer_ids, &before);
                }
            }
            Some(_) => {
                tables.take(client.bytes())?;
                let clients = tables.producers.entry(group.to_owned()).or_default();
                clients.insert(sender.channel.id(), client);
            }
            None => {
                if tables.producers.len() >= MAX_GROUPS {
                    return Err(Full);
                }
                tables.take(GROUP_BYTES + group.len() + client.bytes())?;
                let clients = HashMap::from_iter([(sender.channel.id(), client)]);
                tables.producers.insert(group.to_owned(), clients);
            }
        }
        let known = tables.producer_ids.get(&sender.client_id);
        if known.is_none_or(|c| c.id() != sender.channel.id()) {
            let id = sender.client_id.clone();
            tables.producer_ids.insert(id, sender.channel.clone());
        }
        Ok(())
    }

    /// Takes note of a consumer; returns whom to tell that the group changed.
    fn consumer_seen(
        &self,
        data: ConsumerData,
        keep_subscriptions: bool,
        sender: &Sender<'_>,
    ) -> Result<Vec<Channel>, Full> {
        let mut tables = self.tables.write();
        let known = tables.consumers.get(&data.group_name);
        if known.is_none() && tables.consumers.len() >= MAX_GROUPS {
            return Err(Full);
        }
        let client = sender.client();
        let mut more = match known {
            None => GROUP_BYTES + data.group_name.len(),
            Some(_) => 0,
        };
        if known.is_none_or(|group| !group.clients.contains_key(&sender.channel.id())) {
            more += client.bytes();
        }
        if !keep_subscriptions {
            // Those it replaces are counted out by the next scan; who says the same again takes nothing.
            let news = data.subscription_data_set.iter().filter(|data| {
                let old = known.and_then(|group| group.subscriptions.get(&data.topic));
                old.is_none_or(|old| subscription_bytes(&old.data) < subscription_bytes(data))
            });
            more += news.map(subscription_bytes).sum::<usize>();
        }
        tables.take(more)?;
        let group = tables
            .consumers
            .entry(data.group_name)
            .or_insert_with(|| ConsumerGroup {
                clients: HashMap::new(),
                subscriptions: BTreeMap::new(),
                consume_type: data.consume_type,
                model: data.message_model,
                from_where: data.consume_from_where,
            });
        group.consume_type = data.consume_type;
        group.model = data.message_model;
        group.from_where = data.consume_from_where;
        let previous = group.clients.insert(sender.channel.id(), client);
        let joined = previous.is_none_or(|p| p.client_id != sender.client_id);
        let changed = !keep_subscriptions
            && subscribe(
                &mut group.subscriptions,
                data.subscription_data_set,
                sender.now,
            );
        Ok(match joined || changed {
            true => group.clients.values().map(|c| c.channel.clone()).collect(),
            false => Vec::new(),
        })
    }

    /// Bytes that what clients said of themselves takes, roughly.
    pub fn bytes(&self) -> usize {
        self.tables.read().bytes
    }

    /// Whether the heartbeat's content differs from the last full one on this connection; remembers it when it is full.
    fn fingerprint_changed(&self, channel: &Channel, fingerprint: i32, full: bool) -> bool {
        let mut tables = self.tables.write();
        let same = tables.fingerprints.get(&channel.id()) == Some(&fingerprint);
        if full {
            tables.fingerprints.insert(channel.id(), fingerprint);
        }
        !same
    }

    /// A connection of a producer of this group; another one each time, where there are several.
    pub fn a_producer(&self, group: &str) -> Option<Channel> {
        let tables = self.tables.read();
        let clients = tables.producers.get(group)?;
        let nth = random_below(i32::try_from(clients.len()).ok()?);
        let client = clients.values().nth(usize::try_from(nth).ok()?)?;
        Some(client.channel.clone())
    }

    fn remove_producer(&self, group: &str, channel: u64) {
        let mut tables = self.tables.write();
        let Some(clients) = tables.producers.get_mut(group) else {
            return;
        };
        let gone = clients.remove(&channel);
        if clients.is_empty() {
            tables.producers.remove(group);
        }
        let left = gone.filter(|_| !tables.producers.values().any(|c| c.contains_key(&channel)));
        if let Some(client) = left {
            forget_id(&mut tables.producer_ids, &client);
        }
    }

    /// Removes a consumer; returns whom to tell.
    fn remove_consumer(&self, group: &str, channel: u64) -> Vec<Channel> {
        let mut tables = self.tables.write();
        let Some(entry) = tables.consumers.get_mut(group) else {
            return Vec::new();
        };
        if entry.clients.remove(&channel).is_none() {
            return Vec::new();
        }
        if entry.clients.is_empty() {
            tables.consumers.remove(group);
            return Vec::new();
        }
        entry.clients.values().map(|c| c.channel.clone()).collect()
    }

    /// Forgets a connection and tells the groups it was in.
    pub fn channel_closed(&self, broker: &Broker, channel: &Channel) {
        let groups = self.forget(|client| client.channel.id() == channel.id());
        self.tables.write().fingerprints.remove(&channel.id());
        notify_groups(broker, groups);
    }

    /// Forgets clients that fell silent and subscriptions nobody renews.
    pub fn expire(&self, broker: &Broker, now: Instant) {
        let limit = Duration::from_millis(broker.config().channel_expired_ms);
        let groups = self.forget(|client| {
            let silent = now.duration_since(client.seen) > limit;
            if silent {
                tracing::info!(client = %client.client_id, "no heartbeat, client is forgotten");
                client.channel.close("no heartbeat");
            }
            silent
        });
        notify_groups(broker, groups);
        let mut tables = self.tables.write();
        for group in tables.consumers.values_mut() {
            group
                .subscriptions
                .retain(|_, s| now.duration_since(s.seen) <= SUBSCRIPTION_LIFE);
        }
        tables.count();
    }

    /// Removes clients; returns the consumer groups that lost one, with the members that are left.
    fn forget(&self, gone: impl Fn(&Client) -> bool) -> Vec<(String, Vec<Channel>)> {
        let mut tables = self.tables.write();
        let Tables {
            producers,
            producer_ids,
            ..
        } = &mut *tables;
        producers.retain(|_, clients| {
            clients.retain(|_, client| {
                let gone = gone(client);
                if gone {
                    forget_id(producer_ids, client);
                }
                !gone
            });
            !clients.is_empty()
        });
        let mut changed = Vec::new();
        tables.consumers.retain(|name, group| {
            let before = group.clients.len();
            group.clients.retain(|_, client| !gone(client));
            if group.clients.len() < before && !group.clients.is_empty() {
                changed.push((
                    name.clone(),
                    group.clients.values().map(|c| c.channel.clone()).collect(),
                ));
            }
            !group.clients.is_empty()
        });
        tables.count();
        changed
    }

    /// Connections of producers and of consumers, by what they are.
    pub fn count_connections(&self) -> (Counts<ProducerKind>, Counts<ConsumerKind>) {
        let tables = self.tables.read();
        let (mut producers, mut consumers) = (Counts::new(), Counts::new());
        for client in tables.producers.values().flat_map(HashMap::values) {
            *producers
                .entry((client.language, client.version))
                .or_default() += 1;
        }
        for (name, group) in &tables.consumers {
            for client in group.clients.values() {
                let kind = (
                    name.clone(),
                    group.consume_type,
                    client.language,
                    client.version,
                );
                *consumers.entry(kind).or_default() += 1;
            }
        }
        (producers, consumers)
    }

    /// What a pull needs to know; None: nobody of the group is online.
    pub fn group_view(&self, group: &str, topic: &str) -> Option<GroupView> {
        let tables = self.tables.read();
        let group = tables.consumers.get(group)?;
        Some(GroupView {
            model: group.model,
            subscription: group.subscriptions.get(topic).cloned(),
        })
    }

    /// Ids of a group's consumers, each once, sorted.
    pub fn client_ids(&self, group: &str) -> Vec<String> {
        let tables = self.tables.read();
        let mut ids: Vec<String> = tables
            .consumers
            .get(group)
            .map(|g| {
                g.clients
                    .values()
                    .map(|c| (*c.client_id).to_owned())
                    .collect()
            })
            .unwrap_or_default();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Groups online that subscribe to a topic.
    pub fn groups_of_topic(&self, topic: &str) -> Vec<String> {
        let tables = self.tables.read();
        let subscribed = tables
            .consumers
            .iter()
            .filter(|(_, g)| g.subscriptions.contains_key(topic));
        subscribed.map(|(name, _)| name.clone()).collect()
    }

    /// A group's connections and subscriptions; None: nobody is online.
    pub fn consumer_connection(&self, group: &str) -> Option<ConsumerConnection> {
        let tables = self.tables.read();
        let group = tables.consumers.get(group)?;
        let mut connection_set: Vec<Connection> =
            group.clients.values().map(Client::connection).collect();
        connection_set.sort();
        Some(ConsumerConnection {
            connection_set,
            consume_from_where: group.from_where,
            consume_type: group.consume_type,
            message_model: group.model,
            subscription_table: group
                .subscriptions
                .iter()
                .map(|(t, s)| (t.clone(), s.data.clone()))
                .collect(),
        })
    }

    /// A producer group's connections; None: nobody is online.
    pub fn producer_connection(&self, group: &str) -> Option<ProducerConnection> {
        let tables = self.tables.read();
        let mut connection_set: Vec<Connection> = tables
            .producers
            .get(group)?
            .values()
            .map(Client::connection)
            .collect();
        connection_set.sort();
        Some(ProducerConnection { connection_set })
    }
}

/// Forgets a client's id, unless it came back on another connection.
fn forget_id(ids: &mut HashMap<Arc<str>, Channel>, client: &Client) {
    let same = |c: &Channel| c.id() == client.channel.id();
    if ids.get(&client.client_id).is_some_and(same) {
        ids.remove(&client.client_id);
    }
}

/// Merges a client's subscriptions into its group's; true when the group's changed.
fn subscribe(
    subscriptions: &mut BTreeMap<String, Arc<Subscription>>,
    wanted: Vec<SubscriptionData>,
    now: Instant,
) -> bool {
    let mut changed = false;
    let topics: HashSet<String> = wanted.iter().map(|s| s.topic.clone()).collect();
    for data in wanted {
        let newer = match subscriptions.get(&data.topic) {
            None => {
                changed = true;
                true
            }
            Some(old) => data.sub_version >= old.version,
        };
        if newer {
            subscriptions.insert(data.topic.clone(), Arc::new(Subscription::new(data, now)));
        }
    }
    let before = subscriptions.len();
    subscriptions.retain(|topic, _| topics.contains(topic));
    changed || subscriptions.len() != before
}

/// HEART_BEAT.
pub fn heartbeat(broker: &Arc<Broker>, call: Call) {
    let body = call.cmd.body.to_bytes();
    let data: HeartbeatData = match json::from_request(&body, Limits::REQUEST) {
        Ok(data) => data,
        Err(e) => {
            return call.error(
                response::SYSTEM_ERROR,
                format!("the heartbeat cannot be read: {e}"),
            );
        }
    };
    let items = data.producer_data_set.len()
        + data
            .consumer_data_set
            .iter()
            .map(|c| 1 + c.subscription_data_set.len())
            .sum::<usize>();
    if items > MAX_HEARTBEAT_ITEMS {
        let remark = format!(
            "the heartbeat names {items} groups and subscriptions, at most {MAX_HEARTBEAT_ITEMS}"
        );
        return call.error(response::SYSTEM_ERROR, remark);
    }
    if let Err(what) = check_names(&data) {
        return call.error(response::SYSTEM_ERROR, names::bad_text(what));
    }
    let sender = Sender {
        channel: call.channel(),
        client_id: data.client_id.into(),
        language: call.cmd.language,
        version: call.cmd.version,
        now: Instant::now(),
    };
    // A short heartbeat names its groups and leaves the subscriptions out; when its fingerprint is not the one of the last
    // full heartbeat the client is asked for a full one.
    let is_sub_change = data.heartbeat_fingerprint == 0
        || broker.clients.fingerprint_changed(
            sender.channel,
            data.heartbeat_fingerprint,
            !data.without_sub,
        );
    let keep = data.heartbeat_fingerprint != 0 && data.without_sub;
    for consumer in data.consumer_data_set {
        let name = consumer.group_name.clone();
        let Some(group) = creation::group(broker, &name) else {
            continue;
        };
        let unit = consumer.unit_mode;
        let Ok(members) = broker.clients.consumer_seen(consumer, keep, &sender) else {
            return too_many_clients(call);
        };
        ensure_retry_topic(broker, &name, group.retry_queue_nums, unit);
        if group.notify_consumer_ids_changed_enable {
            notify(broker, &name, members);
        }
    }
    for producer in &data.producer_data_set {
        let seen = broker.clients.producer_seen(&producer.group_name, &sender);
        if seen.is_err() {
            return too_many_clients(call);
        }
    }
    let header = HeartbeatResponseHeader {
        is_support_heart_beat_v2: true,
        is_sub_change,
    };
    call.reply(RemotingCommand::response(response::SUCCESS).with_header(&header));
}

/// What of a heartbeat is no name: it would be kept for as long as the client is there.
fn check_names(data: &HeartbeatData) -> Result<(), &'static str> {
    let check = |what, text: &str| match names::is_text(text) {
        true => Ok(()),
        false => Err(what),
    };
    check("clientID", &data.client_id)?;
    for producer in &data.producer_data_set {
        check("producer group", &producer.group_name)?;
    }
    for consumer in &data.consumer_data_set {
        check("consumer group", &consumer.group_name)?;
        for subscription in &consumer.subscription_data_set {
            check("topic", &subscription.topic)?;
            check("expression type", &subscription.expression_type)?;
        }
    }
    Ok(())
}

fn too_many_clients(call: Call) {
    let remark = "[OVERLOAD]this broker knows as many clients and subscriptions as it can keep";
    call.error(response::SYSTEM_BUSY, remark);
}

/// Consumers look for the route of their retry topic and complain when there is none.
fn ensure_retry_topic(broker: &Arc<Broker>, group: &str, queues: i32, unit: bool) {
    let topic = names::retry_topic(group);
    if queues <= 0 || !broker.leads() {
        return;
    }
    if let Some(config) = broker.state().topic(&topic) {
        // Of a time when it did not follow its group: what lies in the other queues is read now.
        if config.read_queue_nums < queues
            && let Some(config) = creation::with_retry_queues(&config, queues)
        {
            creation::create_topic_soon(broker, config);
        }
        return;
    }
    let mut config = creation::plain_topic(&topic, queues, perm::READ | perm::WRITE);
    config.topic_sys_flag = if unit {
        raftmq_remoting::message::sysflag::unit::UNIT_SUB
    } else {
        0
    };
    creation::create_topic_soon(broker, config);
}

fn notify_groups(broker: &Broker, groups: Vec<(String, Vec<Channel>)>) {
    for (name, members) in groups {
        if broker
            .state()
            .group(&name)
            .is_none_or(|g| g.notify_consumer_ids_changed_enable)
        {
            notify(broker, &name, members);
        }
    }
}

/// Tells a group's members to rebalance.
fn notify(broker: &Broker, group: &str, members: Vec<Channel>) {
    if !broker.config().notify_ids_changed {
        return;
    }
    let header = NotifyConsumerIdsChangedRequestHeader {
        consumer_group: group.into(),
    };
    for channel in members {
        channel.oneway(RemotingCommand::request_with(
            request::NOTIFY_CONSUMER_IDS_CHANGED,
            &header,
        ));
    }
}

/// UNREGISTER_CLIENT.
pub fn unregister(broker: &Arc<Broker>, mut call: Call) {
    // It is the connection that counts: RocketMQ takes a request without an id, too.
    if call.cmd.ext.get("clientID").is_none() {
        call.cmd.ext.set("clientID", "");
    }
    let header: UnregisterClientRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let channel = call.channel().id();
    if let Some(group) = header.producer_group {
        broker.clients.remove_producer(&group, channel);
    }
    if let Some(group) = header.consumer_group {
        let members = broker.clients.remove_consumer(&group, channel);
        notify_groups(broker, vec![(group.into(), members)]);
    }
    call.ok();
}

/// GET_CONSUMER_LIST_BY_GROUP. An unknown group is an error, never an empty list: the client keeps what it has.
pub fn consumer_list(broker: &Arc<Broker>, call: Call) {
    let header: GetConsumerListByGroupRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let ids = broker.clients.client_ids(&header.consumer_group);
    if ids.is_empty() {
        let remark = format!("no consumer for this group, {}", header.consumer_group);
        return call.error(response::SYSTEM_ERROR, remark);
    }
    let body = GetConsumerListByGroupResponseBody {
        consumer_id_list: ids,
    };
    call.reply(RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&body)));
}

/// CHECK_CLIENT_CONFIG: may this consumer filter as it wants to?
pub fn check_config(broker: &Arc<Broker>, call: Call) {
    let bytes = call.cmd.body.to_bytes();
    if bytes.is_empty() {
        return call.ok();
    }
    let body: CheckClientRequestBody = match json::from_request(&bytes, Limits::REQUEST) {
        Ok(body) => body,
        Err(e) => {
            return call.error(
                response::SYSTEM_ERROR,
                format!("the subscription cannot be read: {e}"),
            );
        }
    };
    if body.subscription_data.class_filter_mode {
        return call.error(response::SUBSCRIPTION_PARSE_FAILED, BY_CLASS);
    }
    let kind = &body.subscription_data.expression_type;
    if is_tag_type(kind) {
        return call.ok();
    }
    if !broker.config().property_filter {
        let remark = format!("The broker does not support consumer to filter message by {kind}");
        return call.error(response::SYSTEM_ERROR, remark);
    }
    match MessageFilter::new(kind, Some(&body.subscription_data.sub_string)) {
        Ok(_) => call.ok(),
        Err(e) => call.error(response::SUBSCRIPTION_PARSE_FAILED, e.to_string()),
    }
}

/// Forgets silent clients and expired locks; for the life of the broker.
pub async fn run(broker: Arc<Broker>) {
    let mut role = broker.replica.watch_role();
    loop {
        tokio::select! {
            changed = role.changed() => {
                if changed.is_err() {
                    return;
                }
                if !role.borrow_and_update().serving {
                    broker.locks.clear();
                }
                continue;
            }
            () = tokio::time::sleep(SCAN) => {}
        }
        let now = Instant::now();
        broker.clients.expire(&broker, now);
        broker.locks.expire(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(topic: &str, expression: &str, version: i64) -> SubscriptionData {
        SubscriptionData {
            topic: topic.into(),
            sub_string: expression.into(),
            sub_version: version,
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn a_connection_is_known_by_its_last_name_alone() {
        use raftmq_remoting::{ClientOptions, RemotingClient};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let remoting = RemotingClient::new(ClientOptions::default(), None);
        let channel = remoting.channel(&addr).await.unwrap();
        let clients = ClientManager::default();
        for n in 0..1_000 {
            let sender = Sender {
                channel: &channel,
                client_id: format!("c{n}").into(),
                language: LanguageCode::Java,
                version: 0,
                now: Instant::now(),
            };
            assert_eq!(clients.producer_seen("g", &sender), Ok(()));
        }
        assert_eq!(clients.tables.read().producer_ids.len(), 1);
        assert!(clients.producer("c999").is_some() && clients.producer("c0").is_none());
        clients.remove_producer("g", channel.id());
        assert_eq!(clients.tables.read().producer_ids.len(), 0);
    }

    #[test]
    fn subscriptions_merge() {
        let now = Instant::now();
        let mut table = BTreeMap::new();
        assert!(
            subscribe(&mut table, vec![data("T", "*", 1)], now),
            "a new topic"
        );
        assert!(
            !subscribe(&mut table, vec![data("T", "*", 1)], now),
            "nothing new"
        );
        assert!(
            !subscribe(&mut table, vec![data("T", "a", 5)], now),
            "a newer version is no membership change"
        );
        assert_eq!(table["T"].version, 5);
        subscribe(&mut table, vec![data("T", "*", 2)], now);
        assert_eq!(table["T"].version, 5, "an older one does not replace it");
        assert!(
            subscribe(&mut table, vec![data("U", "*", 1)], now),
            "T is gone, U is new"
        );
        assert!(!table.contains_key("T"));
    }

    #[test]
    fn filters_of_subscriptions() {
        let now = Instant::now();
        assert_eq!(
            Subscription::new(data("T", "*", 1), now).filter,
            Ok(MessageFilter::Tags(TagFilter::All))
        );
        let sql = |text| SubscriptionData {
            expression_type: "SQL92".into(),
            ..data("T", text, 1)
        };
        assert!(Subscription::new(sql("a > 1"), now).filter.is_ok());
        assert!(Subscription::new(sql("a >"), now).filter.is_err());
        let by_class = SubscriptionData {
            class_filter_mode: true,
            ..data("T", "org.example.MyFilter", 1)
        };
        let refused = Subscription::new(by_class, now).filter;
        assert_eq!(refused, Err(BadFilter(BY_CLASS.to_owned())));
        let mut tags = data("T", "a", 1);
        tags.code_set.insert(97);
        assert_eq!(
            Subscription::new(tags, now).filter,
            Ok(MessageFilter::Tags(TagFilter::of_codes(vec![97])))
        );
    }
}
