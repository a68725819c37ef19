//! The applied state that clients ask for: topics, groups, consumer offsets, KV configs, timers. Kept in memory for
//! readers on any thread and in the metadata store across restarts; only apply changes it.
//!
//! A row with a key or value that cannot be read is *set aside*: left where it is, carried in snapshots, counted, and not
//! shown to anybody. It never refuses the store. Which rows those are is a function of the rows alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use raftmq_remoting::body::{DataVersion, SubscriptionGroupConfig, TopicConfig};

use crate::command::{
    Command, GroupOut, GroupRow, OffsetCommit, PendingTransaction, TopicOut, TopicRow,
};
use crate::error::{Result, StoreError};
use crate::kv::{self, Batch, Family, Kv, carried};
use crate::timers::Timers;
use crate::version;

type Map<K, V> = HashMap<K, V, ahash::RandomState>;

const TOPIC_VERSION: &[u8] = b"topic_version";
const TRIM_TO: &[u8] = b"trim_to";
const GROUP_VERSION: &[u8] = b"group_version";
const SET_VERSION: &[u8] = b"set_version";

/// What a command touched, for those who are told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Touched {
    /// Topics were made, changed or deleted.
    pub topics: bool,
    /// Groups were made, changed or deleted.
    pub groups: bool,
    /// Timers came or went.
    pub timers: bool,
    /// KV configs were set or removed.
    pub kv: bool,
}

/// Offsets of one group, by topic and queue.
type GroupOffsets = Map<String, Map<i32, i64>>;

/// Offsets of all groups.
type Offsets = Map<String, GroupOffsets>;

/// Applied state of one replica.
pub struct State {
    kv: Arc<dyn Kv>,
    topics: RwLock<Map<String, Arc<TopicConfig>>>,
    topic_version: RwLock<DataVersion>,
    groups: RwLock<Map<String, Arc<SubscriptionGroupConfig>>>,
    group_version: RwLock<DataVersion>,
    offsets: RwLock<Offsets>,
    resets: RwLock<Offsets>,
    /// Queues in `resets`, for readers that hardly ever meet one.
    reset_count: AtomicUsize,
    kv_config: RwLock<Map<(String, String), String>>,
    trim_to: AtomicU64,
    set_version: AtomicU32,
    timers: Timers,
    /// Keys of rows that cannot be read.
    set_aside: RwLock<SetAside>,
}

type SetAside = BTreeSet<(Family, Vec<u8>)>;

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| StoreError::Metadata(e.to_string()))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

fn offset_key(group: &str, topic: &str, queue_id: i32) -> Vec<u8> {
    format!("{group}\0{topic}\0{queue_id}").into_bytes()
}

fn kv_key(namespace: &str, key: &str) -> Vec<u8> {
    format!("{namespace}\0{key}").into_bytes()
}

/// Whether the key made of these names is read back as them. Nothing else is proposed ([`crate::storable`]), but logs of
/// version 0 may hold it.
fn is_readable(one: &OffsetCommit) -> bool {
    !one.group.contains('\0') && !one.topic.contains('\0')
}

/// Reads a family; rows of which `visit` makes nothing are set aside.
fn for_each(
    kv: &dyn Kv,
    family: Family,
    set_aside: &mut SetAside,
    mut visit: impl FnMut(&str, &[u8]) -> Option<()>,
) -> Result<()> {
    kv::for_each(kv, family, |key, value| {
        let name = std::str::from_utf8(key).ok();
        if name.and_then(|name| visit(name, value)).is_none() {
            let (family_name, shown) = (family.name(), String::from_utf8_lossy(key));
            tracing::error!(
                family = family_name,
                key = ?shown,
                "a row of the metadata cannot be read and is set aside"
            );
            set_aside.insert((family, key.to_vec()));
        }
        Ok(())
    })
}

