//! A run as a page: one HTML file with everything in it. Faults are bands behind throughput and latency; then the verdicts, with
//! what is wrong, and the settings.

use std::collections::BTreeMap;
use std::fmt::Write;

use raftmq_benches::chart::{Band, Chart, Mark, STYLE, Series, escaped};
use serde_json::Value;

use crate::checker::verdict::Valid;
use crate::ops::{Fault, NEVER, Ops, Outcome, Span};
use crate::settings::Settings;

const SECOND: u64 = 1_000_000_000;
/// Colours of the style sheet for bands; the first two are the curves'.
const BAND_COLORS: [usize; 4] = [1, 3, 4, 5];
/// Longest text of one field of a verdict, characters.
const SHOWN: usize = 2_000;

/// What happened in one second.
#[derive(Default)]
struct Second {
    ok: u64,
    fail: u64,
    info: u64,
    latencies: Vec<u64>,
}

/// The page.
pub fn page(ops: &Ops, settings: &Settings, results: &Value) -> String {
    let seconds = seconds(ops);
    let bands = bands(&ops.faults, ops.end);
    let marks: Vec<Mark> = ops
        .faults
        .iter()
        .filter(|f| f.f == crate::checker::recovery::HEALED)
        .map(|f| mark(f, "all healed"))
        .collect();
    let title = format!("{} with {}", settings.workload, named(&settings.faults));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{0}</title><style>\n{STYLE}{EXTRA}</style></head><body>\n<h1>{0}</h1>\n<p class=\"verdict\">{1}</p>\n",
        escaped(&title),
        escaped(words(Valid::of_json(results.get("valid?")))),
    );
    let line = |label: &str, color, dashed, value: &dyn Fn(&Second) -> Option<f64>| Series {
        label: label.to_owned(),
        color,
        dashed,
        points: seconds
            .iter()
            .filter_map(|(s, of)| Some((*s as f64 + 1.0, value(of)?)))
            .collect(),
    };
    let part = |of: &Second, percent: usize| {
        let place = (of.latencies.len() * percent / 100).min(of.latencies.len().checked_sub(1)?);
        of.latencies.get(place).map(|ns| *ns as f64 / 1e6)
    };
    let mut draw = |title: &str, note: &str, log, format, series| {
        let chart = Chart {
            title,
            log,
            series,
            marks: &marks,
            bands: &bands,
            format,
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            html,
            "<h2>{title} <small>{note}</small></h2>\n{}",
            chart.svg()
        );
    };
    draw(
        "Writes a second",
        "acknowledged; dashed: refused, and of unknown outcome",
        false,
        |v| format!("{v:.0}"),
        vec![
            line("acknowledged", 0, false, &|s| Some(s.ok as f64)),
            line("refused", 2, true, &|s| Some(s.fail as f64)),
            line("unknown", 1, true, &|s| Some(s.info as f64)),
        ],
    );
    draw(
        "Latency of acknowledged writes",
        "99 %; dashed: 50 %",
        true,
        |v| {
            if v >= 1000.0 {
                format!("{} s", v / 1000.0)
            } else {
                format!("{v} ms")
            }
        },
        vec![
            line("99 %", 0, false, &|s| part(s, 99)),
            line("50 %", 0, true, &|s| part(s, 50)),
        ],
    );
    verdicts(results, &mut html);
    faults(&ops.faults, &mut html);
    let shown = serde_json::to_value(settings).unwrap_or_default();
    fields("Settings", &shown, &mut html);
    html + "</body></html>\n"
}

const EXTRA: &str = "td { text-align: left; vertical-align: top; } td pre { white-space: pre-wrap; \
    word-break: break-word; margin: 0; font-size: 12px; } .verdict { font-size: 1.2rem; }\n\
    .bad { color: var(--c1); } .open { color: var(--c4); }\n";

/// The verdict as Jepsen has it.
pub fn words(valid: Valid) -> &'static str {
    match valid {
        Valid::True => "Everything looks good! ヽ(‘ー`)ノ",
        Valid::Unknown => "Errors occurred during analysis, but no anomalies found. ಠ~ಠ",
        Valid::False => "Analysis invalid! (ﾉಥ益ಥ）ﾉ ┻━┻",
    }
}

/// Faults on a line.
pub fn named(faults: &[String]) -> String {
    if faults.is_empty() {
        "no faults".to_owned()
    } else {
        faults.join(", ")
    }
}

