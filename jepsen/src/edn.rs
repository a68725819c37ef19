//! The history as Jepsen's tools read it: EDN, one map a line.

use std::io::{BufRead, BufWriter, Write};

use serde_json::Value;

use crate::history::Event;

/// Rewrites a history of JSON lines.
///
/// # Errors
/// It cannot be read or written; a line is no event.
pub fn export(input: impl BufRead, output: impl Write) -> std::io::Result<()> {
    let mut out = BufWriter::new(output);
    for (index, line) in input.lines().enumerate() {
        let event: Event<Value> = serde_json::from_str(&line?)?;
        let process = match serde_json::to_value(event.process)? {
            Value::String(name) => format!(":{name}"),
            number => number.to_string(),
        };
        let kind = serde_json::to_value(event.kind)?;
        write!(
            out,
            "{{:index {index}, :time {}, :process {process}, :type :{}, :f :{}, :value ",
            event.time,
            kind.as_str().unwrap_or("info"),
            keyword(&event.f),
        )?;
        write_value(&mut out, &event.value)?;
        out.write_all(b"}\n")?;
    }
    out.flush()
}

/// A colon inside a keyword is not read by everybody: `kill:leader` becomes `kill/leader`.
fn keyword(name: &str) -> String {
    name.replace(':', "/")
}

fn write_value(out: &mut impl Write, value: &Value) -> std::io::Result<()> {
    match value {
        Value::Null => out.write_all(b"nil"),
        Value::Array(items) => {
            out.write_all(b"[")?;
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.write_all(b" ")?;
                }
                write_value(out, item)?;
            }
            out.write_all(b"]")
        }
        Value::Object(fields) => {
            out.write_all(b"{")?;
            for (n, (name, field)) in fields.iter().enumerate() {
                let comma = if n > 0 { ", " } else { "" };
                write!(out, "{comma}:{} ", keyword(name))?;
                write_value(out, field)?;
            }
            out.write_all(b"}")
        }
        // Numbers, booleans and strings are written alike in both.
        plain => serde_json::to_writer(out, plain).map_err(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_maps() {
        let text = concat!(
            r#"{"time":5,"process":3,"type":"ok","f":"poll","value":{"next":2,"msgs":[[0,7,8]],"last":true}}"#,
            "\n",
            r#"{"time":6,"process":"nemesis","type":"info","f":"kill:leader","value":{"targets":[1],"detail":"a \"b\""}}"#,
        );
        let mut out = Vec::new();
        export(text.as_bytes(), &mut out).unwrap();
        let expected = concat!(
            "{:index 0, :time 5, :process 3, :type :ok, :f :poll, :value {:next 2, :msgs [[0 7 8]], :last true}}\n",
            "{:index 1, :time 6, :process :nemesis, :type :info, :f :kill/leader, :value {:targets [1], :detail \"a \\\"b\\\"\"}}\n",
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
