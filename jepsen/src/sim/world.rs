//! One run: machines, a network between them, clients, faults; tick by tick, everything from one seed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use raftmq_raft::{AckLevel, Command, FlushMode, OffsetCommit, Policy, Proposal};
use raftmq_remoting::ByteStr;
use raftmq_remoting::message::{NewMessage, body_crc};
use raftmq_store::vfs::FileSystem;

use super::dice::{Dice, Digest};
use super::faults::{Fault, Undo};
use super::host::{Act, Common, Host, Look, address};
use super::net::Net;
use super::oracle::Oracle;
use super::{Options, Outcome};

/// The topic that clients use.
pub const TOPIC: &str = "T";
/// The group that consumes it.
pub const GROUP: &str = "g";
/// Its queues.
pub const QUEUES: usize = 3;

/// Longest time until the first leader serves, ms.
const FOUNDED_WITHIN: u64 = 10_000;
/// Longest time until all is well again after the last fault, ms.
const HEALED_WITHIN: u64 = 30_000;

/// Longest time until what is derived from the log is right on every replica after that, ms.
const SETTLED_WITHIN: u64 = 5_000;
/// Longest time until a send is answered by a process that lives, simulated ms: it waits for a leader, then for the commit. A
/// process that stands still answers later by as much.
const ANSWERED_WITHIN: u64 = 15_000;

type Check = Result<(), String>;

/// A send under way.
struct Asked {
    /// Of its messages; none in one that stores an offset, which is its number.
    values: Vec<u64>,
    queue: usize,
    host: usize,
    at: u64,
}

/// See the module's text.
pub struct World {
    seed: u64,
    options: Options,
    dice: Dice,
    net: Arc<Net>,
    hosts: Vec<Host>,
    looks: Vec<Option<Look>>,
    paused: Vec<bool>,
    oracle: Oracle,
    common: Common,
    now: u64,
    kinds: Vec<Fault>,
    next_fault: u64,
    undo: BTreeMap<(u64, u64), Undo>,
    undone: u64,
    acts: Vec<Vec<Act>>,
    /// Sends under way, by number.
    asked: BTreeMap<u64, Asked>,
    next_value: u64,
    sends: u64,
    unknown: u64,
    faults: u64,
    /// Mean time between two sends, ms.
    pace: u64,
    /// Most that a message is made larger by, bytes.
    padding: u64,
    digest: Digest,
}

impl World {
    /// As the seed says.
    pub fn new(seed: u64, options: Options) -> Self {
        let mut dice = Dice::new(seed, 0x3011d);
        let replicas = match options.replicas {
            0 if dice.permille(250) => 5,
            0 => 3,
            n => n,
        };
        let flush = match dice.permille(600) {
            true => FlushMode::Sync,
            false => FlushMode::Async,
        };
        let ack = match dice.permille(200) {
            true => AckLevel::All,
            false => AckLevel::Majority,
        };
        let common = Common {
            replicas,
            flush,
            policy: Policy {
                ack,
                ..Policy::default()
            },
            segment_size: 64 << 10,
        };
        let net = Net::new(seed, (0..replicas).map(address).collect());
        let mut kinds = Fault::draw(&mut dice);
        if let Some(only) = &options.only {
            kinds.clone_from(only);
        }
        let mut hosts: Vec<Host> = (0..replicas)
            .map(|n| Host::new(n, &common, net.clone(), dice.next()))
            .collect();
        if dice.permille(500) {
            // A tenth of the lease is left for clocks of different speed.
            for host in &mut hosts {
                host.drift = dice.within(0, 81) as i64 - 40;
            }
        }
        if dice.permille(300) {
            net.repeat_votes(300);
        }
        Self {
            seed,
            pace: dice.within(3, 25),
            padding: 200 << dice.below(6),
            dice,
            net,
            looks: vec![None; replicas],
            paused: vec![false; replicas],
            oracle: Oracle::new(replicas),
            acts: (0..replicas).map(|_| Vec::new()).collect(),
            hosts,
            common,
            now: 0,
            kinds,
            next_fault: 0,
            undo: BTreeMap::new(),
            undone: 0,
            asked: BTreeMap::new(),
            next_value: 1,
            sends: 0,
            unknown: 0,
            faults: 0,
            digest: Digest::default(),
            options,
        }
    }

