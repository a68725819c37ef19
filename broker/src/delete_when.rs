//! `deleteWhen`: the hours of the day, in the broker's local time, at which what has expired is deleted.

use chrono::{Local, Timelike};

/// Hours from 0 to 23, as the settings file has them: `04` or `04;16`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteWhen {
    text: String,
    /// Bit h is set for hour h.
    hours: u32,
}

impl DeleteWhen {
    /// Reads a list of hours with `;` between them. Error: what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut hours = 0;
        for part in text.split(';').map(str::trim).filter(|p| !p.is_empty()) {
            match part.parse::<u32>() {
                Ok(hour) if hour < 24 => hours |= 1 << hour,
                _ => return Err("hours from 00 to 23 separated by ;".to_owned()),
            }
        }
        if hours == 0 {
            return Err("hours from 00 to 23 separated by ;".to_owned());
        }
        Ok(Self {
            text: text.to_owned(),
            hours,
        })
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether an hour of the day is one of them.
    pub fn has(&self, hour: u32) -> bool {
        hour < 24 && self.hours & (1 << hour) != 0
    }

    /// Whether it is one of these hours now.
    pub fn is_now(&self) -> bool {
        self.has(Local::now().hour())
    }
}

impl Default for DeleteWhen {
    /// Four in the morning.
    fn default() -> Self {
        Self {
            text: "04".to_owned(),
            hours: 1 << 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_read() {
        assert_eq!(DeleteWhen::parse("04"), Ok(DeleteWhen::default()));
        let when = DeleteWhen::parse("0; 16;23;").unwrap();
        let hours: Vec<u32> = (0..30).filter(|h| when.has(*h)).collect();
        assert_eq!(hours, [0, 16, 23]);
        assert_eq!(when.text(), "0; 16;23;");
        for bad in ["", ";", "24", "-1", "4,5", "four"] {
            assert!(DeleteWhen::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn some_hour_is_now() {
        let every: Vec<String> = (0..24).map(|h| h.to_string()).collect();
        assert!(DeleteWhen::parse(&every.join(";")).unwrap().is_now());
    }
}
