//! A line chart as SVG. Colours are classes, which [`STYLE`] defines for light and dark.

use std::fmt::Write;

/// Style sheet of a page with charts and tables.
pub const STYLE: &str = include_str!("chart.css");

/// Size of the drawing and of the room around the plot.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 316.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 50.0;
/// Rows for the labels of marks.
const ROWS: usize = 3;
const BOTTOM: f64 = 30.0;
/// Steps of an axis at most.
const STEPS: f64 = 6.0;
/// Points that tell their value when the pointer is on them, in one line at most.
const TELLING: usize = 600;
/// Points this far apart, s, are not connected.
const GAP: f64 = 1.9;
/// Width of a letter of a mark, about.
const LETTER: f64 = 6.2;

/// One line.
pub struct Series {
    pub label: String,
    /// Its colour, by number.
    pub color: usize,
    pub dashed: bool,
    /// Seconds and value, in order.
    pub points: Vec<(f64, f64)>,
}

/// Something that happened.
pub struct Mark {
    pub at: f64,
    pub label: String,
    pub color: usize,
}

/// Something that went on for a time.
pub struct Band {
    pub from: f64,
    pub to: f64,
    pub label: String,
    pub color: usize,
}

pub struct Chart<'a> {
    /// What is drawn, for those who do not see it.
    pub title: &'a str,
    /// The value axis shows powers of ten.
    pub log: bool,
    pub series: Vec<Series>,
    pub marks: &'a [Mark],
    /// Behind everything else; where they overlap, all are seen.
    pub bands: &'a [Band],
    /// How a value is written.
    pub format: fn(f64) -> String,
}

impl Chart<'_> {
    /// The drawing; nothing without a point.
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|s| &s.points);
        let end = points().map(|p| p.0).fold(1.0, f64::max);
        let most = points().map(|p| p.1).fold(1.0, f64::max);
        let least = points()
            .map(|p| p.1)
            .filter(|v| *v > 0.0)
            .fold(most, f64::min);
        if points().next().is_none() {
            return String::new();
        }
        let ticks = if self.log {
            decades(least, most)
        } else {
            steps(most)
        };
        let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
        let y_of = |value: f64| {
            let part = if self.log {
                (value.max(low) / low).log10() / (high / low).log10()
            } else {
                value / high
            };
            HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
        };
        let x_of = |t: f64| LEFT + t / end * (WIDTH - LEFT - RIGHT);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escaped(self.title)
        );
        for band in self.bands {
            let (from, to) = (
                x_of(band.from.clamp(0.0, end)),
                x_of(band.to.clamp(0.0, end)),
            );
            let _ = writeln!(
                svg,
                "<rect class=\"band c{}\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\"><title>{}, \
                 {:.1} to {:.1} s</title></rect>",
                band.color,
                (to - from).max(1.0),
                HEIGHT - TOP - BOTTOM,
                escaped(&band.label),
                band.from,
                band.to
            );
        }
        // Writing to a String cannot fail.
        for value in &ticks {
            let (y, text) = (y_of(*value), (self.format)(*value));
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"value\" x=\"{}\" y=\"{:.1}\">{text}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0
            );
        }
        for t in steps(end).into_iter().filter(|t| *t <= end) {
            let _ = writeln!(
                svg,
                "<text class=\"time\" x=\"{:.1}\" y=\"{}\">{t} s</text>",
                x_of(t),
                HEIGHT - 8.0
            );
        }
        self.draw_marks(&mut svg, x_of);
        for series in &self.series {
            let dashed = if series.dashed { " dashed" } else { "" };
            for part in series.points.chunk_by(|a, b| b.0 - a.0 < GAP) {
                let line: Vec<_> = part
                    .iter()
                    .map(|(t, v)| format!("{:.1},{:.1}", x_of(*t), y_of(*v)))
                    .collect();
                let _ = writeln!(
                    svg,
                    "<polyline class=\"c{}{dashed}\" points=\"{}\"/>",
                    series.color,
                    line.join(" ")
                );
            }
            if series.points.len() > TELLING {
                continue;
            }
            for (t, v) in &series.points {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\"><title>{}, {t:.1} s: {}</title></circle>",
                    x_of(*t),
                    y_of(*v),
                    escaped(&series.label),
                    (self.format)(*v)
                );
            }
        }
        svg + "</svg>\n"
    }

    /// Labels that would lie on each other go to different rows, and to the left of their line at the end.
    fn draw_marks(&self, svg: &mut String, x_of: impl Fn(f64) -> f64) {
        let mut rows = [f64::MIN; ROWS];
        for mark in self.marks {
            let (x, width) = (x_of(mark.at), mark.label.chars().count() as f64 * LETTER);
            let left = x + 4.0 + width > WIDTH;
            let start = if left { x - 4.0 - width } else { x + 4.0 };
            let free = rows.iter().position(|end| *end <= start);
            let row = free.unwrap_or(ROWS - 1);
            rows[row] = start + width + LETTER;
            let _ = writeln!(
                svg,
                "<line class=\"mark c{}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\"/>\
                 <text class=\"label c{}\" x=\"{start:.1}\" y=\"{}\">{}</text>",
                mark.color,
                TOP - 12.0,
                HEIGHT - BOTTOM,
                mark.color,
                11 + 13 * row,
                escaped(&mark.label)
            );
        }
    }
}

/// Round values from 0 to `most` or just above.
fn steps(most: f64) -> Vec<f64> {
    let rough = most / STEPS;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|n| n * power)
        .into_iter()
        .find(|s| *s >= rough)
        .unwrap_or(rough);
    (0..=(most / step).ceil() as u32)
        .map(|n| (f64::from(n) * step * 1e6).round() / 1e6)
        .collect()
}

/// Powers of ten that enclose both.
fn decades(least: f64, most: f64) -> Vec<f64> {
    let low = least.log10().floor() as i32;
    let high = (most.log10().ceil() as i32).max(low + 1);
    (low..=high).map(|n| 10_f64.powi(n)).collect()
}

/// Text for HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_round() {
        assert_eq!(steps(10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(steps(61_000.0).last(), Some(&80_000.0));
        assert_eq!(steps(1.0).len(), 6);
        assert_eq!(decades(150.0, 12_000.0), [100.0, 1e3, 1e4, 1e5]);
        assert_eq!(decades(1.0, 1.0), [1.0, 10.0]);
    }

    #[test]
    fn points_lie_inside() {
        let chart = Chart {
            title: "a<b",
            log: true,
            series: vec![Series {
                label: "x".to_owned(),
                color: 0,
                dashed: false,
                points: vec![(1.0, 0.0), (2.0, 5e6)],
            }],
            marks: &[],
            bands: &[Band {
                from: 1.5,
                to: 9.0,
                label: "kill".to_owned(),
                color: 1,
            }],
            format: |v| v.to_string(),
        };
        let svg = chart.svg();
        assert!(svg.contains("a&lt;b"));
        // What goes on beyond the last point ends there.
        let band = format!("width=\"{:.1}\"", (WIDTH - LEFT - RIGHT) / 4.0);
        assert!(svg.contains(&band), "{svg}");
        let (_, rest) = svg.split_once("<polyline class=\"c0\" points=\"").unwrap();
        let (line, _) = rest.split_once('"').unwrap();
        for point in line.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            assert!((LEFT..=WIDTH).contains(&x.parse().unwrap()), "{point}");
            assert!(
                (TOP..=HEIGHT - BOTTOM).contains(&y.parse().unwrap()),
                "{point}"
            );
        }
    }
}
