//! What can be stored: one predicate for everything that ends up in the log or as a key of the metadata.
//!
//! Who proposes is refused by it ([`crate::commitlog::draft::Draft`] asks), so nothing reaches the log that apply would
//! have to leave out. What older versions let in is applied all the same, alike on every replica; see [`crate::machine`].

use raftmq_remoting::message::{MAX_PROPERTIES_LENGTH, NewMessage};

use crate::command::Command;
use crate::commitlog::queue_offsets::MAX_QUEUE_ID;
use crate::error::{Result, StoreError};
use crate::version;

/// Longest topic, bytes: a retry topic of the longest group and topic (`%RETRY%` + 255 + `_` + 127) and room to spare.
pub const MAX_TOPIC_LEN: usize = 512;
/// Longest topic that replicas of version 0 have a directory for, bytes.
pub const MAX_FIRST_TOPIC_LEN: usize = 255;
/// Longest group, key or name of any kind in the metadata, bytes.
pub const MAX_NAME_LEN: usize = 4096;
/// Properties a broker adds to a message after it was accepted, bytes: when it is due, how often its producers were
/// asked, where it is to go. A message is accepted only with so much room left.
pub const PROPERTY_ROOM: usize = 64;
/// Longest properties of a message that is accepted, bytes.
pub const MAX_ACCEPTED_PROPERTIES: usize = MAX_PROPERTIES_LENGTH - PROPERTY_ROOM;

fn refuse(what: &str, value: &str, why: &str) -> StoreError {
    let shown: String = value.chars().take(64).collect();
    StoreError::Unstorable(format!("{what} {shown:?} {why}"))
}

/// Whether a topic can have queues in a set of this version.
///
/// # Errors
/// [`StoreError::Unstorable`] with the reason.
pub fn topic(name: &str, set_version: u32) -> Result<()> {
    let (limit, why) = match set_version >= version::ANY_TOPIC {
        true => (MAX_TOPIC_LEN, "is longer than any topic"),
        false => (
            MAX_FIRST_TOPIC_LEN,
            "is too long as long as the set is not upgraded (mqadmin finalizeUpgrade)",
        ),
    };
    if name.is_empty() {
        return Err(refuse("topic", name, "is empty"));
    }
    if name.len() > limit {
        return Err(refuse("topic", name, why));
    }
    if name.starts_with('.') || name.bytes().any(|b| matches!(b, b'/' | 0)) {
        return Err(refuse("topic", name, "has characters no topic has"));
    }
    Ok(())
}

/// Whether a queue id can be stored: `0..=65535`.
///
/// # Errors
/// [`StoreError::Unstorable`].
pub fn queue_id(id: i32) -> Result<()> {
    match (0..=MAX_QUEUE_ID).contains(&id) {
        true => Ok(()),
        false => Err(refuse("queue", &id.to_string(), "is no queue id")),
    }
}

/// Whether a name can be part of a key of the metadata: not too long, and without the byte that separates the parts.
///
/// # Errors
/// [`StoreError::Unstorable`].
pub fn name(what: &str, name: &str) -> Result<()> {
    if name.len() > MAX_NAME_LEN {
        return Err(refuse(what, name, "is too long"));
    }
    if name.contains('\0') {
        return Err(refuse(what, name, "has a NUL in it"));
    }
    Ok(())
}

/// Whether a message can be stored in a set of this version. Its lengths are checked when it is encoded.
///
/// # Errors
/// [`StoreError::Unstorable`].
pub fn message(message: &NewMessage, set_version: u32) -> Result<()> {
    topic(&message.topic, set_version)?;
    queue_id(message.queue_id)
}

/// Whether a command can be applied by every member of a set of this version.
///
/// # Errors
/// [`StoreError::Unstorable`].
pub fn command(command: &Command, set_version: u32) -> Result<()> {
    let offsets = |offsets: &[crate::OffsetCommit]| {
        offsets.iter().try_for_each(|one| {
            name("group", &one.group)?;
            name("topic", &one.topic)?;
            queue_id(one.queue_id)
        })
    };
    match command {
        Command::PutTopic { config, .. } => topic(&config.topic_name, set_version),
        Command::PutGroup { config, .. } => name("group", &config.group_name),
        Command::CommitOffsets { offsets: some }
        | Command::AssignOffsets { offsets: some, .. }
        | Command::ResetsTaken { offsets: some } => offsets(some),
        Command::PutKv { namespace, key, .. } => {
            name("namespace", namespace)?;
            name("key", key)
        }
        // The raise itself is proposed when all members were asked, whatever the version is now.
        Command::SetVersion { version } if *version > version::NEWEST => Err(refuse(
            "version",
            &version.to_string(),
            "is newer than this binary",
        )),
        Command::SetVersion { .. }
        | Command::DeleteTopic { .. }
        | Command::DeleteGroup { .. }
        | Command::DeleteKv { .. }
        | Command::TrimTo { .. }
        | Command::TimerDone { .. }
        | Command::TransactionDone { .. }
        | Command::TransactionChecked { .. } => Ok(()),
    }
}
