//! `transferLeader`, `addReplica`, `removeReplica`, `finalizeUpgrade`. What can hurt is asked first, with what it would leave of the set.

use std::slice::from_ref;

use anyhow::anyhow;
use raftmq_client::Admin;
use raftmq_remoting::body::{RaftReplica, RaftRole, RaftStatus};
use raftmq_remoting::json;

use super::raft_status::{newer_version, render};
use crate::output;
use crate::quorum::Quorum;
use crate::sets::{self, Target};

#[derive(clap::Args)]
pub struct TransferArgs {
    #[command(flatten)]
    target: Target,
    /// Name or node id of the next leader; without it, the replica that can best lead
    #[arg(short = 'r', long = "replica", value_name = "REPLICA")]
    replica: Option<String>,
}

#[derive(clap::Args)]
pub struct AddArgs {
    #[command(flatten)]
    target: Target,
    /// Name or node id of the learner
    #[arg(short = 'r', long = "replica", value_name = "REPLICA")]
    replica: String,
    /// Do not ask when the number of voters becomes even
    #[arg(short = 'y', long = "yes")]
    yes: bool,
}

#[derive(clap::Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    target: Target,
    /// Name or node id of the replica
    #[arg(short = 'r', long = "replica", value_name = "REPLICA")]
    replica: String,
    /// Also when not all of the voters that remain answer
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(short = 'y', long = "yes")]
    yes: bool,
}

#[derive(clap::Args)]
pub struct FinalizeArgs {
    #[command(flatten)]
    target: Target,
    /// Do not ask
    #[arg(short = 'y', long = "yes")]
    yes: bool,
    /// The state afterwards as JSON in one line; asks nothing
    #[arg(long)]
    json: bool,
}

/// # Errors
/// No replica takes it, or the set refuses.
pub async fn transfer_leader(admin: &Admin, args: &TransferArgs) -> anyhow::Result<()> {
    let replica = args.replica.as_deref().unwrap_or_default();
    let addrs = args.target.addrs(admin).await?;
    let after = sets::change(&addrs, async |addr| {
        admin.transfer_leader(addr, replica).await
    });
    let after = after.await?;
    let done = match after.leader_id {
        0 => format!("The leader of {} has stepped down.", after.set),
        _ => format!("{} leads {}.", after.leader_name, after.set),
    };
    output::print(&format!("{done}\n{}", render(from_ref(&after))))
}

/// # Errors
/// As [`transfer_leader`]; there is no such replica, or the answer was no.
pub async fn add(admin: &Admin, args: &AddArgs) -> anyhow::Result<()> {
    let addrs = args.target.addrs(admin).await?;
    let status = sets::status(&addrs, async |addr| admin.raft_status(addr).await).await?;
    let replica = find(&status, &args.replica)?;
    if let Some(question) = question_before_adding(&status, replica) {
        output::confirm(&question, args.yes)?;
    }
    // Two members may have one name for a while.
    let (name, id) = (&replica.name, replica.node_id.to_string());
    let after = sets::change(&addrs, async |addr| admin.add_replica(addr, &id).await).await?;
    output::print(&format!(
        "{name} is a voter of {}.\n{}",
        after.set,
        render(from_ref(&after))
    ))
}

/// # Errors
/// As [`add`]; the replica is the only voter.
pub async fn remove(admin: &Admin, args: &RemoveArgs) -> anyhow::Result<()> {
    let addrs = args.target.addrs(admin).await?;
    let status = sets::status(&addrs, async |addr| admin.raft_status(addr).await).await?;
    let replica = find(&status, &args.replica)?;
    output::confirm(&question_before_removing(&status, replica)?, args.yes)?;
    // Two members may have one name for a while.
    let (name, id) = (&replica.name, replica.node_id.to_string());
    let after = sets::change(&addrs, async |addr| {
        admin.remove_replica(addr, &id, args.force).await
    });
    let after = after.await?;
    output::print(&format!(
        "{name} is removed from {}.\n{}",
        after.set,
        render(from_ref(&after))
    ))
}

/// # Errors
/// As [`transfer_leader`]; a member is silent or has an older program, or the answer was no.
pub async fn finalize(admin: &Admin, args: &FinalizeArgs) -> anyhow::Result<()> {
    let addrs = args.target.addrs(admin).await?;
    let status = sets::status(&addrs, async |addr| admin.raft_status(addr).await).await?;
    if let Some(version) = newer_version(&status) {
        let question = format!(
            "Raise {} from version {} to {version}? No older program can be a member of it afterwards.",
            status.set, status.set_version
        );
        output::confirm(&question, args.yes || args.json)?;
    }
    let after = sets::change(&addrs, async |addr| admin.finalize_upgrade(addr).await).await?;
    if args.json {
        let json = json::to_bytes(&after);
        return output::print(&format!("{}\n", String::from_utf8_lossy(&json)));
    }
    output::print(&format!(
        "{} is at version {}.\n{}",
        after.set,
        after.set_version,
        render(from_ref(&after))
    ))
}