fn read_offsets(kv: &dyn Kv, family: Family, set_aside: &mut SetAside) -> Result<Offsets> {
    let mut offsets = Offsets::default();
    for_each(kv, family, set_aside, |name, value| {
        let mut parts = name.split('\0');
        let (group, topic, queue) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let queue = queue.parse().ok()?;
        let offset = i64::from_be_bytes(value.try_into().ok()?);
        let group = offsets.entry(group.to_owned()).or_default();
        let queues = group.entry(topic.to_owned()).or_default();
        queues.insert(queue, offset);
        Some(())
    })?;
    Ok(offsets)
}

fn count(offsets: &Offsets) -> usize {
    let queues = offsets.values().flat_map(Map::values);
    queues.map(Map::len).sum()
}

fn find(offsets: &Offsets, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
    offsets.get(group)?.get(topic)?.get(&queue_id).copied()
}

/// Whether the queue is a new one.
fn insert(offsets: &mut Offsets, one: OffsetCommit) -> bool {
    let group = offsets.entry(one.group).or_default();
    let queues = group.entry(one.topic).or_default();
    queues.insert(one.queue_id, one.offset).is_none()
}

fn listed<'a>(group: &'a str, topics: &'a GroupOffsets) -> impl Iterator<Item = OffsetCommit> + 'a {
    let one = move |topic: &String, (queue_id, offset): (&i32, &i64)| OffsetCommit {
        group: group.to_owned(),
        topic: topic.clone(),
        queue_id: *queue_id,
        offset: *offset,
    };
    topics
        .iter()
        .flat_map(move |(topic, queues)| queues.iter().map(move |q| one(topic, q)))
}

/// Forgets one queue, and its group and topic with the last of theirs; whether it was there.
fn remove(offsets: &mut Offsets, one: &OffsetCommit) -> bool {
    let Some(group) = offsets.get_mut(&one.group) else {
        return false;
    };
    let Some(queues) = group.get_mut(&one.topic) else {
        return false;
    };
    let removed = queues.remove(&one.queue_id).is_some();
    if queues.is_empty() {
        group.remove(&one.topic);
    }
    if group.is_empty() {
        offsets.remove(&one.group);
    }
    removed
}

/// Forgets a topic in every group, in memory and with `batch`.
fn remove_topic(offsets: &mut Offsets, family: Family, topic: &str, batch: &mut Batch) {
    offsets.retain(|group, topics| {
        for queue_id in topics.remove(topic).unwrap_or_default().keys() {
            batch.delete(family, offset_key(group, topic, *queue_id));
        }
        !topics.is_empty()
    });
}

/// Forgets a group, in memory and with `batch`.
fn remove_group(offsets: &mut Offsets, family: Family, group: &str, batch: &mut Batch) {
    for (topic, queues) in offsets.remove(group).unwrap_or_default() {
        for queue_id in queues.keys() {
            batch.delete(family, offset_key(group, &topic, *queue_id));
        }
    }
}

/// What the metadata says of a set version, before anything else of it is read.
///
/// # Errors
/// [`StoreError::Metadata`].
pub fn stored_version(kv: &dyn Kv) -> Result<u32> {
    let row = kv.get(Family::Meta, SET_VERSION)?;
    let row = row.and_then(|bytes| bytes.try_into().ok());
    Ok(row.map_or(version::FIRST, u32::from_be_bytes))
}

fn stored_trim(kv: &dyn Kv) -> Result<u64> {
    let row = kv.get(Family::Meta, TRIM_TO)?;
    let row = row.and_then(|bytes| bytes.try_into().ok());
    Ok(row.map_or(0, u64::from_be_bytes))
}

