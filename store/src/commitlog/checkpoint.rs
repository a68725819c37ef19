//! The checkpoint: where the next start begins to check, and the sparse indexes beside the segments. Written by the
//! flusher thread, apart from the path that acknowledges.

use std::sync::atomic::Ordering;

use super::Shared;
use crate::error::{Result, StoreError};

impl Shared {
    /// Writes the sparse index of the segments touched since the last time, then the checkpoint.
    pub(super) fn save_checkpoint(&self) -> Result<()> {
        let mut checkpoint_base = self.checkpoint_lock.lock();
        if self.progress.poisoned().is_some() {
            return Ok(());
        }
        let durable = self.progress.durable.load(Ordering::Acquire);
        let (mark, files) = {
            let state = self.state.lock();
            if state.truncating > 0 || state.purged.is_some_and(|p| p.position > durable) {
                return Ok(());
            }
            let Some(mark) = state.checkpoint_at(durable) else {
                return Ok(());
            };
            let since = *checkpoint_base;
            let first = state.purged.map_or(0, |p| p.position);
            let bases = self.segments.bases().into_iter();
            let bases =
                bases.filter(|base| *base <= mark.position && base + self.segments.size() > first);
            let touched = bases.filter(|base| *base >= since || !self.has_index(*base));
            let end = mark.position + 1;
            let files: Vec<_> = touched
                .map(|base| {
                    let end = end.min(base + self.segments.size());
                    (base, state.index.encode_segment(base, end))
                })
                .collect();
            (mark, files)
        };
        for (base, content) in files {
            let path = self.segments.index_path(base);
            self.fs
                .replace(&path, &content)
                .map_err(|e| StoreError::io(format!("write {}", path.display()), e))?;
        }
        mark.save(self.fs.as_ref(), &self.checkpoint_path())?;
        *checkpoint_base = mark.position / self.segments.size() * self.segments.size();
        Ok(())
    }

    fn has_index(&self, base: u64) -> bool {
        self.fs.exists(&self.segments.index_path(base))
    }
}
