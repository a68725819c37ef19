//! The last line of a sub-command.

use std::time::Duration;

use serde_json::{Map, Number, Value};

/// Names and numbers, in order.
#[derive(Default)]
pub struct Line(Map<String, Value>);

impl Line {
    /// A whole number.
    pub fn add(&mut self, name: &str, value: u64) -> &mut Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// A number with this many digits after the point.
    pub fn float(&mut self, name: &str, value: f64, digits: i32) -> &mut Self {
        let scale = 10_f64.powi(digits);
        let rounded = Number::from_f64((value * scale).round() / scale);
        self.0
            .insert(name.to_owned(), rounded.map_or(Value::Null, Value::Number));
        self
    }

    /// A time in ms.
    pub fn ms(&mut self, name: &str, time: Duration) -> &mut Self {
        self.float(name, time.as_secs_f64() * 1e3, 1)
    }

    /// A number of bytes in MiB.
    pub fn mib(&mut self, name: &str, bytes: u64) -> &mut Self {
        self.float(name, bytes as f64 / f64::from(1 << 20), 1)
    }

    /// One line on standard output; nothing when there is nothing to say.
    pub fn print(&self, json: bool) {
        if self.0.is_empty() {
            return;
        }
        if json {
            println!("{}", Value::Object(self.0.clone()));
            return;
        }
        let pairs = self.0.iter().map(|(name, value)| format!("{name}={value}"));
        println!("{}", pairs.collect::<Vec<_>>().join(" "));
    }

    /// Reads a number of a line that another process printed as JSON.
    pub fn number_in(line: &str, name: &str) -> Option<f64> {
        let parsed: Value = serde_json::from_str(line).ok()?;
        parsed.get(name)?.as_f64()
    }
}

/// The middle one; of an even count the mean of the middle two; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_and_read_back() {
        let mut line = Line::default();
        line.add("n", 3).float("f", 1.2345, 2);
        let json = Value::Object(line.0.clone()).to_string();
        assert_eq!(json, r#"{"n":3,"f":1.23}"#);
        assert_eq!(Line::number_in(&json, "f"), Some(1.23));
        assert_eq!(Line::number_in(&json, "g"), None);
    }

    #[test]
    fn the_median_of_few_numbers() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![7.0]), 7.0);
        assert_eq!(median(vec![5.0, 1.0, 9.0]), 5.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
    }
}
