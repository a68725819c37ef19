//! Processes that are killed, held, or asked to end.

use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use raftmq_benches::netns::Party;

use super::network;
use super::scene::{Scene, Took, Turn};

/// Between two kills of a storm.
const STORM: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(400));
/// Longest time a process may take to end in order.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Until what clients had asked for is done, on all replicas.
const SETTLED: Duration = Duration::from_millis(300);
/// After so long without a leader a follower is free to elect another one.
const LEASE_OVER: Duration = Duration::from_secs(2);
const NOT_RUNNING: &str = "no process was running";

/// Dead for the turn.
pub async fn kill(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let targets = scene.targets(turn, &mut turn.random()).await;
    scene.begin(turn, &targets, "");
    let killed = scene.bed.kill(&targets).await?;
    scene.hold(turn.hold).await;
    scene.bed.start_replicas(&targets).await?;
    scene.heal(turn, &targets, "");
    Ok(Took::when(!killed.is_empty(), NOT_RUNNING))
}

/// Killed and started, again and again.
pub async fn restart_storm(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let (until, mut times) = (Instant::now() + turn.hold, 0);
    let mut targets = scene.targets(turn, &mut random).await;
    scene.begin(turn, &targets, "");
    while Instant::now() < until && !scene.is_over() {
        times += scene.bed.kill(&targets).await?.len();
        scene.bed.start_replicas(&targets).await?;
        scene.hold(random.between(STORM.0, STORM.1)).await;
        if turn.option != Some("all") {
            targets = scene.targets(turn, &mut random).await;
        }
    }
    scene.heal(turn, &targets, &format!("{times} kills"));
    Ok(Took::when(times > 0, NOT_RUNNING))
}

/// Held for the turn.
pub async fn pause(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let targets = scene.targets(turn, &mut turn.random()).await;
    scene.begin(turn, &targets, "");
    let held = scene.bed.hold(&targets, true).await?;
    scene.hold(turn.hold).await;
    scene.bed.hold(&targets, false).await?;
    scene.heal(turn, &targets, "");
    Ok(Took::when(!held.is_empty(), NOT_RUNNING))
}

/// Asked to end; away for the turn.
pub async fn stop(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let targets = scene.targets(turn, &mut turn.random()).await;
    scene.begin(turn, &targets, "");
    scene.bed.ask_to_stop(&targets).await?;
    scene.hold(turn.hold).await;
    let mut ended = 0;
    for target in &targets {
        match scene.bed.wait_ended(*target, STOP_LIMIT).await? {
            // A JVM tells the signal by its status.
            Some(end) if end.code == Some(0) || !scene.bed.is_ours() => ended += 1,
            Some(end) => scene.problem(&format!("n{target} was asked to end: {}", end.words)),
            None => scene.problem(&format!("n{target} does not end when asked")),
        }
    }
    scene.bed.kill(&targets).await?;
    scene.bed.start_replicas(&targets).await?;
    scene.heal(turn, &targets, "");
    Ok(Took::when(ended > 0, "no process has ended"))
}

/// Voters that forget the lease they granted: the others have not heard the leader for so long that they would elect another one,
/// only those that the leader needs still answer it, until they are killed and at once started beside it. Nothing is written
/// meanwhile, for whoever has less of the log than a voter is not elected by it.
pub async fn restart_beside_isolated_leader(
    scene: &Scene,
    turn: &Turn,
) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let leader = scene.leader(&mut random).await;
    let mut voters: Vec<_> = (0..scene.bed.replicas()).collect();
    voters.retain(|voter| *voter != leader);
    random.shuffle(&mut voters);
    voters.truncate(scene.bed.replicas() / 2);
    let pairs = scene.bed.network()?.peers(leader);
    let is_needed = |party: &Party| voters.iter().any(|voter| *party == Party::Node(*voter));
    let (needed, others): (Vec<_>, Vec<_>) = pairs
        .iter()
        .copied()
        .partition(|(from, to)| is_needed(from) || is_needed(to));
    let detail = format!("n{voters:?} are killed and started after {LEASE_OVER:?}");
    scene.begin(turn, &[leader], &detail);
    // Longer than it takes, so that it ends by itself if this does not get so far.
    scene.hush(2 * (SETTLED + LEASE_OVER));
    scene.hold(SETTLED).await;
    network::cut(scene, &others, true).await?;
    scene.hold(LEASE_OVER).await;
    let killed = scene.bed.kill(&voters).await?;
    network::cut(scene, &needed, true).await?;
    scene.bed.start_replicas(&voters).await?;
    scene.hush(Duration::ZERO);
    scene.hold(turn.hold).await;
    network::cut(scene, &pairs, false).await?;
    scene.heal(turn, &[leader], "");
    Ok(Took::when(!killed.is_empty(), NOT_RUNNING))
}

/// The name server, dead for the turn.
pub async fn kill_namesrv(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    scene.begin(turn, &[], "");
    let ran = scene.bed.kill_namesrv().await?;
    scene.hold(turn.hold).await;
    scene.bed.start_namesrv().await?;
    scene.heal(turn, &[], "");
    Ok(Took::when(ran, NOT_RUNNING))
}
