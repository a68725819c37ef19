//! Finding clients that a request is to be sent to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use raftmq_remoting::body::{ProducerInfo, SubscriptionData};
use raftmq_remoting::channel::Channel;

use super::{Client, ClientManager};
use crate::broker::now_ms;

/// A consumer that may be asked something.
#[derive(Clone)]
pub struct Consumer {
    pub client_id: Arc<str>,
    pub channel: Channel,
    /// The client's version, an ordinal of RocketMQ's.
    pub version: i32,
}

impl Consumer {
    fn of(client: &Client) -> Self {
        Self {
            client_id: client.client_id.clone(),
            channel: client.channel.clone(),
            version: client.version,
        }
    }
}

impl ClientManager {
    /// The consumers of a group, by client id; where one has several connections, on the newest.
    pub fn consumers(&self, group: &str) -> Vec<Consumer> {
        let tables = self.tables.read();
        let Some(group) = tables.consumers.get(group) else {
            return Vec::new();
        };
        let mut newest: BTreeMap<&str, &Client> = BTreeMap::new();
        for client in group.clients.values() {
            let one = newest.entry(&client.client_id).or_insert(client);
            if client.channel.id() > one.channel.id() {
                *one = client;
            }
        }
        newest.into_values().map(Consumer::of).collect()
    }

    /// One consumer of a group, on its newest connection.
    pub fn consumer(&self, group: &str, client_id: &str) -> Option<Consumer> {
        let tables = self.tables.read();
        let clients = tables.consumers.get(group)?.clients.values();
        clients
            .filter(|client| *client.client_id == *client_id)
            .max_by_key(|client| client.channel.id())
            .map(Consumer::of)
    }

    /// The connection of a client that produces, whatever its groups.
    pub fn producer(&self, client_id: &str) -> Option<Channel> {
        let found = self.tables.read().producer_ids.get(client_id).cloned();
        found.filter(|channel| !channel.is_closed())
    }

    /// What a group that is online wants of a topic.
    pub fn subscription(&self, group: &str, topic: &str) -> Option<SubscriptionData> {
        let tables = self.tables.read();
        let found = tables.consumers.get(group)?.subscriptions.get(topic)?;
        Some(found.data.clone())
    }

    /// Whether a group that is online does not subscribe to a topic: what it has consumed of that is old.
    pub fn gave_up(&self, group: &str, topic: &str) -> bool {
        let tables = self.tables.read();
        let online = tables.consumers.get(group);
        online.is_some_and(|g| !g.subscriptions.is_empty() && !g.subscriptions.contains_key(topic))
    }

    /// Every producer group with its clients.
    pub fn all_producers(&self) -> BTreeMap<String, Vec<ProducerInfo>> {
        let (now, now_ms) = (Instant::now(), now_ms());
        let info = |client: &Client| {
            let silent = now.saturating_duration_since(client.seen).as_millis();
            ProducerInfo {
                client_id: (*client.client_id).to_owned(),
                language: client.language.name().to_owned(),
                last_update_timestamp: now_ms - silent as i64,
                remote_ip: format!("/{}", crate::call::canonical(client.channel.remote())),
                version: client.version,
            }
        };
        let tables = self.tables.read();
        let of_group = |clients: &ahash::HashMap<u64, Client>| {
            let mut all: Vec<ProducerInfo> = clients.values().map(info).collect();
            all.sort_by(|a, b| a.client_id.cmp(&b.client_id));
            all
        };
        let groups = tables.producers.iter();
        groups
            .map(|(name, clients)| (name.clone(), of_group(clients)))
            .collect()
    }
}
