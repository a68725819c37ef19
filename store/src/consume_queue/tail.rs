//! The newest entries of a queue, which no file has yet, and those of the apply batch under way.

use super::entry::QueueEntry;

/// In offset order: what readers see and is to be written out, then what is staged.
#[derive(Default)]
pub(super) struct Tail {
    entries: Vec<QueueEntry>,
    /// How many of them are published: consecutive, the last one just before the queue's `max`.
    published: usize,
    /// The table's list of queues to write out has this one.
    pub listed: bool,
}

impl Tail {
    /// Adds to the batch under way; true for its first.
    pub fn stage(&mut self, entry: QueueEntry) -> bool {
        self.entries.push(entry);
        self.entries.len() == self.published + 1
    }

    /// The batch under way.
    pub fn staged(&self) -> &[QueueEntry] {
        &self.entries[self.published..]
    }

    /// Publishes the batch, which follows what is there.
    pub fn publish(&mut self) {
        self.published = self.entries.len();
    }

    /// Forgets the batch under way.
    pub fn drop_staged(&mut self) {
        self.entries.truncate(self.published);
        self.trim_room();
    }

    /// What is published and in no file.
    pub fn published(&self) -> &[QueueEntry] {
        &self.entries[..self.published]
    }

    /// The published ones of `[from, end)`.
    pub fn range(&self, from: i64, end: i64) -> &[QueueEntry] {
        let published = self.published();
        let Some(first) = published.first().map(|e| e.queue_offset) else {
            return published;
        };
        let nth = |offset: i64| {
            offset
                .saturating_sub(first)
                .clamp(0, published.len() as i64)
        };
        let (from, end) = (nth(from) as usize, nth(end) as usize);
        &published[from.min(end)..end]
    }

    /// Forgets the first `count` published ones: files have them now.
    pub fn forget(&mut self, count: usize) {
        self.entries.drain(..count);
        self.published -= count;
        self.trim_room();
    }

    /// Most queues are idle: the room of what they had must not stay taken.
    fn trim_room(&mut self) {
        self.entries.shrink_to_fit();
    }
}
