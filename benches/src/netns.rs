//! A network for a cluster whose links can be cut: each broker in a network namespace of its own, joined to this one by a pair of
//! virtual interfaces, and packets between brokers forwarded here. Linux, root, and iproute2 are needed; nothing of the machine's
//! own network is touched.
//!
//! A cut drops what is forwarded from and to one broker, without a word to either side, as a broken cable does. What comes from
//! this namespace, clients and the name server, still reaches it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::error::BenchError;

/// The program that does it all.
pub const IP: &str = "/sbin/ip";
/// Two bytes of all addresses; the third is the broker, from 1 on.
const NETWORK: &str = "10.87";
/// First priority of the rules that cut; between the kernel's own for local addresses and for routes.
const RULES: usize = 8700;

/// Namespaces of brokers, gone when this is dropped.
#[derive(Debug)]
pub struct Namespaces {
    nodes: usize,
}

impl Namespaces {
    /// Makes them; what an earlier run left of the same names is removed first.
    ///
    /// # Errors
    /// Not root, or no iproute2.
    pub fn make(nodes: usize) -> Result<Self, BenchError> {
        let all = Self { nodes };
        all.remove();
        for node in 0..nodes {
            let (ns, host, net) = (Self::name(node), link(node), net(node));
            ip(&format!("netns add {ns}\n"))?;
            ip(&format!(
                "link add {host} type veth peer name eth0 netns {ns}\n\
                 addr add {net}.1/24 dev {host}\n\
                 link set {host} up\n"
            ))?;
            in_namespace(
                &ns,
                &format!(
                    "addr add {net}.2/24 dev eth0\nlink set lo up\nlink set eth0 up\nroute add default via {net}.1\n"
                ),
            )?;
            let forwarding = format!("/proc/sys/net/ipv4/conf/{host}/forwarding");
            std::fs::write(&forwarding, "1").map_err(BenchError::io(forwarding))?;
        }
        Ok(all)
    }

    /// The namespace of a broker.
    pub fn name(node: usize) -> String {
        format!("raftmq{node}")
    }

    /// Address of a broker.
    pub fn host(node: usize) -> String {
        format!("{}.2", net(node))
    }

    /// An address of this namespace that all brokers reach.
    pub fn own_host() -> String {
        format!("{}.1", net(0))
    }

    /// Cuts a broker from the others.
    ///
    /// # Errors
    /// The rules cannot be made.
    pub fn cut(&self, node: usize) -> Result<(), BenchError> {
        let pref = RULES + node;
        let mut rules = format!("rule add pref {pref} iif {} blackhole\n", link(node));
        for other in (0..self.nodes).filter(|other| *other != node) {
            // Writing to a String cannot fail.
            let _ = writeln!(
                rules,
                "rule add pref {pref} iif {} to {}.0/24 blackhole",
                link(other),
                net(node)
            );
        }
        ip(&rules)
    }

    /// Takes [`Self::cut`] back.
    ///
    /// # Errors
    /// The rules cannot be removed.
    pub fn heal(&self, node: usize) -> Result<(), BenchError> {
        ip(&format!("rule del pref {}\n", RULES + node).repeat(self.nodes))
    }

    /// What is not there is not missed.
    fn remove(&self) {
        for node in 0..self.nodes {
            while ip(&format!("rule del pref {}\n", RULES + node)).is_ok() {}
            let _ = ip(&format!("link del {}\n", link(node)));
            let _ = ip(&format!("netns del {}\n", Self::name(node)));
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.remove();
    }
}

fn link(node: usize) -> String {
    format!("raftmq-veth{node}")
}

fn net(node: usize) -> String {
    format!("{NETWORK}.{}", node + 1)
}

/// Runs lines of `ip -batch` in one go: a cut should not take the time of several programs.
fn ip(lines: &str) -> Result<(), BenchError> {
    run(Command::new(IP).args(["-batch", "-"]), lines)
}

fn in_namespace(ns: &str, lines: &str) -> Result<(), BenchError> {
    run(Command::new(IP).args(["-n", ns, "-batch", "-"]), lines)
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
