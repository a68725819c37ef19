//! No broker may panic, whatever is done to it. One that ends itself says why as its last words; with faults of its disk or files
//! that is by design, otherwise it is a finding.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::verdict::{Anomalies, Verdict};
use crate::settings::Settings;

/// Faults after which a replica may end itself.
const EXPLAINS: [&str; 8] = [
    "disk-full",
    "disk-hang",
    "disk-slow",
    "fsync-error",
    "bitflip",
    "truncate",
    "old-copy",
    "power",
];
/// A panic, in any thread of a Rust program.
const PANIC: &str = "panicked at";
/// Last words of a broker that ends itself with an error.
const LAST_WORDS: &str = "mqbroker: ";
/// Kept of a line, characters.
const SHOWN: usize = 400;

/// See the module. `logs` are the brokers' and name servers' log files.
pub fn check(logs: &[PathBuf], settings: &Settings) -> Verdict {
    if logs.is_empty() {
        return Verdict::unknown("there are no log files");
    }
    let mut found = Anomalies::default();
    for path in logs {
        if let Err(error) = scan(path, &mut found) {
            return Verdict::unknown(format!("{}: {error}", path.display()));
        }
    }
    let explained = settings
        .faults
        .iter()
        .any(|f| EXPLAINS.iter().any(|e| f.starts_with(e)));
    found.verdict(if explained { &["fatal"] } else { &[] })
}

fn scan(path: &Path, found: &mut Anomalies) -> std::io::Result<()> {
    let mut input = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let name = if text.contains(PANIC) {
            "panic"
        } else if text.starts_with(LAST_WORDS) {
            "fatal"
        } else {
            continue;
        };
        let shown: String = text.trim().chars().take(SHOWN).collect();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        found.add(
            name,
            || json!({"file": file, "line": number, "text": shown}),
        );
    }
    Ok(())
}
