//! Power that fails: what was not fsynced is gone, the replica comes back in another boot. And disks that are lost altogether.

use std::time::{Duration, Instant};

use raftmq_benches::BenchError;

use super::network;
use super::scene::{Scene, Took, Turn};
use crate::history::Kind;
use crate::random::Random;

/// Until what was under way when something changed is done, flushed included.
const SETTLED: Duration = Duration::from_millis(500);
/// Time for those who are left to elect, if they may.
const ELECTION: Duration = Duration::from_secs(4);
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

/// How replicas are kept from the others.
#[derive(Clone, Copy)]
enum Away {
    /// Behind a cut.
    Cut,
    /// SIGSTOP.
    Held,
}

impl Away {
    async fn keep(self, scene: &Scene, replicas: &[usize], on: bool) -> Result<(), BenchError> {
        match self {
            Self::Cut => {
                let links = scene.bed.network()?;
                let pairs: Vec<_> = replicas.iter().flat_map(|r| links.peers(*r)).collect();
                network::cut(scene, &pairs, on).await
            }
            Self::Held => scene.bed.hold(replicas, on).await.map(drop),
        }
    }
}

/// A minority without the leader, and the majority that is left.
fn sides(leader: usize, replicas: usize, random: &mut Random) -> (Vec<usize>, Vec<usize>) {
    let mut stale: Vec<_> = (0..replicas).filter(|r| *r != leader).collect();
    random.shuffle(&mut stale);
    let mut holders = stale.split_off(replicas.saturating_sub(1) / 2);
    holders.push(leader);
    (stale, holders)
}

/// A minority is away while the others take writes. Then one of these loses power, the rest of them goes away, the minority comes back
/// and the one without power, too: it is the only one of this majority that was there, and whoever leads must have what it had.
async fn crash_among_stale(scene: &Scene, turn: &Turn, away: Away) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let leader = scene.leader(&mut random).await;
    let (stale, mut holders) = sides(leader, scene.bed.replicas(), &mut random);
    let victim = holders.swap_remove(random.below(holders.len()));
    let plan = format!("away; then n{victim} loses power and {holders:?} go away instead");
    scene.begin(turn, &stale, &plan);
    away.keep(scene, &stale, true).await?;
    scene.hold(SETTLED).await;
    let before = scene.acknowledged();
    scene.hold(turn.hold).await;
    let acknowledged = scene.acknowledged() - before;
    let committed = common_end(scene, &holders, victim).await;
    scene.hold(SETTLED).await;
    let off = scene.bed.power_off(&[victim]).await?;
    away.keep(scene, &holders, true).await?;
    away.keep(scene, &stale, false).await?;
    scene.bed.start_replicas(&[victim]).await?;
    let then = format!("then-{}", turn.name);
    let told = format!("{acknowledged} writes were acknowledged without {stale:?}");
    scene.note(Kind::Info, &then, &[victim], &told);
    let in_time = !scene.is_over();
    scene.hold(turn.hold.max(ELECTION)).await;
    if let Some((leads, _)) = scene.bed.own_leader().await
        && !holders.contains(&leads)
        && let Some(has) = scene.bed.log_end(leads).await
        && has < committed
    {
        scene.problem(&format!("n{leads} leads with {has} of {committed} bytes"));
    }
    away.keep(scene, &holders, false).await?;
    scene.heal(turn, &holders, "");
    let place = in_time && acknowledged > 0 && !off.is_empty();
    Ok(Took::when(
        place,
        "nothing was acknowledged without the minority",
    ))
}

/// What all of a majority have, bytes: it is committed.
async fn common_end(scene: &Scene, holders: &[usize], victim: usize) -> i64 {
    let mut least = scene.bed.log_end(victim).await.unwrap_or(0);
    for holder in holders {
        least = least.min(scene.bed.log_end(*holder).await.unwrap_or(0));
    }
    least
}

/// As in Jepsen's analysis of NATS, with a cut network.
pub async fn part_kill(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    crash_among_stale(scene, turn, Away::Cut).await
}

/// As in Jepsen's analysis of NATS, with processes that are held.
pub async fn pause_kill(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    crash_among_stale(scene, turn, Away::Held).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stale_and_the_one_that_crashes_are_a_majority() {
        let mut random = Random::new(1);
        for replicas in [3, 5] {
            for leader in 0..replicas {
                let (stale, holders) = sides(leader, replicas, &mut random);
                assert!(holders.contains(&leader) && !stale.contains(&leader));
                assert!(holders.len() > replicas / 2 && stale.len() <= replicas / 2);
                assert_eq!(stale.len() + 1, replicas / 2 + 1);
                assert_eq!(stale.len() + holders.len(), replicas);
            }
        }
    }
}
