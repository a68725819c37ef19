//! Disks that hang, are slow, full, or fail.

use std::time::{Duration, Instant};

use raftmq_benches::BenchError;

use super::scene::{Scene, Took, Turn};
use crate::bed::disk::Disk;

/// Longest hang.
const HANG: Duration = Duration::from_secs(5);
/// Times of a slow disk: it hangs, it works.
const SLOW: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(300));
/// Longest time until a process notices that it cannot write; the flusher looks every 500 ms, and at leisure every 10 s.
const NOTICE_LIMIT: Duration = Duration::from_secs(30);

async fn freeze(scene: &Scene, targets: &[usize], frozen: bool) -> Result<(), BenchError> {
    let act = if frozen { Disk::freeze } else { Disk::thaw };
    for target in targets {
        scene.bed.with_disk(*target, act).await?;
    }
    Ok(())
}

/// Hangs for the turn, 5 s at most.
pub async fn hang(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let targets = scene.targets(turn, &mut turn.random()).await;
    scene.begin(turn, &targets, "");
    freeze(scene, &targets, true).await?;
    scene.hold(turn.hold.min(HANG)).await;
    freeze(scene, &targets, false).await?;
    scene.heal(turn, &targets, "");
    Ok(Took::Place)
}

/// Hangs a little, again and again.
pub async fn slow(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let targets = scene.targets(turn, &mut random).await;
    let (until, mut times) = (Instant::now() + turn.hold, 0);
    scene.begin(turn, &targets, "");
    while Instant::now() < until && !scene.is_over() {
        freeze(scene, &targets, true).await?;
        tokio::time::sleep(random.between(SLOW.0, SLOW.1)).await;
        freeze(scene, &targets, false).await?;
        tokio::time::sleep(random.between(SLOW.0, SLOW.1)).await;
        times += 1;
    }
    scene.heal(turn, &targets, &format!("{times} times"));
    Ok(Took::when(times > 0, "the run was over"))
}

/// No room for the turn.
pub async fn full(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let targets = scene.targets(turn, &mut turn.random()).await;
    scene.begin(turn, &targets, "");
    let mut filled = 0;
    for target in &targets {
        filled += scene.bed.with_disk(*target, Disk::fill).await?;
    }
    scene.hold(turn.hold).await;
    for target in &targets {
        scene.bed.with_disk(*target, Disk::free).await?;
    }
    scene.heal(turn, &targets, &format!("{} MiB were taken", filled >> 20));
    Ok(Took::when(filled > 0, "there was no room to take"))
}

/// Every write and fsync fails. A replica of ours must end by itself and say so by its status.
pub async fn fsync_error(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let targets = scene.targets(turn, &mut turn.random()).await;
    scene.begin(turn, &targets, "");
    scene.bed.fail_disks(&targets).await?;
    let mut told = String::new();
    for target in &targets {
        let limit = if scene.bed.is_ours() {
            NOTICE_LIMIT
        } else {
            turn.hold
        };
        match scene.bed.wait_ended(*target, limit).await? {
            Some(end) if end.code.is_some_and(|c| c != 0) => {
                told += &format!("n{target} ended with {:?}. ", end.code);
            }
            Some(end) => scene.problem(&format!("after a disk failed: {}", end.words)),
            None if scene.bed.is_ours() => {
                scene.problem(&format!("n{target} runs on a disk that failed"));
            }
            None => told += &format!("n{target} ran on. "),
        }
    }
    scene.hold(turn.hold).await;
    scene.bed.start_replicas(&targets).await?;
    scene.heal(turn, &targets, &told);
    Ok(Took::Place)
}