/// The replica of that node id, or else of that name: the newest of them.
fn find<'a>(status: &'a RaftStatus, wanted: &str) -> anyhow::Result<&'a RaftReplica> {
    let id = wanted.parse::<u64>().ok();
    let named = status.replicas.iter().filter(|r| r.name == wanted);
    let mut replicas = status.replicas.iter();
    replicas
        .find(|r| Some(r.node_id) == id)
        .or_else(|| named.max_by_key(|r| r.node_id))
        .ok_or_else(|| {
            let names: Vec<_> = status.replicas.iter().map(|r| &r.name[..]).collect();
            let known = sets::listed(&names);
            anyhow!(
                "{} has no replica {wanted}; its replicas: {known}",
                status.set
            )
        })
}

/// None: the number of voters becomes odd, or does not change.
fn question_before_adding(status: &RaftStatus, replica: &RaftReplica) -> Option<String> {
    let voters = status.voters.len() + 1;
    let odd = !voters.is_multiple_of(2);
    if odd || status.voters.contains(&replica.node_id) {
        return None;
    }
    Some(format!(
        "Make {} a voter of {}? {voters} voters survive no more failures than {}.",
        replica.name,
        status.set,
        voters - 1
    ))
}

/// # Errors
/// Without the replica there would be no voter.
fn question_before_removing(status: &RaftStatus, replica: &RaftReplica) -> anyhow::Result<String> {
    let (name, set) = (&replica.name, &status.set);
    let state = match (replica.reachable, replica.role) {
        (false, _) => "cannot be reached and is",
        (true, RaftRole::Leader) => "leads and is",
        (true, _) => "is alive and",
    };
    let voters = status.voters.len();
    if !status.voters.contains(&replica.node_id) {
        return Ok(format!(
            "Remove {name} of {set}? It {state} no voter; the {voters} voters stay."
        ));
    }
    let left = Quorum::of(status, Some(replica.node_id));
    let remain = match left.voters {
        0 => return Err(anyhow!("{name} is the only voter of {set}")),
        1 => "1 voter remains".to_owned(),
        n => format!("{n} voters remain"),
    };
    Ok(format!(
        "Remove {name} of {set}? It {state} 1 of {voters} voters; {remain}, {}.",
        left.outlook()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replicas n0, n1, …, n0 the leader; those from `voters` on are learners.
    fn set(voters: u64, replicas: u64) -> RaftStatus {
        let replica = |node_id| RaftReplica {
            node_id,
            name: format!("n{}", node_id - 1),
            reachable: true,
            voter: node_id <= voters,
            role: match node_id {
                1 => RaftRole::Leader,
                id if id <= voters => RaftRole::Follower,
                _ => RaftRole::Learner,
            },
            ..Default::default()
        };
        RaftStatus {
            set: "broker-a".into(),
            leader_id: 1,
            voters: (1..=voters).collect(),
            replicas: (1..=replicas).map(replica).collect(),
            ..Default::default()
        }
    }

    fn removing(status: &RaftStatus, name: &str) -> String {
        let replica = find(status, name).unwrap();
        match question_before_removing(status, replica) {
            Ok(question) => question,
            Err(e) => format!("refused: {e}"),
        }
    }

    #[test]
    fn node_ids_come_before_names_and_new_replicas_before_old_ones() {
        let mut status = set(3, 3);
        assert_eq!(find(&status, "n2").unwrap().node_id, 3);
        assert_eq!(find(&status, "3").unwrap().node_id, 3);
        status.replicas[0].name = "3".into();
        assert_eq!(find(&status, "3").unwrap().node_id, 3);
        status.replicas[0].name = "n2".into();
        assert_eq!(find(&status, "n2").unwrap().node_id, 3);
        assert_eq!(
            find(&status, "n9").unwrap_err().to_string(),
            "broker-a has no replica n9; its replicas: n2, n1, n2"
        );
    }

    #[test]
    fn a_removal_says_what_it_leaves() {
        let mut three = set(3, 4);
        assert_eq!(
            removing(&three, "n2"),
            "Remove n2 of broker-a? It is alive and 1 of 3 voters; 2 voters remain, one more failure stops writes."
        );
        assert_eq!(
            removing(&three, "n0"),
            "Remove n0 of broker-a? It leads and is 1 of 3 voters; 2 voters remain, one more failure stops writes."
        );
        assert_eq!(
            removing(&three, "n3"),
            "Remove n3 of broker-a? It is alive and no voter; the 3 voters stay."
        );
        three.replicas[1].reachable = false;
        assert_eq!(
            removing(&three, "n1"),
            "Remove n1 of broker-a? It cannot be reached and is 1 of 3 voters; 2 voters remain, one more failure stops writes."
        );
        assert_eq!(
            removing(&three, "n2"),
            "Remove n2 of broker-a? It is alive and 1 of 3 voters; 2 voters remain, 1 of them can be reached and nothing \
             can be written."
        );
        assert_eq!(
            removing(&set(5, 5), "n4"),
            "Remove n4 of broker-a? It is alive and 1 of 5 voters; 4 voters remain, one of them may fail."
        );
        assert_eq!(
            removing(&set(1, 2), "n0"),
            "refused: n0 is the only voter of broker-a"
        );
    }

    #[test]
    fn an_addition_is_asked_when_the_voters_become_even() {
        let asked =
            |status: &RaftStatus, name| question_before_adding(status, find(status, name).unwrap());
        assert_eq!(
            asked(&set(3, 4), "n3").unwrap(),
            "Make n3 a voter of broker-a? 4 voters survive no more failures than 3."
        );
        assert_eq!(asked(&set(2, 3), "n2"), None);
        assert_eq!(asked(&set(3, 3), "n2"), None);
    }
}
