//! What was measured, a line of JSON for each round of a work on a subject, and the statistics of such lines.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use raftmq_benches::BenchError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Of the sources that were measured, and the day.
    pub commit: String,
    pub group: String,
    pub work: String,
    /// A case, or what else was measured.
    pub subject: String,
    /// From 1 on; lines of one round were measured next to each other.
    pub round: u32,
    /// mqbench's own report, or an object of figures.
    pub report: Value,
}

/// The lines of a run, in memory and in a file.
pub struct Lines {
    pub all: Vec<Line>,
    path: PathBuf,
    commit: String,
}

impl Lines {
    /// Begins with what `path` holds of groups other than `groups` when `keep`, and with nothing otherwise.
    ///
    /// # Errors
    /// The file cannot be read or written, or what it holds are no lines of this program.
    pub fn open(
        path: &Path,
        commit: &str,
        groups: &[&str],
        keep: bool,
    ) -> Result<Self, BenchError> {
        let mut all = if keep { read(path)? } else { Vec::new() };
        all.retain(|line| !groups.contains(&line.group.as_str()));
        let text: String = all.iter().map(to_text).collect();
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(BenchError::io(dir))?;
        }
        std::fs::write(path, text).map_err(BenchError::io(path))?;
        Ok(Self {
            all,
            path: path.to_owned(),
            commit: commit.to_owned(),
        })
    }

    /// Adds one, to the file at once: what was measured outlives a run that is broken off.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push(
        &mut self,
        group: &str,
        work: &str,
        subject: &str,
        round: u32,
        report: Value,
    ) -> Result<(), BenchError> {
        let line = Line {
            commit: self.commit.clone(),
            group: group.to_owned(),
            work: work.to_owned(),
            subject: subject.to_owned(),
            round,
            report,
        };
        let mut file = File::options()
            .append(true)
            .open(&self.path)
            .map_err(BenchError::io(&self.path))?;
        file.write_all(to_text(&line).as_bytes())
            .map_err(BenchError::io(&self.path))?;
        self.all.push(line);
        Ok(())
    }

    /// The figure at `pointer` (RFC 6901) of each round that has it.
    pub fn rounds(&self, work: &str, subject: &str, pointer: &str) -> Vec<(u32, f64)> {
        let of = |l: &&Line| l.work == work && l.subject == subject;
        let figure = |l: &Line| Some((l.round, l.report.pointer(pointer)?.as_f64()?));
        self.all.iter().filter(of).filter_map(figure).collect()
    }
}

fn to_text(line: &Line) -> String {
    // Fails only for maps whose keys are no strings.
    serde_json::to_string(line).map_or_else(|_| String::new(), |text| text + "\n")
}

fn read(path: &Path) -> Result<Vec<Line>, BenchError> {
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(BenchError::io(path))?,
    };
    let parse = |line| {
        serde_json::from_str(line)
            .map_err(|e| BenchError::Usage(format!("{}: {e}", path.display())))
    };
    text.lines().map(parse).collect()
}

/// Of some rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// None without any figure. The median of an even number is the middle of the two.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = match sorted.len() % 2 {
            0 => (sorted.get(middle - 1)? + upper) / 2.0,
            _ => upper,
        };
        Some(Self {
            min: *sorted.first()?,
            median,
            max: *sorted.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        let spread = |f: &[f64]| Spread::of(f.iter().copied()).map(|s| (s.min, s.median, s.max));
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0]), Some((1.0, 2.5, 4.0)));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_group_that_is_measured_again_replaces_its_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results/lines");
        let open = |keep| Lines::open(&path, "c", &["send"], keep).unwrap();
        let mut lines = open(false);
        let report = serde_json::json!({"a": {"b": 7}});
        for (group, round) in [("send", 1), ("start", 1), ("start", 2)] {
            lines
                .push(group, group, "us", round, report.clone())
                .unwrap();
        }
        let kept = open(true);
        assert_eq!(kept.rounds("start", "us", "/a/b"), [(1, 7.0), (2, 7.0)]);
        assert!(kept.rounds("send", "us", "/a/b").is_empty());
        assert!(open(false).all.is_empty());
    }
}
