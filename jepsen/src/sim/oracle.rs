//! What must be true whatever goes wrong, looked at after every turn of every replica.
//!
//! - Two replicas never lead in one term.
//! - Entries with the same index and term are the same; because each repeats the checksum of the one before, so is all before.
//! - What one replica applied at an index, every replica applies there; so it never changes, and what is applied anywhere is a
//!   prefix of it.
//! - Who leads in the newest term has everything that was committed.
//! - A consumer never sees what is not committed; offsets of a queue have no gaps and no repetitions.
//! - A replica that serves shows everything that was acknowledged before.
//! - A consumer offset that was acknowledged does not go back.
//! - A message that was acknowledged is where the answer said, for ever; none is stored twice.
//! - What was refused for certain is not stored, neither then nor later.

use std::collections::{BTreeMap, HashMap, HashSet};

use raftmq_raft::{ProposeError, Replica, Stored};
use raftmq_remoting::message::StoredRecord;
use raftmq_store::Command;
use raftmq_store::command::Reading;
use raftmq_store::commitlog::CommitLog;
use raftmq_store::commitlog::format::{EntryKind, Record, records};
use raftmq_store::commitlog::tail::RawEntry;

use super::host::Look;
use super::world::{GROUP, QUEUES, TOPIC};

/// Bytes of log read at once.
const PIECE: usize = 1 << 20;

/// An entry, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    term: u64,
    crc: u32,
}

/// A message's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its queue.
    pub queue: usize,
    /// Its offset there.
    pub offset: i64,
}

/// See the module's text.
pub struct Oracle {
    /// Each replica's log.
    logs: Vec<Vec<Seen>>,
    /// Checksum by index and term.
    known: HashMap<(u64, u64), u32>,
    committed: Vec<Seen>,
    /// Committed messages by queue, and where each value is.
    queues: [Vec<u64>; QUEUES],
    places: HashMap<u64, Place>,
    /// Acknowledged values, and next offsets that follow from them.
    acked: BTreeMap<Place, u64>,
    acked_next: [i64; QUEUES],
    leaders: HashMap<u64, usize>,
    newest_term: u64,
    /// Values and consumer offsets that were refused.
    refused: HashSet<u64>,
    /// Consumer offsets as the log says, and all there were.
    offsets: [i64; QUEUES],
    stored_offsets: HashSet<u64>,
    /// The last one that was acknowledged.
    acked_offsets: [i64; QUEUES],
    /// The log before this index is given up somewhere.
    purged: u64,
}

/// What a client may rely on at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Promised {
    /// Next offset of each queue.
    pub next: [i64; QUEUES],
    /// Consumer offset of each queue.
    pub offsets: [i64; QUEUES],
}

type Check = Result<(), String>;

impl Oracle {
    /// For so many replicas.
    pub fn new(replicas: usize) -> Self {
        Self {
            logs: vec![Vec::new(); replicas],
            known: HashMap::new(),
            committed: Vec::new(),
            queues: Default::default(),
            places: HashMap::new(),
            acked: BTreeMap::new(),
            acked_next: [0; QUEUES],
            leaders: HashMap::new(),
            newest_term: 0,
            refused: HashSet::new(),
            offsets: [0; QUEUES],
            stored_offsets: HashSet::new(),
            acked_offsets: [0; QUEUES],
            purged: 0,
        }
    }

    /// What follows from what is acknowledged so far.
    pub fn promised(&self) -> Promised {
        Promised {
            next: self.acked_next,
            offsets: self.acked_offsets,
        }
    }

    /// A client was told that its offset is stored. It stores greater and greater ones, one after the other.
    pub fn acknowledge_offset(&mut self, queue: usize, offset: i64) {
        self.acked_offsets[queue] = self.acked_offsets[queue].max(offset);
    }

    /// Entries given up on the replica that gave up most.
    pub fn purged(&self) -> u64 {
        self.purged
    }

    /// Messages acknowledged.
    pub fn acked(&self) -> usize {
        self.acked.len()
    }

    /// Terms that somebody led in.
    pub fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// Entries committed.
    pub fn committed(&self) -> usize {
        self.committed.len()
    }

