//! Controls that must fail: promises that can be broken on purpose, one at a time, to see that tests notice. A check that
//! cannot fail says nothing about what passes it.
//!
//! Only with the feature `sabotage`, which no release has: `mqbroker` cannot be built with it, `mqbroker-sabotaged` only with
//! it. Without it [`on`] is a constant, and what it guards is not in the program.

use std::io;

use crate::vfs::File;

/// Whether this program can be told to break its promises.
pub const BUILT_IN: bool = cfg!(feature = "sabotage");

/// A promise to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// A send is answered when the leader has it, whatever the acknowledgement level and its lease.
    AckBeforeCommit,
    /// Log and vote are said to be fsynced and are not.
    IgnoreFsync,
    /// A start does not know of the last term it voted in, nor of a lease it may have granted.
    ForgetVote,
    /// Who led last counts as leader until it hears of another.
    SkipLeaseCheck,
    /// Apply stops at a message whose topic is no name of a directory.
    FragileApply,
    /// A start takes what it reads for what the disk holds, and does not write it again.
    TrustPageCache,
}

impl Sabotage {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::AckBeforeCommit,
        Self::IgnoreFsync,
        Self::ForgetVote,
        Self::SkipLeaseCheck,
        Self::FragileApply,
        Self::TrustPageCache,
    ];

    /// How it is called on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::AckBeforeCommit => "ack-before-commit",
            Self::IgnoreFsync => "ignore-fsync",
            Self::ForgetVote => "forget-vote",
            Self::SkipLeaseCheck => "skip-lease-check",
            Self::FragileApply => "fragile-apply",
            Self::TrustPageCache => "trust-page-cache",
        }
    }
}

impl std::str::FromStr for Sabotage {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|s| s.name() == name);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("no sabotage is called {name:?}; there are {known}")
        })
    }
}

/// Whether this promise is broken.
#[cfg(not(feature = "sabotage"))]
pub const fn on(_which: Sabotage) -> bool {
    false
}

#[cfg(feature = "sabotage")]
pub use chosen::{choose, choose_from_environment, on};

#[cfg(feature = "sabotage")]
mod chosen {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Sabotage;

    /// Where a program looks for what it shall break.
    const VARIABLE: &str = "RAFTMQ_SABOTAGE";
    const NOTHING: u8 = u8::MAX;

    static CHOSEN: AtomicU8 = AtomicU8::new(NOTHING);

    /// Whether this promise is broken.
    pub fn on(which: Sabotage) -> bool {
        CHOSEN.load(Ordering::Relaxed) == which as u8
    }

    /// Breaks this promise in the whole process from now on, or none.
    pub fn choose(which: Option<Sabotage>) {
        CHOSEN.store(which.map_or(NOTHING, |w| w as u8), Ordering::Relaxed);
    }

    /// Breaks what `RAFTMQ_SABOTAGE` names, and says so aloud.
    ///
    /// # Errors
    /// A name that is none.
    pub fn choose_from_environment() -> Result<(), String> {
        let Ok(name) = std::env::var(VARIABLE) else {
            tracing::error!("this program was built to be sabotaged; {VARIABLE} names nothing");
            return Ok(());
        };
        let which: Sabotage = name.parse()?;
        choose(Some(which));
        tracing::error!("SABOTAGED: {name}. This program loses messages on purpose");
        Ok(())
    }
}

/// `fdatasync` of the log or the vote.
pub(crate) fn sync_data(file: &dyn File) -> io::Result<()> {
    match on(Sabotage::IgnoreFsync) {
        true => Ok(()),
        false => file.sync_data(),
    }
}
