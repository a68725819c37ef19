//! What the demonstration prints: text with or without colours, one line of progress on a terminal, the table.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use raftmq_benches::tally::Counts;

/// Where output goes and how it looks.
pub struct Screen {
    terminal: bool,
    colours: bool,
}

impl Screen {
    /// `plain`: no colours and no progress even on a terminal.
    pub fn new(plain: bool) -> Self {
        let terminal = !plain && std::io::stdout().is_terminal();
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { terminal, colours }
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        // A closed stdout is no reason to leave the cluster unattended.
        let _ = writeln!(std::io::stdout(), "{clear}{text}");
    }

    /// The line that is overwritten; nothing when stdout is no terminal.
    pub fn progress(&self, text: &str) {
        if self.terminal {
            let mut out = std::io::stdout();
            let _ = write!(out, "\r\x1b[K{text}");
            let _ = out.flush();
        }
    }

    pub fn bold(&self, text: &str) -> String {
        self.coloured("1", text)
    }

    pub fn red(&self, text: &str) -> String {
        self.coloured("1;31", text)
    }

    pub fn green(&self, text: &str) -> String {
        self.coloured("1;32", text)
    }

    fn coloured(&self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// The figures of a run, one a line.
    pub fn table(&self, rows: &[(&str, String)]) {
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let values = rows.iter().map(|(_, v)| v.len()).max().unwrap_or(0);
        for (name, value) in rows {
            self.line(&format!("  {name:<width$}  {:>values$}", value));
        }
    }

    /// The verdict on what was acknowledged.
    pub fn verdict(&self, counts: &Counts) {
        let text = match counts.lost {
            0 => self.green("No acknowledged message was lost."),
            lost => self.red(&format!(
                "{} acknowledged messages were lost.",
                grouped(lost)
            )),
        };
        self.line(&text);
    }
}

/// `1234567` as `1 234 567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Whole milliseconds, rounded.
pub fn millis(time: Duration) -> u128 {
    (time.as_micros() + 500) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(millis(Duration::from_micros(1_500)), 2);
    }
}
