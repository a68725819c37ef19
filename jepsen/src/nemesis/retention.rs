//! The log's oldest part, given up while somebody still needs it.

use std::time::{Duration, Instant};

use raftmq_benches::BenchError;

use super::files::recover;
use super::scene::{Scene, Took, Turn};
use crate::history::Kind;

/// Until the log is given up beyond what the one who is away has.
const LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A disk that is short: whatever has expired goes, and everything has.
const SHORT: [(&str, &str); 2] = [
    ("fileReservedTime", "0"),
    ("diskSpaceCleanForciblyRatio", "1"),
];
/// The defaults again.
const ENOUGH: [(&str, &str); 2] = [
    ("fileReservedTime", "72"),
    ("diskSpaceCleanForciblyRatio", "85"),
];

/// A follower is dead while the leader gives up the log beyond what it has: it comes back with a snapshot.
pub async fn trim_past(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let leader = scene.leader(&mut random).await;
    let mut others: Vec<_> = (0..scene.bed.replicas()).collect();
    others.retain(|replica| *replica != leader);
    let victim = others.swap_remove(random.below(others.len()));
    let has = scene.bed.log_end(victim).await.unwrap_or(i64::MAX);
    scene.begin(turn, &[victim], "killed");
    scene.bed.kill(&[victim]).await?;
    scene.bed.configure(leader, &SHORT).await?;
    let deadline = Instant::now() + LIMIT;
    let mut start = None;
    while Instant::now() < deadline && !scene.is_over() && start.is_none_or(|s| s <= has) {
        tokio::time::sleep(LOOK_EVERY).await;
        start = scene.bed.log_start(leader).await;
    }
    scene.bed.configure(leader, &ENOUGH).await?;
    let told = format!("n{victim} has {has} bytes, the log of n{leader} begins at {start:?}");
    let then = format!("then-{}", turn.name);
    scene.note(Kind::Info, &then, &[leader], &told);
    scene.bed.start_replicas(&[victim]).await?;
    let told = recover(scene, turn, victim, Vec::new()).await?;
    scene.heal(turn, &[victim], told);
    let past = start.is_some_and(|start| start > has);
    Ok(Took::when(past, "the log was not given up in time"))
}
