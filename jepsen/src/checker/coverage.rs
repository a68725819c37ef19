//! A run that did not do what it was meant to do proves nothing: a fault that never took place, too few acknowledged operations, or
//! a failure of the harness itself leave it undecided. What the nemesis saw the servers do that they must not makes it invalid.

use super::verdict::{Valid, Verdict};
use crate::ops::{Ops, Outcome};
use crate::settings::Settings;

/// See the module.
pub fn check(ops: &Ops, settings: &Settings) -> Verdict {
    let never: Vec<_> = settings
        .faults
        .iter()
        .filter(|f| settings.happened.get(*f).is_none_or(|n| *n == 0))
        .collect();
    let ok = |outcome| outcome == Outcome::Ok;
    let acked = ops.sends.iter().filter(|s| ok(s.outcome)).count()
        + ops.registers.iter().filter(|r| ok(r.outcome)).count();
    let enough = acked as u64 >= settings.least_ops;
    let whole = settings.harness_failure.is_none();
    let valid = if !settings.problems.is_empty() {
        Valid::False
    } else if never.is_empty() && enough && whole {
        Valid::True
    } else {
        Valid::Unknown
    };
    Verdict::new(valid)
        .with("happened", &settings.happened)
        .with("never-happened", never)
        .with("acknowledged-count", acked)
        .with("least", settings.least_ops)
        .with("problems", &settings.problems)
        .with("harness-failure", &settings.harness_failure)
}
