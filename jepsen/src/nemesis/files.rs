//! Files of a minority that rot while it is dead, or are replaced by older ones. A replica must repair them, or end by itself and say
//! why; then it gets an empty directory and joins again, as the documents say.

use std::time::{Duration, Instant};

use raftmq_benches::BenchError;

use super::scene::{Scene, Took, Turn};
use crate::bed::replica::copy;
use crate::bed::rot::{FileKind, Flip, flip, truncate};
use crate::bed::tools::off;
use crate::history::Kind;
use crate::random::Random;

/// Until a replica has everything again, and has repaired what the scrubber finds.
const REPAIR_LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);

fn kind(turn: &Turn) -> Result<&'static FileKind, BenchError> {
    let named = turn.option.and_then(FileKind::named);
    named.ok_or_else(|| BenchError::Usage(format!("{}: which files?", turn.name)))
}

/// What was done to a file.
#[derive(Default)]
struct Damage {
    /// Empty when nothing was done.
    words: String,
    flips: Vec<Flip>,
}

fn damage(
    kind: &FileKind,
    store: &std::path::Path,
    random: &mut Random,
    flips: bool,
) -> Result<Damage, BenchError> {
    let mut files = kind.files(store)?;
    random.shuffle(&mut files);
    // A segment that was made for later has nothing in it.
    for path in files {
        let name = path.strip_prefix(store).unwrap_or(&path).display();
        let (what, flips) = match flips {
            true => ("bits flipped", flip(&path, random)?),
            false => ("the end is gone", Vec::from_iter(truncate(&path, random)?)),
        };
        if let Some(from) = flips.iter().map(|f| f.offset).min() {
            let words = format!("{name}: {what} from {from} on");
            return Ok(Damage { words, flips });
        }
    }
    Ok(Damage::default())
}

/// Some replicas, a minority.
fn victims(scene: &Scene, random: &mut Random) -> Vec<usize> {
    let replicas = scene.bed.replicas();
    let mut all: Vec<_> = (0..replicas).collect();
    random.shuffle(&mut all);
    all.truncate(1 + random.below(replicas.saturating_sub(1) / 2));
    all.sort_unstable();
    all
}

/// Waits for each of them. Those that refused to start are told.
async fn recover_all(
    scene: &Scene,
    turn: &Turn,
    damaged: Vec<(usize, Vec<Flip>)>,
) -> Result<(), BenchError> {
    let mut all = Vec::new();
    let mut words = String::new();
    for (target, flips) in damaged {
        let told = recover(scene, turn, target, flips).await?;
        words.push_str(&format!("n{target} {told} "));
        all.push(target);
    }
    scene.heal(turn, &all, words.trim_end());
    Ok(())
}

async fn rot(scene: &Scene, turn: &Turn, flips: bool) -> Result<Took, BenchError> {
    let (kind, mut random) = (kind(turn)?, turn.random());
    let targets = victims(scene, &mut random);
    scene.begin(turn, &targets, "killed");
    scene.bed.kill(&targets).await?;
    let (mut damaged, mut place) = (Vec::new(), false);
    for target in &targets {
        let store = scene.bed.store_dir(*target);
        let mut random = Random::new(random.draw());
        let damage = off(move || damage(kind, &store, &mut random, flips)).await?;
        let f = format!("then-{}", turn.name);
        scene.note(Kind::Info, &f, &[*target], &damage.words);
        place |= !damage.words.is_empty();
        // What is derived is made anew, not repaired byte by byte.
        let mut flips = damage.flips;
        flips.retain(|flip| kind.name == "segment" && !flip.late);
        damaged.push((*target, flips));
    }
    scene.bed.start_replicas(&targets).await?;
    scene.hold(turn.hold).await;
    recover_all(scene, turn, damaged).await?;
    Ok(Took::when(
        place,
        "there was no such file with anything in it",
    ))
}

pub async fn bitflip(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    rot(scene, turn, true).await
}

pub async fn cut_short(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    rot(scene, turn, false).await
}

/// Replicas find their files of one kind as they were some time ago.
pub async fn old_copy(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let (kind, mut random) = (kind(turn)?, turn.random());
    let targets = victims(scene, &mut random);
    scene.begin(turn, &targets, "killed, and a copy made");
    scene.bed.kill(&targets).await?;
    let places = targets.iter().map(|target| {
        let dir = kind.dir(&scene.bed.store_dir(*target));
        (dir, scene.bed.copy_dir(*target))
    });
    let mut places: Vec<_> = places.collect();
    places.retain(|(dir, _)| dir.exists());
    for (dir, kept) in places.clone() {
        off(move || copy(&dir, &kept)).await?;
    }
    scene.bed.start_replicas(&targets).await?;
    scene.hold(turn.hold).await;
    scene.bed.kill(&targets).await?;
    let f = format!("then-{}", turn.name);
    scene.note(Kind::Info, &f, &targets, "the copy is put back");
    for (dir, kept) in places.clone() {
        off(move || copy(&kept, &dir)).await?;
    }
    scene.bed.start_replicas(&targets).await?;
    let damaged = targets.into_iter().map(|target| (target, Vec::new()));
    recover_all(scene, turn, damaged.collect()).await?;
    Ok(Took::when(!places.is_empty(), "there were no such files"))
}

/// Waits until the replica has everything again. One that refuses to start joins with an empty directory.
pub(super) async fn recover(
    scene: &Scene,
    turn: &Turn,
    target: usize,
    mut flips: Vec<Flip>,
) -> Result<&'static str, BenchError> {
    let deadline = Instant::now() + REPAIR_LIMIT;
    let mut told = "whole";
    loop {
        if let Some(end) = scene.bed.wait_ended(target, Duration::ZERO).await? {
            let refused = end.code.is_some_and(|c| c != 0) && !end.words.contains("panicked");
            if !refused {
                scene.problem(&format!("after {}: {}", turn.name, end.words));
            }
            if told != "whole" {
                scene.problem(&format!("with an empty directory: {}", end.words));
                return Ok("ended again");
            }
            told = "ended by itself, joined again with an empty directory";
            scene.note(Kind::Info, "refused", &[target], &end.words);
            scene.bed.wipe(target).await?;
            scene.bed.start_replicas(&[target]).await?;
        }
        let missing = scene.bed.missing_of(target).await;
        flips.retain(|flip| told == "whole" && !flip.is_repaired());
        if missing.is_none() && flips.is_empty() {
            return Ok(told);
        }
        if Instant::now() >= deadline {
            let what = missing.unwrap_or_else(|| format!("not repaired: {flips:?}"));
            scene.problem(&format!("after {}: {what}", turn.name));
            return Ok("not repaired");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
