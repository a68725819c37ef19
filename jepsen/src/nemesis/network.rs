//! Links that are cut, in one direction or both, between replicas and sometimes their clients.

use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use raftmq_benches::netns::{Detour, Pair, Party};

use super::scene::{Scene, Took, Turn};
use crate::bed::tools::off;
use crate::random::Random;

/// Times of a link that goes up and down.
const FLAP: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// Why a cut did not take place.
const NOTHING: &str = "no packet was dropped";

/// Both ways between everyone of one group and everyone of the other.
fn between(ones: &[usize], others: &[usize]) -> Vec<Pair> {
    let pairs = ones
        .iter()
        .flat_map(|a| others.iter().map(move |b| (*a, *b)));
    let pairs = pairs.filter(|(a, b)| a != b);
    pairs
        .flat_map(|(a, b)| {
            let (a, b) = (Party::Node(a), Party::Node(b));
            [(a, b), (b, a)]
        })
        .collect()
}

/// Cuts the pairs or takes that back.
pub async fn cut(scene: &Scene, pairs: &[Pair], on: bool) -> Result<(), BenchError> {
    let (network, pairs) = (scene.bed.network()?.clone(), pairs.to_vec());
    off(move || network.detour(Detour::Drop, &pairs, on)).await
}

async fn dropped(scene: &Scene) -> Result<u64, BenchError> {
    let network = scene.bed.network()?.clone();
    off(move || network.dropped()).await
}

/// Cuts for as long as the turn lasts.
async fn for_a_while(
    scene: &Scene,
    turn: &Turn,
    targets: &[usize],
    pairs: Vec<Pair>,
    detail: &str,
) -> Result<Took, BenchError> {
    let before = dropped(scene).await?;
    scene.begin(turn, targets, detail);
    cut(scene, &pairs, true).await?;
    scene.hold(turn.hold).await;
    cut(scene, &pairs, false).await?;
    let dropped = dropped(scene).await? - before;
    scene.heal(turn, targets, &format!("{dropped} packets dropped"));
    Ok(Took::when(dropped > 0, NOTHING))
}

/// Two halves at random, the greater one a majority.
pub async fn halves(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut all: Vec<_> = (0..scene.bed.replicas()).collect();
    turn.random().shuffle(&mut all);
    let (less, more) = all.split_at(all.len() / 2);
    let pairs = between(less, more);
    for_a_while(scene, turn, less, pairs, &format!("{less:?} | {more:?}")).await
}

/// The leader alone, with its clients or without any.
async fn leader(scene: &Scene, turn: &Turn, from_all: bool) -> Result<Took, BenchError> {
    let leader = scene.leader(&mut turn.random()).await;
    let mut pairs = scene.bed.network()?.peers(leader);
    if from_all {
        let node = Party::Node(leader);
        pairs.extend([(node, Party::Outside), (Party::Outside, node)]);
    }
    for_a_while(scene, turn, &[leader], pairs, "").await
}

/// From peers and clients.
pub async fn partition_leader(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    leader(scene, turn, true).await
}

/// From peers only.
pub async fn isolate_leader(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    leader(scene, turn, false).await
}

/// Everyone reaches a majority, and everyone another one.
fn ring(replicas: usize, random: &mut Random) -> Vec<Pair> {
    let mut order: Vec<_> = (0..replicas).collect();
    random.shuffle(&mut order);
    let reach = (replicas / 2).div_ceil(2);
    let mut pairs = Vec::new();
    for (place, one) in order.iter().enumerate() {
        for (far, other) in (1..).zip(order.iter().skip(place + 1)) {
            if far.min(replicas - far) > reach {
                pairs.extend(between(&[*one], &[*other]));
            }
        }
    }
    pairs
}

pub async fn partition_ring(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let replicas = scene.bed.replicas();
    if replicas < 5 {
        // A ring of three has no link to spare.
        return bridge(scene, turn).await;
    }
    let pairs = ring(replicas, &mut turn.random());
    let detail = format!("{pairs:?}");
    for_a_while(scene, turn, &[], pairs, &detail).await
}

/// Two groups and one replica that both reach. That is no leader: followers have nothing to say to each other.
pub async fn bridge(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let leader = scene.leader(&mut random).await;
    let mut all: Vec<_> = (0..scene.bed.replicas()).collect();
    all.retain(|replica| *replica != leader);
    let bridge = all.swap_remove(random.below(all.len()));
    all.push(leader);
    random.shuffle(&mut all);
    let (less, more) = all.split_at(all.len() / 2);
    let detail = format!("{less:?} - {bridge} - {more:?}");
    for_a_while(scene, turn, &[bridge], between(less, more), &detail).await
}

/// One replica hears nobody, or nobody hears it; sometimes that holds for clients, too.
pub async fn one_way(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let targets = scene.targets(turn, &mut random).await;
    let (deaf, with_clients) = (random.chance(0.5), random.chance(0.5));
    let mut pairs = Vec::new();
    for target in &targets {
        let node = Party::Node(*target);
        let mut others: Vec<_> = (0..scene.bed.replicas()).map(Party::Node).collect();
        others.retain(|other| *other != node);
        others.extend(with_clients.then_some(Party::Outside));
        pairs.extend(others.into_iter().map(|other| match deaf {
            true => (other, node),
            false => (node, other),
        }));
    }
    let what = if deaf {
        "hears nobody"
    } else {
        "nobody hears it"
    };
    let detail = format!("{what}, clients included: {with_clients}");
    for_a_while(scene, turn, &targets, pairs, &detail).await
}

/// All links of a replica to others go down and up again and again.
pub async fn flapping(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let targets = scene.targets(turn, &mut random).await;
    let network = scene.bed.network()?;
    let pairs: Vec<_> = targets.iter().flat_map(|t| network.peers(*t)).collect();
    let before = dropped(scene).await?;
    let (until, mut times) = (Instant::now() + turn.hold, 0);
    scene.begin(turn, &targets, "");
    while Instant::now() < until && !scene.is_over() {
        cut(scene, &pairs, true).await?;
        tokio::time::sleep(random.between(FLAP.0, FLAP.1)).await;
        cut(scene, &pairs, false).await?;
        tokio::time::sleep(random.between(FLAP.0, FLAP.1)).await;
        times += 1;
    }
    let dropped = dropped(scene).await? - before;
    scene.heal(
        turn,
        &targets,
        &format!("{times} times, {dropped} packets dropped"),
    );
    Ok(Took::when(dropped > 0, NOTHING))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_ring_everyone_reaches_another_majority() {
        for seed in 0..20 {
            for replicas in [5, 7] {
                let pairs = ring(replicas, &mut Random::new(seed));
                let mut seen: Vec<Vec<usize>> = Vec::new();
                for one in 0..replicas {
                    let cut = |other| pairs.contains(&(Party::Node(one), Party::Node(other)));
                    let reached: Vec<_> = (0..replicas).filter(|other| !cut(*other)).collect();
                    assert!(reached.len() > replicas / 2, "{reached:?}");
                    assert!(reached.len() < replicas && !seen.contains(&reached));
                    seen.push(reached);
                }
                assert!(pairs.iter().all(|(a, b)| pairs.contains(&(*b, *a))));
            }
        }
    }

    #[test]
    fn groups_are_cut_both_ways_and_not_within() {
        let pairs = between(&[0], &[1, 2]);
        assert_eq!(pairs.len(), 4);
        assert!(pairs.contains(&(Party::Node(2), Party::Node(0))));
        assert!(!pairs.contains(&(Party::Node(1), Party::Node(2))));
    }
}
