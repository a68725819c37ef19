//! Pending timers, for who delivers them, moves them or takes them back.
//!
//! All of them are in the metadata store, sorted by due time. Delivered ones are deletions at its low end, which every scan
//! from there would step over until they are compacted away; so the earliest are kept in memory, a bounded number, and
//! the store is read from where these end. Memory follows what apply has written: a key that is read here is in the store or on its way out.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use raftmq_remoting::message::{StoredRecord, properties};
use raftmq_remoting::validate::TIMER_TOPIC;

use crate::command::TimerKey;
use crate::error::{Result, StoreError};
use crate::key_index::key_hash;
use crate::kv::{self, Batch, Family, Kv};

/// Timers read from the store at once, while apply waits; twice as many are kept in memory.
const LOAD: usize = 4096;

/// Before every other key.
const START: TimerKey = TimerKey {
    deliver_at_ms: 0,
    physical_offset: 0,
};

/// The earliest timers.
struct Window {
    keys: BTreeSet<TimerKey>,
    /// Every pending timer before this one is among `keys`; None: every timer is.
    end: Option<TimerKey>,
    /// While the store is read: what apply has written since, added (true) or removed.
    meanwhile: Option<Vec<(TimerKey, bool)>>,
}

impl Window {
    fn new() -> Self {
        Self {
            keys: BTreeSet::new(),
            end: Some(START),
            meanwhile: None,
        }
    }

    fn holds(&self, key: &TimerKey) -> bool {
        self.end.is_none_or(|end| *key < end)
    }

    /// Whether every timer due at `now_ms` is among `keys`.
    fn covers(&self, now_ms: i64) -> bool {
        self.end.is_none_or(|end| end.deliver_at_ms > now_ms)
    }

    fn change(&mut self, key: TimerKey, pends: bool) {
        match pends {
            true if self.holds(&key) => drop(self.keys.insert(key)),
            true => {}
            false => drop(self.keys.remove(&key)),
        }
    }

    /// What was read from `end` on; changes that came while it was read go on top.
    fn loaded(&mut self, keys: Vec<TimerKey>) {
        let Some(meanwhile) = self.meanwhile.take() else {
            // Everything was replaced meanwhile.
            return;
        };
        self.end = keys
            .last()
            .filter(|_| keys.len() == LOAD)
            .map(|last| TimerKey {
                physical_offset: last.physical_offset.saturating_add(1),
                ..*last
            });
        self.keys.extend(keys);
        for (key, pends) in meanwhile {
            self.change(key, pends);
        }
    }

    fn keep_bound(&mut self) {
        if self.keys.len() > 2 * LOAD
            && let Some(end) = self.keys.iter().nth(LOAD).copied()
        {
            self.keys.split_off(&end);
            self.end = Some(end);
        }
    }
}

/// See the module's text.
pub struct Timers {
    kv: Arc<dyn Kv>,
    window: Mutex<Window>,
    /// Held by who reads the store for the window. Apply never waits for that.
    loading: Mutex<()>,
}

impl Timers {
    pub(crate) fn new(kv: Arc<dyn Kv>) -> Self {
        Self {
            kv,
            window: Mutex::new(Window::new()),
            loading: Mutex::new(()),
        }
    }

    /// The store's content was replaced.
    pub(crate) fn reset(&self) {
        *self.window.lock() = Window::new();
    }

    /// Apply has written this batch.
    pub(crate) fn written(&self, batch: &Batch) {
        let of_timers = |(family, key, value): &(Family, Vec<u8>, Option<Vec<u8>>)| {
            let key = (*family == Family::Timers).then(|| TimerKey::decode(key));
            Some((key??, value.is_some()))
        };
        let mut changes = batch.changes.iter().filter_map(of_timers).peekable();
        if changes.peek().is_none() {
            return;
        }
        let mut window = self.window.lock();
        for (key, pends) in changes {
            window.change(key, pends);
            if let Some(meanwhile) = &mut window.meanwhile {
                meanwhile.push((key, pends));
            }
        }
        if window.meanwhile.is_none() {
            window.keep_bound();
        }
    }