impl State {
    /// Loads everything from the metadata store.
    ///
    /// # Errors
    /// [`StoreError::Metadata`].
    pub fn load(kv: Arc<dyn Kv>) -> Result<Self> {
        carried::settle(kv.as_ref())?;
        let state = Self {
            kv: kv.clone(),
            topics: RwLock::default(),
            topic_version: RwLock::default(),
            groups: RwLock::default(),
            group_version: RwLock::default(),
            offsets: RwLock::default(),
            resets: RwLock::default(),
            reset_count: AtomicUsize::new(0),
            kv_config: RwLock::default(),
            trim_to: AtomicU64::new(0),
            set_version: AtomicU32::new(version::FIRST),
            timers: Timers::new(kv),
            set_aside: RwLock::default(),
        };
        state.reload()?;
        Ok(state)
    }

    /// Reads everything again: after a snapshot replaced the metadata store's content.
    pub(crate) fn reload(&self) -> Result<()> {
        let kv = self.kv.as_ref();
        let mut aside = SetAside::default();
        let mut topics = Map::default();
        for_each(kv, Family::Topics, &mut aside, |name, value| {
            let TopicRow(config) = from_json(value)?;
            topics.insert(name.to_owned(), Arc::new(config));
            Some(())
        })?;
        let mut groups = Map::default();
        for_each(kv, Family::Groups, &mut aside, |name, value| {
            let GroupRow(config) = from_json(value)?;
            groups.insert(name.to_owned(), Arc::new(config));
            Some(())
        })?;
        let mut kv_config = Map::default();
        for_each(kv, Family::KvConfig, &mut aside, |name, value| {
            let (namespace, key) = name.split_once('\0')?;
            let value = String::from_utf8_lossy(value).into_owned();
            kv_config.insert((namespace.to_owned(), key.to_owned()), value);
            Some(())
        })?;
        let offsets = read_offsets(kv, Family::Offsets, &mut aside)?;
        let resets = read_offsets(kv, Family::Resets, &mut aside)?;
        let mut version = |key: &[u8]| {
            let row = kv.get(Family::Meta, key)?;
            let read = row.as_deref().map(from_json);
            if read == Some(None) {
                aside.insert((Family::Meta, key.to_vec()));
            }
            Ok::<DataVersion, StoreError>(read.flatten().unwrap_or_default())
        };
        *self.topic_version.write() = version(TOPIC_VERSION)?;
        *self.group_version.write() = version(GROUP_VERSION)?;
        self.trim_to.store(stored_trim(kv)?, Ordering::Release);
        self.set_version
            .store(stored_version(kv)?, Ordering::Release);
        *self.topics.write() = topics;
        *self.groups.write() = groups;
        *self.offsets.write() = offsets;
        self.reset_count.store(count(&resets), Ordering::Release);
        *self.resets.write() = resets;
        *self.kv_config.write() = kv_config;
        *self.set_aside.write() = aside;
        self.timers.reset();
        Ok(())
    }

    /// What may be proposed to the set: [`crate::version`].
    pub fn set_version(&self) -> u32 {
        self.set_version.load(Ordering::Acquire)
    }

    /// Rows that cannot be read.
    pub fn set_aside(&self) -> usize {
        self.set_aside.read().len()
    }

    /// What the set decided to give up: the log before this position.
    pub fn trim_to(&self) -> u64 {
        self.trim_to.load(Ordering::Acquire)
    }

    /// Pending timers.
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// One topic.
    pub fn topic(&self, name: &str) -> Option<Arc<TopicConfig>> {
        self.topics.read().get(name).cloned()
    }

    /// All topics, in no order.
    pub fn topics(&self) -> Vec<Arc<TopicConfig>> {
        self.topics.read().values().cloned().collect()
    }

    /// Version of the topic table; `state_version` is 0 here, the broker puts its term there when it registers.
    pub fn topic_version(&self) -> DataVersion {
        *self.topic_version.read()
    }

    /// One subscription group.
    pub fn group(&self, name: &str) -> Option<Arc<SubscriptionGroupConfig>> {
        self.groups.read().get(name).cloned()
    }

    /// All subscription groups, in no order.
    pub fn groups(&self) -> Vec<Arc<SubscriptionGroupConfig>> {
        self.groups.read().values().cloned().collect()
    }

