//! What goes wrong in a simulated set, and for how long.

use std::io;

use raftmq_raft::FlushMode;
use raftmq_store::vfs::{FaultOp, FileSystem};

use super::super::faults::{Fault, Undo};
use super::super::host::Act;
use super::{Check, World};

impl World {
    /// Lets something go wrong when it is time.
    pub(super) fn disturb(&mut self) -> Check {
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
                    super::super::running(Some(victim));
                    let stopped = self.hosts[victim].stop();
                    super::super::running(None);
                    if let Some(panic) = super::super::panicked() {
                        return Err(format!("n{victim}, stopping: {panic}"));
                    }
                    let may_fail = self.is_full(victim) || self.failing[victim];
                    if !self.hosts[victim].fs.killed() && !may_fail {
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
            Fault::SyncError if self.hosts[victim].is_up() && self.may_lose_power(victim) => {
                let after = self.dice.below(20);
                let fs = &self.hosts[victim].fs;
                fs.fail(FaultOp::Sync, after, io::ErrorKind::Other);
                self.failing[victim] = true;
            }
            Fault::SyncError => {}
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
    pub(super) fn may_lose_power(&self, victim: usize) -> bool {
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