    /// The whole run.
    pub fn run(mut self) -> Outcome {
        let result = self.phases();
        let (packets, net) = self.net.summary();
        self.digest.add(&[net.value(), self.now]);
        Outcome {
            seed: self.seed,
            hash: self.digest.value(),
            violation: result.as_ref().err().cloned(),
            healed_ms: result.unwrap_or(0),
            replicas: self.common.replicas,
            sent: self.sends,
            acked: self.oracle.acked() as u64,
            unknown: self.unknown,
            entries: self.oracle.committed() as u64,
            purged: self.oracle.purged(),
            terms: self.oracle.terms() as u64,
            faults: self.faults,
            packets,
            simulated_ms: self.now,
        }
    }

    fn phases(&mut self) -> Result<u64, String> {
        for host in 0..self.hosts.len() {
            self.start(host)?;
        }
        while self.serving().is_none() {
            self.tick()?;
            if self.now > FOUNDED_WITHIN {
                return Err("nobody leads a new set".to_owned());
            }
        }
        self.next_fault = self.now + self.dice.below(1_000);
        let end = self.now + self.options.chaos_ms;
        while self.now < end {
            self.disturb()?;
            self.clients();
            self.tick()?;
        }
        self.heal()?;
        let healed = self.now;
        self.recover(healed)
    }

    /// All faults are over: one leader, equal logs, a send that is answered.
    fn recover(&mut self, healed: u64) -> Result<u64, String> {
        let acked_before = self.oracle.acked();
        loop {
            if self.now.is_multiple_of(100) {
                self.send();
            }
            self.tick()?;
            match self.unwell() {
                None if self.asked.is_empty() && self.oracle.acked() > acked_before => break,
                why if self.now > healed + HEALED_WITHIN => {
                    let why = why.unwrap_or_else(|| "sends are not acknowledged".to_owned());
                    return Err(format!("not healed after {HEALED_WITHIN} ms: {why}"));
                }
                _ => {}
            }
        }
        let took = self.now - healed;
        // Queues follow the log's start, and are repaired, some time later.
        let settled = self.now + SETTLED_WITHIN;
        loop {
            match self.check_end() {
                Err(_) if self.now < settled => self.tick()?,
                checked => return checked.map(|()| took),
            }
        }
    }

    fn check_end(&self) -> Check {
        let hosts = self.hosts.iter().enumerate();
        let mut replicas = hosts.filter_map(|(n, host)| Some((n, host.replica()?)));
        replicas.try_for_each(|(n, replica)| self.oracle.check_end(n, replica))
    }

    /// Why not all is well.
    fn unwell(&self) -> Option<String> {
        let Some(leader) = self.serving() else {
            return Some("nobody serves".to_owned());
        };
        let lead = self.looks[leader].as_ref()?;
        for (host, look) in self.looks.iter().enumerate() {
            let Some(look) = look else {
                return Some(format!("n{host} is down"));
            };
            if let Some(why) = &look.restriction {
                return Some(format!("n{host} may not vote: {why}"));
            }
            if look.serving && host != leader {
                return Some(format!("n{host} and n{leader} both serve"));
            }
            let applied = |look: &Look| look.applied.map(|a| a.index);
            if applied(look) != applied(lead) || look.last != lead.last {
                return Some(format!(
                    "n{host} has {:?} and applied {:?}, n{leader} has {:?} and applied {:?}",
                    look.last,
                    applied(look),
                    lead.last,
                    applied(lead)
                ));
            }
            if !self.oracle.same_log(host, leader) {
                return Some(format!("n{host} and n{leader} have different logs"));
            }
        }
        None
    }

    fn serving(&self) -> Option<usize> {
        let serves = |look: &Option<Look>| look.as_ref().is_some_and(|l| l.serving);
        self.looks.iter().position(serves)
    }

