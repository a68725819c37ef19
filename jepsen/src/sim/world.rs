//! One run: machines, a network between them, clients, faults; tick by tick, everything from one seed.

mod clients;
mod disturb;

use std::collections::BTreeMap;
use std::sync::Arc;

use raftmq_raft::{AckLevel, FlushMode, Policy};
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
    refused: u64,
    faults: u64,
    /// Disks of which a sync fails or has failed, until the process starts again.
    failing: Vec<bool>,
    /// Disks of which a sync failed: what it was about may be in the page cache alone.
    stale: Vec<bool>,
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
            refused: 0,
            faults: 0,
            failing: vec![false; replicas],
            stale: vec![false; replicas],
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
            refused: self.refused,
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

    /// A replica that has ended by itself: only a full disk is a reason, or one that fails.
    fn ended(&mut self, host: usize, why: String) -> Check {
        if !self.is_full(host) && !self.failing[host] {
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
            Undo::Power(host) => {
                if self.hosts[host].is_up() && self.may_lose_power(host) {
                    self.crash(host, true);
                    let down = self.dice.within(20, 1_000);
                    self.later(down, Undo::Start(host));
                }
            }
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
        let Err(why) = started else {
            if std::mem::take(&mut self.stale[host]) && self.dice.permille(700) {
                let after = self.dice.within(20, 3_000);
                self.later(after, Undo::Power(host));
            }
            return Ok(());
        };
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
        self.stale[host] = !power && (self.stale[host] || self.failing[host]);
        self.failing[host] = false;
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
}
