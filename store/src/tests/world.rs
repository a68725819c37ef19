//! One replica on a simulated disk, driven by random operations, and what must hold of it after every crash.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftmq_remoting::ByteStr;
use raftmq_remoting::body::TopicConfig;
use raftmq_remoting::message::{NewMessage, body_crc, properties};

use super::reference::{Reference, dir};
use crate::command::{Command, OffsetCommit};
use crate::commitlog::draft::Draft;
use crate::commitlog::writer::FlushPolicy;
use crate::commitlog::{Drive, EntryId, LogOptions};
use crate::housekeeping::Housekeeper;
use crate::kv::KvDisk;
use crate::store::Env;
use crate::vfs::{Crash, FileSystem, SimFs};
use crate::{Effects, Store};

pub const SEGMENT: u64 = 64 * 1024;

/// splitmix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

pub struct World {
    pub rng: Rng,
    pub fs: SimFs,
    pub kv: Arc<KvDisk>,
    pub policy: FlushPolicy,
    pub store: Option<Store>,
    keeper: Option<Housekeeper>,
    /// The log as it should be, by index.
    pub entries: Vec<Bytes>,
    /// Everything ever given to the log, by index.
    submitted: BTreeMap<u64, HashSet<Bytes>>,
    /// Entries that were said to be persisted.
    acked: Arc<AtomicU64>,
    /// Votes: the last one said to be saved, and the last one given.
    voted: Arc<AtomicU64>,
    vote: u64,
    pub committed: u64,
    term: u64,
    ticks: u32,
    pub boot: u32,
    /// Whether anything was lost that a replica may lose only to a power cut with `ASYNC_FLUSH`.
    pub lost: u64,
}

pub type Checked = Result<(), String>;

impl World {
    pub fn new(seed: u64, policy: FlushPolicy) -> Self {
        let fs = SimFs::new(seed);
        fs.create_dir_all("/data".as_ref()).expect("made");
        fs.sync_all("/".as_ref()).expect("synced");
        Self {
            rng: Rng(seed),
            fs,
            kv: Arc::default(),
            policy,
            store: None,
            keeper: None,
            entries: Vec::new(),
            submitted: BTreeMap::new(),
            acked: Arc::default(),
            voted: Arc::default(),
            vote: 0,
            committed: 0,
            term: 1,
            ticks: 0,
            boot: 0,
            lost: 0,
        }
    }

    pub fn env(&self) -> Env {
        let kv = self.kv.clone();
        let fs = self.fs.clone();
        Env {
            fs: Arc::new(self.fs.clone()),
            open_kv: Arc::new(move |dir| {
                // A directory, so that it can be set aside.
                let wrap = |e| crate::StoreError::io("make the metadata directory", e);
                fs.make_dir(dir).map_err(wrap)?;
                kv.open()
            }),
        }
    }

    fn options(&self) -> LogOptions {
        let mut options = LogOptions::new(SEGMENT, self.policy);
        options.drive = Drive::Caller;
        options.tail_bytes = 100_000;
        options.boot = format!("boot {}", self.boot);
        options
    }

    /// Opens the store, without a check.
    pub fn open(&mut self) -> crate::Result<()> {
        let options = self.options();
        let store = Store::open_on(&self.env(), dir(), &options)?;
        if self.rng.0 & 1 == 1 {
            // Every other life writes queues out after few entries, the rest not before a checkpoint.
            store.queues.set_limits(3, 10);
        }
        Store::settle(&self.env(), dir(), &options)?;
        self.keeper = Some(Housekeeper::new(&store, 1 << 30, Instant::now()));
        self.store = Some(store);
        Ok(())
    }

    /// What the next process finds after one that gave up.
    pub fn reopen_disk(&mut self) {
        self.fs = self.fs.crash(Crash::Kill, 1);
    }

    /// The log alone.
    pub fn open_log(&self) -> crate::Result<crate::commitlog::CommitLog> {
        Store::open_log(&self.env(), dir(), &self.options())
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("open")
    }

