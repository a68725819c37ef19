//! Making queues durable: what is only in memory goes to the files, the files to the disk, then the table that speaks of
//! them. The apply thread only notes the numbers ([`QueueTable::cut`]); everything slow happens on another thread, while
//! apply goes on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::dirty::Dirty;
use super::file_of;
use super::queue::ConsumeQueue;
use super::shared::Place;
use super::table::QueueTable;
use super::table_file::{Image, Row};
use crate::error::{Result, StoreError};

/// The ends of all queues between two entries.
pub struct TableCut {
    index: u64,
    position: u64,
    /// Which directory contents this is about.
    epoch: u64,
    queues: Vec<(Arc<ConsumeQueue>, i64)>,
}

impl TableCut {
    /// Raft index of the last entry that is in the queues.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Byte position of the log after it.
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl QueueTable {
    /// The queues as they are now, when the entry at `index`, which ends at `position` of the log, is the last one
    /// applied. On the apply thread, with nothing staged.
    pub fn cut(&self, index: u64, position: u64) -> TableCut {
        let epoch = self.epoch.load(Ordering::Acquire);
        let topics = self.topics.read();
        // One pass more over the topics costs less than growing on the way.
        let mut queues = Vec::with_capacity(topics.values().map(Vec::len).sum());
        for queue in topics.values().flatten().flatten() {
            queues.push((queue.clone(), queue.max()));
        }
        TableCut {
            index,
            position,
            epoch,
            queues,
        }
    }

    /// Makes the queues durable as of a cut: all entries up to it in files, these synced, then the table. Any thread;
    /// one checkpoint at a time.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the queues were cleared after the cut; the table is untouched then. I/O: after a
    /// failed sync every further checkpoint is [`StoreError::Poisoned`]; other failures may be tried again.
    pub fn checkpoint(&self, cut: TableCut) -> Result<()> {
        let mut poisoned = self.poisoned.lock();
        if let Some(why) = &*poisoned {
            return Err(StoreError::Poisoned(why.clone()));
        }
        self.write_all()?;
        for (queue, _) in &cut.queues {
            // Again, each: another thread may be at work on one that has left the list.
            queue.write_out()?;
        }
        let dirty = self.shared.dirty.lock().take();
        self.sync(dirty, &mut poisoned)?;
        // Against a trim that has moved `min` and is about to delete files, and against `clear`.
        let _table = self.table_file.lock();
        if cut.epoch != self.epoch.load(Ordering::Acquire) {
            return Err(StoreError::Refused(
                "the consume queues were cleared after the cut".to_owned(),
            ));
        }
        let image = Image {
            index: cut.index,
            position: cut.position,
            log_start: self.trimmed_to(),
            // A queue deleted since the cut is left out: its files are gone, and the entry that deleted it comes
            // after `index`, so that it is applied again.
            rows: cut
                .queues
                .iter()
                .filter(|(queue, _)| !queue.is_gone())
                .map(|(queue, max)| Row {
                    topic: queue.topic.clone(),
                    id: queue.id,
                    // The present one, for files before it may be gone already.
                    min: queue.min().min(*max),
                    max: *max,
                })
                .collect(),
        };
        image.write(&*self.shared.fs, &self.shared.table_path())
    }

    fn sync(&self, dirty: Dirty, poisoned: &mut Option<String>) -> Result<()> {
        let fs = &self.shared.fs;
        let mut poison = |what: String, error: io::Error| {
            let error = StoreError::io(what, error);
            *poisoned = Some(error.to_string());
            error
        };
        if dirty.all {
            let dir = &self.shared.dir;
            return fs
                .sync_all(dir)
                .map_err(|e| poison(format!("sync all of {}", dir.display()), e));
        }
        for ((uid, number), (topic, id)) in &dirty.files {
            let place = Place {
                uid: *uid,
                topic,
                id: *id,
                number: *number,
            };
            match self.shared.existing(place) {
                Ok(Some(file)) => file
                    .sync_data()
                    .map_err(|e| poison(format!("sync a file of {topic}-{id}"), e))?,
                Ok(None) => self.lost(place),
                Err(error) => {
                    // Not a failed sync: the next checkpoint can make up for it.
                    self.shared.dirty.lock().everything();
                    return Err(error);
                }
            }
        }
        for dir in &dirty.dirs {
            match fs.sync_dir(dir) {
                // Deleted since; the directory above it has been noted.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                synced => {
                    synced.map_err(|e| poison(format!("sync {}", dir.display()), e))?;
                }
            }
        }
        Ok(())
    }

    /// A written file that is not there: trimmed, or its queue deleted, or damage.
    fn lost(&self, place: Place<'_>) {
        if let Some(queue) = self.get(place.topic, place.id)
            && queue.uid() == place.uid
            && file_of(queue.min()) <= place.number
        {
            queue.note_damaged();
        }
    }

    /// Puts the present first offsets into the table on disk, which stays as of its entry.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn save_mins(&self) -> Result<()> {
        let _table = self.table_file.lock();
        let path = self.shared.table_path();
        let mut image = match Image::read(&*self.shared.fs, &path) {
            Ok(Some(image)) => image,
            // Without a table, everything is rebuilt anyway.
            Ok(None) | Err(StoreError::Corrupt { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        for row in &mut image.rows {
            // A queue of that name made since is no matter: the row's own deletion is applied again before it is used.
            if let Some(queue) = self.get(&row.topic, row.id) {
                row.min = queue.min().clamp(row.min, row.max);
            }
        }
        image.log_start = image.log_start.max(self.trimmed_to());
        image.write(&*self.shared.fs, &path)
    }
}
