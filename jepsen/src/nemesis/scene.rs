//! What every fault needs: the bed, the history, whom it meets, and when to end.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::catalogue::Fault;
use super::schedule::Part;
use crate::bed::Bed;
use crate::history::{Kind, Recorder};
use crate::random::Random;

/// How long a leader is looked for before a fault meets anyone instead.
const LEADER_TRIES: u32 = 20;
const LEADER_PAUSE: Duration = Duration::from_millis(100);

/// Whether a fault did anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Took {
    Place,
    /// And why not.
    NoPlace(String),
}

impl Took {
    pub fn when(place: bool, why_not: &str) -> Self {
        match place {
            true => Self::Place,
            false => Self::NoPlace(why_not.to_owned()),
        }
    }
}

/// One fault's turn, ready to be played.
#[derive(Clone, Debug)]
pub struct Turn {
    /// With its option, as it stands in the history: `kill:leader`.
    pub name: String,
    pub option: Option<&'static str>,
    pub hold: Duration,
    seed: u64,
}

impl Turn {
    pub fn new(fault: &Fault, part: &Part) -> Self {
        let option = part.option.map_or(String::new(), |o| format!(":{o}"));
        Self {
            name: format!("{}{option}", fault.name),
            option: part.option,
            hold: part.hold,
            seed: part.seed,
        }
    }

    /// What is left to chance in this turn, always the same.
    pub fn random(&self) -> Random {
        Random::new(self.seed)
    }
}

/// See the module's text.
pub struct Scene {
    pub bed: Arc<Bed>,
    recorder: Arc<Recorder>,
    stop: watch::Receiver<bool>,
    problems: Mutex<Vec<String>>,
}

impl Scene {
    pub fn new(bed: Arc<Bed>, recorder: Arc<Recorder>, stop: watch::Receiver<bool>) -> Self {
        Self {
            bed,
            recorder,
            stop,
            problems: Mutex::default(),
        }
    }

    /// Waits, shorter when the run ends.
    pub async fn hold(&self, time: Duration) {
        let mut stop = self.stop.clone();
        let ended = async move {
            // An error: nobody can tell any more.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let _ = tokio::time::timeout(time, ended).await;
    }

    /// Whether the run ends.
    pub fn is_over(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    /// Asks the clients to write nothing for so long.
    pub fn hush(&self, time: Duration) {
        self.recorder.hush(time);
    }

    /// Writes of clients that were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.recorder.acknowledged()
    }

    /// Notes that a fault begins now.
    pub fn begin(&self, turn: &Turn, targets: &[usize], detail: &str) {
        self.note(Kind::Info, &turn.name, targets, detail);
    }

    /// Notes that it is over.
    pub fn heal(&self, turn: &Turn, targets: &[usize], detail: &str) {
        self.note(Kind::Info, &format!("heal-{}", turn.name), targets, detail);
    }

    pub fn note(&self, kind: Kind, f: &str, targets: &[usize], detail: &str) {
        self.recorder.nemesis(kind, f, targets, detail);
    }

    /// Notes something that the servers must not do.
    pub fn problem(&self, what: &str) {
        self.note(Kind::Info, "problem", &[], what);
        self.problems.lock().push(what.to_owned());
    }

    /// All of them so far.
    pub fn problems(&self) -> Vec<String> {
        self.problems.lock().clone()
    }

    /// Who leads; after two seconds without anybody.
    pub async fn leader(&self, random: &mut Random) -> usize {
        for _ in 0..LEADER_TRIES {
            if let Some(leader) = self.bed.leader().await {
                return leader;
            }
            tokio::time::sleep(LEADER_PAUSE).await;
        }
        random.below(self.bed.replicas())
    }

    /// Whom a fault meets: one, when it has no option that says how many.
    pub async fn targets(&self, turn: &Turn, random: &mut Random) -> Vec<usize> {
        let leader = match turn.option {
            Some("leader" | "follower") => self.leader(random).await,
            _ => 0,
        };
        chosen(turn.option, leader, self.bed.replicas(), random)
    }
}

/// See [`Scene::targets`].
fn chosen(option: Option<&str>, leader: usize, replicas: usize, random: &mut Random) -> Vec<usize> {
    let mut all: Vec<_> = (0..replicas).collect();
    random.shuffle(&mut all);
    let minority = replicas.saturating_sub(1) / 2;
    let count = match option {
        Some("leader") => return vec![leader],
        Some("follower") => {
            all.retain(|r| *r != leader);
            1
        }
        Some("minority") => 1 + random.below(minority),
        Some("majority") => replicas / 2 + 1,
        Some("all") => replicas,
        _ => 1,
    };
    all.truncate(count);
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_meets_as_many_as_its_option_says() {
        let mut random = Random::new(1);
        for replicas in [3, 5] {
            for _ in 0..100 {
                let mut of = |option| chosen(Some(option), 1, replicas, &mut random);
                assert_eq!(of("leader"), [1]);
                let follower = of("follower");
                assert!(follower.len() == 1 && follower != [1]);
                assert!((1..=replicas / 2).contains(&of("minority").len()));
                assert_eq!(of("majority").len(), replicas / 2 + 1);
                assert_eq!(of("all"), (0..replicas).collect::<Vec<_>>());
            }
            assert_eq!(chosen(None, 0, replicas, &mut random).len(), 1);
        }
    }
}
