//! What goes wrong in a run. Each run draws which kinds it has ("swarm": a run with few kinds goes deeper than one with all),
//! then one of them every now and then, with a length, and takes it back.

use super::dice::Dice;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// One replica, the leader more often than not, hears and is heard by nobody.
    Isolate,
    /// Two groups.
    Split,
    /// Two groups with one replica in both.
    Bridge,
    /// One replica is not heard, or does not hear.
    OneWay,
    /// Slow ways.
    Slow,
    /// Lossy ways.
    Lossy,
    /// Processes killed.
    Kill,
    /// A process killed in the middle of one of its next writes.
    KillWriting,
    /// All processes killed.
    KillAll,
    /// A machine without power.
    Power,
    /// All of them.
    PowerAll,
    /// A process stopped and continued.
    Pause,
    /// Leadership handed over.
    Transfer,
    /// A clean stop.
    Stop,
    /// A slow disk.
    SlowDisk,
    /// A full disk.
    FullDisk,
    /// A sync that fails, and may drop what was written: whoever needed it ends. It is started again in the same boot, and
    /// may lose power some time later.
    SyncError,
    /// A wall clock that jumps.
    WallClock,
    /// No fault: the log is given up to some place, whoever has not got it yet.
    Trim,
    /// The leader isolated while the others are restarted: whoever forgot a vote gives another.
    Forget,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 20] = [
        Self::Isolate,
        Self::Split,
        Self::Bridge,
        Self::OneWay,
        Self::Slow,
        Self::Lossy,
        Self::Kill,
        Self::KillWriting,
        Self::KillAll,
        Self::Power,
        Self::PowerAll,
        Self::Pause,
        Self::Transfer,
        Self::Stop,
        Self::SlowDisk,
        Self::FullDisk,
        Self::SyncError,
        Self::WallClock,
        Self::Trim,
        Self::Forget,
    ];

    /// The kinds of one run: each with even odds, at least one.
    pub fn draw(dice: &mut Dice) -> Vec<Self> {
        let drawn: Vec<Self> = Self::ALL
            .into_iter()
            .filter(|_| dice.permille(400))
            .collect();
        match drawn.is_empty() {
            true => vec![Self::Isolate],
            false => drawn,
        }
    }
}

/// Something that is taken back at its time.
#[derive(Debug, Clone, Copy)]
pub enum Undo {
    /// All ways are whole and fast again.
    Network,
    /// The machine is on and its process starts.
    Start(usize),
    /// The power fails now: some time ago, and in another process, a sync did.
    Power(usize),
    /// The process goes on.
    Continue(usize),
    /// The disk is fast and has room.
    Disk(usize),
    /// Nothing: the time has come to give up a part of the log.
    Trim,
}
