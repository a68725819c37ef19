//! One file's bytes, twice: as processes see them and as the platter holds them. What differs is kept by sector,
//! and each length since the last sync is remembered, so that a power loss can pick among them.
//!
//! Pages that were never written are absent and read as zero, so an allocated segment costs nothing. Between the two
//! sides holds: a sector that is not dirty is the same on both, once the platter is cut to the smallest length since
//! the last sync (`floor`) - what was cut and grown again reads as zero without having been written. A failed write-back
//! ends that for the sectors it was about.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use super::rng::Rng;

/// Unit of memory and of room on the disk, bytes.
pub(super) const PAGE: u64 = 4096;
/// What a disk writes whole or not at all, bytes.
const SECTOR: usize = 512;

type Page = [u8; PAGE as usize];
type Pages = BTreeMap<u64, Arc<Page>>;

/// A file without its name.
#[derive(Clone, Default)]
pub(super) struct Content {
    cache: Pages,
    durable: Pages,
    /// Pages that cannot be read until they are written whole.
    bad: BTreeSet<u64>,
    /// By page, a bit for each sector written since the last sync.
    dirty: BTreeMap<u64, u8>,
    len: u64,
    durable_len: u64,
    /// Lengths since the last sync, in order; the last one is `len`. Empty when it never changed.
    later: Vec<u64>,
    /// Pages from the start of the file that an allocation holds.
    reserved: u64,
    used: u64,
}

fn zero_page() -> Arc<Page> {
    Arc::new([0; PAGE as usize])
}

fn pages_for(len: u64) -> u64 {
    len.div_ceil(PAGE)
}

/// Bits of the sectors that `from..to` of a page touches; `from < to`.
fn sectors(from: usize, to: usize) -> u8 {
    (u16::MAX << (from / SECTOR)) as u8 & !((u16::MAX << to.div_ceil(SECTOR)) as u8)
}

fn zero_tail(page: &mut Arc<Page>, from: usize) {
    if page[from..].iter().any(|b| *b != 0) {
        Arc::make_mut(page)[from..].fill(0);
    }
}

fn cut(pages: &mut Pages, len: u64) {
    while let Some(last) = pages.last_entry() {
        if *last.key() < pages_for(len) {
            break;
        }
        last.remove();
    }
    let tail = (len % PAGE) as usize;
    if tail != 0
        && let Some(page) = pages.get_mut(&(len / PAGE))
    {
        zero_tail(page, tail);
    }
}

