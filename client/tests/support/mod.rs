//! A name server and brokers that keep everything in memory and fail on demand.

#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raftmq_remoting::body::{
    BrokerData, ClusterInfo, HeartbeatData, KVTable, QueueData, TopicList, TopicRouteData,
};
use raftmq_remoting::header::*;
use raftmq_remoting::message::{NewMessage, batch, body_crc, offset_msg_id, properties, stamp};
use raftmq_remoting::validate::retry_topic;
use raftmq_remoting::{
    Channel, Handler, RemotingCommand, Replier, Request, Server, ServerOptions, json,
    request_code as code, response_code,
};
use std::sync::Mutex;

/// What a broker does with a request instead of serving it.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Code(i32),
    /// Served, and answered with this code.
    Status(i32),
    /// No answer.
    Silence,
    /// The connection is closed.
    Close,
    /// Served, and the connection is closed instead of the answer.
    CloseAfter,
}

pub struct FakeServer {
    pub addr: SocketAddr,
    pub server: Server,
}

pub async fn serve(handler: Arc<dyn Handler>) -> FakeServer {
    let server = Server::bind(ServerOptions::new("127.0.0.1:0".parse().unwrap()), handler)
        .await
        .unwrap();
    FakeServer {
        addr: server.local_addr(),
        server,
    }
}

fn ok() -> RemotingCommand {
    RemotingCommand::response(0)
}

#[derive(Default)]
pub struct FakeNames {
    pub routes: Mutex<BTreeMap<String, TopicRouteData>>,
    pub asked: AtomicUsize,
    pub deleted: Mutex<Vec<String>>,
}

impl FakeNames {
    /// Gives `topic` `queues` queues at each of the brokers.
    pub fn set_route(
        &self,
        topic: &str,
        perm: i32,
        queues: i32,
        brokers: &[(&str, i64, SocketAddr)],
    ) {
        let mut route = TopicRouteData::default();
        for (name, id, addr) in brokers {
            match route
                .broker_datas
                .iter_mut()
                .find(|b| b.broker_name == *name)
            {
                Some(b) => drop(b.broker_addrs.insert(*id, addr.to_string())),
                None => {
                    route.broker_datas.push(BrokerData {
                        broker_name: (*name).into(),
                        cluster: "C".into(),
                        broker_addrs: [(*id, addr.to_string())].into(),
                        ..BrokerData::default()
                    });
                    route.queue_datas.push(QueueData {
                        broker_name: (*name).into(),
                        perm,
                        read_queue_nums: queues,
                        write_queue_nums: queues,
                        ..QueueData::default()
                    });
                }
            }
        }
        self.routes.lock().unwrap().insert(topic.into(), route);
    }
}

impl Handler for FakeNames {
    fn handle(&self, request: Request) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let routes = self.routes.lock().unwrap();
        let answer = match request.cmd.code {
            code::GET_ROUTEINFO_BY_TOPIC => {
                match routes.get(request.cmd.ext.get("topic").unwrap()) {
                    Some(route) => ok().with_body(route.to_json_for(479, false)),
                    None => RemotingCommand::response(response_code::TOPIC_NOT_EXIST)
                        .with_remark("none"),
                }
            }
            code::GET_BROKER_CLUSTER_INFO => {
                let mut info = ClusterInfo::default();
                for b in routes.values().flat_map(|r| &r.broker_datas) {
                    info.broker_addr_table
                        .insert(b.broker_name.clone(), b.clone());
                    info.cluster_addr_table
                        .entry("C".into())
                        .or_default()
                        .insert(b.broker_name.clone());
                }
                ok().with_body(json::to_bytes(&info))
            }
            code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER | code::GET_TOPICS_BY_CLUSTER => {
                let list = TopicList {
                    broker_addr: None,
                    topic_list: routes.keys().cloned().collect(),
                };
                ok().with_body(json::to_bytes(&list))
            }
            code::DELETE_TOPIC_IN_NAMESRV => {
                self.deleted
                    .lock()
                    .unwrap()
                    .push(request.cmd.ext.get("topic").unwrap().to_owned());
                ok()
            }
            _ => ok(),
        };
        drop(routes);
        request.reply(answer);
    }
}

struct Held {
    header: PullMessageRequestHeader,
    replier: Replier,
}

#[derive(Default)]
struct State {
    addr: Option<SocketAddr>,
    log_end: i64,
    queues: HashMap<(String, i32), Vec<Bytes>>,
    min_offsets: HashMap<(String, i32), i64>,
    held: Vec<Held>,
    offsets: BTreeMap<(String, String, i32), i64>,
    members: BTreeMap<String, BTreeMap<String, Channel>>,
    faults: VecDeque<(i32, Fault)>,
    seen: Vec<RemotingCommand>,
}