    fn leading(&self) -> Option<usize> {
        let leads = |l: &Option<Look>| l.as_ref().and_then(|l| l.leads_in);
        (0..self.hosts.len())
            .filter(|host| leads(&self.looks[*host]).is_some())
            .max_by_key(|host| leads(&self.looks[*host]))
    }

    /// A millisecond.
    fn tick(&mut self) -> Check {
        self.now += 1;
        self.net.tick(self.now * 1_000);
        while let Some(entry) = self.undo.first_entry()
            && entry.key().0 <= self.now
        {
            let undo = entry.remove();
            self.take_back(undo)?;
        }
        let promised = self.oracle.promised();
        for host in 0..self.hosts.len() {
            if self.paused[host] {
                self.hosts[host].missed += 1;
                continue;
            }
            let acts = std::mem::take(&mut self.acts[host]);
            super::running(Some(host));
            let look = self.hosts[host].turn(self.now, acts);
            super::running(None);
            if let Some(panic) = super::panicked() {
                return Err(format!("n{host}: {panic}"));
            }
            self.settle(host)?;
            self.answered(host)?;
            let Some(look) = look else {
                self.looks[host] = None;
                continue;
            };
            if self.hosts[host].fs.killed() {
                // Killed in the middle of a write.
                self.crash(host, false);
                let down = self.dice.within(20, 2_000);
                self.later(down, Undo::Start(host));
                continue;
            }
            if let Some(replica) = self.hosts[host].replica() {
                self.oracle.check(host, &look, replica, promised)?;
            }
            if let Some(why) = &look.ended {
                self.ended(host, why.clone())?;
                continue;
            }
            self.note(host, &look);
            self.looks[host] = Some(look);
        }
        Ok(())
    }

    /// Adds what changed to the digest.
    fn note(&mut self, host: usize, look: &Look) {
        let numbers = |look: &Look| {
            [
                look.leads_in.unwrap_or(0),
                u64::from(look.serving),
                look.applied.map_or(0, |a| a.index + 1),
                look.last.map_or(0, |l| l.index + 1),
            ]
        };
        let now = numbers(look);
        if self.looks[host].as_ref().map(numbers) != Some(now) {
            self.digest.add(&[self.now, host as u64]);
            self.digest.add(&now);
        }
    }

    /// A replica that has ended by itself: only a full disk is a reason.
    fn ended(&mut self, host: usize, why: String) -> Check {
        if !self.is_full(host) {
            return Err(format!("n{host} ended by itself: {why}"));
        }
        self.crash(host, false);
        let down = self.dice.within(100, 1_000);
        self.later(down, Undo::Start(host));
        Ok(())
    }

    fn is_full(&self, host: usize) -> bool {
        let space = self.hosts[host].fs.space("/".as_ref());
        space.is_ok_and(|s| s.available < 2 * self.common.segment_size)
    }

    fn later(&mut self, after: u64, undo: Undo) {
        self.undone += 1;
        self.undo.insert((self.now + after, self.undone), undo);
    }

    fn take_back(&mut self, undo: Undo) -> Check {
        match undo {
            Undo::Network => self.whole_network(),
            Undo::Start(host) => self.start(host)?,
            Undo::Continue(host) => self.paused[host] = false,
            Undo::Trim => {
                let number = self.dice.next();
                if let Some(leader) = self.leading() {
                    self.acts[leader].push(Act::Trim(number));
                }
            }
            Undo::Disk(host) => {
                self.hosts[host].slow_disk = 0;
                self.hosts[host].fs.set_capacity(None);
            }
        }
        Ok(())
    }

    fn whole_network(&mut self) {
        for from in 0..self.hosts.len() {
            for to in 0..self.hosts.len() {
                self.net.cut(from, to, false);
                self.net.worsen(from, to, 0, 0);
            }
        }
    }

