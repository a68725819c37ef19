//! Bad weather on the links: packets late, lost, doubled, too many, or turned into resets.

use std::time::Duration;

use raftmq_benches::BenchError;
use raftmq_benches::netns::{Pair, Party};

use super::scene::{Scene, Took, Turn};
use crate::bed::packet::Weather;
use crate::bed::tools::off;

/// The links of the replicas that the turn's option names to the others, or those of clients to all.
async fn pairs(scene: &Scene, turn: &Turn) -> Result<(Vec<usize>, Vec<Pair>), BenchError> {
    let network = scene.bed.network()?;
    if turn.option == Some("clients") {
        let all: Vec<_> = (0..scene.bed.replicas()).collect();
        let both = all.iter().flat_map(|replica| {
            let node = Party::Node(*replica);
            [(node, Party::Outside), (Party::Outside, node)]
        });
        return Ok((Vec::new(), both.collect()));
    }
    let targets = scene.targets(turn, &mut turn.random()).await;
    let mut pairs: Vec<_> = targets.iter().flat_map(|t| network.peers(*t)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    Ok((targets, pairs))
}

async fn storm(scene: &Scene, turn: &Turn, weather: Weather) -> Result<Took, BenchError> {
    let (targets, pairs) = pairs(scene, turn).await?;
    let before = scene.bed.relay()?.touched();
    scene.begin(turn, &targets, &format!("{weather:?}"));
    let bed = scene.bed.clone();
    off(move || bed.relay()?.begin(weather, pairs)).await?;
    scene.hold(turn.hold).await;
    let bed = scene.bed.clone();
    off(move || bed.relay()?.end()).await?;
    let touched = scene.bed.relay()?.touched() - before;
    scene.heal(turn, &targets, &format!("{touched} packets"));
    Ok(Took::when(touched > 0, "nothing was done to any packet"))
}

pub async fn delay(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let weather = Weather {
        delay: Duration::from_millis(100),
        jitter: Duration::from_millis(50),
        ..Weather::default()
    };
    storm(scene, turn, weather).await
}

pub async fn loss(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let weather = Weather {
        loss: 0.1 + 0.2 * turn.random().part(),
        ..Weather::default()
    };
    storm(scene, turn, weather).await
}

pub async fn throttle(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let weather = Weather {
        bytes_per_second: 1_000_000,
        ..Weather::default()
    };
    storm(scene, turn, weather).await
}

pub async fn reset(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let weather = Weather {
        reset: 0.01,
        ..Weather::default()
    };
    storm(scene, turn, weather).await
}

pub async fn duplicate(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let weather = Weather {
        duplicate: 0.2,
        ..Weather::default()
    };
    storm(scene, turn, weather).await
}

pub async fn reorder(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let weather = Weather {
        reorder: 0.2,
        ..Weather::default()
    };
    storm(scene, turn, weather).await
}
