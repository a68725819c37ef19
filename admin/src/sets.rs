//! Broker sets: their addresses, and which of them to ask.
//!
//! Any replica tells the state, so the next address is tried when one fails. A change is sent to another address only when
//! it surely did not reach the first: done twice, it could be another change.

use anyhow::{Context, bail};
use raftmq_client::{Admin, ClientError};
use raftmq_remoting::body::{ClusterInfo, RaftStatus};
use raftmq_remoting::response_code;

/// A broker set and its addresses, the master's first.
#[derive(Debug, PartialEq)]
pub struct BrokerSet {
    pub name: String,
    pub addrs: Vec<String>,
}

/// The set that a change is for.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct Target {
    /// Name of the broker set
    #[arg(short = 'b', long = "brokerName", value_name = "SET")]
    broker: Option<String>,
    /// Address of one of its brokers, instead of asking a name server
    #[arg(short = 'a', long = "brokerAddr", value_name = "ADDR")]
    addr: Option<String>,
}

impl Target {
    pub async fn addrs(&self, admin: &Admin) -> anyhow::Result<Vec<String>> {
        match (&self.broker, &self.addr) {
            (Some(name), _) => Ok(named(&admin.cluster_info().await?, name)?.addrs),
            (None, addr) => Ok(addr.iter().cloned().collect()),
        }
    }
}

/// The sets of a cluster, or of all clusters.
///
/// # Errors
/// There is no such cluster.
pub fn of_cluster(info: &ClusterInfo, cluster: Option<&str>) -> anyhow::Result<Vec<BrokerSet>> {
    if let Some(wanted) = cluster
        && !info.cluster_addr_table.contains_key(wanted)
    {
        let known: Vec<_> = info.cluster_addr_table.keys().map(String::as_str).collect();
        bail!("no cluster {wanted}; there is {}", listed(&known));
    }
    let clusters = info
        .cluster_addr_table
        .iter()
        .filter(|(name, _)| cluster.is_none_or(|wanted| wanted == *name));
    clusters
        .flat_map(|(_, sets)| sets)
        .map(|set| named(info, set))
        .collect()
}

/// The set of that name.
///
/// # Errors
/// No broker of that name is registered.
pub fn named(info: &ClusterInfo, name: &str) -> anyhow::Result<BrokerSet> {
    let Some(set) = info.broker_addr_table.get(name) else {
        let known: Vec<_> = info.broker_addr_table.keys().map(String::as_str).collect();
        bail!(
            "no broker set {name} is registered; there is {}",
            listed(&known)
        );
    };
    Ok(BrokerSet {
        name: name.to_owned(),
        addrs: set.broker_addrs.values().cloned().collect(),
    })
}

/// `a, b, c`, or `none`.
pub fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        _ => names.join(", "),
    }
}

/// The state of a set from the first replica that knows a leader, else from the first that answers.
///
/// # Errors
/// None of them answers.
pub async fn status(
    addrs: &[String],
    ask: impl AsyncFn(&str) -> Result<RaftStatus, ClientError>,
) -> anyhow::Result<RaftStatus> {
    let mut leaderless = None;
    let mut failures = Vec::new();
    for addr in addrs {
        match ask(addr).await {
            Ok(status) if status.leader_id != 0 => return Ok(status),
            Ok(status) => leaderless = leaderless.or(Some(status)),
            Err(e) => failures.push(format!("{addr}: {}", told(&e))),
        }
    }
    leaderless.with_context(|| format!("no replica answers ({})", failures.join("; ")))
}

/// Sends a change to the first address that takes it.
///
/// # Errors
/// It is refused, or its outcome is unknown, or no address can be reached.
pub async fn change(
    addrs: &[String],
    send: impl AsyncFn(&str) -> Result<RaftStatus, ClientError>,
) -> anyhow::Result<RaftStatus> {
    let mut unreachable = Vec::new();
    for addr in addrs {
        match send(addr).await {
            Err(ClientError::NotSent { why }) => unreachable.push(why),
            Err(e) => bail!("{}", told(&e)),
            Ok(status) => return Ok(status),
        }
    }
    Err(anyhow::anyhow!("{}", unreachable.join("; "))).context("nothing was changed")
}