    /// Version of the group table.
    pub fn group_version(&self) -> DataVersion {
        *self.group_version.read()
    }

    /// A committed consumer offset.
    pub fn offset(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        find(&self.offsets.read(), group, topic, queue_id)
    }

    /// The offset a queue was reset to, while its consumer has not come for it. Cheap when nothing was reset.
    pub fn reset(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        match self.reset_count() {
            0 => None,
            _ => find(&self.resets.read(), group, topic, queue_id),
        }
    }

    /// Queues that were reset and whose consumer has not come.
    pub fn reset_count(&self) -> usize {
        self.reset_count.load(Ordering::Acquire)
    }

    /// All of them, in no order.
    pub fn resets(&self) -> Vec<OffsetCommit> {
        let resets = self.resets.read();
        let groups = resets.iter();
        groups
            .flat_map(|(group, topics)| listed(group, topics))
            .collect()
    }

    /// All offsets of a group.
    pub fn offsets_of(&self, group: &str) -> Vec<OffsetCommit> {
        let offsets = self.offsets.read();
        let Some(topics) = offsets.get(group) else {
            return Vec::new();
        };
        listed(group, topics).collect()
    }

    /// All offsets of all groups, in no order.
    pub fn all_offsets(&self) -> Vec<OffsetCommit> {
        let groups: Vec<String> = self.offsets.read().keys().cloned().collect();
        groups.iter().flat_map(|g| self.offsets_of(g)).collect()
    }

    /// Groups that have consumed from a topic.
    pub fn groups_with_offsets(&self, topic: &str) -> Vec<String> {
        let offsets = self.offsets.read();
        offsets
            .iter()
            .filter(|(_, topics)| topics.contains_key(topic))
            .map(|(group, _)| group.clone())
            .collect()
    }

    /// A KV config.
    pub fn kv(&self, namespace: &str, key: &str) -> Option<String> {
        self.kv_config
            .read()
            .get(&(namespace.to_owned(), key.to_owned()))
            .cloned()
    }

    /// A transaction that has not ended, by where its half message lies. Reads the metadata store.
    ///
    /// # Errors
    /// [`StoreError::Metadata`].
    pub fn transaction(&self, position: i64) -> Result<Option<PendingTransaction>> {
        let key = PendingTransaction::key(position);
        let value = self.kv.get(Family::Transactions, &key)?;
        Ok(value.and_then(|value| PendingTransaction::decode(&key, &value)))
    }

    /// Transactions that have not ended from a position on, the oldest first. Reads the metadata store.
    ///
    /// # Errors
    /// [`StoreError::Metadata`].
    pub fn transactions(&self, from: i64, limit: usize) -> Result<Vec<PendingTransaction>> {
        let first = PendingTransaction::key(from);
        let pairs = self.kv.scan(Family::Transactions, &first, limit)?;
        let decoded = pairs
            .iter()
            .filter_map(|(key, value)| PendingTransaction::decode(key, value));
        Ok(decoded.collect())
    }

    fn next_version(version: &RwLock<DataVersion>, now_ms: i64) -> DataVersion {
        let mut next = *version.read();
        next.timestamp = now_ms;
        next.counter = next.counter.saturating_add(1);
        next
    }

