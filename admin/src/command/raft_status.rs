//! `raftStatus`: a line for every replica, then what an operator should look at.

use anyhow::bail;
use raftmq_client::Admin;
use raftmq_remoting::body::{RaftReplica, RaftStatus};
use raftmq_remoting::json;

use crate::output;
use crate::quorum::Quorum;
use crate::sets;
use crate::table;

#[derive(clap::Args)]
pub struct Args {
    /// All sets of this cluster; of all clusters without -c, -b and -a
    #[arg(short = 'c', long = "clusterName", value_name = "CLUSTER", conflicts_with_all = ["broker", "addr"])]
    cluster: Option<String>,
    /// This broker set
    #[arg(
        short = 'b',
        long = "brokerName",
        value_name = "SET",
        conflicts_with = "addr"
    )]
    broker: Option<String>,
    /// What this replica sees, instead of asking a name server
    #[arg(short = 'a', long = "brokerAddr", value_name = "ADDR")]
    addr: Option<String>,
    /// JSON in one line, an object with -b or -a, else an array; it has the log positions in bytes, too
    #[arg(long)]
    json: bool,
    /// Again every so many seconds
    #[arg(short = 'i', long = "interval", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    interval: Option<u64>,
}

/// # Errors
/// A set does not answer; the others are printed first.
pub async fn run(admin: &Admin, args: &Args) -> anyhow::Result<()> {
    output::every(args.interval, async || once(admin, args).await).await
}

async fn once(admin: &Admin, args: &Args) -> anyhow::Result<()> {
    let ask = async |addr: &str| admin.raft_status(addr).await;
    let addrs = match (&args.addr, &args.broker) {
        (Some(addr), _) => Some(vec![addr.clone()]),
        (None, Some(name)) => Some(sets::named(&admin.cluster_info().await?, name)?.addrs),
        (None, None) => None,
    };
    if let Some(addrs) = addrs {
        let status = sets::status(&addrs, ask).await?;
        return match args.json {
            true => print_line(&json::to_bytes(&status)),
            false => output::print(&render(&[status])),
        };
    }
    let (mut answered, mut silent) = (Vec::new(), Vec::new());
    for set in sets::of_cluster(&admin.cluster_info().await?, args.cluster.as_deref())? {
        match sets::status(&set.addrs, ask).await {
            Ok(status) => answered.push(status),
            Err(e) => silent.push(format!("{}: {e:#}", set.name)),
        }
    }
    match args.json {
        true => print_line(&json::to_bytes(&answered))?,
        false => output::print(&render(&answered))?,
    }
    match silent.is_empty() {
        true => Ok(()),
        false => bail!("{}", silent.join("\n")),
    }
}

fn print_line(json: &[u8]) -> anyhow::Result<()> {
    output::print(&format!("{}\n", String::from_utf8_lossy(json)))
}

const HEADINGS: [&str; 16] = [
    "#Set",
    "#Id",
    "#Name",
    "#Role",
    "#Term",
    "#Voter",
    "#InSync",
    "#Last",
    "#Committed",
    "#Applied",
    "#LagMsgs",
    "#LagMs",
    "#ContactMs",
    "#Version",
    "#Knows",
    "#Addr",
];

/// The sets as columns, then their warnings.
pub fn render(sets: &[RaftStatus]) -> String {
    let rows: Vec<_> = sets
        .iter()
        .flat_map(|set| set.replicas.iter().map(|replica| row(&set.set, replica)))
        .collect();
    let mut text = table::render(HEADINGS, &rows);
    for set in sets {
        for warning in warnings(set) {
            text.push_str(&format!("Warning: {}: {warning}\n", set.set));
        }
    }
    text
}

fn row(set: &str, replica: &RaftReplica) -> [String; HEADINGS.len()] {
    let number = |n: i64| match n {
        -1 => "-".to_owned(),
        n => n.to_string(),
    };
    [
        set.to_owned(),
        replica.node_id.to_string(),
        replica.name.clone(),
        replica.role.to_string(),
        match replica.term {
            0 => "-".to_owned(),
            term => term.to_string(),
        },
        replica.voter.to_string(),
        replica.in_sync.to_string(),
        number(replica.last_index),
        number(replica.committed_index),
        number(replica.applied_index),
        number(replica.lag_messages),
        number(replica.lag_ms),
        number(replica.last_contact_ms),
        number(replica.set_version),
        number(replica.newest_version),
        replica.client_addr.clone(),
    ]
}

/// The version to which the set can be raised: every member answers and knows it.
pub fn newer_version(set: &RaftStatus) -> Option<i64> {
    let all = set.replicas.iter().map(|r| match r.reachable {
        true => r.newest_version,
        false => -1,
    });
    all.min()
        .filter(|known| *known > i64::from(set.set_version))
}