    /// A client was told that these values are stored.
    ///
    /// # Errors
    /// Something else is there.
    pub fn acknowledge(&mut self, values: &[u64], queue: usize, stored: &Stored) -> Check {
        if values.len() != stored.placed.len() {
            return Err(format!(
                "{} messages, {} places",
                values.len(),
                stored.placed.len()
            ));
        }
        for (value, placed) in values.iter().zip(&stored.placed) {
            let place = Place {
                queue,
                offset: placed.queue_offset,
            };
            if let Some(other) = self.acked.insert(place, *value) {
                return Err(format!(
                    "{other} and {value} were both acknowledged at {place:?}"
                ));
            }
            self.acked_next[queue] = self.acked_next[queue].max(place.offset + 1);
            if let Some(there) = self.queues[queue].get(place.offset as usize)
                && there != value
            {
                return Err(format!(
                    "lost: {value} was acknowledged at {place:?}, where {there} is committed"
                ));
            }
        }
        Ok(())
    }

    /// A client was told that nothing of these is stored: values, or the one consumer offset.
    ///
    /// # Errors
    /// One of them is.
    pub fn refuse(&mut self, values: &[u64], why: &ProposeError) -> Check {
        for value in values {
            if self.places.contains_key(value) || self.stored_offsets.contains(value) {
                return Err(format!("{value} was refused ({why}) and is committed"));
            }
            self.refused.insert(*value);
        }
        Ok(())
    }

    fn is_allowed(&self, value: u64) -> Check {
        match self.refused.contains(&value) {
            true => Err(format!("{value} is committed after it was refused")),
            false => Ok(()),
        }
    }

    /// What was seen of a replica; `promised` is what was acknowledged before its turn.
    ///
    /// # Errors
    /// Something that must be true is not.
    pub fn check(
        &mut self,
        host: usize,
        look: &Look,
        replica: &Replica,
        promised: Promised,
    ) -> Check {
        self.one_leader(host, look)?;
        self.follow(host, look, replica.log())?;
        self.applied(host, look, replica.log())?;
        self.complete(host, look)?;
        for (queue, next) in look.next_offset.iter().enumerate() {
            if *next > self.queues[queue].len() as i64 {
                return Err(format!(
                    "dirty read: n{host} shows {next} messages of queue {queue}, {} are committed",
                    self.queues[queue].len()
                ));
            }
            if look.serving && *next < promised.next[queue] {
                return Err(format!(
                    "stale read: n{host} serves and shows {next} messages of queue {queue}, {} were acknowledged",
                    promised.next[queue]
                ));
            }
            if look.serving && look.offsets[queue] < promised.offsets[queue] {
                return Err(format!(
                    "stale read: n{host} serves and says that queue {queue} is consumed to {}, {} was acknowledged",
                    look.offsets[queue], promised.offsets[queue]
                ));
            }
        }
        Ok(())
    }

    fn one_leader(&mut self, host: usize, look: &Look) -> Check {
        let Some(term) = look.leads_in else {
            return Ok(());
        };
        self.newest_term = self.newest_term.max(term);
        match *self.leaders.entry(term).or_insert(host) {
            leader if leader == host => Ok(()),
            leader => Err(format!("two leaders: n{leader} and n{host} in term {term}")),
        }
    }