    /// Changes memory and adds the same change to `batch`.
    pub(crate) fn apply(
        &self,
        command: Command,
        batch: &mut Batch,
        touched: &mut Touched,
    ) -> Result<()> {
        match command {
            Command::PutTopic { config, now_ms } => {
                let key = config.topic_name.as_bytes();
                self.put(batch, Family::Topics, key, json(&TopicOut(&config))?);
                self.topics
                    .write()
                    .insert(config.topic_name.clone(), Arc::new(config));
                self.topics_moved(now_ms, batch, touched)?;
            }
            Command::DeleteTopic { topic, now_ms } => {
                self.delete(batch, Family::Topics, topic.as_bytes());
                self.forget_unreadable(&topic, batch);
                self.topics.write().remove(&topic);
                remove_topic(&mut self.offsets.write(), Family::Offsets, &topic, batch);
                self.forget_resets(|resets| remove_topic(resets, Family::Resets, &topic, batch));
                self.topics_moved(now_ms, batch, touched)?;
            }
            Command::PutGroup { config, now_ms } => {
                let key = config.group_name.as_bytes();
                self.put(batch, Family::Groups, key, json(&GroupOut(&config))?);
                self.groups
                    .write()
                    .insert(config.group_name.clone(), Arc::new(config));
                self.groups_moved(now_ms, batch, touched)?;
            }
            Command::DeleteGroup {
                group,
                clean_offset,
                now_ms,
            } => {
                self.delete(batch, Family::Groups, group.as_bytes());
                self.groups.write().remove(&group);
                if clean_offset {
                    remove_group(&mut self.offsets.write(), Family::Offsets, &group, batch);
                    self.forget_resets(|r| remove_group(r, Family::Resets, &group, batch));
                }
                self.groups_moved(now_ms, batch, touched)?;
            }
            Command::CommitOffsets { offsets } => {
                let needs_topics = self.set_version() >= version::COMMITS_NEED_TOPICS;
                let topics = self.topics.read();
                let counts = |o: &OffsetCommit| {
                    !self.is_reset(o) && (!needs_topics || topics.contains_key(&o.topic))
                };
                self.store_offsets(offsets.into_iter().filter(counts), batch);
            }
            Command::AssignOffsets { offsets, reset } => {
                let mut resets = self.resets.write();
                for one in &offsets {
                    let key = offset_key(&one.group, &one.topic, one.queue_id);
                    if !is_readable(one) {
                        match reset {
                            true => self.put_aside(batch, Family::Resets, key, one.offset),
                            false => self.delete(batch, Family::Resets, &key),
                        }
                    } else if reset {
                        batch.put(Family::Resets, key, one.offset.to_be_bytes());
                        let new = insert(&mut resets, one.clone());
                        self.reset_count.fetch_add(new.into(), Ordering::AcqRel);
                    } else if remove(&mut resets, one) {
                        batch.delete(Family::Resets, key);
                        self.reset_count.fetch_sub(1, Ordering::AcqRel);
                    }
                }
                drop(resets);
                self.store_offsets(offsets.into_iter(), batch);
            }
            Command::ResetsTaken { offsets } => {
                let mut resets = self.resets.write();
                for one in offsets {
                    let now = find(&resets, &one.group, &one.topic, one.queue_id);
                    if now == Some(one.offset) && remove(&mut resets, &one) {
                        let key = offset_key(&one.group, &one.topic, one.queue_id);
                        batch.delete(Family::Resets, key);
                        self.reset_count.fetch_sub(1, Ordering::AcqRel);
                    }
                }
            }
            Command::PutKv {
                namespace,
                key,
                value,
            } => {
                let row = kv_key(&namespace, &key);
                self.put(batch, Family::KvConfig, &row, value.as_bytes());
                self.kv_config.write().insert((namespace, key), value);
                touched.kv = true;
            }
            Command::DeleteKv { namespace, key } => {
                batch.delete(Family::KvConfig, kv_key(&namespace, &key));
                self.kv_config.write().remove(&(namespace, key));
                touched.kv = true;
            }
            Command::TrimTo { position } => {
                let position = self.trim_to().max(position);
                batch.put(Family::Meta, TRIM_TO, position.to_be_bytes());
                self.trim_to.store(position, Ordering::Release);
            }
            Command::SetVersion { version } => {
                let version = self.set_version().max(version);
                batch.put(Family::Meta, SET_VERSION, version.to_be_bytes());
                self.set_version.store(version, Ordering::Release);
            }
            Command::TimerDone { keys } => {
                for key in keys {
                    batch.delete(Family::Timers, key.encode());
                }
                touched.timers = true;
            }
            Command::TransactionDone { positions } => {
                for position in positions {
                    batch.delete(Family::Transactions, PendingTransaction::key(position));
                }
            }
            Command::TransactionChecked { pending } => {
                for one in pending {
                    let key = PendingTransaction::key(one.position);
                    batch.put(Family::Transactions, key, one.value());
                }
            }
        }
        Ok(())
    }

