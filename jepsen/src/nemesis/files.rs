//! Files of one replica that rot while it is dead, or are replaced by older ones. It must repair them, or end by itself and say why;
//! then it gets an empty directory and joins again, as the documents say.

use std::time::{Duration, Instant};

use raftmq_benches::BenchError;

use super::scene::{Scene, Took, Turn};
use crate::bed::replica::copy;
use crate::bed::rot::{FileKind, Flip, flip, truncate};
use crate::bed::tools::off;
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

async fn rot(scene: &Scene, turn: &Turn, flips: bool) -> Result<Took, BenchError> {
    let (kind, mut random) = (kind(turn)?, turn.random());
    let target = random.below(scene.bed.replicas());
    scene.begin(turn, &[target], "killed");
    scene.bed.kill(&[target]).await?;
    let store = scene.bed.store_dir(target);
    let damage = off(move || damage(kind, &store, &mut random, flips)).await?;
    let f = format!("then-{}", turn.name);
    scene.note(crate::history::Kind::Info, &f, &[target], &damage.words);
    scene.bed.start_replicas(&[target]).await?;
    scene.hold(turn.hold).await;
    // What is derived is made anew, not repaired byte by byte.
    let mut flips = damage.flips;
    flips.retain(|flip| kind.name == "segment" && !flip.late);
    let told = recover(scene, turn, target, flips).await?;
    scene.heal(turn, &[target], told);
    Ok(Took::when(
        !damage.words.is_empty(),
        "there was no such file with anything in it",
    ))
}

pub async fn bitflip(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    rot(scene, turn, true).await
}

pub async fn cut_short(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    rot(scene, turn, false).await
}

/// A replica finds its files of one kind as they were some time ago.
pub async fn old_copy(scene: &Scene, turn: &Turn) -> Result<Took, BenchError> {
    let (kind, mut random) = (kind(turn)?, turn.random());
    let target = random.below(scene.bed.replicas());
    let (dir, kept) = (
        kind.dir(&scene.bed.store_dir(target)),
        scene.bed.copy_dir(target),
    );
    scene.begin(turn, &[target], "killed, and a copy made");
    scene.bed.kill(&[target]).await?;
    if !dir.exists() {
        scene.bed.start_replicas(&[target]).await?;
        scene.heal(turn, &[target], "");
        return Ok(Took::when(false, "there were no such files"));
    }
    let (from, to) = (dir.clone(), kept.clone());
    off(move || copy(&from, &to)).await?;
    scene.bed.start_replicas(&[target]).await?;
    scene.hold(turn.hold).await;
    scene.bed.kill(&[target]).await?;
    let f = format!("then-{}", turn.name);
    scene.note(
        crate::history::Kind::Info,
        &f,
        &[target],
        "the copy is put back",
    );
    off(move || copy(&kept, &dir)).await?;
    scene.bed.start_replicas(&[target]).await?;
    let told = recover(scene, turn, target, Vec::new()).await?;
    scene.heal(turn, &[target], told);
    Ok(Took::Place)
}

/// Waits until the replica has everything again. One that refuses to start joins with an empty directory.
async fn recover(
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
            scene.note(crate::history::Kind::Info, "refused", &[target], &end.words);
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
