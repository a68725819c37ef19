//! Power that fails: what was not fsynced is gone, the replica comes back in another boot. And disks that are lost altogether.

use std::time::{Duration, Instant};

use raftmq_benches::BenchError;

use super::network;
use super::scene::{Scene, Took, Turn};

const NOT_RUNNING: &str = "no replica was running";

/// Without power for the turn.
pub async fn power(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let targets = scene.targets(turn, &mut turn.random()).await;
    scene.begin(turn, &targets, "");
    let off = scene.bed.power_off(&targets).await?;
    scene.hold(turn.hold).await;
    scene.bed.start_replicas(&targets).await?;
    scene.heal(turn, &targets, "");
    Ok(Took::when(!off.is_empty(), NOT_RUNNING))
}

/// The leader, back at once: perhaps before anybody has missed it.
pub async fn leader_fast(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let leader = [scene.leader(&mut turn.random()).await];
    let began = Instant::now();
    scene.begin(turn, &leader, "");
    let off = scene.bed.power_off(&leader).await?;
    scene.bed.start_replicas(&leader).await?;
    let away = began.elapsed().as_millis();
    scene.heal(turn, &leader, &format!("away for {away} ms"));
    scene.hold(turn.hold).await;
    Ok(Took::when(!off.is_empty(), NOT_RUNNING))
}

/// A minority misses writes behind a cut; then one of the majority loses power, and the new majority needs the one that was behind.
pub async fn part_kill(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let leader = scene.leader(&mut random).await;
    let mut all: Vec<_> = (0..scene.bed.replicas()).collect();
    all.retain(|replica| *replica != leader);
    random.shuffle(&mut all);
    let mut majority = all.split_off((scene.bed.replicas() - 1) / 2);
    let stale = all;
    majority.push(leader);
    // With three replicas the leader or the only one that has what it acknowledged.
    let victim: Vec<_> = random.choose(&majority).copied().into_iter().collect();
    let network = scene.bed.network()?;
    let mut pairs: Vec<_> = stale.iter().flat_map(|s| network.peers(*s)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    scene.begin(
        turn,
        &stale,
        &format!("behind a cut; then n{victim:?} loses power"),
    );
    network::cut(scene, &pairs, true).await?;
    scene.hold(turn.hold).await;
    let off = scene.bed.power_off(&victim).await?;
    network::cut(scene, &pairs, false).await?;
    scene.note(
        crate::history::Kind::Info,
        &format!("then-{}", turn.name),
        &victim,
        "",
    );
    scene.hold(turn.hold).await;
    scene.bed.start_replicas(&victim).await?;
    scene.heal(turn, &victim, "");
    Ok(Took::when(!off.is_empty(), NOT_RUNNING))
}

/// Followers are held while the leader takes writes, then it loses power and they go on without it.
pub async fn pause_kill(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let leader = scene.leader(&mut turn.random()).await;
    let mut followers: Vec<_> = (0..scene.bed.replicas()).collect();
    followers.retain(|replica| *replica != leader);
    scene.begin(
        turn,
        &followers,
        &format!("held; then n{leader} loses power"),
    );
    scene.bed.hold(&followers, true).await?;
    scene.hold(turn.hold.min(Duration::from_secs(3))).await;
    let off = scene.bed.power_off(&[leader]).await?;
    scene.bed.hold(&followers, false).await?;
    scene.hold(turn.hold).await;
    scene.bed.start_replicas(&[leader]).await?;
    scene.heal(turn, &[leader], "");
    Ok(Took::when(!off.is_empty(), NOT_RUNNING))
}

/// A majority comes back with empty directories: nobody may be elected, for nobody knows what they had. Healed by giving them
/// their directories back.
pub async fn wipe_two(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut all: Vec<_> = (0..scene.bed.replicas()).collect();
    turn.random().shuffle(&mut all);
    all.truncate(scene.bed.replicas() / 2 + 1);
    let before = scene.bed.own_leader().await;
    scene.begin(turn, &all, "");
    scene.bed.kill(&all).await?;
    for replica in &all {
        scene.bed.set_aside(*replica, true).await?;
    }
    scene.bed.start_replicas(&all).await?;
    scene.hold(turn.hold).await;
    // Who led before and is still there may say so for as long as it likes: nobody follows.
    if let now @ Some((leader, _)) = scene.bed.own_leader().await
        && now != before
    {
        scene.problem(&format!("n{leader} leads although {all:?} were empty"));
    }
    scene.bed.kill(&all).await?;
    for replica in &all {
        scene.bed.set_aside(*replica, false).await?;
    }
    scene.bed.start_replicas(&all).await?;
    scene.heal(turn, &all, "");
    Ok(Took::Place)
}
