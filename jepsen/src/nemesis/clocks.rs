//! Wall clocks that jump, run fast or slow, or jump to and fro. (The monotonic clock is the kernel's and stays true.)

use std::time::{Duration, Instant};

use raftmq_benches::BenchError;

use super::scene::{Scene, Took, Turn};
use crate::random::Random;

/// Farthest jump, s.
const JUMP: f64 = 300.0;
/// How often a clock of another rate is set.
const TICK: Duration = Duration::from_millis(50);
/// Times between jumps of a strobe, and how far they go, s.
const STROBE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));
const STROBE_SECONDS: f64 = 10.0;

/// Has `offset` (s, of the time since the beginning) hold for the turn, set at each of these times.
async fn set(
    scene: &Scene,
    turn: &Turn,
    random: &mut Random,
    detail: &str,
    step: (Duration, Duration),
    offset: impl Fn(f64, u64) -> f64,
) -> Result<Took, BenchError> {
    let targets = scene.targets(turn, random).await;
    let seen = looks_at_ours(scene, &targets).await;
    let (began, mut count) = (Instant::now(), 0);
    scene.begin(turn, &targets, detail);
    while began.elapsed() < turn.hold && !scene.is_over() {
        let offset = offset(began.elapsed().as_secs_f64(), count);
        for target in &targets {
            scene.bed.set_clock(*target, offset)?;
        }
        let rest = turn.hold.saturating_sub(began.elapsed());
        scene.hold(random.between(step.0, step.1).min(rest)).await;
        count += 1;
    }
    for target in &targets {
        scene.bed.set_clock(*target, 0.0)?;
    }
    scene.heal(turn, &targets, &format!("set {count} times"));
    Ok(Took::when(
        seen && count > 0,
        "no process looks at another clock",
    ))
}

/// Whether the kernel has libfaketime in one of these processes.
async fn looks_at_ours(scene: &Scene, targets: &[usize]) -> bool {
    let pids = scene.bed.pids().await;
    targets.iter().any(|target| {
        let pid = pids.get(*target).copied().flatten();
        let maps = pid.map(|pid| std::fs::read_to_string(format!("/proc/{pid}/maps")));
        maps.is_some_and(|m| m.is_ok_and(|m| m.contains("libfaketime")))
    })
}

fn sign(random: &mut Random) -> f64 {
    if random.chance(0.5) { 1.0 } else { -1.0 }
}

pub async fn jump(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let offset = sign(&mut random) * (0.5 + JUMP * random.part().powi(2));
    let detail = format!("offset {offset:.3} s");
    let once = (turn.hold, turn.hold);
    set(scene, turn, &mut random, &detail, once, |_, _| offset).await
}

pub async fn skew(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let rate = sign(&mut random) * (0.01 + 0.9 * random.part());
    let detail = format!("rate {:.3}", 1.0 + rate);
    set(
        scene,
        turn,
        &mut random,
        &detail,
        (TICK, TICK),
        |passed, _| rate * passed,
    )
    .await
}

pub async fn strobe(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let mut random = turn.random();
    let far = 0.1 + STROBE_SECONDS * random.part();
    let detail = format!("offset {far:.3} s and none");
    let offset = |_, count: u64| if count.is_multiple_of(2) { far } else { 0.0 };
    set(scene, turn, &mut random, &detail, STROBE, offset).await
}
