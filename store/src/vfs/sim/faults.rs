//! What is to go wrong, and when: the count of operations, the one at which the process dies, and failures armed by a
//! test.

use std::io;

/// A kind of operation that [`SimFs::fail`](super::SimFs::fail) can make fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultOp {
    /// `write_all_vectored_at`; nothing of it is written.
    Write,
    /// `sync_data`, `sync_dir`, `sync_all`.
    Sync,
    /// `allocate`.
    Allocate,
    /// `rename`.
    Rename,
    /// `remove_file`, `remove_dir_all`.
    Remove,
    /// `read_exact_at`, `read_view`.
    Read,
    /// `open`; nothing is made.
    Open,
}

struct Armed {
    op: FaultOp,
    after: u64,
    kind: io::ErrorKind,
}

/// Faults of one simulated disk.
#[derive(Default)]
pub(super) struct Faults {
    /// Operations begun, the one that was killed not among them.
    pub(super) ops: u64,
    pub(super) kill_at: Option<u64>,
    pub(super) dead: bool,
    armed: Vec<Armed>,
}

/// `ENOSPC`, as the operating system gives it.
pub(super) fn full() -> io::Error {
    io::Error::from_raw_os_error(28)
}

fn killed() -> io::Error {
    io::Error::other("killed")
}

impl Faults {
    /// Fails once the process is dead.
    pub(super) fn alive(&self) -> io::Result<()> {
        if self.dead {
            return Err(killed());
        }
        Ok(())
    }

    /// Counts an operation, or kills the process when its time has come.
    pub(super) fn count(&mut self) -> io::Result<()> {
        self.alive()?;
        if self.kill_at.is_some_and(|at| self.ops >= at) {
            self.dead = true;
            return Err(killed());
        }
        self.ops += 1;
        Ok(())
    }

    /// Arms one failure beside those already armed.
    pub(super) fn arm(&mut self, op: FaultOp, after: u64, kind: io::ErrorKind) {
        self.armed.push(Armed { op, after, kind });
    }

    /// Fails when an armed failure is due; it fires once.
    pub(super) fn strike(&mut self, op: FaultOp) -> io::Result<()> {
        let mut due = None;
        for (nth, armed) in self.armed.iter_mut().enumerate() {
            if armed.op == op {
                match armed.after.checked_sub(1) {
                    Some(left) => armed.after = left,
                    None => due = due.or(Some(nth)),
                }
            }
        }
        match due.map(|nth| self.armed.remove(nth).kind) {
            None => Ok(()),
            Some(io::ErrorKind::StorageFull) => Err(full()),
            Some(kind) => Err(io::Error::new(kind, "injected fault")),
        }
    }
}
