//! Consumer offsets as registers, judged twice: by our own search ([`super::wgl`]) and by porcupine, a program in Go that others wrote.
//! Each (group, queue) is a register of its own; linearizable is what all of them are each by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::verdict::{Valid, Verdict};
use super::wgl::{self, Answer, Op};
use crate::ops::{NEVER, Ops, Outcome, RegisterOp};

/// What a register is before the first write.
const EMPTY: i64 = -1;

/// An operation as the Go program reads it.
#[derive(Serialize)]
struct Line {
    key: u32,
    client: u32,
    write: bool,
    value: i64,
    call: i64,
    #[serde(rename = "return")]
    back: i64,
}

#[derive(Deserialize)]
struct Judged {
    keys: usize,
    illegal: BTreeSet<u32>,
    unknown: BTreeSet<u32>,
}

fn counts(op: &RegisterOp) -> bool {
    match op.outcome {
        Outcome::Ok => true,
        Outcome::Fail => false,
        Outcome::Info => op.write,
    }
}

fn keys(ops: &Ops) -> BTreeMap<u32, Vec<&RegisterOp>> {
    let mut keys: BTreeMap<u32, Vec<&RegisterOp>> = BTreeMap::new();
    for op in ops.registers.iter().filter(|op| counts(op)) {
        keys.entry(op.key).or_default().push(op);
    }
    keys
}

/// Our own search.
pub fn check(ops: &Ops) -> Verdict {
    let (mut illegal, mut unknown) = (BTreeMap::new(), BTreeSet::new());
    let keys = keys(ops);
    for (key, ops) in &keys {
        let of = |op: &&RegisterOp| Op {
            write: op.write,
            value: op.value,
            invoked: op.span.invoked,
            returned: op.span.completed,
        };
        let list: Vec<Op> = ops.iter().map(of).collect();
        match wgl::check(&list, EMPTY) {
            Answer::Linearizable => {}
            Answer::Not { explained } => {
                illegal.insert(*key, explained);
            }
            Answer::GivenUp => {
                unknown.insert(*key);
            }
        }
    }
    let valid = match (illegal.is_empty(), unknown.is_empty()) {
        (false, _) => Valid::False,
        (true, false) => Valid::Unknown,
        (true, true) => Valid::True,
    };
    Verdict::new(valid)
        .with("key-count", keys.len())
        .with("op-count", keys.values().map(Vec::len).sum::<usize>())
        .with("failures", illegal.keys().collect::<Vec<_>>())
        .with("explained-before-failure", &illegal)
        .with("unknown-keys", unknown)
}

/// The other opinion. `program` is porcupine's, if it could be built.
pub fn porcupine(ops: &Ops, program: Result<&Path, &str>, required: bool) -> Verdict {
    let (judged, needed) = match program {
        // Who was asked and does not answer has not agreed.
        Ok(program) => (judge(ops, program), true),
        Err(why) => (Err(why.to_owned()), required),
    };
    let judged = match judged {
        Ok(judged) => judged,
        Err(why) => {
            let valid = if needed { Valid::Unknown } else { Valid::True };
            return Verdict::new(valid).with("ran", false).with("why", why);
        }
    };
    let valid = match (judged.illegal.is_empty(), judged.unknown.is_empty()) {
        (false, _) => Valid::False,
        (true, false) => Valid::Unknown,
        (true, true) => Valid::True,
    };
    Verdict::new(valid)
        .with("ran", true)
        .with("key-count", judged.keys)
        .with("failures", judged.illegal)
        .with("unknown-keys", judged.unknown)
}

fn judge(ops: &Ops, program: &Path) -> Result<Judged, String> {
    let mut text = Vec::new();
    for (key, ops) in keys(ops) {
        for op in ops {
            let line = Line {
                key,
                client: op.process,
                write: op.write,
                value: op.value,
                call: i64::try_from(op.span.invoked).unwrap_or(i64::MAX),
                back: match op.span.completed {
                    NEVER => i64::MAX,
                    time => i64::try_from(time).unwrap_or(i64::MAX),
                },
            };
            serde_json::to_writer(&mut text, &line).map_err(|e| e.to_string())?;
            text.push(b'\n');
        }
    }
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    // It answers only when it has read everything, so this cannot block for ever.
    let fed = child
        .stdin
        .take()
        .map_or(Ok(()), |mut to| to.write_all(&text));
    let out = child.wait_with_output().map_err(|e| e.to_string())?;
    fed.map_err(|e| e.to_string())?;
    if !out.status.success() {
        return Err(format!("porcupine ended with {}", out.status));
    }
    serde_json::from_slice(&out.stdout).map_err(|e| e.to_string())
}

/// Builds porcupine's program from the module in `source`.
///
/// # Errors
/// There is no Go, or it cannot build it.
pub fn build_porcupine(source: &Path, program: &Path) -> Result<(), String> {
    let out = Command::new("go")
        .args(["build", "-o"])
        .arg(program)
        .arg(".")
        .current_dir(source)
        .output()
        .map_err(|e| format!("go build in {}: {e}", source.display()))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!(
        "go build: {}",
        String::from_utf8_lossy(&out.stderr).trim()
    ))
}