    fn store_offsets(&self, offsets: impl Iterator<Item = OffsetCommit>, batch: &mut Batch) {
        let mut table = self.offsets.write();
        for one in offsets {
            let key = offset_key(&one.group, &one.topic, one.queue_id);
            if is_readable(&one) {
                batch.put(Family::Offsets, key, one.offset.to_be_bytes());
                insert(&mut table, one);
            } else {
                self.put_aside(batch, Family::Offsets, key, one.offset);
            }
        }
    }

    fn is_reset(&self, one: &OffsetCommit) -> bool {
        if is_readable(one) {
            return self.reset(&one.group, &one.topic, one.queue_id).is_some();
        }
        let key = offset_key(&one.group, &one.topic, one.queue_id);
        self.set_aside.read().contains(&(Family::Resets, key))
    }

    /// Writes a row that cannot be read back, as version 0 did: all replicas have it, and nobody sees it.
    fn put_aside(&self, batch: &mut Batch, family: Family, key: Vec<u8>, offset: i64) {
        self.set_aside.write().insert((family, key.clone()));
        batch.put(family, key, offset.to_be_bytes());
    }

    /// Writes a row that can be read, whatever stood there.
    fn put(&self, batch: &mut Batch, family: Family, key: &[u8], value: impl Into<Vec<u8>>) {
        self.no_more_aside(family, key);
        batch.put(family, key, value);
    }

    fn delete(&self, batch: &mut Batch, family: Family, key: &[u8]) {
        self.no_more_aside(family, key);
        batch.delete(family, key);
    }

    fn no_more_aside(&self, family: Family, key: &[u8]) {
        if self.set_aside() > 0 {
            self.set_aside.write().remove(&(family, key.to_vec()));
        }
    }

    /// Forgets the unreadable offsets of a topic.
    fn forget_unreadable(&self, topic: &str, batch: &mut Batch) {
        let of_topic = |key: &[u8]| {
            let Ok(text) = std::str::from_utf8(key) else {
                return false;
            };
            let above = text.rsplit_once('\0').map(|(above, _queue)| above);
            above.is_some_and(|above| above.ends_with(&format!("\0{topic}")))
        };
        self.set_aside.write().retain(|(family, key)| {
            let goes = matches!(family, Family::Offsets | Family::Resets) && of_topic(key);
            if goes {
                batch.delete(*family, key.clone());
            }
            !goes
        });
    }

    fn forget_resets(&self, forget: impl FnOnce(&mut Offsets)) {
        if self.reset_count() > 0 {
            let mut resets = self.resets.write();
            forget(&mut resets);
            self.reset_count.store(count(&resets), Ordering::Release);
        }
    }

    fn topics_moved(&self, now_ms: i64, batch: &mut Batch, touched: &mut Touched) -> Result<()> {
        let next = Self::next_version(&self.topic_version, now_ms);
        self.put(batch, Family::Meta, TOPIC_VERSION, json(&next)?);
        *self.topic_version.write() = next;
        touched.topics = true;
        Ok(())
    }

    fn groups_moved(&self, now_ms: i64, batch: &mut Batch, touched: &mut Touched) -> Result<()> {
        let next = Self::next_version(&self.group_version, now_ms);
        self.put(batch, Family::Meta, GROUP_VERSION, json(&next)?);
        *self.group_version.write() = next;
        touched.groups = true;
        Ok(())
    }
}
