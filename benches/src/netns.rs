//! A network for a cluster whose links can be cut: each broker in a network namespace of its own, all of them and this one joined by
//! pairs of virtual interfaces to one more namespace, the hub, which forwards. Linux, root, and iproute2 are needed; of the machine's
//! own network nothing is touched, it only gets one interface.
//!
//! A cut is a rule of the hub that sends what comes from one party and is for another to a device that drops it, without a word to
//! either side, as a broken cable does. The device counts, so that a cut which cut nothing can be told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

use crate::error::BenchError;

/// The program that does it all.
pub const IP: &str = "/sbin/ip";
/// First two bytes of the addresses of the first cluster; the next one has the second byte one higher.
const NETWORK: (u8, u8) = (10, 87);
/// Clusters with namespaces on one machine at most, at a time.
const CLUSTERS: u8 = 16;

/// One end of a link: a broker, or whatever is outside of the brokers' namespaces (clients and the name server).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    Node(usize),
    Outside,
}

/// From one party to another; the way back is another pair.
pub type Pair = (Party, Party);

/// Where the hub sends the packets of a pair instead of to their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detour {
    /// Nowhere.
    Drop,
    /// To the device [`Namespaces::adopt`] was given.
    Relay,
}

impl Detour {
    /// First priority of the rules (between the kernel's own for local addresses and for routes), and the routing table.
    fn numbers(self) -> (usize, usize) {
        match self {
            Self::Drop => (8000, 86),
            Self::Relay => (16_000, 87),
        }
    }
}

/// Namespaces of brokers, gone when this is dropped.
#[derive(Debug)]
pub struct Namespaces {
    cluster: u8,
    nodes: usize,
    /// How many want a detour at present.
    detours: Mutex<BTreeMap<(Detour, Pair), usize>>,
    /// Whoever holds it owns the names.
    _lock: File,
}

impl Namespaces {
    /// Makes them; what a killed run left of the same names is removed first.
    ///
    /// # Errors
    /// Not root, no iproute2, or too many clusters.
    pub fn make(nodes: usize) -> Result<Self, BenchError> {
        let (cluster, lock) = free_names()?;
        let all = Self {
            cluster,
            nodes,
            detours: Mutex::default(),
            _lock: lock,
        };
        all.remove();
        let (hub, main) = (all.hub(), format!("raftmq{cluster}"));
        ip(&format!("netns add {hub}\n"))?;
        in_namespace(
            &hub,
            "link set lo up\nlink add drop type ifb\nlink set drop up\nroute add default dev drop table 86\n",
        )?;
        within(
            &hub,
            "echo 1 >/proc/sys/net/ipv4/ip_forward\n\
             for d in all default drop; do f=/proc/sys/net/ipv6/conf/$d/disable_ipv6; [ ! -e $f ] || echo 1 >$f; done\n",
        )?;
        let outside = all.net(Party::Outside);
        ip(&format!(
            "link add {main} type veth peer name out netns {hub}\naddr add {outside}.2/24 dev {main}\nlink set {main} up\n"
        ))?;
        in_namespace(
            &hub,
            &format!("addr add {outside}.1/24 dev out\nlink set out up\n"),
        )?;
        let (first, second) = all.network();
        ip(&format!(
            "route add {first}.{second}.0.0/16 via {outside}.1\n"
        ))?;
        for node in 0..nodes {
            let (ns, net) = (all.name(node), all.net(Party::Node(node)));
            ip(&format!("netns add {ns}\n"))?;
            in_namespace(
                &hub,
                &format!(
                    "link add n{node} type veth peer name eth0 netns {ns}\naddr add {net}.1/24 dev n{node}\nlink set n{node} up\n"
                ),
            )?;
            in_namespace(
                &ns,
                &format!(
                    "addr add {net}.2/24 dev eth0\nlink set lo up\nlink set eth0 up\nroute add default via {net}.1\n"
                ),
            )?;
        }
        Ok(all)
    }

    /// The namespace of a broker.
    pub fn name(&self, node: usize) -> String {
        format!("raftmq{}-{node}", self.cluster)
    }

    /// The namespace that forwards.
    pub fn hub(&self) -> String {
        format!("raftmq{}-hub", self.cluster)
    }

