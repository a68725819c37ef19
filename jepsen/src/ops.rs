//! A history in memory: operations instead of events, by what they are, a few dozen bytes each.

use std::collections::HashMap;
use std::io::BufRead;
use std::ops::Range;

use crate::history::{Event, Kind, Process};
use crate::value::Value;
use crate::workload::transaction;

/// Completion of an operation that never was completed, or not with a known outcome: it may take effect at any time.
pub const NEVER: u64 = u64::MAX;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Fail,
    /// Unknown.
    Info,
}

/// When an operation was, nanoseconds since the run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub invoked: u64,
    /// [`NEVER`] when the outcome is unknown.
    pub completed: u64,
}

/// A message was sent, once.
#[derive(Clone, Copy, Debug)]
pub struct Send {
    pub queue: u32,
    pub value: u64,
    pub span: Span,
    pub outcome: Outcome,
    /// -1 unless it is Ok.
    pub offset: i64,
    pub delay_ms: u32,
}

/// Messages were read. Polls that failed are not kept: they say nothing.
#[derive(Clone, Debug)]
pub struct Poll {
    pub process: u32,
    pub queue: u32,
    pub via: u8,
    pub from: i64,
    pub min: i64,
    pub next: i64,
    pub span: Span,
    /// Where in [`Ops::messages`].
    pub messages: Range<usize>,
    /// Of the reads after everything was healed.
    pub last: bool,
    pub follows: bool,
}

/// The end of a queue was read.
#[derive(Clone, Copy, Debug)]
pub struct MaxRead {
    pub queue: u32,
    pub via: u8,
    pub span: Span,
    pub offset: i64,
}

/// A consumer offset was written or read; -1 stands for none.
#[derive(Clone, Copy, Debug)]
pub struct RegisterOp {
    pub process: u32,
    pub key: u32,
    pub write: bool,
    pub oneway: bool,
    pub value: i64,
    pub span: Span,
    pub outcome: Outcome,
}

/// A message was given back.
#[derive(Clone, Copy, Debug)]
pub struct SendBack {
    pub value: u64,
    pub times: u32,
    pub span: Span,
    pub outcome: Outcome,
}

/// A fault began or was healed, or the run entered its next phase.
#[derive(Clone, Debug)]
pub struct Fault {
    pub time: u64,
    pub f: String,
    pub targets: Vec<usize>,
    pub detail: String,
}

/// A whole run.
#[derive(Clone, Debug, Default)]
pub struct Ops {
    pub sends: Vec<Send>,
    pub polls: Vec<Poll>,
    /// Offsets and values of all polls.
    pub messages: Vec<(i64, u64)>,
    pub max_reads: Vec<MaxRead>,
    pub registers: Vec<RegisterOp>,
    pub send_backs: Vec<SendBack>,
    pub faults: Vec<Fault>,
    /// Time of the last event.
    pub end: u64,
}

/// A history that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("the history cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("line {line}: {why}")]
    Line { line: usize, why: String },
}

/// What a process is doing.
struct Open {
    f: String,
    invoked: u64,
    value: Value,
}

impl Ops {
    /// Reads a history. A last line that was cut off is an error as any other.
    ///
    /// # Errors
    /// It cannot be read, or an operation ends that did not begin.
    pub fn read(mut input: impl BufRead) -> Result<Self, HistoryError> {
        let mut ops = Self::default();
        let mut open: HashMap<u32, Open> = HashMap::new();
        let mut text = String::new();
        for line in 1.. {
            text.clear();
            if input.read_line(&mut text)? == 0 {
                break;
            }
            let wrong = |why: String| HistoryError::Line { line, why };
            let event: Event<Value> =
                serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
            ops.take(&mut open, event).map_err(wrong)?;
        }
        // What was under way when the run ended.
        let mut rest: Vec<_> = open.into_iter().collect();
        rest.sort_unstable_by_key(|(process, _)| *process);
        for (process, open) in rest {
            ops.finish(process, open, Kind::Info, NEVER, &Value::default())
                .map_err(|why| HistoryError::Line { line: 0, why })?;
        }
        Ok(ops)
    }

    fn take(&mut self, open: &mut HashMap<u32, Open>, event: Event<Value>) -> Result<(), String> {
        self.end = self.end.max(event.time);
        let Process::Client(process) = event.process else {
            self.faults.push(Fault {
                time: event.time,
                f: event.f,
                targets: event.value.targets,
                detail: event.value.detail.unwrap_or_default(),
            });
            return Ok(());
        };
        if event.kind == Kind::Invoke {
            let begun = Open {
                f: event.f,
                invoked: event.time,
                value: event.value,
            };
            return match open.insert(process, begun) {
                None => Ok(()),
                Some(_) => Err(format!("process {process} does two things at once")),
            };
        }
        let begun = open
            .remove(&process)
            .filter(|o| o.f == event.f)
            .ok_or_else(|| format!("process {process} ends a {} it did not begin", event.f))?;
        self.finish(process, begun, event.kind, event.time, &event.value)
    }