    fn load_more(&self) -> Result<()> {
        let Some(end) = ({
            let mut window = self.window.lock();
            window.meanwhile = window.end.map(|_| Vec::new());
            window.end
        }) else {
            return Ok(());
        };
        let pairs = self.kv.scan(Family::Timers, &end.encode(), LOAD);
        let keys = pairs.map(|pairs| {
            let keys = pairs.iter().map(|(key, _)| TimerKey::decode(key));
            keys.collect::<Option<Vec<_>>>()
        });
        let mut window = self.window.lock();
        match keys {
            Ok(Some(keys)) => {
                window.loaded(keys);
                Ok(())
            }
            Ok(None) => {
                window.meanwhile = None;
                Err(StoreError::corrupt("metadata: timers", "a key is not one"))
            }
            Err(e) => {
                window.meanwhile = None;
                Err(e)
            }
        }
    }

    /// Timers due at `now_ms`, earliest first. May read the metadata store: not for async threads.
    ///
    /// # Errors
    /// [`StoreError::Metadata`].
    pub fn due(&self, now_ms: i64, limit: usize) -> Result<Vec<TimerKey>> {
        let _one = self.loading.lock();
        loop {
            {
                let window = self.window.lock();
                let due = window.keys.iter().take_while(|k| k.deliver_at_ms <= now_ms);
                let due: Vec<TimerKey> = due.take(limit).copied().collect();
                if due.len() >= limit || window.covers(now_ms) {
                    return Ok(due);
                }
            }
            self.load_more()?;
        }
    }

    /// When the earliest timer is due, milliseconds since the epoch. May read the metadata store.
    ///
    /// # Errors
    /// [`StoreError::Metadata`].
    pub fn next_ms(&self) -> Result<Option<i64>> {
        let _one = self.loading.lock();
        loop {
            {
                let window = self.window.lock();
                if let Some(first) = window.keys.first() {
                    return Ok(Some(first.deliver_at_ms));
                }
                if window.end.is_none() {
                    return Ok(None);
                }
            }
            self.load_more()?;
        }
    }

    /// Pending timers whose message lies before a position, in no order. Reads every timer: not for async threads.
    ///
    /// # Errors
    /// [`StoreError::Metadata`].
    pub fn before(&self, position: u64) -> Result<Vec<TimerKey>> {
        let mut found = Vec::new();
        kv::for_each(self.kv.as_ref(), Family::Timers, |key, _| {
            let key = TimerKey::decode(key);
            found.extend(key.filter(|key| (key.physical_offset as u64) < position));
            Ok(())
        })?;
        Ok(found)
    }