/// A broker in memory.
#[derive(Default)]
pub struct FakeBroker {
    state: Mutex<State>,
}

impl FakeBroker {
    pub async fn start() -> (Arc<Self>, FakeServer) {
        let broker = Arc::new(Self::default());
        let server = serve(broker.clone()).await;
        broker.state.lock().unwrap().addr = Some(server.addr);
        (broker, server)
    }

    /// The next requests with these codes fail so.
    pub fn fail(&self, faults: impl IntoIterator<Item = (i32, Fault)>) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    /// Requests with this code so far.
    pub fn seen(&self, code: i32) -> Vec<RemotingCommand> {
        self.state
            .lock()
            .unwrap()
            .seen
            .iter()
            .filter(|c| c.code == code)
            .cloned()
            .collect()
    }

    pub fn stored(&self, topic: &str) -> usize {
        self.state
            .lock()
            .unwrap()
            .queues
            .iter()
            .filter(|((t, _), _)| t == topic)
            .map(|(_, q)| q.len())
            .sum()
    }

    pub fn offset(&self, group: &str, topic: &str, queue: i32) -> Option<i64> {
        self.state
            .lock()
            .unwrap()
            .offsets
            .get(&(group.into(), topic.into(), queue))
            .copied()
    }

    pub fn members(&self, group: &str) -> Vec<String> {
        self.state
            .lock()
            .unwrap()
            .members
            .get(group)
            .map(|m| m.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Says that the queue begins at `min`, whatever it holds.
    pub fn set_min(&self, topic: &str, queue: i32, min: i64) {
        self.state
            .lock()
            .unwrap()
            .min_offsets
            .insert((topic.into(), queue), min);
    }

    /// Stores a message as if it had been sent.
    pub fn put(&self, topic: &str, queue: i32, body: &str, tags: Option<&str>) {
        let mut encoded = properties::Builder::with_capacity(16);
        if let Some(tags) = tags {
            encoded.push(properties::TAGS, tags);
        }
        self.state.lock().unwrap().store(
            topic,
            queue,
            Bytes::copy_from_slice(body.as_bytes()),
            encoded.build(),
            0,
        );
    }
}

impl State {
    fn store(
        &mut self,
        topic: &str,
        queue: i32,
        body: Bytes,
        properties: Bytes,
        reconsume_times: i32,
    ) -> (i64, String) {
        let host = self.addr.unwrap();
        let message = NewMessage {
            topic: topic.into(),
            queue_id: queue,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: host,
            store_host: host,
            reconsume_times,
            prepared_transaction_offset: 0,
            body_crc: body_crc(&body),
            body,
            properties,
        };
        let mut record = BytesMut::new();
        message.encode_into(&mut record);
        let records = self.queues.entry((topic.into(), queue)).or_default();
        let offset = records.len() as i64;
        stamp(&mut record, offset, self.log_end, 1000 + offset);
        records.push(record.freeze());
        let id = offset_msg_id(host, self.log_end);
        self.log_end += records.last().unwrap().len() as i64;
        let (due, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|h| h.header.topic == topic && h.header.queue_id == queue);
        self.held = held;
        for h in due {
            let answer = self.pull(&h.header);
            h.replier.reply(answer);
        }
        (offset, id)
    }

    fn bounds(&self, topic: &str, queue: i32) -> (i64, i64) {
        let key = (topic.to_owned(), queue);
        let max = self.queues.get(&key).map_or(0, |q| q.len() as i64);
        (self.min_offsets.get(&key).copied().unwrap_or(0), max)
    }

    fn pull(&self, h: &PullMessageRequestHeader) -> RemotingCommand {
        let (min, max) = self.bounds(&h.topic, h.queue_id);
        let mut header = PullMessageResponseHeader {
            suggest_which_broker_id: 0,
            next_begin_offset: h.queue_offset,
            min_offset: min,
            max_offset: max,
            ..PullMessageResponseHeader::default()
        };
        if h.queue_offset < min || h.queue_offset > max {
            header.next_begin_offset = if h.queue_offset < min { min } else { max };
            return RemotingCommand::response(response_code::PULL_OFFSET_MOVED)
                .with_header(&header);
        }
        if h.queue_offset == max {
            return RemotingCommand::response(response_code::PULL_NOT_FOUND).with_header(&header);
        }
        let queue = &self.queues[&(h.topic.to_string(), h.queue_id)];
        let found: Vec<Bytes> = queue[h.queue_offset as usize..]
            .iter()
            .take(h.max_msg_nums as usize)
            .cloned()
            .collect();
        header.next_begin_offset += found.len() as i64;
        ok().with_header(&header).with_body(found)
    }

    fn send(&mut self, cmd: &RemotingCommand) -> RemotingCommand {
        let h = SendMessageRequestHeader::decode_for(cmd.code, &cmd.ext).unwrap();
        let body = cmd.body.to_bytes();
        let properties = h.properties.clone().unwrap_or_default().into_bytes();
        let items = if h.batch {
            batch::decode(body, 1000).unwrap()
        } else {
            vec![batch::BatchItem {
                flag: h.flag,
                body,
                properties,
            }]
        };
        let stored: Vec<_> = items
            .into_iter()
            .map(|i| self.store(&h.topic, h.queue_id, i.body, i.properties, 0))
            .collect();
        let msg_id = stored
            .iter()
            .map(|(_, id)| id.as_str())
            .collect::<Vec<_>>()
            .join(",");
        let header = SendMessageResponseHeader {
            msg_id,
            queue_id: h.queue_id,
            queue_offset: stored[0].0,
            ..SendMessageResponseHeader::default()
        };
        ok().with_header(&header)
            .with_ext("MSG_REGION", "DefaultRegion")
            .with_ext("TRACE_ON", "true")
    }

    fn heartbeat(&mut self, cmd: &RemotingCommand, channel: &Channel) -> RemotingCommand {
        let data: HeartbeatData = json::from_slice(&cmd.body.to_bytes()).unwrap();
        for consumer in &data.consumer_data_set {
            let members = self.members.entry(consumer.group_name.clone()).or_default();
            if members
                .insert(data.client_id.clone(), channel.clone())
                .is_none()
            {
                self.notify(&consumer.group_name);
            }
        }
        ok()
    }

    fn notify(&self, group: &str) {
        let header = NotifyConsumerIdsChangedRequestHeader {
            consumer_group: group.into(),
        };
        for channel in self
            .members
            .get(group)
            .into_iter()
            .flat_map(BTreeMap::values)
        {
            channel.oneway(RemotingCommand::request_with(
                code::NOTIFY_CONSUMER_IDS_CHANGED,
                &header,
            ));
        }
    }

    fn give_back(&mut self, cmd: &RemotingCommand) -> RemotingCommand {
        let h: ConsumerSendMsgBackRequestHeader = cmd.header().unwrap();
        let records = self.queues.values().flatten();
        let parsed = records.map(|r| raftmq_remoting::message::StoredRecord::parse(r).unwrap());
        let Some(r) = parsed.into_iter().find(|r| r.physical_offset() == h.offset) else {
            return RemotingCommand::response(1).with_remark("no such record");
        };
        let (body, times) = (Bytes::copy_from_slice(r.body()), r.reconsume_times());
        let original = r
            .property(properties::RETRY_TOPIC)
            .unwrap_or(r.topic())
            .to_owned();
        let props = properties::set(r.properties(), properties::RETRY_TOPIC, &original);
        self.store(&retry_topic(&h.group), 0, body, props, times + 1);
        ok()
    }

    fn answer(&mut self, cmd: &RemotingCommand, channel: &Channel) -> RemotingCommand {
        let key = || {
            let get = |k| cmd.ext.get(k).unwrap().to_owned();
            (
                get("consumerGroup"),
                get("topic"),
                get("queueId").parse::<i32>().unwrap(),
            )
        };
        let bounds = || {
            let queue = cmd.ext.get("queueId").unwrap().parse::<i32>().unwrap();
            self.bounds(cmd.ext.get("topic").unwrap(), queue)
        };
        match cmd.code {
            code::SEND_MESSAGE_V2 | code::SEND_BATCH_MESSAGE => self.send(cmd),
            code::HEART_BEAT => self.heartbeat(cmd, channel),
            code::UNREGISTER_CLIENT => {
                let h: UnregisterClientRequestHeader = cmd.header().unwrap();
                if let Some(group) = h.consumer_group {
                    if let Some(members) = self.members.get_mut(group.as_str()) {
                        members.remove(h.client_id.as_str());
                    }
                    self.notify(&group);
                }
                ok()
            }
            code::GET_CONSUMER_LIST_BY_GROUP => {
                let group = cmd.ext.get("consumerGroup").unwrap();
                match self.members.get(group).filter(|m| !m.is_empty()) {
                    Some(members) => {
                        let ids: Vec<_> = members.keys().collect();
                        ok().with_body(serde_json::json!({ "consumerIdList": ids }).to_string())
                    }
                    None => RemotingCommand::response(1).with_remark("no consumer for this group"),
                }
            }
            code::QUERY_CONSUMER_OFFSET => match self.offsets.get(&key()) {
                Some(offset) => {
                    ok().with_header(&QueryConsumerOffsetResponseHeader { offset: *offset })
                }
                None => RemotingCommand::response(response_code::QUERY_NOT_FOUND),
            },
            code::UPDATE_CONSUMER_OFFSET => {
                let h: UpdateConsumerOffsetRequestHeader = cmd.header().unwrap();
                self.offsets.insert(key(), h.commit_offset);
                ok()
            }
            code::GET_MIN_OFFSET => {
                ok().with_header(&GetMinOffsetResponseHeader { offset: bounds().0 })
            }
            code::GET_MAX_OFFSET => {
                ok().with_header(&GetMaxOffsetResponseHeader { offset: bounds().1 })
            }
            code::SEARCH_OFFSET_BY_TIMESTAMP => {
                let h: SearchOffsetRequestHeader = cmd.header().unwrap();
                let (min, max) = bounds();
                ok().with_header(&SearchOffsetResponseHeader {
                    offset: (h.timestamp - 1000).clamp(min, max),
                })
            }
            code::CONSUMER_SEND_MSG_BACK => self.give_back(cmd),
            code::GET_BROKER_CONFIG => ok()
                .with_body("brokerName=b\nlistenPort = 10911\n")
                .with_ext("version", "{}"),
            code::GET_BROKER_RUNTIME_INFO => ok().with_body(json::to_bytes(&KVTable {
                table: [("putTps".into(), "1 2 3".into())].into(),
            })),
            _ => ok(),
        }
    }
}

impl Handler for FakeBroker {
    fn handle(&self, request: Request) {
        let mut state = self.state.lock().unwrap();
        state.seen.push(request.cmd.clone());
        let at = state
            .faults
            .iter()
            .position(|(code, _)| *code == request.cmd.code);
        let fault = at
            .and_then(|at| state.faults.remove(at))
            .map(|(_, fault)| fault);
        match fault {
            Some(Fault::Code(code)) => {
                return request.reply(RemotingCommand::response(code).with_remark("on demand"));
            }
            Some(Fault::Status(code)) => {
                let answer = state.answer(&request.cmd, &request.channel);
                return request.reply(RemotingCommand { code, ..answer });
            }
            Some(Fault::Silence) => return drop(request),
            Some(Fault::Close) => return request.channel.close("on demand"),
            Some(Fault::CloseAfter) => {
                state.answer(&request.cmd, &request.channel);
                return request.channel.close("on demand");
            }
            None => {}
        }
        if request.cmd.code != code::PULL_MESSAGE {
            let answer = state.answer(&request.cmd, &request.channel);
            return request.reply(answer);
        }
        let header: PullMessageRequestHeader = request.cmd.header().unwrap();
        if header.sys_flag & 1 != 0 {
            let key = (
                header.consumer_group.to_string(),
                header.topic.to_string(),
                header.queue_id,
            );
            state.offsets.insert(key, header.commit_offset);
        }
        let answer = state.pull(&header);
        if answer.code == response_code::PULL_NOT_FOUND && header.sys_flag & 2 != 0 {
            let (_, replier) = request.split();
            state.held.push(Held { header, replier });
        } else {
            request.reply(answer);
        }
    }

    fn disconnected(&self, channel: &Channel) {
        let mut state = self.state.lock().unwrap();
        let mut changed = Vec::new();
        for (group, members) in &mut state.members {
            let before = members.len();
            members.retain(|_, c| c != channel);
            if members.len() != before {
                changed.push(group.clone());
            }
        }
        changed.iter().for_each(|g| state.notify(g));
    }
}

/// Polls until `done` says so.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

/// One name server and broker sets `b0`, `b1`, … with one master each.
pub struct Cluster {
    pub names: Arc<FakeNames>,
    pub names_server: FakeServer,
    pub brokers: Vec<(Arc<FakeBroker>, FakeServer)>,
}

impl Cluster {
    pub async fn start(brokers: usize) -> Self {
        let names = Arc::new(FakeNames::default());
        let names_server = serve(names.clone()).await;
        let mut all = Vec::new();
        for _ in 0..brokers {
            all.push(FakeBroker::start().await);
        }
        Self {
            names,
            names_server,
            brokers: all,
        }
    }

    /// Routes `topic` with `queues` queues at every broker.
    pub fn topic(&self, topic: &str, queues: i32) {
        let owned: Vec<_> = self
            .brokers
            .iter()
            .enumerate()
            .map(|(i, (_, s))| (format!("b{i}"), s.addr))
            .collect();
        let brokers: Vec<_> = owned
            .iter()
            .map(|(name, addr)| (name.as_str(), 0, *addr))
            .collect();
        self.names.set_route(topic, 6, queues, &brokers);
    }

    pub fn names_addr(&self) -> String {
        self.names_server.addr.to_string()
    }

    pub fn broker(&self, i: usize) -> &FakeBroker {
        &self.brokers[i].0
    }

    pub fn stored(&self, topic: &str) -> usize {
        self.brokers.iter().map(|(b, _)| b.stored(topic)).sum()
    }
}