    fn start(&mut self, host: usize) -> Check {
        if self.hosts[host].is_up() {
            return Ok(());
        }
        self.digest.add(&[self.now, host as u64, 0x57a27]);
        super::running(Some(host));
        let started = self.hosts[host].start();
        super::running(None);
        if let Some(panic) = super::panicked() {
            return Err(format!("n{host}, starting: {panic}"));
        }
        let Err(why) = started else { return Ok(()) };
        if !self.is_full(host) && !self.hosts[host].fs.killed() {
            return Err(format!("n{host} does not start: {why}"));
        }
        self.crash(host, false);
        let down = self.dice.within(100, 1_000);
        self.later(down, Undo::Start(host));
        Ok(())
    }

    fn crash(&mut self, host: usize, power: bool) {
        self.digest.add(&[self.now, host as u64, u64::from(power)]);
        self.paused[host] = false;
        self.looks[host] = None;
        self.acts[host].clear();
        let before = self.asked.len();
        self.asked.retain(|_, asked| asked.host != host);
        self.unknown += (before - self.asked.len()) as u64;
        match power {
            true => self.hosts[host].lose_power(&mut self.dice),
            false => self.hosts[host].kill(&mut self.dice),
        }
        // What its tasks said when they were dropped, nobody heard.
        self.hosts[host].settled();
    }

    /// Everything is repaired.
    fn heal(&mut self) -> Check {
        self.undo.clear();
        self.whole_network();
        self.net.repeat_votes(0);
        for host in 0..self.hosts.len() {
            self.paused[host] = false;
            self.hosts[host].slow_disk = 0;
            self.hosts[host].fs.set_capacity(None);
            self.hosts[host].fs.kill_after(u64::MAX);
            self.start(host)?;
        }
        Ok(())
    }

    fn clients(&mut self) {
        if self.dice.below(self.pace) == 0 {
            match self.dice.permille(850) {
                true => self.send(),
                false => self.commit_offset(),
            }
        }
    }

