//! The servers that a run starts. Whoever starts this program with `cargo run` has built it alone: cargo is asked for the others, which
//! does nothing where they are new enough. Otherwise they must lie beside it.

use std::path::Path;
use std::process::Command;

use raftmq_benches::BenchError;

/// The broker that can be told to break a promise.
pub const SABOTAGED: &str = "mqbroker-sabotaged";
/// Which cargo, in a program that `cargo run` has started.
const CARGO: &str = "CARGO";
/// The sources.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Sees to the programs in `bin_dir`, where this one is.
///
/// # Errors
/// One is missing, or cannot be built.
pub fn ensure(bin_dir: &Path, sabotaged: bool) -> Result<(), BenchError> {
    if let Some(cargo) = std::env::var_os(CARGO) {
        build(Path::new(&cargo), bin_dir, &["mqbroker", "mqnamesrv"], None)?;
        if sabotaged {
            let feature = Some("raftmq-broker/sabotage");
            build(Path::new(&cargo), bin_dir, &[SABOTAGED], feature)?;
        }
    }
    present(bin_dir, sabotaged)
}

/// # Errors
/// One is missing; how it is made is told.
fn present(bin_dir: &Path, sabotaged: bool) -> Result<(), BenchError> {
    let features = "--features raftmq-broker/sabotage --bin mqbroker-sabotaged";
    let all = [("mqbroker", ""), ("mqnamesrv", ""), (SABOTAGED, features)];
    let wanted = if sabotaged { &all[..] } else { &all[..2] };
    match wanted.iter().find(|(name, _)| !bin_dir.join(name).exists()) {
        None => Ok(()),
        Some((name, more)) => Err(BenchError::Usage(format!(
            "{} is not there; build it with: cargo build --release --workspace {more}",
            bin_dir.join(name).display()
        ))),
    }
}

fn build(
    cargo: &Path,
    bin_dir: &Path,
    programs: &[&str],
    features: Option<&str>,
) -> Result<(), BenchError> {
    let mut command = Command::new(cargo);
    command.args(["build", "--workspace"]);
    if bin_dir.ends_with("release") {
        command.arg("--release");
    }
    command.args(features.iter().flat_map(|f| ["--features", f]));
    command.args(programs.iter().flat_map(|p| ["--bin", p]));
    command.current_dir(WORKSPACE);
    if let Some(target) = bin_dir.parent() {
        command.env("CARGO_TARGET_DIR", target);
    }
    let status = command.status().map_err(BenchError::io(cargo))?;
    match status.success() {
        true => Ok(()),
        false => Err(BenchError::Usage(format!(
            "cargo does not build {}",
            programs.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let why = |sabotaged| {
            present(dir.path(), sabotaged)
                .map_err(|e| e.to_string())
                .err()
        };
        assert!(why(false).is_some_and(|w| w.contains("cargo build --release")));
        for name in ["mqbroker", "mqnamesrv"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(why(false), None);
        assert!(why(true).is_some_and(|w| w.contains("raftmq-broker/sabotage")));
    }
}