fn seconds(ops: &Ops) -> BTreeMap<u64, Second> {
    let mut all: BTreeMap<u64, Second> = BTreeMap::new();
    for second in 0..=ops.end / SECOND {
        all.entry(second).or_default();
    }
    let mut add = |span: Span, outcome| {
        let end = if span.completed == NEVER {
            span.invoked
        } else {
            span.completed
        };
        let second = all.entry(end / SECOND).or_default();
        match outcome {
            Outcome::Ok => {
                second.ok += 1;
                second.latencies.push(end - span.invoked);
            }
            Outcome::Fail => second.fail += 1,
            Outcome::Info => second.info += 1,
        }
    };
    ops.sends.iter().for_each(|s| add(s.span, s.outcome));
    let writes = ops.registers.iter().filter(|r| r.write && !r.oneway);
    writes.for_each(|r| add(r.span, r.outcome));
    all.values_mut().for_each(|s| s.latencies.sort_unstable());
    // The final reads take longer than anything is written.
    let last = all
        .iter()
        .rev()
        .find(|(_, s)| s.ok + s.fail + s.info > 0)
        .map_or(0, |(n, _)| *n);
    all.retain(|n, _| *n <= last);
    all
}

fn mark(fault: &Fault, label: &str) -> Mark {
    Mark {
        at: fault.time as f64 / SECOND as f64,
        label: label.to_owned(),
        color: 2,
    }
}

/// From each fault to its heal.
fn bands(faults: &[Fault], end: u64) -> Vec<Band> {
    let seconds = |ns: u64| ns as f64 / SECOND as f64;
    let mut colors: BTreeMap<&str, usize> = BTreeMap::new();
    let mut bands = Vec::new();
    for (n, begin) in faults.iter().enumerate() {
        let heal = format!("heal-{}", begin.f);
        let Some(over) = faults[n..].iter().find(|f| f.f == heal) else {
            continue;
        };
        let next = BAND_COLORS[colors.len() % BAND_COLORS.len()];
        bands.push(Band {
            from: seconds(begin.time),
            to: seconds(over.time.min(end)),
            label: format!("{} {:?}", begin.f, begin.targets),
            color: *colors.entry(&begin.f).or_insert(next),
        });
    }
    bands
}

fn verdicts(results: &Value, html: &mut String) {
    let all = results.as_object().into_iter().flatten();
    for (name, verdict) in all.filter(|(_, v)| v.is_object()) {
        let class = match Valid::of_json(verdict.get("valid?")) {
            Valid::True => "",
            Valid::Unknown => "open",
            Valid::False => "bad",
        };
        fields(
            &format!("<span class=\"{class}\">{name}</span>"),
            verdict,
            html,
        );
    }
}

fn fields(title: &str, of: &Value, html: &mut String) {
    let _ = writeln!(html, "<h2>{title}</h2><div class=\"table\"><table>");
    for (name, value) in of.as_object().into_iter().flatten() {
        let text: String = match value {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                items.iter().map(|i| format!("{i}\n")).collect()
            }
            other => other.to_string(),
        };
        let text: String = text.chars().take(SHOWN).collect();
        let _ = writeln!(
            html,
            "<tr><th>{}</th><td><pre>{}</pre></td></tr>",
            escaped(name),
            escaped(&text)
        );
    }
    html.push_str("</table></div>\n");
}

fn faults(faults: &[Fault], html: &mut String) {
    html.push_str("<h2>Faults</h2><div class=\"table\"><table>\n");
    for fault in faults {
        let _ = writeln!(
            html,
            "<tr><th>{:.3} s</th><td>{}</td><td>{:?}</td><td>{}</td></tr>",
            fault.time as f64 / SECOND as f64,
            escaped(&fault.f),
            fault.targets,
            escaped(&fault.detail)
        );
    }
    html.push_str("</table></div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Send;

    #[test]
    fn a_page_tells_what_happened() {
        let fault = |time, f: &str| Fault {
            time,
            f: f.to_owned(),
            targets: vec![1],
            detail: "<leader>".to_owned(),
        };
        let ops = Ops {
            sends: (0..50)
                .map(|n| Send {
                    queue: 0,
                    value: n,
                    span: Span {
                        invoked: n * SECOND / 10,
                        completed: n * SECOND / 10 + 3_000_000,
                    },
                    outcome: Outcome::Ok,
                    offset: n as i64,
                    delay_ms: 0,
                })
                .collect(),
            faults: vec![
                fault(SECOND, "kill:leader"),
                fault(2 * SECOND, "heal-kill:leader"),
            ],
            end: 6 * SECOND,
            ..Ops::default()
        };
        let results = serde_json::json!({"valid?": false, "log-linear": {"valid?": false, "gap": [{"q": 1}]}});
        let html = page(&ops, &Settings::default(), &results);
        for part in [
            "┻━┻",
            "class=\"band",
            "kill:leader [1]",
            "&lt;leader&gt;",
            "log-linear",
            "polyline",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert_eq!(seconds(&ops)[&2].ok, 10);
    }
}