    /// Takes over what is new in a replica's log.
    fn follow(&mut self, host: usize, look: &Look, log: &CommitLog) -> Check {
        let Some(last) = look.last else {
            self.logs[host].clear();
            return Ok(());
        };
        let end = last.index + 1;
        let own = &mut self.logs[host];
        let floor = log.bounds().0.map_or(0, |p| p.index as usize + 1);
        self.purged = self.purged.max(floor as u64);
        if own.get(floor.wrapping_sub(1)) != self.committed.get(floor.wrapping_sub(1)) {
            // A snapshot took the place of what was there.
            let Some(given_up) = self.committed.get(..floor) else {
                return Err(format!(
                    "n{host} has given up {floor} entries, {} are committed",
                    self.committed.len()
                ));
            };
            *own = given_up.to_vec();
        }
        let read = |from: u64, to: u64| read(log, host, from, to);
        let seen = |entry: &RawEntry| Seen {
            term: entry.header.term,
            crc: entry.header.crc,
        };
        own.truncate(end as usize);
        // Back to where it was the same, which one checksum tells.
        while let Some(newest) = own.last().filter(|_| own.len() > floor) {
            let at = own.len() as u64 - 1;
            match read(at, at + 1)?.first() {
                Some(entry) if seen(entry) == *newest => break,
                _ => own.pop(),
            };
        }
        if own.len() as u64 == end {
            return Ok(());
        }
        for entry in read(own.len() as u64, end)? {
            let (index, seen) = (entry.header.index, seen(&entry));
            if index != own.len() as u64 {
                return Err(format!("n{host}: entry {index} follows {}", own.len()));
            }
            let known = *self.known.entry((index, seen.term)).or_insert(seen.crc);
            if known != seen.crc {
                return Err(format!(
                    "logs differ: entry {index} of term {} is {:08x} on n{host} and {known:08x} elsewhere",
                    seen.term, seen.crc
                ));
            }
            own.push(seen);
        }
        Ok(())
    }

    /// Holds what a replica applied against what is committed, and learns what is.
    fn applied(&mut self, host: usize, look: &Look, log: &CommitLog) -> Check {
        let Some(applied) = look.applied else {
            return Ok(());
        };
        let own = &self.logs[host];
        let Some(entry) = own.get(applied.index as usize).copied() else {
            return Err(format!(
                "n{host} has applied entry {}, and its log ends before {}",
                applied.index,
                own.len()
            ));
        };
        let from = self.committed.len() as u64;
        if let Some(committed) = self.committed.get(applied.index as usize) {
            return match *committed == entry {
                true => Ok(()),
                false => Err(format!(
                    "committed entry {} changed: {committed:?}, on n{host} {entry:?}",
                    applied.index
                )),
            };
        }
        if let Some(committed) = self.committed.last()
            && *committed != own[self.committed.len() - 1]
        {
            return Err(format!(
                "committed entry {} changed: {committed:?}, on n{host} {:?}",
                from - 1,
                own[self.committed.len() - 1]
            ));
        }
        for raw in read(log, host, from, applied.index + 1)? {
            self.committed.push(Seen {
                term: raw.header.term,
                crc: raw.header.crc,
            });
            self.commit(&raw)?;
        }
        Ok(())
    }

    fn commit(&mut self, raw: &RawEntry) -> Check {
        for record in records(&raw.bytes) {
            let bytes = match record.map_err(|e| e.to_string())? {
                Record::Message { bytes, .. } => bytes,
                Record::Command(bytes) if raw.header.kind == EntryKind::Normal => {
                    let command = match Command::read(bytes) {
                        Reading::Known(command) => command,
                        other => return Err(format!("no command: {other:?}")),
                    };
                    if let Command::CommitOffsets { offsets } = command {
                        for commit in offsets {
                            self.is_allowed(commit.offset as u64)?;
                            self.stored_offsets.insert(commit.offset as u64);
                            self.offsets[commit.queue_id as usize] = commit.offset;
                        }
                    }
                    continue;
                }
                Record::Command(_) => continue,
            };
            let view = StoredRecord::parse(bytes).map_err(|e| e.to_string())?;
            let value = value_of(&view)?;
            self.is_allowed(value)?;
            let place = Place {
                queue: view.queue_id() as usize,
                offset: view.queue_offset(),
            };
            let queue = &mut self.queues[place.queue];
            if place.offset != queue.len() as i64 {
                return Err(format!(
                    "{value} is committed at {place:?}, the next offset is {}",
                    queue.len()
                ));
            }
            queue.push(value);
            if let Some(before) = self.places.insert(value, place) {
                return Err(format!("{value} is stored twice: {before:?} and {place:?}"));
            }
            if let Some(lost) = self.acked.get(&place).filter(|v| **v != value) {
                return Err(format!(
                    "lost: {lost} was acknowledged at {place:?}, where {value} is committed"
                ));
            }
        }
        Ok(())
    }