    /// Address of a broker.
    pub fn host(&self, node: usize) -> String {
        format!("{}.2", self.net(Party::Node(node)))
    }

    /// An address of this namespace that all brokers reach.
    pub fn own_host(&self) -> String {
        format!("{}.2", self.net(Party::Outside))
    }

    /// Cuts a broker from the others; clients and the name server still reach it.
    ///
    /// # Errors
    /// The rules cannot be made.
    pub fn cut(&self, node: usize) -> Result<(), BenchError> {
        self.detour(Detour::Drop, &self.peers(node), true)
    }

    /// Takes [`Self::cut`] back.
    ///
    /// # Errors
    /// The rules cannot be removed.
    pub fn heal(&self, node: usize) -> Result<(), BenchError> {
        self.detour(Detour::Drop, &self.peers(node), false)
    }

    /// Every pair of a broker and another, both ways.
    pub fn peers(&self, node: usize) -> Vec<Pair> {
        let others = (0..self.nodes).filter(|other| *other != node);
        let (this, node) = (Party::Node(node), Party::Node);
        others
            .flat_map(|other| [(this, node(other)), (node(other), this)])
            .collect()
    }

    /// Sends these pairs' packets another way, or no longer. A pair that was sent there twice has to be released twice.
    ///
    /// # Errors
    /// The rules cannot be made or removed.
    pub fn detour(&self, detour: Detour, pairs: &[Pair], on: bool) -> Result<(), BenchError> {
        let mut detours = self.detours.lock();
        let mut rules = String::new();
        for pair in pairs {
            let wanted = detours.entry((detour, *pair)).or_default();
            let before = *wanted;
            *wanted = if on {
                before + 1
            } else {
                before.saturating_sub(1)
            };
            if (before == 0) != (*wanted == 0) {
                self.rule(&mut rules, detour, *pair, on);
            }
        }
        in_namespace(&self.hub(), &rules)
    }

    /// Ends every detour.
    ///
    /// # Errors
    /// The rules cannot be removed.
    pub fn heal_all(&self) -> Result<(), BenchError> {
        let mut detours = self.detours.lock();
        let mut rules = String::new();
        for ((detour, pair), wanted) in std::mem::take(&mut *detours) {
            if wanted > 0 {
                self.rule(&mut rules, detour, pair, false);
            }
        }
        in_namespace(&self.hub(), &rules)
    }

    fn rule(&self, rules: &mut String, detour: Detour, (from, to): Pair, on: bool) {
        let place = |party| match party {
            Party::Node(node) => node,
            Party::Outside => self.nodes,
        };
        let (first, table) = detour.numbers();
        let pref = first + place(from) * (self.nodes + 1) + place(to);
        let link = match from {
            Party::Node(node) => format!("n{node}"),
            Party::Outside => "out".to_owned(),
        };
        let verb = if on { "add" } else { "del" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            rules,
            "rule {verb} pref {pref} iif {link} to {}.0/24 lookup {table}",
            self.net(to)
        );
    }

