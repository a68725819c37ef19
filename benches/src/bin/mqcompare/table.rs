//! The table in Markdown, where it goes, and the last line.

use std::fmt::Write as _;
use std::path::Path;

use raftmq_benches::BenchError;

use super::case::{Case, Flush};
use super::lines::{Lines, Spread};
use super::matrix::{Point, Row, base};

/// The table of a document is between these.
const BEGIN: &str = "<!-- begin of what `make bench-compare` writes -->";
const END: &str = "<!-- end of what `make bench-compare` writes -->";

const SENDS: &str = "/messages_per_second";
const CPU: &str = "/servers/cpu_us_per_message";

/// Heading lines (facts of the run), the table, and what went wrong.
pub fn markdown(lines: &Lines, rows: &[Row], facts: &[String]) -> String {
    let mut text = facts.iter().fold(String::new(), |text, f| text + f + "\n");
    text += "\n| work | figure | ours | theirs | ours: median (min – max) | theirs | ratio: median (min – max) | CPU a message, µs | driver | target | met |\n\
             |---|---|---|---|---|---|---|---|---|---|---|\n";
    rows.iter()
        .filter_map(|row| line(lines, row))
        .for_each(|line| text += &line);
    let failed = failures(lines);
    if !failed.is_empty() {
        text += "\nNot as it should be:\n\n";
        failed.iter().for_each(|f| text = format!("{text}- {f}\n"));
    }
    text
}

/// One row; None when a side was not measured.
fn line(lines: &Lines, row: &Row) -> Option<String> {
    let facts = row.metric.facts();
    let figures = |p: &Point| lines.rounds(&p.work, &p.subject, facts.pointer);
    let (ours, theirs) = (figures(&row.ours), figures(&row.theirs));
    let better = |ours: f64, theirs: f64| match facts.less_is_better {
        true => theirs / ours,
        false => ours / theirs,
    };
    let ratios = ours.iter().filter_map(|(round, figure)| {
        let (_, other) = theirs.iter().find(|(r, _)| r == round)?;
        Some(better(*figure, *other))
    });
    let ratio = Spread::of(ratios.filter(|r| r.is_finite()))?;
    let spread = |figures: &[(u32, f64)]| Spread::of(figures.iter().map(|(_, f)| f * facts.factor));
    let of_point = |pointer: &str, scale: f64| {
        let side = |p: &Point| {
            let rounds = lines.rounds(&p.work, &p.subject, pointer);
            let median = Spread::of(rounds.iter().map(|(_, f)| f * scale));
            median.map_or_else(|| "–".to_owned(), |s| figure(s.median))
        };
        match (side(&row.ours), side(&row.theirs)) {
            (a, b) if a == "–" && b == "–" => a,
            (a, b) => format!("{a} : {b}"),
        }
    };
    let target = format!("{:.2}", row.target);
    let target = target.trim_end_matches('0').trim_end_matches('.');
    Some(format!(
        "| {} | {} | {} | {} | {} | {} | **{}** | {} | {} | {} | {} |\n",
        row.title,
        facts.name,
        row.ours.subject,
        row.theirs.subject,
        show(spread(&ours)?),
        show(spread(&theirs)?),
        show(ratio),
        of_point(CPU, 1.0),
        of_point("/own_cpu_share", 100.0),
        target,
        if ratio.median >= row.target {
            "yes"
        } else {
            "no"
        },
    ))
}

/// Loads that did not come about, and such as had errors.
fn failures(lines: &Lines) -> Vec<String> {
    let mut all = Vec::new();
    for line in &lines.all {
        let at = format!("{}, {}, round {}", line.work, line.subject, line.round);
        if let Some(why) = line.report.pointer("/failed").and_then(|f| f.as_str()) {
            all.push(format!("{at}: {why}"));
        }
        let errors = line.report.pointer("/errors").and_then(|e| e.as_object());
        if let Some(errors) = errors.filter(|e| !e.is_empty()) {
            let each: Vec<_> = errors
                .iter()
                .map(|(what, n)| format!("{what}: {n}"))
                .collect();
            all.push(format!("{at}: errors {}", each.join(", ")));
        }
    }
    all
}

fn show(s: Spread) -> String {
    match s.min == s.max {
        true => figure(s.median),
        false => format!(
            "{} ({} – {})",
            figure(s.median),
            figure(s.min),
            figure(s.max)
        ),
    }
}

/// Three digits that mean something, thousands apart.
fn figure(f: f64) -> String {
    match f.abs() {
        a if a >= 100.0 => {
            let digits = format!("{f:.0}");
            let mut text = String::new();
            for (i, digit) in digits.chars().enumerate() {
                if i > 0 && (digits.len() - i).is_multiple_of(3) && !text.ends_with('-') {
                    text.push(' ');
                }
                text.push(digit);
            }
            text
        }
        a if a >= 10.0 => format!("{f:.1}"),
        _ => format!("{f:.2}"),
    }
}