    /// How many pend. Reads every timer: not for async threads.
    ///
    /// # Errors
    /// [`StoreError::Metadata`].
    pub fn count(&self) -> Result<u64> {
        let mut count = 0;
        kv::for_each(self.kv.as_ref(), Family::Timers, |_, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    /// Those of these timers that pend. Reads the metadata store.
    ///
    /// # Errors
    /// [`StoreError::Metadata`].
    pub fn still_pending(&self, keys: Vec<TimerKey>) -> Result<Vec<TimerKey>> {
        let mut pending = Vec::with_capacity(keys.len());
        for key in keys {
            if self.kv.get(Family::Timers, &key.encode())?.is_some() {
                pending.push(key);
            }
        }
        Ok(pending)
    }

    /// Timers of arbitrary time, due in `[from_ms, to_ms]`, that may be of this topic and unique id: the caller looks into the message.
    /// Reads every timer due between: not for async threads.
    ///
    /// # Errors
    /// [`StoreError::Metadata`].
    pub fn like(&self, topic: &str, id: &str, from_ms: i64, to_ms: i64) -> Result<Vec<TimerKey>> {
        let want = key_hash(topic, id).to_be_bytes();
        let mut found = Vec::new();
        let mut from = TimerKey {
            deliver_at_ms: from_ms,
            physical_offset: 0,
        };
        loop {
            let pairs = self.kv.scan(Family::Timers, &from.encode(), LOAD)?;
            for (key, value) in &pairs {
                let Some(key) = TimerKey::decode(key) else {
                    continue;
                };
                if key.deliver_at_ms > to_ms {
                    return Ok(found);
                }
                found.extend((value[..] == want).then_some(key));
                from = TimerKey {
                    physical_offset: key.physical_offset.saturating_add(1),
                    ..key
                };
            }
            if pairs.len() < LOAD {
                return Ok(found);
            }
        }
    }
}

/// What is stored with a timer: a hash of topic and unique id, by which it can be taken back. Nothing with a delay level, which cannot.
pub(crate) fn value_of(view: &StoredRecord<'_>) -> Vec<u8> {
    if view.topic() != TIMER_TOPIC {
        return Vec::new();
    }
    let names = [properties::REAL_TOPIC, properties::UNIQ_KEY];
    match properties::get_all(view.properties(), names) {
        [Some(topic), Some(id)] => key_hash(topic, id).to_be_bytes().to_vec(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::MemoryKv;

    struct World {
        kv: Arc<dyn Kv>,
        timers: Timers,
    }

    impl World {
        fn new() -> Self {
            let kv: Arc<dyn Kv> = Arc::new(MemoryKv::default());
            let timers = Timers::new(kv.clone());
            Self { kv, timers }
        }

        /// As apply does it.
        fn change(&self, add: &[TimerKey], remove: &[TimerKey]) {
            let mut batch = Batch::default();
            let hash = key_hash("T", "id").to_be_bytes();
            add.iter()
                .for_each(|k| batch.put(Family::Timers, k.encode(), hash));
            remove
                .iter()
                .for_each(|k| batch.delete(Family::Timers, k.encode()));
            self.kv.write(&batch).unwrap();
            self.timers.written(&batch);
        }
    }

    fn key(at: i64, position: i64) -> TimerKey {
        TimerKey {
            deliver_at_ms: at,
            physical_offset: position,
        }
    }

    #[test]
    fn what_memory_says_is_what_the_store_holds() {
        let world = World::new();
        let mut pending = BTreeSet::new();
        let mut random = 7_u64;
        let mut next = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % below
        };
        let mut now = 0;
        for round in 0..3_000 {
            let add: Vec<_> = (0..next(24))
                .map(|n| key(now + next(60_000) as i64, round * 100 + n as i64))
                .collect();
            world.change(&add, &[]);
            pending.extend(add);
            now += next(30) as i64;
            // Some are moved or taken back before their time.
            let early: Vec<_> = pending
                .iter()
                .skip(next(500) as usize)
                .take(1)
                .copied()
                .collect();
            world.change(&[], &early);
            early.iter().for_each(|k| {
                pending.remove(k);
            });
            let limit = 1 + next(300) as usize;
            let due = world.timers.due(now, limit).unwrap();
            let want = pending.iter().take_while(|k| k.deliver_at_ms <= now);
            assert!(want.take(limit).eq(due.iter()), "round {round}");
            if round % 3 > 0 {
                world.change(&[], &due);
                due.iter().for_each(|k| {
                    pending.remove(k);
                });
            }
            let first = pending.first().map(|k| k.deliver_at_ms);
            assert_eq!(world.timers.next_ms().unwrap(), first);
            assert!(world.timers.window.lock().keys.len() <= 2 * LOAD + 24);
        }
        assert!(pending.len() > 2 * LOAD, "the window was the smaller one");
        world.timers.reset();
        let all = world.timers.due(i64::MAX, usize::MAX).unwrap();
        assert!(all.iter().eq(pending.iter()));
    }

    #[test]
    fn timers_are_found_by_what_they_are() {
        let world = World::new();
        let mine: Vec<_> = (0..10_000).map(|n| key(1_000 + n, n)).collect();
        world.change(&mine, &[]);
        let like = |topic, from, to| world.timers.like(topic, "id", from, to).unwrap();
        assert_eq!(like("T", 0, i64::MAX).len(), 10_000);
        assert_eq!(like("T", 1_005, 1_006), [key(1_005, 5), key(1_006, 6)]);
        assert!(like("U", 0, i64::MAX).is_empty());
        world.change(&[], &mine[..9_000]);
        let left = world.timers.still_pending(mine[8_999..9_002].to_vec());
        assert_eq!(left.unwrap(), mine[9_000..9_002]);
        assert_eq!(world.timers.before(9_001).unwrap().len(), 1);
    }
}
