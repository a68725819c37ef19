//! Replicas that join, leave and come back empty; leadership that is handed over.

use std::time::{Duration, Instant};

use raftmq_benches::BenchError;

use super::scene::{Scene, Took, Turn};

/// Between two transfers.
const REST: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(1500));

/// A replica more, then one less: the new one, or an old one that comes back later.
pub async fn grow_shrink(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let (bed, spare) = (&scene.bed, scene.bed.spare());
    scene.begin(turn, &[spare], "joins");
    bed.grow().await?;
    scene.hold(turn.hold / 2).await;
    if random.chance(0.5) {
        let old = random.below(bed.replicas());
        let f = format!("then-{}", turn.name);
        scene.note(crate::history::Kind::Info, &f, &[old], "leaves");
        bed.shrink(old).await?;
        scene.hold(turn.hold / 2).await;
    }
    bed.settle_members().await?;
    scene.heal(turn, &[spare], "");
    Ok(Took::Place)
}

/// A replica loses its directory and joins again.
pub async fn wipe_rejoin(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let targets = scene.targets(turn, &mut turn.random()).await;
    scene.begin(turn, &targets, "");
    let killed = scene.bed.kill(&targets).await?;
    for target in &targets {
        scene.bed.wipe(*target).await?;
    }
    scene.bed.start_replicas(&targets).await?;
    scene.hold(turn.hold).await;
    for target in &targets {
        scene.bed.make_voter(*target).await?;
    }
    scene.heal(turn, &targets, "");
    Ok(Took::when(!killed.is_empty(), "no replica was running"))
}

/// Leadership goes to another replica, again and again.
pub async fn transfer(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let (until, mut done, mut refused) = (Instant::now() + turn.hold, 0, 0);
    scene.begin(turn, &[], "");
    while Instant::now() < until && !scene.is_over() {
        let leader = scene.leader(&mut random).await;
        let mut others: Vec<_> = (0..scene.bed.replicas()).collect();
        others.retain(|replica| *replica != leader);
        if let Some(to) = random.choose(&others) {
            // The set may refuse: the target is behind, or another fault has it.
            match scene.bed.transfer(*to).await {
                Ok(leads) if leads == format!("n{to}") => done += 1,
                _ => refused += 1,
            }
        }
        scene.hold(random.between(REST.0, REST.1)).await;
    }
    scene.heal(turn, &[], &format!("{done} times, {refused} refused"));
    Ok(Took::when(done > 0, "every transfer was refused"))
}

/// Leadership is to go to a replica that was killed a moment ago.
pub async fn transfer_dead(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let leader = scene.leader(&mut random).await;
    let mut others: Vec<_> = (0..scene.bed.replicas()).collect();
    others.retain(|replica| *replica != leader);
    let to: Vec<_> = random.choose(&others).copied().into_iter().collect();
    scene.begin(turn, &to, "");
    let killed = scene.bed.kill(&to).await?;
    let mut told = String::new();
    for dead in &to {
        match scene.bed.transfer(*dead).await {
            Ok(leads) if leads == format!("n{dead}") => {
                scene.problem(&format!("leadership went to {leads}, which is dead"));
            }
            Ok(leads) => told = format!("then {leads} leads"),
            Err(error) => told = error.to_string(),
        }
    }
    scene.hold(turn.hold).await;
    scene.bed.start_replicas(&to).await?;
    scene.heal(turn, &to, &told);
    Ok(Took::when(!killed.is_empty(), "no replica was running"))
}
