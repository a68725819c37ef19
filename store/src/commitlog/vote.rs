//! The vote, in a file of its own: two slots, each with a sequence number and a checksum, written and fsynced one after
//! the other. A torn write leaves the other slot with the vote before; a slot that rots leaves the other one with the
//! same vote. A forgotten vote could elect two leaders in one term.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Result, StoreError};
use crate::sabotage::{self, Sabotage, sync_data};
use crate::vfs::{File, FileSystem};

const SLOT: usize = 4096;
const MAGIC: u32 = 0x564F_5431;
const HEADER: usize = 20;
/// Largest vote, bytes.
const MAX_VOTE: usize = SLOT - HEADER;

/// The vote file of one replica.
pub struct VoteFile {
    file: Arc<dyn File>,
    sequence: u64,
    current: Option<Vec<u8>>,
}

fn decode(slot: &[u8]) -> Option<(u64, Vec<u8>)> {
    let word = |at: usize| super::format::read_u32(slot, at).unwrap_or(0);
    let len = word(16) as usize;
    if word(0) != MAGIC || len > MAX_VOTE || word(4) != crc32c::crc32c(&slot[8..HEADER + len]) {
        return None;
    }
    let sequence = u64::from(word(8)) << 32 | u64::from(word(12));
    Some((sequence, slot[HEADER..HEADER + len].to_vec()))
}

impl VoteFile {
    /// Opens or makes the file. The vote it holds is written again and fsynced: whatever it is used for, it is durable.
    ///
    /// # Errors
    /// I/O, and [`StoreError::Corrupt`] when the file has been written but neither slot is whole.
    pub fn open(fs: &dyn FileSystem, path: &Path) -> Result<Self> {
        let failed = |e| StoreError::io(format!("open {}", path.display()), e);
        let existed = fs.exists(path);
        let file = fs.open(path, true).map_err(failed)?;
        if !existed || file.len().map_err(failed)? < 2 * SLOT as u64 {
            file.set_len(2 * SLOT as u64).map_err(failed)?;
            file.sync_data().map_err(failed)?;
            if let Some(dir) = path.parent() {
                fs.sync_dir(dir).map_err(failed)?;
            }
        }
        let mut bytes = vec![0; 2 * SLOT];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        let best = bytes
            .chunks(SLOT)
            .filter_map(decode)
            .max_by_key(|(sequence, _)| *sequence);
        if best.is_none() && bytes.iter().any(|b| *b != 0) {
            return Err(StoreError::corrupt(
                path.display().to_string(),
                "no slot with a good checksum",
            ));
        }
        let (sequence, current) = best.map_or((0, None), |(sequence, vote)| (sequence, Some(vote)));
        let vote = Self {
            file,
            sequence,
            current,
        };
        // The last process may have been killed before it was synced, or after a sync that failed: then it is in the page
        // cache alone, and no later sync would write it.
        if let Some(current) = &vote.current
            && !sabotage::on(Sabotage::TrustPageCache)
        {
            vote.write(sequence, current)?;
        }
        Ok(vote)
    }

    /// Writes and fsyncs.
    ///
    /// # Errors
    /// I/O; the writer is poisoned then.
    pub fn save(&mut self, vote: &[u8]) -> Result<()> {
        if vote.len() > MAX_VOTE {
            return Err(StoreError::TooLarge {
                size: vote.len(),
                limit: MAX_VOTE,
            });
        }
        let sequence = self.sequence + 1;
        self.write(sequence, vote)?;
        self.sequence = sequence;
        self.current = Some(vote.to_vec());
        Ok(())
    }

    /// Writes and fsyncs one slot after the other.
    fn write(&self, sequence: u64, vote: &[u8]) -> Result<()> {
        let mut slot = vec![0; SLOT];
        slot[0..4].copy_from_slice(&MAGIC.to_be_bytes());
        slot[8..16].copy_from_slice(&sequence.to_be_bytes());
        slot[16..20].copy_from_slice(&(vote.len() as u32).to_be_bytes());
        slot[HEADER..HEADER + vote.len()].copy_from_slice(vote);
        let crc = crc32c::crc32c(&slot[8..HEADER + vote.len()]);
        slot[4..8].copy_from_slice(&crc.to_be_bytes());
        let failed = |e| StoreError::io("save the vote", e);
        let slot = Bytes::from(slot);
        for at in [0, SLOT as u64] {
            self.file
                .write_all_vectored_at(std::slice::from_ref(&slot), at)
                .map_err(failed)?;
            sync_data(self.file.as_ref()).map_err(failed)?;
        }
        Ok(())
    }

    /// The last saved vote.
    pub fn current(&self) -> Option<&[u8]> {
        self.current.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::RealFs;

    #[test]
    fn the_vote_survives_the_rot_of_a_slot() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("vote");
        let mut file = VoteFile::open(&RealFs, &path).expect("opens");
        assert_eq!(file.current(), None);
        file.save(b"one").expect("saves");
        file.save(b"two").expect("saves");
        assert_eq!(
            VoteFile::open(&RealFs, &path).expect("opens").current(),
            Some(&b"two"[..])
        );

        // One slot rots, the other has the same vote.
        let mut bytes = std::fs::read(&path).expect("reads");
        bytes[HEADER] ^= 0xFF;
        std::fs::write(&path, &bytes).expect("writes");
        assert_eq!(
            VoteFile::open(&RealFs, &path).expect("opens").current(),
            Some(&b"two"[..])
        );

        bytes[SLOT + HEADER] ^= 0xFF;
        std::fs::write(&path, &bytes).expect("writes");
        assert!(
            VoteFile::open(&RealFs, &path).is_err(),
            "a vote that cannot be read is never taken for no vote"
        );
    }
}
