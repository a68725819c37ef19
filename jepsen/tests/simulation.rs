//! Simulated clusters, through the program: a seed is the same run each time, and what is broken on purpose is noticed.

use std::process::Command;

/// Runs the program; whether it was satisfied, and what it printed.
fn simulate(args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_raftmq-jepsen"))
        .arg("simulate")
        .args(args)
        .output()
        .expect("runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), printed)
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    let hashes = |jobs: &str| {
        let (good, printed) = simulate(&["--seeds", "12", "--verbose", "--jobs", jobs]);
        assert!(good, "{printed}");
        let mut runs: Vec<String> = printed
            .lines()
            .filter(|line| line.starts_with("seed "))
            .map(str::to_owned)
            .collect();
        runs.sort();
        runs
    };
    let runs = hashes("1");
    assert_eq!(runs.len(), 12, "{runs:?}");
    assert_eq!(runs, hashes("2"));
    let hash = |run: &String| run.split_once(':').map(|(head, _)| head.to_owned());
    let mut different: Vec<_> = runs.iter().filter_map(hash).collect();
    different.dedup_by_key(|head| head.split(' ').next_back().map(str::to_owned));
    assert_eq!(different.len(), 12, "each seed is another run");
}

#[cfg(feature = "sabotage")]
#[test]
fn every_promise_that_is_broken_on_purpose_is_noticed() {
    use raftmq_store::sabotage::Sabotage;
    // Simulated clients use no topic for which apply could be fragile: the hostile ones of `enemy` do.
    let here = |sabotage: &Sabotage| *sabotage != Sabotage::FragileApply;
    for sabotage in Sabotage::ALL.into_iter().filter(here) {
        let name = sabotage.name();
        let (noticed, printed) = simulate(&["--seeds", "100", "--first", "--sabotage", name]);
        assert!(noticed, "{name}: {printed}");
        assert!(printed.contains("FAILED"), "{name}: {printed}");
    }
}