/// A failure in the words of an operator.
pub fn told(e: &ClientError) -> String {
    match e.code() {
        Some(response_code::REQUEST_CODE_NOT_SUPPORTED) => {
            "not a RaftMQ broker, or an older one".to_owned()
        }
        _ => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use raftmq_remoting::body::BrokerData;

    use super::*;

    fn info() -> ClusterInfo {
        let mut info = ClusterInfo::default();
        for (cluster, set, addrs) in [
            ("C", "a", &[(3, "a3:1"), (0, "a0:1")][..]),
            ("C", "b", &[(2, "b2:1")]),
            ("D", "c", &[]),
        ] {
            let addrs = addrs.iter().map(|(id, addr)| (*id, (*addr).to_owned()));
            let data = BrokerData {
                broker_name: set.into(),
                cluster: cluster.into(),
                broker_addrs: addrs.collect(),
                ..Default::default()
            };
            info.broker_addr_table.insert(set.into(), data);
            let sets = info.cluster_addr_table.entry(cluster.into()).or_default();
            sets.insert(set.into());
        }
        info
    }

    #[test]
    fn sets_are_found_and_their_master_comes_first() {
        let names = |cluster| -> Vec<String> {
            let sets = of_cluster(&info(), cluster).unwrap();
            sets.into_iter().map(|s| s.name).collect()
        };
        assert_eq!(names(None), ["a", "b", "c"]);
        assert_eq!(names(Some("C")), ["a", "b"]);
        assert_eq!(named(&info(), "a").unwrap().addrs, ["a0:1", "a3:1"]);
        assert_eq!(
            of_cluster(&info(), Some("E")).unwrap_err().to_string(),
            "no cluster E; there is C, D"
        );
        assert_eq!(
            named(&ClusterInfo::default(), "a").unwrap_err().to_string(),
            "no broker set a is registered; there is none"
        );
    }

    #[tokio::test]
    async fn a_replica_that_knows_a_leader_is_preferred() {
        let asked = async |answers: &[Option<u64>]| {
            let addrs: Vec<_> = (0..answers.len()).map(|i| i.to_string()).collect();
            let found = status(&addrs, async |addr| {
                let leader = answers[addr.parse::<usize>().unwrap()];
                let dead = ClientError::NotSent { why: "dead".into() };
                Ok(RaftStatus {
                    leader_id: leader.ok_or(dead)?,
                    answered_by: addr.to_owned(),
                    ..Default::default()
                })
            });
            found
                .await
                .map(|s| s.answered_by)
                .map_err(|e| e.to_string())
        };
        assert_eq!(
            asked(&[None, Some(0), Some(7), Some(7)]).await.unwrap(),
            "2"
        );
        assert_eq!(asked(&[None, Some(0), Some(0)]).await.unwrap(), "1");
        assert_eq!(
            asked(&[None, None]).await.unwrap_err(),
            "no replica answers (0: not sent: dead; 1: not sent: dead)"
        );
    }

    #[tokio::test]
    async fn a_change_goes_to_another_address_only_when_it_was_not_sent() {
        let addrs = ["x:1", "y:1", "z:1"].map(str::to_owned);
        let asked = RefCell::new(String::new());
        let outcome = async |second: ClientError| {
            asked.borrow_mut().clear();
            let done = change(&addrs, async |addr| {
                asked.borrow_mut().push_str(&addr[..1]);
                match addr {
                    "x:1" => Err(ClientError::NotSent { why: "x".into() }),
                    "y:1" => Err(second.clone()),
                    _ => Ok(RaftStatus::default()),
                }
            });
            (done.await.is_ok(), asked.borrow().clone())
        };
        let not_sent = ClientError::NotSent { why: "y".into() };
        assert_eq!(outcome(not_sent).await, (true, "xyz".to_owned()));
        let unknown = ClientError::Unknown { why: "y".into() };
        assert_eq!(outcome(unknown).await, (false, "xy".to_owned()));
    }
}