    fn finish(
        &mut self,
        process: u32,
        open: Open,
        kind: Kind,
        time: u64,
        end: &Value,
    ) -> Result<(), String> {
        let outcome = match kind {
            Kind::Ok => Outcome::Ok,
            Kind::Fail => Outcome::Fail,
            Kind::Invoke | Kind::Info => Outcome::Info,
        };
        let span = Span {
            invoked: open.invoked,
            completed: if outcome == Outcome::Info {
                NEVER
            } else {
                time
            },
        };
        let asked = &open.value;
        let lacks = |what: &str| format!("a {} without {what}", open.f);
        let queue = || asked.q.ok_or_else(|| lacks("q"));
        let via = asked.via.unwrap_or(0);
        match open.f.as_str() {
            "send" => self.sends.push(Send {
                queue: queue()?,
                value: asked.v.ok_or_else(|| lacks("v"))?,
                span,
                outcome,
                offset: end.offset.filter(|_| outcome == Outcome::Ok).unwrap_or(-1),
                delay_ms: asked.delay.unwrap_or(0),
            }),
            "half" => {
                let value = asked.v.ok_or_else(|| lacks("v"))?;
                // The others are to be seen by nobody.
                if transaction::is_committed(value) {
                    self.sends.push(Send {
                        queue: queue()?,
                        value,
                        span,
                        outcome,
                        offset: -1,
                        delay_ms: 0,
                    });
                }
            }
            "poll" if outcome == Outcome::Ok => {
                let start = self.messages.len();
                self.messages.extend(end.messages());
                self.polls.push(Poll {
                    process,
                    queue: queue()?,
                    via,
                    from: asked.from.ok_or_else(|| lacks("from"))?,
                    min: end.min.unwrap_or(0),
                    next: end.next.ok_or_else(|| lacks("next"))?,
                    span,
                    messages: start..self.messages.len(),
                    last: asked.last,
                    follows: asked.follows,
                });
            }
            "max-offset" if outcome == Outcome::Ok => self.max_reads.push(MaxRead {
                queue: queue()?,
                via,
                span,
                offset: end.offset.ok_or_else(|| lacks("offset"))?,
            }),
            "commit" => self.registers.push(RegisterOp {
                process,
                key: asked.k.ok_or_else(|| lacks("k"))?,
                write: true,
                oneway: asked.oneway,
                value: asked.offset.ok_or_else(|| lacks("offset"))?,
                span,
                outcome,
            }),
            "query" => self.registers.push(RegisterOp {
                process,
                key: asked.k.ok_or_else(|| lacks("k"))?,
                write: false,
                oneway: false,
                value: end.offset.unwrap_or(-1),
                span,
                outcome,
            }),
            "send-back" => self.send_backs.push(SendBack {
                value: asked.v.ok_or_else(|| lacks("v"))?,
                times: asked.times.unwrap_or(0),
                span,
                outcome,
            }),
            "poll" | "max-offset" | "end" => {}
            other => return Err(format!("{other} is no operation")),
        }
        Ok(())
    }

    /// What a poll found.
    pub fn found(&self, poll: &Poll) -> &[(i64, u64)] {
        self.messages.get(poll.messages.clone()).unwrap_or(&[])
    }

    /// Queues that were sent to, in order.
    pub fn queues(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.sends.iter().map(|s| s.queue).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_operations() {
        let text = r#"
{"time":1,"process":0,"type":"invoke","f":"send","value":{"q":0,"v":7,"via":1}}
{"time":2,"process":1,"type":"invoke","f":"poll","value":{"q":0,"from":0,"via":1}}
{"time":3,"process":"nemesis","type":"info","f":"kill","value":{"targets":[1],"detail":"leader"}}
{"time":4,"process":0,"type":"ok","f":"send","value":{"offset":0}}
{"time":5,"process":1,"type":"ok","f":"poll","value":{"next":1,"msgs":[[0,7]]}}
{"time":6,"process":2,"type":"invoke","f":"send","value":{"q":0,"v":8,"via":1}}
{"time":7,"process":3,"type":"invoke","f":"send","value":{"q":0,"v":9,"via":1}}
{"time":8,"process":3,"type":"fail","f":"send","value":{"why":"no"}}
"#;
        let ops = Ops::read(text.trim_start().as_bytes()).unwrap();
        let sends: Vec<_> = ops
            .sends
            .iter()
            .map(|s| (s.value, s.outcome, s.offset, s.span.completed))
            .collect();
        assert_eq!(
            sends,
            [
                (7, Outcome::Ok, 0, 4),
                (9, Outcome::Fail, -1, 8),
                (8, Outcome::Info, -1, NEVER)
            ]
        );
        assert_eq!(ops.found(&ops.polls[0]), [(0, 7)]);
        assert_eq!(ops.faults[0].targets, [1]);
        assert_eq!((ops.end, ops.queues()), (8, vec![0]));
    }

    #[test]
    fn a_half_message_is_a_send_when_it_is_to_be_committed() {
        let text = r#"
{"time":1,"process":0,"type":"invoke","f":"half","value":{"q":0,"v":0,"via":1}}
{"time":2,"process":0,"type":"ok","f":"half","value":{}}
{"time":3,"process":0,"type":"invoke","f":"end","value":{"v":0,"via":1,"detail":"commit"}}
{"time":4,"process":0,"type":"info","f":"end","value":{"why":"silence"}}
{"time":5,"process":1,"type":"invoke","f":"half","value":{"q":0,"v":1024,"via":1}}
{"time":6,"process":1,"type":"ok","f":"half","value":{}}
"#;
        let ops = Ops::read(text.trim_start().as_bytes()).unwrap();
        let sends: Vec<_> = ops.sends.iter().map(|s| (s.value, s.outcome)).collect();
        assert_eq!(sends, [(0, Outcome::Ok)]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for text in [
            r#"{"time":1,"process":0,"type":"ok","f":"send","value":{"offset":0}}"#,
            r#"{"time":1,"process":0,"type":"invoke","f":"send","value":{"q":0,"v""#,
        ] {
            assert!(Ops::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
