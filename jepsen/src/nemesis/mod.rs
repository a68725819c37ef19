//! Faults, and the plan by which they befall a [`Bed`].
//!
//! [`catalogue`] lists them; each is one function that begins, holds and heals ([`network`], [`packets`], [`processes`], [`power`],
//! [`disks`], [`files`], [`retention`], [`clocks`], [`members`]) and notes both in the history. [`schedule`] decides from one seed which comes when;
//! what cannot be foreseen, as who leads, is found out when it happens ([`scene`]) and written down.

mod catalogue;
mod clocks;
mod disks;
mod files;
mod members;
mod network;
mod packets;
mod power;
mod processes;
mod retention;
mod scene;
pub mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use raftmq_benches::BenchError;
use serde::Serialize;
use tokio::sync::watch;

use crate::bed::Bed;
use crate::history::{Kind, Recorder};
use catalogue::Wanted;
pub use catalogue::{Class, Fault, Needs, catalogue};
use scene::Scene;
pub use scene::{Took, Turn};
use schedule::{Part, Schedule};

/// Until the set is whole before and after a fault that must not meet another one.
const WHOLE_LIMIT: Duration = Duration::from_secs(120);

/// Which faults, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// Names of the [`catalogue`], each perhaps with one of its options: `kill:leader`, `pause:minority`, `partition-halves`. Without
    /// one, each time another.
    pub faults: Vec<String>,
    /// From one heal to the next fault, a half more or less.
    pub interval: Duration,
    /// How long a fault lasts, a half more or less.
    pub hold: Duration,
    /// Two at once, where they can.
    pub overlap: bool,
}

impl Plan {
    /// How long it takes, about, until every fault has had its turn.
    pub fn round(&self) -> Duration {
        let faults = u32::try_from(self.faults.len()).unwrap_or(u32::MAX);
        (self.interval + self.hold).saturating_mul(faults)
    }
}

/// How often a fault was begun, and how often it really took place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    pub began: u32,
    pub took_place: u32,
}

/// What came of a plan.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// By the plan's names.
    pub counts: BTreeMap<String, Count>,
    /// The bed could not do what it should: the run says nothing about the servers.
    pub failures: Vec<String>,
    /// The servers did not do what they must: end after a failed fsync, repair what was damaged, come back.
    pub problems: Vec<String>,
}

impl Summary {
    /// Faults of the plan that never took place: such a run has not tested what it should.
    pub fn missing(&self) -> Vec<&str> {
        let never = self.counts.iter().filter(|(_, c)| c.took_place == 0);
        never.map(|(name, _)| name.as_str()).collect()
    }
}

/// Runs the plan until `stop` is true (or its sender gone), and heals everything.
///
/// # Errors
/// A fault is unknown, or the bed cannot do it; not everything could be healed.
pub async fn drive(
    bed: Arc<Bed>,
    plan: Plan,
    recorder: Arc<Recorder>,
    stop: watch::Receiver<bool>,
) -> Result<Summary, BenchError> {
    let wanted = catalogue::wanted(&plan.faults)?;
    for one in &wanted {
        one.fault.needs.check(one.fault.name, &bed)?;
    }
    let schedule = Schedule::new(&plan, &wanted);
    let names = wanted.iter().map(|w| (w.name.clone(), Count::default()));
    let mut summary = Summary {
        counts: names.collect(),
        ..Summary::default()
    };
    let scene = Scene::new(bed.clone(), recorder, stop);
    for step in schedule {
        scene.hold(step.pause).await;
        if scene.is_over() {
            break;
        }
        let alone = wanted[step.first.fault].fault.class == Class::Alone;
        if alone {
            // Not whole yet is no reason to stop: the fault is noted, and so is what comes of it.
            let _ = bed.wait_whole(WHOLE_LIMIT).await;
        }
        let first = play(&scene, &wanted, &step.first);
        let took = match &step.second {
            None => vec![first.await],
            Some(second) => {
                let (first, second) = tokio::join!(first, play(&scene, &wanted, second));
                vec![first, second]
            }
        };
        for (name, outcome) in took {
            if let Err(error) = summary.count(&name, outcome) {
                scene.note(Kind::Info, "nemesis-failure", &[], &error);
                bed.heal_all().await?;
            }
        }
        if alone && let Err(error) = bed.wait_whole(WHOLE_LIMIT).await {
            scene.problem(&format!("after {}: {error}", wanted[step.first.fault].name));
            bed.heal_all().await?;
        }
    }
    bed.heal_all().await?;
    summary.problems = scene.problems();
    Ok(summary)
}

impl Summary {
    /// # Errors
    /// The fault's own, in words.
    fn count(&mut self, name: &str, outcome: Result<Took, BenchError>) -> Result<(), String> {
        let count = self.counts.entry(name.to_owned()).or_default();
        count.began += 1;
        match outcome {
            Ok(Took::Place) => count.took_place += 1,
            // It is missing then; another time it may take place.
            Ok(Took::NoPlace(_)) => {}
            Err(error) => {
                let text = format!("{name}: {error}");
                self.failures.push(text.clone());
                return Err(text);
            }
        }
        Ok(())
    }
}

/// One fault from its beginning to its heal.
async fn play(scene: &Scene, wanted: &[Wanted], part: &Part) -> (String, Result<Took, BenchError>) {
    let one = &wanted[part.fault];
    scene.hold(part.delay).await;
    let turn = Turn::new(one.fault, part);
    let outcome = (one.fault.run)(scene, &turn).await;
    if let Ok(Took::NoPlace(why)) = &outcome {
        scene.note(Kind::Info, &format!("no-{}", turn.name), &[], why);
    }
    (one.name.clone(), outcome)
}
