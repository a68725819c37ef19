//! Time lines as a page: one HTML file with everything in it, for light and dark.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use raftmq_benches::BenchError;
use raftmq_benches::chart::{Chart, Mark, STYLE, Series, escaped};

use super::timeline::Line;

/// A time line file is read up to this size, bytes: about a day.
const MAX_FILE: u64 = 64 << 20;
/// Colours there are; the next file begins anew.
const COLORS: usize = 6;

struct Run {
    name: String,
    /// With seconds since the run began.
    lines: Vec<Line>,
    marks: Vec<Mark>,
}

/// Reads the files and writes the page.
///
/// # Errors
/// A file cannot be read, or has no line.
pub fn write(files: &[PathBuf], output: &Path) -> Result<(), BenchError> {
    let mut runs = Vec::new();
    for (number, file) in files.iter().enumerate() {
        runs.push(read(file, number % COLORS)?);
    }
    std::fs::write(output, page(&runs)).map_err(BenchError::io(output))
}

fn read(path: &Path, color: usize) -> Result<Run, BenchError> {
    let long = std::fs::metadata(path).map_err(BenchError::io(path))?.len() > MAX_FILE;
    let wrong = |what: &str| BenchError::Usage(format!("{}: {what}", path.display()));
    if long {
        return Err(wrong("too long for a time line"));
    }
    let text = std::fs::read_to_string(path).map_err(BenchError::io(path))?;
    let lines: Result<Vec<Line>, _> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(serde_json::from_str)
        .collect();
    let lines = lines.map_err(|e| wrong(&e.to_string()))?;
    let (marks, mut lines): (Vec<_>, Vec<_>) = lines.into_iter().partition(|l| l.mark.is_some());
    // The first line is the end of the first second.
    let start = lines.first().ok_or_else(|| wrong("no second"))?.t - 1.0;
    lines.iter_mut().for_each(|line| line.t -= start);
    let end = lines.iter().map(|l| l.t).fold(0.0, f64::max);
    let marks: Vec<_> = marks
        .into_iter()
        .map(|line| Mark {
            at: line.t - start,
            label: line.mark.unwrap_or_default(),
            color,
        })
        .filter(|mark| (0.0..=end).contains(&mark.at))
        .collect();
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(Run {
        name: name.into_owned(),
        lines,
        marks,
    })
}

/// A line of each run for what `value` says; without those that say nothing.
fn series(
    runs: &[Run],
    what: &str,
    dashed: bool,
    value: impl Fn(&Line) -> Option<f64>,
) -> Vec<Series> {
    let all = runs.iter().enumerate().map(|(number, run)| Series {
        label: format!("{} {what}", run.name),
        color: number % COLORS,
        dashed,
        points: run
            .lines
            .iter()
            .filter_map(|l| Some((l.t, value(l)?)))
            .collect(),
    });
    all.filter(|s| s.points.iter().any(|p| p.1 > 0.0)).collect()
}

fn page(runs: &[Run]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>mqbench</title><style>\n{STYLE}</style></head><body>\n<h1>mqbench</h1>\n<p class=\"legend\">"
    );
    // Writing to a String cannot fail.
    for (number, run) in runs.iter().enumerate() {
        let (color, name) = (number % COLORS, escaped(&run.name));
        let _ = write!(html, "<span class=\"key c{color}\">{name}</span> ");
    }
    html.push_str("</p>\n");
    let mut marks: Vec<_> = runs
        .iter()
        .flat_map(|run| &run.marks)
        .map(|m| Mark {
            at: m.at,
            label: m.label.clone(),
            color: m.color,
        })
        .collect();
    marks.sort_by(|a, b| a.at.total_cmp(&b.at));
    let mut draw = |title: &str, note: &str, log, format, lines: Vec<Vec<Series>>| {
        let chart = Chart {
            title,
            log,
            series: lines.into_iter().flatten().collect(),
            marks: &marks,
            bands: &[],
            format,
        };
        let svg = chart.svg();
        if !svg.is_empty() {
            let _ = writeln!(html, "<h2>{title} <small>{note}</small></h2>\n{svg}");
        }
    };
    let us = |value: u64| Some(value as f64).filter(|v| *v > 0.0);
    draw(
        "Messages a second",
        "sent; dashed: consumed",
        false,
        count,
        vec![
            series(runs, "sent", false, |l| Some(l.sent)),
            series(runs, "consumed", true, |l| Some(l.consumed)),
        ],
    );
    draw(
        "Latency",
        "99 %; dashed: 50 %",
        true,
        time,
        vec![
            series(runs, "99 %", false, |l| us(l.p99_us)),
            series(runs, "50 %", true, |l| us(l.p50_us)),
        ],
    );
    draw(
        "End to end",
        "99 %; dashed: 50 %",
        true,
        time,
        vec![
            series(runs, "99 %", false, |l| us(l.end_to_end_p99_us?)),
            series(runs, "50 %", true, |l| us(l.end_to_end_p50_us?)),
        ],
    );
    draw(
        "Processors used by the servers",
        "",
        false,
        |v| format!("{}", (v * 100.0).round() / 100.0),
        vec![series(runs, "processors", false, |l| {
            Some(l.servers_cpu_us as f64 / 1e6)
        })],
    );
    html.push_str("<h2>Totals</h2>\n");
    table(runs, &mut html);
    html + "</body></html>\n"
}

