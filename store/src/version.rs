//! The set's version: what all members of a broker set can apply.
//!
//! A command of a kind, a field or a meaning that older binaries do not know is proposed only when the *set version*
//! allows it. The set version is state of the log ([`crate::Command::SetVersion`]): it is raised when every member
//! knows the new one, at the same entry on every replica, and never lowered. Until it is raised the binaries before can
//! come back; afterwards they cannot.
//!
//! | version | since then |
//! |---|---|
//! | 0 | what replicas apply that say nothing of a version |
//! | 1 | `SetVersion`; topics of more than 255 bytes have queues; offsets committed to topics that are not there are ignored |

/// What replicas apply that say nothing of a version.
pub const FIRST: u32 = 0;
/// From here on topics whose names are no names of directories can be proposed.
pub const ANY_TOPIC: u32 = 1;
/// From here on a commit to a topic that does not exist stores nothing.
pub const COMMITS_NEED_TOPICS: u32 = 1;
/// The newest version this binary knows.
pub const NEWEST: u32 = 1;