/// `sync3_vs_dledger=… sync3_vs_java_async=… one_vs_java_async=… cpu_us_sync3=…`: ratios of medians; a dash where something was
/// not measured.
pub fn last_line(lines: &Lines) -> String {
    let median = |work: &str, case: Case, pointer: &str| {
        let rounds = lines.rounds(work, case.name(), pointer);
        Spread::of(rounds.into_iter().map(|(_, f)| f)).map(|s| s.median)
    };
    let name = base(Flush::Async);
    let ratio = |ours, theirs| Some(median(&name, ours, SENDS)? / median(&name, theirs, SENDS)?);
    let deep = name.replace("64 in", "1024 in");
    let figures = [
        (
            "sync3_vs_dledger",
            ratio(Case::Raftmq3Sync, Case::JavaDledger),
        ),
        (
            "sync3_vs_java_async",
            ratio(Case::Raftmq3Sync, Case::JavaAsync),
        ),
        ("one_vs_java_async", ratio(Case::Raftmq1, Case::JavaAsync)),
        ("cpu_us_sync3", median(&deep, Case::Raftmq3Sync, CPU)),
    ];
    let mut line = String::new();
    for (name, value) in figures {
        let value = value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
        // Writing to a String cannot fail.
        let _ = write!(line, " {name}={value}");
    }
    line.trim_start().to_owned()
}

/// Puts the table between the two marks of a document.
///
/// # Errors
/// The file cannot be read or written, or has no such marks.
pub fn write_into(document: &Path, table: &str) -> Result<(), BenchError> {
    let text = std::fs::read_to_string(document).map_err(BenchError::io(document))?;
    let (before, rest) = text.split_once(BEGIN).ok_or_else(|| no_marks(document))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| no_marks(document))?;
    let text = format!("{before}{BEGIN}\n\n{table}\n{END}{after}");
    std::fs::write(document, text).map_err(BenchError::io(document))
}

fn no_marks(document: &Path) -> BenchError {
    BenchError::Usage(format!("{} has no place for the table", document.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::matrix::rows;

    fn lines(dir: &Path) -> Lines {
        let mut lines = Lines::open(&dir.join("l"), "c", &[], false).unwrap();
        let name = base(Flush::Async);
        for (round, ours, theirs) in [(1, 100.0, 50.0), (2, 300.0, 100.0), (3, 200.0, 200.0)] {
            for (subject, rate) in [("raftmq-3-sync", ours), ("java-dledger", theirs)] {
                let report =
                    json!({"messages_per_second": rate, "latency_us": {"p99": rate}, "errors": {}});
                lines.push("send", &name, subject, round, report).unwrap();
            }
        }
        lines
    }

    #[test]
    fn ratios_are_of_the_same_round_and_more_than_one_is_better() {
        let dir = tempfile::tempdir().unwrap();
        let lines = lines(dir.path());
        let table = markdown(&lines, &rows(false), &[]);
        let cells = |metric| {
            let mark = format!("| {metric} | raftmq-3-sync | java-dledger |");
            let row = table.lines().find(|l| l.contains(&mark)).unwrap();
            row.split('|')
                .map(|c| c.trim().to_owned())
                .collect::<Vec<_>>()
        };
        let sends = cells("sends/s");
        assert_eq!(
            sends[5..8],
            [
                "200 (100 – 300)",
                "100 (50.0 – 200)",
                "**2.00 (1.00 – 3.00)**"
            ]
        );
        assert_eq!(sends[10..12], ["10", "no"]);
        assert_eq!(cells("p99, ms")[7], "**0.50 (0.33 – 1.00)**");
        assert_eq!(
            last_line(&lines),
            "sync3_vs_dledger=2.00 sync3_vs_java_async=- one_vs_java_async=- cpu_us_sync3=-"
        );
    }

    #[test]
    fn failures_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = lines(dir.path());
        lines
            .push("send", "w", "c", 1, json!({"failed": "no"}))
            .unwrap();
        lines
            .push("send", "w", "c", 2, json!({"errors": {"code 2": 4}}))
            .unwrap();
        assert_eq!(
            failures(&lines),
            ["w, c, round 1: no", "w, c, round 2: errors code 2: 4"]
        );
    }

    #[test]
    fn only_the_place_between_the_marks_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d.md");
        assert!(write_into(&file, "x").is_err());
        std::fs::write(&file, format!("a\n{BEGIN}\nold\n{END}\nb\n")).unwrap();
        write_into(&file, "new\n").unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
    }

    #[test]
    fn figures() {
        let shown = [0.456, 9.999, 23.44, 456.7, 1234.0, 1_234_567.0].map(figure);
        assert_eq!(
            shown,
            ["0.46", "10.00", "23.4", "457", "1 234", "1 234 567"]
        );
    }
}