fn table(runs: &[Run], html: &mut String) {
    let columns = [
        "run",
        "seconds",
        "sent a second",
        "consumed a second",
        "50 %, typical second",
        "99 %, typical second",
        "99 %, worst second",
        "longest",
        "errors",
        "seconds without a message",
        "server CPU a message",
        "most memory",
    ];
    html.push_str("<div class=\"table\"><table><tr>");
    columns
        .iter()
        .for_each(|c| *html += &format!("<th>{c}</th>"));
    html.push_str("</tr>\n");
    for (number, run) in runs.iter().enumerate() {
        let lines = &run.lines;
        let sum = |of: fn(&Line) -> f64| lines.iter().map(of).sum::<f64>();
        let most = |of: fn(&Line) -> u64| lines.iter().map(of).max().unwrap_or(0) as f64;
        let median = |of: fn(&Line) -> u64| {
            let mut all: Vec<_> = lines.iter().map(of).filter(|v| *v > 0).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied().unwrap_or(0) as f64
        };
        let seconds = lines.len() as f64;
        let (sent, consumed) = (sum(|l| l.sent), sum(|l| l.consumed));
        let messages = if sent > 0.0 { sent } else { consumed };
        let cpu = sum(|l| l.servers_cpu_us as f64) / messages.max(1.0);
        let idle = lines.iter().filter(|l| l.sent + l.consumed == 0.0).count();
        let cells = [
            format!("{seconds:.0}"),
            count(sent / seconds),
            count(consumed / seconds),
            time(median(|l| l.p50_us)),
            time(median(|l| l.p99_us)),
            time(most(|l| l.p99_us)),
            time(most(|l| l.max_us)),
            count(sum(|l| l.errors as f64)),
            idle.to_string(),
            format!("{cpu:.1} µs"),
            format!("{:.0} MiB", most(|l| l.rss_bytes) / f64::from(1 << 20)),
        ];
        let (color, name) = (number % COLORS, escaped(&run.name));
        *html += &format!("<tr><th class=\"key c{color}\">{name}</th>");
        cells.iter().for_each(|c| *html += &format!("<td>{c}</td>"));
        html.push_str("</tr>\n");
    }
    html.push_str("</table></div>\n");
}

/// 950, 1.5 k, 150 k, 2 M.
fn count(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e3 => (v / 1e3, " k"),
        v => (v, ""),
    };
    short(value) + unit
}

/// Of µs.
fn time(us: f64) -> String {
    match us {
        v if v >= 1e6 => short(v / 1e6) + " s",
        v if v >= 1e3 => short(v / 1e3) + " ms",
        v => short(v) + " µs",
    }
}

fn short(value: f64) -> String {
    let digits = usize::from(value < 100.0 && value.fract() > 0.05);
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_every_run_and_mark() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<_> = ["one<", "two"]
            .map(|n| dir.path().join(n).with_extension("jsonl"))
            .into();
        let line =
            |t: u32| format!("{{\"t\":{t},\"sent\":{t}000,\"p50_us\":900,\"p99_us\":4000}}\n");
        let mark = "{\"t\":102.5,\"mark\":\"leader killed & away\"}\n";
        std::fs::write(&files[0], line(101) + mark + &line(102) + &line(103)).unwrap();
        std::fs::write(&files[1], line(901) + &line(902)).unwrap();
        let output = dir.path().join("page.html");
        write(&files, &output).unwrap();
        let html = std::fs::read_to_string(&output).unwrap();
        assert_eq!(html.matches("<polyline").count(), 2 + 4);
        assert_eq!(html.matches(">leader killed &amp; away</text>").count(), 2);
        assert!(html.contains("one&lt;") && !html.contains("one<"));
        assert!(!html.contains("End to end") && !html.contains("<script"));
        assert!(html.contains("<td>102 k</td>"), "the mean of the first");
        std::fs::write(&files[1], mark).unwrap();
        assert!(write(&files, &output).is_err());
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [950.0, 1500.0, 150_000.0, 2e6].map(count),
            ["950", "1.5 k", "150 k", "2 M"]
        );
        assert_eq!([7.0, 12_345.0, 3e6].map(time), ["7 µs", "12.3 ms", "3 s"]);
    }
}