/// What an operator should look at, the worst first.
fn warnings(set: &RaftStatus) -> Vec<String> {
    let mut all = Vec::new();
    if set.leader_id == 0 {
        all.push("no leader is known, nothing can be written".to_owned());
    }
    for replica in &set.replicas {
        if !replica.reachable {
            all.push(format!("{} cannot be reached", replica.name));
        }
        if !replica.restriction.is_empty() {
            all.push(format!(
                "{} may neither vote nor lead: {}",
                replica.name, replica.restriction
            ));
        }
    }
    let quorum = Quorum::of(set, None);
    if quorum.reachable < quorum.voters {
        all.push(format!("of {} voters, {}", quorum.voters, quorum.outlook()));
    }
    if quorum.voters > 0 && quorum.voters.is_multiple_of(2) {
        all.push(format!(
            "{} voters survive no more failures than {}: add one or remove one",
            quorum.voters,
            quorum.voters - 1
        ));
    }
    if let Some(version) = newer_version(set) {
        all.push(format!(
            "its version {} can be raised to {version}: every replica knows it (finalizeUpgrade; no older program can be a \
             member afterwards)",
            set.set_version
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use raftmq_remoting::body::RaftRole;

    use super::*;

    fn status() -> RaftStatus {
        let replica = |node_id, role| RaftReplica {
            node_id,
            name: format!("n{}", node_id - 1),
            client_addr: format!("10.0.0.{node_id}:10911"),
            role,
            reachable: true,
            voter: true,
            in_sync: true,
            term: 7,
            last_index: 1234,
            committed_index: 1234,
            applied_index: 1230,
            lag_messages: 0,
            lag_ms: 0,
            last_contact_ms: 40,
            set_version: 1,
            newest_version: 1,
            ..Default::default()
        };
        RaftStatus {
            set: "broker-a".into(),
            term: 7,
            leader_id: 1,
            leader_name: "n0".into(),
            answered_by: "n0".into(),
            voters: vec![1, 2, 3],
            set_version: 1,
            replicas: vec![
                replica(1, RaftRole::Leader),
                replica(2, RaftRole::Follower),
                replica(3, RaftRole::Follower),
            ],
            ..Default::default()
        }
    }

    #[test]
    fn a_healthy_set_is_a_table_and_nothing_else() {
        assert_eq!(
            render(&[status()]),
            "\
#Set      #Id  #Name  #Role     #Term  #Voter  #InSync  #Last  #Committed  #Applied  #LagMsgs  #LagMs  #ContactMs  #Version  #Knows  #Addr
broker-a    1  n0     leader        7  true    true      1234        1234      1230         0       0          40         1       1  10.0.0.1:10911
broker-a    2  n1     follower      7  true    true      1234        1234      1230         0       0          40         1       1  10.0.0.2:10911
broker-a    3  n2     follower      7  true    true      1234        1234      1230         0       0          40         1       1  10.0.0.3:10911
"
        );
    }

    #[test]
    fn what_is_unknown_is_a_dash() {
        let lost = RaftReplica {
            node_id: 3,
            name: "n2".into(),
            ..Default::default()
        };
        assert_eq!(
            row("s", &lost),
            [
                "s",
                "3",
                "n2",
                "unreachable",
                "-",
                "false",
                "false",
                "-",
                "-",
                "-",
                "-",
                "-",
                "-",
                "-",
                "-",
                ""
            ]
        );
    }

    #[test]
    fn warnings_say_what_is_wrong() {
        let mut lost = status();
        lost.replicas[2].reachable = false;
        assert_eq!(
            warnings(&lost),
            [
                "n2 cannot be reached",
                "of 3 voters, one more failure stops writes"
            ]
        );
        lost.replicas[1].reachable = false;
        lost.leader_id = 0;
        assert_eq!(
            warnings(&lost),
            [
                "no leader is known, nothing can be written",
                "n1 cannot be reached",
                "n2 cannot be reached",
                "of 3 voters, 1 of them can be reached and nothing can be written"
            ]
        );
        let mut damaged = status();
        damaged.replicas[1].restriction = "its log is damaged".into();
        damaged.voters.push(4);
        damaged.replicas.push(RaftReplica {
            node_id: 4,
            reachable: true,
            ..Default::default()
        });
        assert_eq!(
            warnings(&damaged),
            [
                "n1 may neither vote nor lead: its log is damaged",
                "4 voters survive no more failures than 3: add one or remove one"
            ]
        );
    }

    #[test]
    fn a_version_that_all_replicas_know_and_the_set_has_not_is_shown() {
        let mut upgraded = status();
        upgraded.set_version = 0;
        assert!(warnings(&upgraded)[0].starts_with("its version 0 can be raised to 1"));
        upgraded.replicas[2].newest_version = 0;
        assert_eq!(warnings(&upgraded), [""; 0], "one is older");
        upgraded.replicas[2].newest_version = 1;
        upgraded.replicas[2].reachable = false;
        assert_eq!(newer_version(&upgraded), None, "one is silent");
    }

    #[test]
    fn several_sets_share_the_columns() {
        let mut other = status();
        other.set = "b".into();
        other.replicas[0].reachable = false;
        let text = render(&[status(), other]);
        assert_eq!(text.lines().count(), 1 + 6 + 2);
        assert!(text.ends_with("Warning: b: of 3 voters, one more failure stops writes\n"));
    }
}