    /// The newest leader has everything that is committed.
    fn complete(&self, host: usize, look: &Look) -> Check {
        if look.leads_in != Some(self.newest_term) || self.committed.is_empty() {
            return Ok(());
        }
        let newest = self.committed.len() - 1;
        match self.logs[host].get(newest) {
            Some(entry) if Some(entry) == self.committed.last() => Ok(()),
            entry => Err(format!(
                "incomplete leader: n{host} leads in term {} and has {entry:?} as entry {newest}, committed is {:?}",
                self.newest_term,
                self.committed.last()
            )),
        }
    }

    /// Whether two replicas have the same log.
    pub fn same_log(&self, one: usize, other: usize) -> bool {
        self.logs[one] == self.logs[other]
    }

    /// At the end: what is acknowledged is committed where it was said, and every consumer of this replica reads exactly that.
    ///
    /// # Errors
    /// It is not so.
    pub fn check_end(&self, host: usize, replica: &Replica) -> Check {
        for (place, value) in &self.acked {
            let there = self.queues[place.queue].get(place.offset as usize);
            if there != Some(value) {
                return Err(format!(
                    "lost: {value} was acknowledged at {place:?}, there is {there:?}"
                ));
            }
        }
        for (queue, values) in self.queues.iter().enumerate() {
            let (first, _) = replica.queue_range(TOPIC, queue as i32).unwrap_or((0, 0));
            let values = values.get(first as usize..).unwrap_or_default();
            let entries = replica
                .read_queue(TOPIC, queue as i32, first, values.len() + 1)
                .map_err(|e| e.to_string())?;
            if entries.len() != values.len() {
                return Err(format!(
                    "n{host} has {} messages in queue {queue} from offset {first} on, committed are {}",
                    entries.len(),
                    values.len()
                ));
            }
            let said = replica.state().offset(GROUP, TOPIC, queue as i32);
            if said.unwrap_or(0) != self.offsets[queue] {
                return Err(format!(
                    "n{host} says that queue {queue} is consumed to {said:?}, the log says {}",
                    self.offsets[queue]
                ));
            }
            for (entry, value) in entries.iter().zip(values) {
                let bytes = replica.read_queued(TOPIC, queue as i32, entry);
                let bytes = bytes.map_err(|e| format!("n{host} queue {queue}: {e}"))?;
                let view = StoredRecord::parse(&bytes).map_err(|e| e.to_string())?;
                let read = value_of(&view)?;
                if read != *value {
                    return Err(format!(
                        "n{host} reads {read} at offset {} of queue {queue}, {value} is committed",
                        entry.queue_offset
                    ));
                }
            }
        }
        Ok(())
    }
}

fn read(log: &CommitLog, host: usize, from: u64, to: u64) -> Result<Vec<RawEntry>, String> {
    let mut all: Vec<RawEntry> = Vec::new();
    while let next = from + all.len() as u64
        && next < to
    {
        let more = log
            .read_entries(next, to, PIECE)
            .map_err(|e| format!("n{host} cannot read entry {next}: {e}"))?;
        if more.is_empty() {
            return Err(format!("n{host} has no entry {next}"));
        }
        all.extend(more);
    }
    Ok(all)
}

fn value_of(view: &StoredRecord<'_>) -> Result<u64, String> {
    let text = String::from_utf8_lossy(view.body());
    text.parse()
        .map_err(|_| format!("a message that nobody sent: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_must_not_be_committed_before_or_after() {
        let mut oracle = Oracle::new(3);
        oracle.refuse(&[7], &ProposeError::Busy).unwrap();
        assert!(oracle.is_allowed(7).is_err());
        oracle.is_allowed(8).unwrap();
        let place = Place {
            queue: 0,
            offset: 0,
        };
        oracle.places.insert(8, place);
        oracle.stored_offsets.insert(9);
        for stored in [8, 9] {
            assert!(oracle.refuse(&[stored], &ProposeError::Busy).is_err());
        }
    }
}