    /// Whoever a client takes for the leader.
    fn asked_host(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..self.hosts.len())
            .filter(|h| self.hosts[*h].is_up() && !self.paused[*h])
            .collect();
        let serving: Vec<usize> = up
            .iter()
            .copied()
            .filter(|h| {
                self.looks[*h]
                    .as_ref()
                    .is_some_and(|l| l.leads_in.is_some())
            })
            .collect();
        let target = match self.dice.permille(850) {
            true => self.dice.pick(&serving).copied(),
            false => None,
        };
        target.or_else(|| self.dice.pick(&up).copied())
    }

    /// A client sends one to three messages to a queue.
    fn send(&mut self) {
        let Some(host) = self.asked_host() else {
            return;
        };
        let queue = self.dice.below(QUEUES as u64) as usize;
        let values: Vec<u64> = (0..self.dice.within(1, 4))
            .map(|nth| self.next_value + nth)
            .collect();
        self.next_value += values.len() as u64;
        let padding = self.dice.below(self.padding) as usize;
        let messages = values
            .iter()
            .map(|value| message(queue, *value, padding))
            .collect();
        self.ask(host, queue, values, messages, Vec::new());
    }

    /// A client stores how far it has consumed a queue, one offset after the other.
    fn commit_offset(&mut self) {
        let queue = self.dice.below(QUEUES as u64) as usize;
        let busy = |asked: &Asked| asked.values.is_empty() && asked.queue == queue;
        if self.asked.values().any(busy) {
            return;
        }
        let Some(host) = self.asked_host() else {
            return;
        };
        let commit = OffsetCommit {
            group: GROUP.to_owned(),
            topic: TOPIC.to_owned(),
            queue_id: queue as i32,
            offset: self.next_value as i64,
        };
        let commit = Command::CommitOffsets {
            offsets: vec![commit],
        };
        self.ask(host, queue, Vec::new(), Vec::new(), vec![commit]);
        self.next_value += 1;
    }

    fn ask(
        &mut self,
        host: usize,
        queue: usize,
        values: Vec<u64>,
        messages: Vec<NewMessage>,
        commands: Vec<Command>,
    ) {
        let number = match values.first() {
            Some(first) => *first,
            None => self.next_value,
        };
        let proposal = Proposal {
            messages,
            commands,
            ack: None,
            only_term: None,
            deadline: std::time::Instant::now(),
        };
        self.sends += 1;
        self.digest.add(&[self.now, number, host as u64]);
        let asked = Asked {
            values,
            queue,
            host,
            at: self.now,
        };
        self.asked.insert(number, asked);
        self.acts[host].push(Act::Propose(number, proposal));
    }

    fn settle(&mut self, host: usize) -> Check {
        for (number, result) in self.hosts[host].settled() {
            let Some(asked) = self.asked.remove(&number) else {
                return Err(format!("the send {number} was answered twice"));
            };
            self.digest
                .add(&[self.now, number, u64::from(result.is_ok())]);
            match result {
                Ok(_) if asked.values.is_empty() => {
                    self.oracle.acknowledge_offset(asked.queue, number as i64);
                }
                Ok(stored) => self
                    .oracle
                    .acknowledge(&asked.values, asked.queue, &stored)?,
                Err(_) => self.unknown += 1,
            }
        }
        Ok(())
    }

    /// A process that lives answers every send, if only to say that nobody knows.
    fn answered(&self, host: usize) -> Check {
        let late = |asked: &&Asked| asked.host == host && asked.at + ANSWERED_WITHIN < self.now;
        match self.asked.values().find(late) {
            Some(asked) => Err(format!(
                "n{host} has not answered a send of {} ms",
                asked.at
            )),
            None => Ok(()),
        }
    }

    /// Lets something go wrong when it is time.
    fn disturb(&mut self) -> Check {
        if self.now < self.next_fault {
            return Ok(());
        }
        self.next_fault = self.now + self.dice.within(50, 1_500);
        let Some(fault) = self.dice.pick(&self.kinds).copied() else {
            return Ok(());
        };
        self.faults += 1;
        self.digest.add(&[self.now, fault as u64]);
        let all = self.hosts.len();
        let length = match self.dice.permille(200) {
            true => self.dice.within(1_000, 6_000),
            false => self.dice.within(20, 1_500),
        };
        let victim = match self.leading() {
            Some(leader) if self.dice.permille(600) => leader,
            _ => self.dice.below(all as u64) as usize,
        };
        tracing::info!(ms = self.now, ?fault, victim, length, "fault");
        match fault {
            Fault::Isolate => self.cut(length, |a, b| (a == victim) != (b == victim)),
            Fault::Split => {
                let side = self.dice.next();
                self.cut(length, |a, b| (side >> a & 1) != (side >> b & 1));
            }
            Fault::Bridge => {
                let side = self.dice.next();
                self.cut(length, |a, b| {
                    a != victim && b != victim && (side >> a & 1) != (side >> b & 1)
                });
            }
            Fault::OneWay => {
                let hears = self.dice.permille(500);
                self.cut(length, |a, b| match hears {
                    true => a == victim && b != victim,
                    false => b == victim && a != victim,
                });
            }
            Fault::Slow => {
                let slow = self.dice.within(5_000, 200_000);
                self.worsen(length, slow, 0);
            }
            Fault::Lossy => {
                let loss = self.dice.within(10, 300);
                self.worsen(length, 1_000, loss);
            }
            Fault::Kill => {
                self.take_down(victim, false, length);
                for other in 0..all {
                    if other != victim && self.dice.permille(300) {
                        self.take_down(other, false, length);
                    }
                }
            }
            Fault::KillWriting => {
                let fs = &self.hosts[victim].fs;
                fs.kill_after(fs.ops() + self.dice.below(30));
            }
            Fault::KillAll => (0..all).for_each(|host| self.take_down(host, false, length)),
            Fault::Power if self.may_lose_power(victim) => self.take_down(victim, true, length),
            Fault::PowerAll if self.common.flush == FlushMode::Sync => {
                (0..all).for_each(|host| self.take_down(host, true, length));
            }
            Fault::Power | Fault::PowerAll => {}
            Fault::Pause => {
                if self.hosts[victim].is_up() {
                    self.paused[victim] = true;
                    self.later(length, Undo::Continue(victim));
                }
            }
            Fault::Transfer => {
                if let Some(leader) = self.leading() {
                    self.acts[leader].push(Act::Transfer);
                }
            }
            Fault::Stop => {
                if self.hosts[victim].is_up() && !self.paused[victim] {
                    super::running(Some(victim));
                    let stopped = self.hosts[victim].stop();
                    super::running(None);
                    if let Some(panic) = super::panicked() {
                        return Err(format!("n{victim}, stopping: {panic}"));
                    }
                    if !self.hosts[victim].fs.killed() && !self.is_full(victim) {
                        stopped.map_err(|why| format!("n{victim}: {why}"))?;
                    }
                    self.settle(victim)?;
                    self.crash(victim, false);
                    self.later(length, Undo::Start(victim));
                }
            }
            Fault::SlowDisk => {
                self.hosts[victim].slow_disk = self.dice.within(2, 700);
                self.later(length, Undo::Disk(victim));
            }
            Fault::FullDisk => {
                let fs = &self.hosts[victim].fs;
                let space = fs.space("/".as_ref()).map_err(|e| e.to_string());
                let used = space.map(|s| s.total.saturating_sub(s.available));
                if let Ok(used) = used {
                    fs.set_capacity(Some(used + self.dice.below(self.common.segment_size)));
                    self.later(length, Undo::Disk(victim));
                }
            }
            Fault::WallClock => {
                let error = self.dice.within(0, 7_200_000) as i64 - 3_600_000;
                self.hosts[victim].wall_error = error;
            }
            Fault::Trim => {
                if self.dice.permille(500) && self.leading() != Some(victim) {
                    // Away long enough to need what is given up: a snapshot has to take its place.
                    self.take_down(victim, false, length + 4_000);
                }
                let wait = self.dice.below(4_000);
                self.later(wait, Undo::Trim);
            }
            Fault::Forget => {
                if let Some(leader) = self.leading() {
                    self.cut(length + 500, |a, b| (a == leader) != (b == leader));
                    for other in (0..all).filter(|h| *h != leader) {
                        let down = self.dice.within(5, 60);
                        self.take_down(other, false, down);
                    }
                }
            }
        }
        Ok(())
    }

    /// With `ASYNC_FLUSH` one replica may lose its unsynced end; a second one before that has caught up may lose messages.
    fn may_lose_power(&self, victim: usize) -> bool {
        let well = |host: usize| {
            self.looks[host]
                .as_ref()
                .is_some_and(|l| l.restriction.is_none())
        };
        self.common.flush == FlushMode::Sync
            || (0..self.hosts.len()).all(|host| host == victim || well(host))
    }

    fn take_down(&mut self, host: usize, power: bool, length: u64) {
        if self.hosts[host].is_up() {
            self.crash(host, power);
        }
        self.later(length, Undo::Start(host));
    }

    fn cut(&mut self, length: u64, mut between: impl FnMut(usize, usize) -> bool) {
        for from in 0..self.hosts.len() {
            for to in 0..self.hosts.len() {
                if between(from, to) {
                    self.net.cut(from, to, true);
                }
            }
        }
        self.later(length, Undo::Network);
    }

    fn worsen(&mut self, length: u64, slow: u64, loss: u64) {
        for from in 0..self.hosts.len() {
            for to in 0..self.hosts.len() {
                if self.dice.permille(700) {
                    self.net.worsen(from, to, slow, loss);
                }
            }
        }
        self.later(length, Undo::Network);
    }
}

fn message(queue: usize, value: u64, padding: usize) -> NewMessage {
    let body = Bytes::from(value.to_string());
    let mut properties = b"TAGS\x01a\x02PAD\x01".to_vec();
    properties.extend(std::iter::repeat_n(b'x', padding));
    properties.push(2);
    NewMessage {
        topic: ByteStr::from(TOPIC),
        queue_id: queue as i32,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: ([127, 0, 0, 1], 1).into(),
        store_host: ([127, 0, 0, 1], 2).into(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body_crc: body_crc(&body),
        body,
        properties: properties.into(),
    }
}
