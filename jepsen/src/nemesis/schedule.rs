//! When which fault comes: a function of the plan's seed and nothing else.
//!
//! Every fault of the plan comes once in every round, in another order each time. Where faults may overlap, about every second one has
//! another of a different class beside it.

use std::time::Duration;

use super::Plan;
use super::catalogue::{Class, Wanted};
use crate::random::Random;

/// Probability that a fault has another one beside it.
const BESIDE: f64 = 0.5;

/// One fault's turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Index into the plan's faults.
    pub fault: usize,
    /// One of the fault's options.
    pub option: Option<&'static str>,
    /// For what is left to chance in it.
    pub seed: u64,
    /// Before it begins, after its step did.
    pub delay: Duration,
    pub hold: Duration,
}

/// What happens between two pauses.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Before it.
    pub pause: Duration,
    pub first: Part,
    pub second: Option<Part>,
}

/// All steps, without end.
pub struct Schedule {
    random: Random,
    /// Class, options, and the option that the plan insists on.
    faults: Vec<(Class, &'static [&'static str], Option<&'static str>)>,
    /// The rest of this round.
    round: Vec<usize>,
    interval: Duration,
    hold: Duration,
    overlap: bool,
}

impl Schedule {
    pub fn new(plan: &Plan, wanted: &[Wanted]) -> Self {
        let faults = wanted.iter();
        Self {
            random: Random::new(plan.seed),
            faults: faults
                .map(|w| (w.fault.class, w.fault.options, w.option))
                .collect(),
            round: Vec::new(),
            interval: plan.interval,
            hold: plan.hold,
            overlap: plan.overlap,
        }
    }

    fn part(&mut self, fault: usize, delay: Duration) -> Part {
        let (_, options, insisted) = self.faults[fault];
        let chosen = self.random.choose(options).copied();
        Part {
            fault,
            option: insisted.or(chosen),
            seed: self.random.draw(),
            delay,
            hold: about(&mut self.random, self.hold),
        }
    }
}

/// A half more or less.
fn about(random: &mut Random, time: Duration) -> Duration {
    random.between(time / 2, time * 3 / 2)
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.round.is_empty() {
            self.round = (0..self.faults.len()).collect();
            self.random.shuffle(&mut self.round);
        }
        let fault = self.round.pop()?;
        let pause = about(&mut self.random, self.interval);
        let first = self.part(fault, Duration::ZERO);
        let class = self.faults[fault].0;
        let others: Vec<_> = (0..self.faults.len())
            .filter(|other| class.goes_with(self.faults[*other].0))
            .collect();
        let beside = self.random.chance(BESIDE) && self.overlap;
        let second = self.random.choose(&others).copied().filter(|_| beside);
        let second = second.map(|other| {
            let delay = self.random.between(Duration::ZERO, first.hold);
            self.part(other, delay)
        });
        Some(Step {
            pause,
            first,
            second,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::{catalogue, wanted};
    use super::*;

    fn plan(seed: u64, faults: &[&str], overlap: bool) -> Plan {
        Plan {
            seed,
            faults: faults.iter().map(|f| (*f).to_owned()).collect(),
            interval: Duration::from_secs(10),
            hold: Duration::from_secs(4),
            overlap,
        }
    }

    fn steps(plan: &Plan, count: usize) -> Vec<Step> {
        let wanted = wanted(&plan.faults).unwrap();
        Schedule::new(plan, &wanted).take(count).collect()
    }

    #[test]
    fn the_seed_decides_everything() {
        let faults = ["kill", "partition-halves", "delay", "power:all"];
        assert_eq!(
            steps(&plan(1, &faults, true), 50),
            steps(&plan(1, &faults, true), 50)
        );
        assert_ne!(
            steps(&plan(1, &faults, true), 50),
            steps(&plan(2, &faults, true), 50)
        );
    }

    #[test]
    fn every_fault_comes_in_every_round_within_its_times() {
        let names: Vec<_> = catalogue().iter().map(|f| f.name).collect();
        let all = plan(3, &names, true);
        for round in steps(&all, names.len() * 3).chunks(names.len()) {
            let mut came: Vec<_> = round.iter().map(|s| s.first.fault).collect();
            came.sort_unstable();
            assert_eq!(came, (0..names.len()).collect::<Vec<_>>());
            for step in round {
                assert!(step.pause >= all.interval / 2 && step.pause <= all.interval * 3 / 2);
                assert!(step.first.hold >= all.hold / 2 && step.first.hold <= all.hold * 3 / 2);
            }
        }
    }

    #[test]
    fn what_must_be_alone_is_and_the_rest_overlaps_when_it_may() {
        let faults = ["kill:leader", "partition-halves", "bitflip", "power"];
        let steps_of = |overlap| steps(&plan(4, &faults, overlap), 400);
        assert!(steps_of(false).iter().all(|s| s.second.is_none()));
        let with = steps_of(true);
        let pairs: Vec<_> = with
            .iter()
            .filter_map(|s| Some((s.first.fault, s.second.as_ref()?.fault)))
            .collect();
        assert!(
            pairs.contains(&(0, 1)) && pairs.contains(&(1, 0)),
            "{pairs:?}"
        );
        assert!(pairs.iter().all(|(a, b)| *a < 2 && *b < 2), "{pairs:?}");
        assert!(
            with.iter()
                .all(|s| s.first.fault != 0 || s.first.option == Some("leader"))
        );
    }
}
