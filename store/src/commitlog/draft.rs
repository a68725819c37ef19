//! An entry before its place in the log is known. The propose loop copies messages into it once; `append` stamps
//! that buffer in place and the same buffer is written, replicated and kept for readers.

use bytes::Bytes;
use raftmq_remoting::ByteStr;
use raftmq_remoting::message::{self, NewMessage};

use super::format::{
    COMMAND_HEADER_LEN, COMMAND_MAGIC, EntryKind, HEADER_LEN, Header, MAX_ENTRY_LEN,
};
use super::queue_offsets::QueueOffsets;
use crate::command::Command;
use crate::error::{Result, StoreError};
use crate::machine::is_queued;
use crate::{storable, version};

/// Where a message went: what a SEND_OK tells the producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Offset in its consume queue, entries.
    pub queue_offset: i64,
    /// Byte position in the logical commitlog.
    pub physical_offset: i64,
    /// Milliseconds since the epoch, never smaller than that of an earlier message.
    pub store_timestamp: i64,
}

/// The place that `append` gives an entry.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Raft index.
    pub index: u64,
    /// Raft term.
    pub term: u64,
    /// Byte position.
    pub position: u64,
    /// Position of the entry before.
    pub previous: u64,
    /// CRC of the entry before.
    pub previous_crc: u32,
    /// Timestamp for all its messages.
    pub store_timestamp: i64,
}

/// An unstamped entry.
#[derive(Debug)]
pub struct Draft {
    kind: EntryKind,
    /// The version of the set it is meant for.
    set_version: u32,
    buf: Vec<u8>,
    /// What moves queue offsets, in the order of the records.
    steps: Vec<Step>,
    records: u32,
}

#[derive(Debug)]
enum Step {
    /// A message record starts here in `buf`; with its queue, unless it goes to none.
    Message(u32, Option<(ByteStr, i32)>),
    /// A command deletes this topic.
    DropTopic(String),
}

impl Draft {
    /// An empty entry of messages and commands, for a set of the newest version.
    pub fn new(capacity: usize) -> Self {
        Self::with_capacity(EntryKind::Normal, capacity)
    }

    /// An empty entry that every member of a set of this version can apply.
    pub fn for_set(set_version: u32, capacity: usize) -> Self {
        Self {
            set_version,
            ..Self::new(capacity)
        }
    }

    fn with_kind(kind: EntryKind) -> Self {
        Self::with_capacity(kind, HEADER_LEN)
    }

    fn with_capacity(kind: EntryKind, capacity: usize) -> Self {
        let mut buf = Vec::with_capacity(capacity.max(HEADER_LEN));
        buf.resize(HEADER_LEN, 0);
        Self {
            kind,
            set_version: version::NEWEST,
            buf,
            steps: Vec::new(),
            records: 0,
        }
    }

    /// A new leader's first entry.
    pub fn blank() -> Self {
        Self::with_kind(EntryKind::Blank)
    }

    /// A membership entry with the Raft layer's encoding.
    pub fn membership(encoded: &[u8]) -> Self {
        let mut draft = Self::with_kind(EntryKind::Membership);
        draft.push_raw(encoded);
        draft
    }

    fn push_raw(&mut self, payload: &[u8]) {
        let size = (COMMAND_HEADER_LEN + payload.len()) as u32;
        self.buf.extend_from_slice(&size.to_be_bytes());
        self.buf.extend_from_slice(&COMMAND_MAGIC.to_be_bytes());
        self.buf.extend_from_slice(payload);
        self.records += 1;
    }

    /// Adds a message.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when the entry would pass [`MAX_ENTRY_LEN`], [`StoreError::Unstorable`] for a message that
    /// could not be applied; the draft is unchanged.
    pub fn push_message(&mut self, message: &NewMessage) -> Result<()> {
        storable::message(message, self.set_version)?;
        self.room_for(message.encoded_len())?;
        let at = self.buf.len() as u32;
        let encoded = message.try_encode_into(&mut self.buf);
        encoded.map_err(|e| StoreError::Unstorable(e.to_string()))?;
        let queue = is_queued(message.sys_flag).then(|| (message.topic.clone(), message.queue_id));
        self.steps.push(Step::Message(at, queue));
        self.records += 1;
        Ok(())
    }

    /// Adds a state change.
    ///
    /// # Errors
    /// As [`Draft::push_message`].
    pub fn push_command(&mut self, command: &Command) -> Result<()> {
        storable::command(command, self.set_version)?;
        let encoded = command.encode();
        self.room_for(encoded.len() + COMMAND_HEADER_LEN)?;
        self.push_raw(&encoded);
        if let Command::DeleteTopic { topic, .. } = command {
            self.steps.push(Step::DropTopic(topic.clone()));
        }
        Ok(())
    }

    fn room_for(&self, more: usize) -> Result<()> {
        let size = self.buf.len() + more;
        if size > MAX_ENTRY_LEN {
            return Err(StoreError::TooLarge {
                size,
                limit: MAX_ENTRY_LEN,
            });
        }
        Ok(())
    }

    /// Whole size, header included, bytes.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether it has no record.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Gives every message its queue offset, physical offset and store time, then seals the entry.
    pub(crate) fn stamp(
        mut self,
        place: Place,
        offsets: &mut QueueOffsets,
    ) -> (Header, Bytes, Vec<Placed>) {
        let mut placed = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let (at, queue) = match step {
                Step::Message(at, queue) => (*at as usize, queue),
                Step::DropTopic(topic) => {
                    offsets.drop_topic(place.index, topic);
                    continue;
                }
            };
            let record = &mut self.buf[at..];
            let queue_offset = match queue {
                Some((topic, queue_id)) => offsets.take_next(topic, *queue_id),
                None => 0,
            };
            let one = Placed {
                queue_offset,
                physical_offset: (place.position + at as u64) as i64,
                store_timestamp: place.store_timestamp,
            };
            message::stamp(
                record,
                one.queue_offset,
                one.physical_offset,
                one.store_timestamp,
            );
            placed.push(one);
        }
        let header = Header {
            size: self.buf.len() as u32,
            index: place.index,
            term: place.term,
            position: place.position,
            previous: place.previous,
            previous_crc: place.previous_crc,
            crc: 0,
            records: self.records,
            kind: self.kind,
        }
        .seal(&mut self.buf);
        (header, Bytes::from(self.buf), placed)
    }
}