    fn message(&mut self) -> NewMessage {
        let n = self.rng.next();
        let len = match n % 5 {
            0 => 20_000,
            1 => 5_000,
            _ => 100 + n % 900,
        };
        let body = Bytes::from(vec![n as u8; len as usize]);
        NewMessage {
            topic: ByteStr::from(["A", "B", "C"][(n / 7 % 3) as usize]),
            queue_id: (n / 21 % 3) as i32,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 5,
            born_host: ([127, 0, 0, 1], 1).into(),
            store_host: ([127, 0, 0, 1], 2).into(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body_crc: body_crc(&body),
            body,
            properties: properties::encode([
                ("UNIQ_KEY", format!("u{n:016x}").as_str()),
                ("KEYS", format!("k{} j{}", n % 4, n % 11).as_str()),
                ("TAGS", "t"),
            ]),
        }
    }

    fn command(&mut self) -> Command {
        let n = self.rng.next();
        let topic = ["A", "B", "C"][(n / 11 % 3) as usize].to_owned();
        match n % 8 {
            0 => Command::DeleteTopic { topic, now_ms: 7 },
            1 | 2 => Command::PutTopic {
                config: TopicConfig {
                    topic_name: topic,
                    ..TopicConfig::default()
                },
                now_ms: n as i64 & 0xFFFF,
            },
            kind => {
                let offsets = vec![OffsetCommit {
                    group: "g".into(),
                    topic,
                    queue_id: (n / 5 % 3) as i32,
                    // Few, so that a reset is met by those who take it.
                    offset: (n / 13 % 3) as i64,
                }];
                match kind {
                    3 => Command::AssignOffsets {
                        offsets,
                        reset: !(n / 17).is_multiple_of(4),
                    },
                    4 => Command::ResetsTaken { offsets },
                    _ => Command::CommitOffsets { offsets },
                }
            }
        }
    }

    /// Appends one entry; told later.
    pub fn append(&mut self) -> Checked {
        let mut draft = Draft::new(0);
        for _ in 0..1 + self.rng.below(3) {
            let message = self.message();
            draft.push_message(&message).map_err(|e| e.to_string())?;
        }
        if self.rng.below(6) == 0 {
            let command = self.command();
            draft.push_command(&command).map_err(|e| e.to_string())?;
        }
        self.push(draft)
    }

    fn push(&mut self, draft: Draft) -> Checked {
        let index = self.entries.len() as u64;
        let id = EntryId {
            term: self.term,
            index,
        };
        let store = self.store.as_ref().expect("open");
        let mut batch = store.log.append();
        let (entry, _) = batch
            .push_draft(id, draft, 1_000 + index as i64)
            .map_err(|e| e.to_string())?;
        self.submitted
            .entry(index)
            .or_default()
            .insert(entry.bytes.clone());
        self.entries.push(entry.bytes);
        let acked = self.acked.clone();
        batch.submit(Box::new(move |result| {
            if result.is_ok() {
                acked.fetch_max(index + 1, Ordering::AcqRel);
            }
        }));
        Ok(())
    }

    /// The disk works.
    pub fn step(&mut self) {
        self.store().log.step();
    }

    fn poisoned(&self) -> Checked {
        match self.store().log.progress().poisoned() {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    fn truncate(&mut self) -> Checked {
        self.step();
        let len = self.entries.len() as u64;
        if len <= self.committed + 1 {
            return Ok(());
        }
        let keep = self.committed.max(1) + self.rng.below(len - self.committed.max(1));
        self.acked.fetch_min(keep, Ordering::AcqRel);
        self.entries.truncate(keep as usize);
        self.term += 1;
        let log = self.store().log.clone();
        log.truncate_after(Some(keep - 1), Box::new(|_| {}))
            .map_err(|e| e.to_string())
    }

    /// Commits and applies a part of what is persisted.
    pub fn apply(&mut self) -> Checked {
        let acked = self.acked.load(Ordering::Acquire);
        let more = acked.saturating_sub(self.committed);
        self.committed += self.rng.below(more + 1);
        self.catch_up()
    }

    /// Commits and applies everything that is persisted.
    pub fn apply_all(&mut self) {
        self.committed = self.acked.load(Ordering::Acquire);
        self.catch_up().expect("applies");
    }

    /// The log was cut here, and it was said.
    pub fn forget_after(&mut self, count: u64) {
        self.entries.truncate(count as usize);
        self.committed = self.committed.min(count);
        self.acked.store(count, Ordering::Release);
        self.term += 1;
    }

    /// The vote that was saved last.
    pub fn last_vote(&self) -> Vec<u8> {
        match self.voted.load(Ordering::Acquire) {
            0 => Vec::new(),
            vote => vote.to_be_bytes().to_vec(),
        }
    }

    /// Applies what is committed.
    pub fn catch_up(&mut self) -> Checked {
        let store = self.store.as_ref().expect("open");
        let mut machine = store.machine.lock();
        loop {
            let next = machine.applied().map_or(0, |a| a.index + 1);
            if next >= self.committed {
                return Ok(());
            }
            let to = (next + 7).min(self.committed);
            let read = store.log.read_entries(next, to, usize::MAX);
            let entries = read.map_err(|e| e.to_string())?;
            if entries.is_empty() {
                return Err(format!("entry {next} is committed and not in the log"));
            }
            let mut effects = Effects::default();
            for entry in &entries {
                machine
                    .apply(entry, None, &mut effects)
                    .map_err(|e| e.to_string())?;
            }
            if let Some(applied) = machine.applied() {
                store.log.set_committed(applied.position, applied.index);
            }
            machine.finish().map_err(|e| e.to_string())?;
        }
    }

    pub fn tick(&mut self) -> Checked {
        self.ticks += 1;
        let now = Instant::now() + Duration::from_secs(31) * self.ticks;
        let keeper = self.keeper.as_mut().expect("open");
        if keeper.tick(now) {
            let store = self.store.as_ref().expect("open");
            if let Some(base) = store.snapshots.base() {
                let mark = base.header.mark;
                let id = EntryId {
                    term: mark.term,
                    index: mark.index,
                };
                let purged = store.log.purge(id, Some(mark), Box::new(|_| {}));
                purged.map_err(|e| e.to_string())?;
                store.log.step();
            }
            let later = now + Duration::from_secs(1);
            self.keeper.as_mut().expect("open").tick(later);
        }
        Ok(())
    }

    /// What the housekeeping says of itself.
    pub fn scrubbed(&self) -> Option<std::sync::Arc<crate::housekeeping::Progress>> {
        self.keeper.as_ref().map(Housekeeper::progress)
    }

    /// Decides to give up the older half of the log.
    fn trim(&mut self) -> Checked {
        let end = self.store().log.end();
        let position = end / 2 / SEGMENT * SEGMENT;
        let mut draft = Draft::new(0);
        draft
            .push_command(&Command::TrimTo { position })
            .map_err(|e| e.to_string())?;
        self.push(draft)
    }

    fn save_vote(&mut self) {
        self.vote += 1;
        let vote = self.vote;
        let voted = self.voted.clone();
        let done = Box::new(move |result: Result<(), String>| {
            if result.is_ok() {
                voted.fetch_max(vote, Ordering::AcqRel);
            }
        });
        self.store()
            .log
            .save_vote(vote.to_be_bytes().to_vec(), done);
    }

    /// One random operation; an error when the disk has failed.
    pub fn operate(&mut self) -> Checked {
        match self.rng.below(40) {
            0..=17 => self.append()?,
            18..=25 => self.step(),
            26..=31 => self.apply()?,
            32 => self.truncate()?,
            33 => self.save_vote(),
            34 => {
                let _ = self.store().log.flush();
            }
            35 => {
                let _ = self.store().log.checkpoint();
            }
            36 => self.trim()?,
            _ => self.tick()?,
        }
        self.poisoned()
    }

    /// Ends the process, finds what is left, and opens it again.
    pub fn crash(&mut self, kind: Crash) -> Checked {
        let durable = self.store.as_ref().map_or(0, |store| {
            store.log.progress().durable.load(Ordering::Acquire)
        });
        self.keeper = None;
        self.store = None;
        let seed = self.rng.next();
        self.fs = self.fs.crash(kind, seed);
        if kind == Crash::Power {
            self.boot += 1;
            let rng = &mut self.rng;
            self.kv.lose_power(|n| rng.below(n as u64) as usize);
        }
        let acked = self.acked.load(Ordering::Acquire);
        let required = match (kind, self.policy) {
            (Crash::Power, FlushPolicy::Async) => {
                let ends = self.entries.iter().scan((), |(), bytes| {
                    let header = crate::commitlog::format::Header::decode(bytes)?;
                    Some(header.position + u64::from(header.size))
                });
                acked.min(ends.take_while(|end| *end <= durable).count() as u64)
            }
            _ => acked,
        };
        self.reopen(required)
    }

    /// Opens and checks everything.
    pub fn reopen(&mut self, required: u64) -> Checked {
        let acked_before = self.acked.load(Ordering::Acquire);
        self.open().map_err(|e| format!("cannot be opened: {e}"))?;
        let store = self.store.as_ref().expect("open");
        if store.log.cut_short() {
            return Err("takes a torn tail for damage".to_owned());
        }
        if !store.log.damage().is_empty() {
            return Err(format!("damage out of nothing: {:?}", store.log.damage()));
        }
        let vote = store.log.vote().map_or(0, |bytes| {
            bytes.try_into().map_or(u64::MAX, u64::from_be_bytes)
        });
        if !(self.voted.load(Ordering::Acquire)..=self.vote).contains(&vote) {
            return Err(format!("vote {vote}, saved were up to {:?}", self.voted));
        }
        self.vote = self.vote.max(vote);
        self.voted.store(vote, Ordering::Release);
        let (purged, last) = store.log.bounds();
        let len = last.map_or(0, |last| last.index + 1);
        if len < required {
            return Err(format!("{required} entries were persisted, {len} are left"));
        }
        let first = purged.map_or(0, |p| p.index + 1);
        if first > self.committed {
            return Err(format!(
                "purged up to {first}, committed {}",
                self.committed
            ));
        }
        let found = store
            .log
            .read_entries(first, u64::MAX, usize::MAX)
            .map_err(|e| e.to_string())?;
        if found.len() as u64 != len - first {
            return Err(format!("{} entries of {first}..{len}", found.len()));
        }
        self.entries.truncate(len as usize);
        for entry in found {
            let index = entry.header.index;
            let known = self.entries.get(index as usize);
            if index < required && known != Some(&entry.bytes) {
                return Err(format!("entry {index} is not the one that was persisted"));
            }
            let ever = self.submitted.get(&index);
            if !ever.is_some_and(|all| all.contains(&entry.bytes)) {
                return Err(format!("entry {index} was never written"));
            }
            match self.entries.get_mut(index as usize) {
                Some(known) => *known = entry.bytes,
                None => self.entries.push(entry.bytes),
            }
            self.term = self.term.max(entry.header.term);
        }
        self.term += 1;
        self.lost += self.committed.saturating_sub(len);
        self.committed = self.committed.min(len);
        self.acked.store(len, Ordering::Release);
        let applied = store.machine.lock().applied().map_or(0, |a| a.index + 1);
        if applied > len {
            return Err(format!("applied {applied} of {len} entries"));
        }
        // What was applied is committed, whatever the test still knew.
        self.committed = self.committed.max(applied);
        self.catch_up()?;
        match self.check() {
            // A topic whose deletion reached the disk, and the entry that deleted it did not: its queues are missing, or
            // those of a later topic of that name. The first reader or the scrubber notices; they are made anew.
            Err(_) if required < acked_before => {
                for _ in 0..3 {
                    self.tick()?;
                }
                self.check()
            }
            other => other,
        }
    }

    /// Everything derived equals what the log implies.
    pub fn check(&self) -> Checked {
        let applied = self.store().machine.lock().applied();
        let count = applied.map_or(0, |a| a.index + 1) as usize;
        let store = self.store();
        Reference::of(&self.entries[..count])
            .check(store)
            .map_err(|e| {
                format!(
                    "{e} (log {}..{}, applied {count}, keys up to {}, gaps {:?}, damaged queues {:?})",
                    store.log.start(),
                    store.log.end(),
                    store.keys.covered(),
                    store.keys.gaps(),
                    store.queues.damaged(),
                )
            })
    }
}