    /// Takes a device of this namespace into the hub as the one that [`Detour::Relay`] means. What it sends is routed as usual.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn adopt(&self, device: &str) -> Result<(), BenchError> {
        let hub = self.hub();
        ip(&format!("link set {device} netns {hub}\n"))?;
        in_namespace(
            &hub,
            &format!("link set {device} up\nroute add default dev {device} table 87\n"),
        )
    }

    /// A name for that device which no other cluster has.
    pub fn relay_name(&self) -> String {
        format!("raftmq{}tun", self.cluster)
    }

    /// How many packets cuts have dropped so far.
    ///
    /// # Errors
    /// The device does not tell.
    pub fn dropped(&self) -> Result<u64, BenchError> {
        let args = ["-n", &self.hub(), "-s", "-j", "link", "show", "dev", "drop"];
        let output = Command::new(IP).args(args).output();
        let output = output.map_err(BenchError::io(IP))?;
        let told = serde_json::from_slice::<serde_json::Value>(&output.stdout).ok();
        let dropped = told.and_then(|t| t.pointer("/0/stats64/rx/dropped")?.as_u64());
        dropped.ok_or_else(|| BenchError::Usage("ip tells no count of what is dropped".to_owned()))
    }

    fn network(&self) -> (u8, u8) {
        (NETWORK.0, NETWORK.1 + self.cluster)
    }

    fn net(&self, party: Party) -> String {
        let (first, second) = self.network();
        match party {
            Party::Node(node) => format!("{first}.{second}.{}", node + 1),
            Party::Outside => format!("{first}.{second}.0"),
        }
    }

    /// What is not there is not missed.
    fn remove(&self) {
        let _ = ip(&format!("link del raftmq{}\n", self.cluster));
        let _ = ip(&format!("netns del {}\n", self.hub()));
        // Of an earlier run, which may have had more.
        for node in 0..self.nodes.max(crate::cluster::MAX_REPLICAS + 1) {
            if std::path::Path::new(&format!("/run/netns/{}", self.name(node))).exists() {
                let _ = ip(&format!("netns del {}\n", self.name(node)));
            }
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The first number that no other process has.
fn free_names() -> Result<(u8, File), BenchError> {
    for cluster in 0..CLUSTERS {
        let path = format!("/run/raftmq-netns.{cluster}.lock");
        let file = File::create(&path).map_err(BenchError::io(&path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok((cluster, file));
        }
    }
    let why = format!("{CLUSTERS} clusters have namespaces on this machine");
    Err(BenchError::Usage(why))
}

/// Runs lines of `ip -batch` in one go: a cut should not take the time of several programs.
fn ip(lines: &str) -> Result<(), BenchError> {
    run(Command::new(IP).args(["-batch", "-"]), lines)
}

fn in_namespace(ns: &str, lines: &str) -> Result<(), BenchError> {
    if lines.is_empty() {
        return Ok(());
    }
    run(Command::new(IP).args(["-n", ns, "-batch", "-"]), lines)
}

/// Runs a script in a namespace.
fn within(ns: &str, script: &str) -> Result<(), BenchError> {
    run(
        Command::new(IP).args(["netns", "exec", ns, "/bin/sh", "-e"]),
        script,
    )
}

fn run(command: &mut Command, lines: &str) -> Result<(), BenchError> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(BenchError::io(IP))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(lines.as_bytes())
            .map_err(BenchError::io(IP))?;
    }
    let output = child.wait_with_output().map_err(BenchError::io(IP))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(BenchError::Usage(format!("ip (root is needed): {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pings(all: &Namespaces, from: usize, to: &str) -> bool {
        // bash's own way to connect: refused at once when packets pass, silence when not.
        let script =
            format!("timeout 1 bash -c '</dev/tcp/{to}/9' 2>/dev/null || [ $? -ne 124 ]\n");
        within(&all.name(from), &script).is_ok()
    }

    #[test]
    fn a_cut_drops_one_way_and_counts() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: root is needed");
            return;
        }
        let all = Namespaces::make(3).unwrap();
        let (zero, one) = (Party::Node(0), Party::Node(1));
        assert!(pings(&all, 0, &all.host(1)) && pings(&all, 1, &all.own_host()));
        let before = all.dropped().unwrap();
        all.detour(Detour::Drop, &[(zero, one)], true).unwrap();
        all.detour(Detour::Drop, &[(zero, one)], true).unwrap();
        // The answer of 0 does not come through, so neither way can connect.
        assert!(!pings(&all, 0, &all.host(1)) && !pings(&all, 1, &all.host(0)));
        assert!(pings(&all, 0, &all.host(2)) && pings(&all, 0, &all.own_host()));
        assert!(all.dropped().unwrap() > before);
        all.detour(Detour::Drop, &[(zero, one)], false).unwrap();
        assert!(!pings(&all, 0, &all.host(1)));
        all.detour(Detour::Drop, &[(zero, one)], false).unwrap();
        assert!(pings(&all, 0, &all.host(1)));
        all.cut(2).unwrap();
        assert!(!pings(&all, 2, &all.host(1)) && pings(&all, 2, &all.own_host()));
        all.detour(Detour::Drop, &[(Party::Outside, one)], true)
            .unwrap();
        assert!(!pings(&all, 1, &all.own_host()));
        all.heal_all().unwrap();
        assert!(pings(&all, 2, &all.host(1)) && pings(&all, 1, &all.own_host()));
    }
}