impl Content {
    /// Length as processes see it.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Pages that count against the capacity: reserved ones, and written ones beyond them.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    fn recount(&mut self) {
        self.used = self.reserved + self.cache.range(self.reserved..).count() as u64;
    }

    fn floor(&self) -> u64 {
        self.later.iter().copied().fold(self.durable_len, u64::min)
    }

    fn record_len(&mut self, len: u64) {
        if len != self.len {
            self.len = len;
            self.later.push(len);
        }
    }

    /// Makes the pages that a range touches unreadable.
    pub(super) fn spoil(&mut self, from: u64, to: u64) {
        self.bad.extend(from / PAGE..pages_for(to));
    }

    /// Whether a range touches a page that cannot be read.
    pub(super) fn is_bad(&self, from: u64, to: u64) -> bool {
        from < to && self.bad.range(from / PAGE..pages_for(to)).next().is_some()
    }

    /// Whether a write to a range needs what a bad page holds beside it.
    pub(super) fn needs_bad(&self, from: u64, to: u64) -> bool {
        let head = from / PAGE * PAGE;
        let tail = to / PAGE * PAGE;
        (head < from && self.is_bad(head, head + 1)) || (tail < to && self.is_bad(tail, tail + 1))
    }

    /// Fills `buf` from `at`; bytes beyond the end are zero.
    pub(super) fn read(&self, mut at: u64, mut buf: &mut [u8]) {
        while !buf.is_empty() {
            let from = (at % PAGE) as usize;
            let n = buf.len().min(PAGE as usize - from);
            let (head, rest) = mem::take(&mut buf).split_at_mut(n);
            match self.cache.get(&(at / PAGE)) {
                Some(page) => head.copy_from_slice(&page[from..from + n]),
                None => head.fill(0),
            }
            at += n as u64;
            buf = rest;
        }
    }

    /// Writes `data` at `at`, taking at most `room` new pages; false when they did not suffice, with the part that
    /// fitted written.
    pub(super) fn write(&mut self, mut at: u64, mut data: &[u8], mut room: u64) -> bool {
        while !data.is_empty() {
            let number = at / PAGE;
            let from = (at % PAGE) as usize;
            let n = data.len().min(PAGE as usize - from);
            if number >= self.reserved && !self.cache.contains_key(&number) {
                if room == 0 {
                    return false;
                }
                room -= 1;
                self.used += 1;
            }
            let page = self.cache.entry(number).or_insert_with(zero_page);
            Arc::make_mut(page)[from..from + n].copy_from_slice(&data[..n]);
            self.bad.remove(&number);
            *self.dirty.entry(number).or_default() |= sectors(from, from + n);
            at += n as u64;
            data = &data[n..];
            self.record_len(self.len.max(at));
        }
        true
    }

    /// Reserves the first `len` bytes, taking at most `room` new pages; false, with nothing done, when they do not
    /// suffice.
    pub(super) fn allocate(&mut self, len: u64, room: u64) -> bool {
        let wanted = pages_for(len);
        if wanted > self.reserved {
            let there = self.cache.range(self.reserved..wanted).count() as u64;
            let more = wanted - self.reserved - there;
            if more > room {
                return false;
            }
            self.reserved = wanted;
            self.used += more;
        }
        self.record_len(self.len.max(len));
        true
    }

    /// Sets the length; what is cut reads as zero when the file grows again.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            cut(&mut self.cache, len);
            self.dirty.split_off(&pages_for(len));
            let tail = (len % PAGE) as usize;
            if tail != 0
                && let Some(mask) = self.dirty.get_mut(&(len / PAGE))
            {
                *mask &= sectors(0, tail);
            }
            self.reserved = self.reserved.min(pages_for(len));
            self.recount();
        }
        self.record_len(len);
    }

    /// Makes content and length durable.
    pub(super) fn sync(&mut self) {
        let floor = self.floor();
        if floor < self.durable_len {
            cut(&mut self.durable, floor);
        }
        for number in mem::take(&mut self.dirty).into_keys() {
            if let Some(page) = self.cache.get(&number) {
                self.durable.insert(number, page.clone());
            }
        }
        self.durable_len = self.len;
        self.later.clear();
    }

    /// After a failed write-back, as ext4 and xfs do it: dirty pages read as they were written, and are clean. No later sync
    /// writes them; the platter has what it had.
    pub(super) fn clean_dirty(&mut self) {
        self.dirty.clear();
    }

    /// After a failed write-back: dirty pages are what the platter holds again, and clean.
    pub(super) fn forget_dirty(&mut self) {
        let floor = self.floor();
        for number in mem::take(&mut self.dirty).into_keys() {
            let old = self.durable.get(&number);
            match old.filter(|_| number < pages_for(floor)).cloned() {
                Some(mut page) => {
                    if number == floor / PAGE {
                        zero_tail(&mut page, (floor % PAGE) as usize);
                    }
                    self.cache.insert(number, page);
                }
                None => {
                    self.cache.remove(&number);
                }
            }
        }
        self.recount();
    }

    /// What a power loss leaves: one of the lengths since the last sync, and each dirty sector old or new. How likely
    /// "new" is, is drawn first, so that "nearly everything arrived" and "nearly nothing" come up as well.
    pub(super) fn after_power_loss(&self, rng: &mut Rng) -> Self {
        let nth = rng.prefix(self.later.len() as u64) as usize;
        let passed = &self.later[..nth];
        let len = passed.last().copied().unwrap_or(self.durable_len);
        let floor = passed.iter().copied().fold(self.durable_len, u64::min);
        let mut pages = self.durable.clone();
        cut(&mut pages, floor);
        let odds = [0, 1, 4, 7, 8][rng.below(5) as usize];
        for (number, mask) in &self.dirty {
            let Some(new) = self.cache.get(number) else {
                continue;
            };
            for sector in (0..8).filter(|s| mask & (1 << s) != 0) {
                if rng.below(8) < odds {
                    let page = pages.entry(*number).or_insert_with(zero_page);
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    Arc::make_mut(page)[range.clone()].copy_from_slice(&new[range]);
                }
            }
        }
        cut(&mut pages, len);
        let mut left = Self {
            cache: pages.clone(),
            durable: pages,
            len,
            durable_len: len,
            reserved: self.reserved.min(pages_for(len)),
            bad: self.bad.clone(),
            ..Self::default()
        };
        left.recount();
        left
    }

    /// Flips bits of one byte on both sides; false when `at` is beyond the end.
    pub(super) fn corrupt(&mut self, at: u64, xor: u8) -> bool {
        if at >= self.len {
            return false;
        }
        let (number, place) = (at / PAGE, (at % PAGE) as usize);
        if at >= self.floor() {
            // The platter's side of this byte is going to be cut; only a dirty sector keeps the two sides in step.
            *self.dirty.entry(number).or_default() |= sectors(place, place + 1);
        }
        if at < self.durable_len {
            let page = self.durable.entry(number).or_insert_with(zero_page);
            Arc::make_mut(page)[place] ^= xor;
        }
        let page = self.cache.entry(number).or_insert_with(zero_page);
        Arc::make_mut(page)[place] ^= xor;
        self.recount();
        true
    }

    /// Cuts both sides to `len`; a shorter file stays as it is.
    pub(super) fn truncate(&mut self, len: u64) {
        if len >= self.len {
            return;
        }
        self.set_len(len);
        let floor = self.floor();
        cut(&mut self.durable, floor);
        self.durable_len = self.durable_len.min(len);
        self.later.clear();
        if self.durable_len != len {
            self.later.push(len);
        }
    }
}
