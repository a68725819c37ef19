//! What was counted of each topic and group in the last minute, hour and day, as VIEW_BROKER_STATS_DATA (315) is asked for it:
//! RocketMQ's `BrokerStatsManager`, its names, keys and windows. Each item remembers its counts every 10 s, every 10 minutes and
//! every hour; a window is what lies between its first and its last. Names come from clients, so the number of items is bounded,
//! and an item goes with its topic or group, or when nothing was counted for a day, which is the longest window.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::HashMap;
use parking_lot::{Mutex, RwLock};
use raftmq_remoting::body::{BrokerStatsData, BrokerStatsItem};

use crate::broker::now_ms;

/// Items of one kind; what comes later is not counted by name.
pub const MAX_ITEMS: usize = 10_000;

/// A window: how many ticks of 10 s lie between two looks, and how many looks are kept.
const WINDOWS: [(u64, usize); 3] = [(1, 7), (60, 7), (360, 25)];
/// Of a tick, ms.
const TICK_MS: i64 = 10_000;

/// Counts at one time.
#[derive(Clone, Copy, Default)]
struct Look {
    at_ms: i64,
    messages: u64,
    bytes: u64,
    times: u64,
}

/// One topic, or one group and topic.
#[derive(Default)]
struct Item {
    messages: AtomicU64,
    bytes: AtomicU64,
    times: AtomicU64,
    windows: Mutex<[VecDeque<Look>; WINDOWS.len()]>,
    /// Of the last look that found something new: how often was counted, and the tick.
    last_change: Mutex<(u64, u64)>,
}

impl Item {
    fn add(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.times.fetch_add(1, Ordering::Relaxed);
    }

    fn look(&self, tick: u64, now: i64) {
        let look = Look {
            at_ms: now,
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            times: self.times.load(Ordering::Relaxed),
        };
        for (window, (every, kept)) in self.windows.lock().iter_mut().zip(WINDOWS) {
            if window.is_empty() {
                // It began with nothing.
                window.push_back(Look {
                    at_ms: now - TICK_MS * every as i64,
                    ..Look::default()
                });
            } else if !tick.is_multiple_of(every) {
                continue;
            }
            if window.len() == kept {
                window.pop_front();
            }
            window.push_back(look);
        }
    }

    /// Whether nothing was counted for so long that its windows are empty.
    fn is_idle(&self, tick: u64) -> bool {
        let times = self.times.load(Ordering::Relaxed);
        let mut last = self.last_change.lock();
        if last.0 != times {
            *last = (times, tick);
        }
        tick.saturating_sub(last.1) >= IDLE_TICKS
    }

    fn view(&self, of: impl Fn(&Look) -> u64) -> BrokerStatsData {
        let windows = self.windows.lock();
        let item = |window: &VecDeque<Look>| {
            let (Some(first), Some(last)) = (window.front(), window.back()) else {
                return BrokerStatsItem::default();
            };
            let sum = of(last) - of(first);
            let (ms, times) = (last.at_ms - first.at_ms, last.times - first.times);
            BrokerStatsItem {
                sum: sum as i64,
                tps: if ms > 0 {
                    sum as f64 * 1000.0 / ms as f64
                } else {
                    0.0
                },
                avgpt: if times > 0 {
                    sum as f64 / times as f64
                } else {
                    0.0
                },
            }
        };
        let [minute, hour, day] = &*windows;
        BrokerStatsData {
            stats_minute: item(minute),
            stats_hour: item(hour),
            stats_day: item(day),
        }
    }
}

/// Ticks without a count after which an item is given back: a day, and what had been counted before is in no window any more.
const IDLE_TICKS: u64 = 8_640 + 360;

/// Items of one kind by key.
#[derive(Default)]
struct Items(RwLock<HashMap<String, Item>>);

impl Items {
    fn add(&self, key: &str, messages: u64, bytes: u64) {
        if let Some(item) = self.0.read().get(key) {
            return item.add(messages, bytes);
        }
        let mut items = self.0.write();
        if items.len() < MAX_ITEMS || items.contains_key(key) {
            items
                .entry(key.to_owned())
                .or_default()
                .add(messages, bytes);
        }
    }
}

/// See the module's text.
#[derive(Default)]
pub struct ItemStats {
    tick: AtomicU64,
    stored: Items,
    pulled: Items,
    sent_back: Items,
    broker_stored: Item,
    broker_pulled: Item,
}

impl ItemStats {
    /// Messages were stored.
    pub fn stored(&self, topic: &str, messages: u64, bytes: u64) {
        self.stored.add(topic, messages, bytes);
        self.broker_stored.add(messages, bytes);
    }

    /// Messages were sent to a consumer.
    pub fn pulled(&self, topic: &str, group: &str, messages: u64, bytes: u64) {
        self.pulled.add(&pair(topic, group), messages, bytes);
        self.broker_pulled.add(messages, bytes);
    }

    /// A consumer gave a message back.
    pub fn sent_back(&self, topic: &str, group: &str) {
        self.sent_back.add(&pair(topic, group), 1, 0);
    }

    /// Messages stored since the start, and their bytes.
    pub fn total_stored(&self) -> (u64, u64) {
        let item = &self.broker_stored;
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (read(&item.messages), read(&item.bytes))
    }

    /// Messages sent to consumers since the start, their bytes, and in how many answers.
    pub fn total_pulled(&self) -> (u64, u64, u64) {
        let item = &self.broker_pulled;
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (read(&item.messages), read(&item.bytes), read(&item.times))
    }

    /// To be called every 10 s. Forgets what has no name any more: `topic` and `group` say which are there.
    pub fn look(&self, topic: impl Fn(&str) -> bool, group: impl Fn(&str) -> bool) {
        let (tick, now) = (self.tick.fetch_add(1, Ordering::Relaxed), now_ms());
        let of_topic = |key: &str, item: &Item| topic(key) && !item.is_idle(tick);
        let of_pair = |key: &str, item: &Item| {
            // No topic has this character.
            let (t, g) = key.split_once('@').unwrap_or((key, ""));
            topic(t) && group(g) && !item.is_idle(tick)
        };
        self.stored
            .0
            .write()
            .retain(|key, item| of_topic(key, item));
        for items in [&self.pulled, &self.sent_back] {
            items.0.write().retain(|key, item| of_pair(key, item));
        }
        for items in [&self.stored, &self.pulled, &self.sent_back] {
            for item in items.0.read().values() {
                item.look(tick, now);
            }
        }
        self.broker_stored.look(tick, now);
        self.broker_pulled.look(tick, now);
    }

    /// What RocketMQ's statistics of this name say of a key; `cluster` is that of the broker's own. None: nothing was counted.
    pub fn view(&self, name: &str, key: &str, cluster: &str) -> Option<BrokerStatsData> {
        let messages = |look: &Look| look.messages;
        let bytes = |look: &Look| look.bytes;
        let of = |items: &Items, field: fn(&Look) -> u64| {
            items.0.read().get(key).map(|item| item.view(field))
        };
        let own = |item: &Item| (key == cluster).then(|| item.view(messages));
        match name {
            "TOPIC_PUT_NUMS" => of(&self.stored, messages),
            "TOPIC_PUT_SIZE" => of(&self.stored, bytes),
            "GROUP_GET_NUMS" => of(&self.pulled, messages),
            "GROUP_GET_SIZE" => of(&self.pulled, bytes),
            "SNDBCK_PUT_NUMS" => of(&self.sent_back, messages),
            "BROKER_PUT_NUMS" => own(&self.broker_stored),
            "BROKER_GET_NUMS" => own(&self.broker_pulled),
            _ => None,
        }
    }

    /// Messages stored in a topic a second, over the last minute.
    pub fn put_tps(&self, topic: &str) -> f64 {
        let view = self.view("TOPIC_PUT_NUMS", topic, "");
        view.map_or(0.0, |v| v.stats_minute.tps)
    }

    /// Messages of a topic sent to a group a second, over the last minute.
    pub fn get_tps(&self, topic: &str, group: &str) -> f64 {
        let view = self.view("GROUP_GET_NUMS", &pair(topic, group), "");
        view.map_or(0.0, |v| v.stats_minute.tps)
    }
}

/// Key of what is counted by topic and group.
fn pair(topic: &str, group: &str) -> String {
    format!("{topic}@{group}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_what_was_counted_in_them() {
        let item = Item::default();
        item.add(3, 300);
        item.look(0, 1_000_000);
        let view = item.view(|l| l.messages);
        for window in [&view.stats_minute, &view.stats_hour, &view.stats_day] {
            assert_eq!((window.sum, window.avgpt), (3, 3.0));
        }
        assert_eq!(view.stats_minute.tps, 0.3);
        item.add(5, 500);
        for tick in 1..10 {
            item.look(tick, 1_000_000 + TICK_MS * tick as i64);
        }
        let view = item.view(|l| l.bytes);
        assert_eq!(view.stats_minute.sum, 0, "a minute ago");
        assert_eq!(view.stats_hour.sum, 300, "not looked at since");
        item.look(60, 1_600_000);
        assert_eq!(item.view(|l| l.bytes).stats_hour.sum, 800);
        assert_eq!(item.view(|l| l.bytes).stats_day.sum, 300);
    }

    #[test]
    fn items_have_names_and_a_bound() {
        let stats = ItemStats::default();
        for n in 0..MAX_ITEMS + 5 {
            stats.stored(&format!("t{n}"), 1, 10);
        }
        stats.pulled("t0", "g", 2, 20);
        stats.sent_back("t0", "g");
        stats.look(|_| true, |_| true);
        let sum = |name, key| stats.view(name, key, "c").map(|view| view.stats_minute.sum);
        assert_eq!(sum("TOPIC_PUT_NUMS", "t0"), Some(1));
        assert_eq!(sum("TOPIC_PUT_SIZE", "t0"), Some(10));
        let beyond = format!("t{MAX_ITEMS}");
        assert_eq!(sum("TOPIC_PUT_NUMS", &beyond), None);
        assert_eq!(sum("GROUP_GET_NUMS", "t0@g"), Some(2));
        assert_eq!(sum("GROUP_GET_SIZE", "t0@g"), Some(20));
        assert_eq!(sum("SNDBCK_PUT_NUMS", "t0@g"), Some(1));
        assert_eq!(sum("BROKER_PUT_NUMS", "c"), Some(MAX_ITEMS as i64 + 5));
        assert_eq!(sum("BROKER_GET_NUMS", "c"), Some(2));
        assert_eq!(sum("BROKER_GET_NUMS", "another"), None);
        assert_eq!(sum("NO_SUCH", "t0"), None);
        assert_eq!(stats.put_tps("t0"), 0.1);
        assert_eq!(stats.get_tps("t0", "g"), 0.2);
    }

    #[test]
    fn items_go_with_their_topics_and_groups() {
        let stats = ItemStats::default();
        // Names that come and go, many times more than are kept.
        for round in 0..5 {
            for n in 0..MAX_ITEMS {
                let topic = format!("t{round}-{n}");
                stats.stored(&topic, 1, 10);
                stats.pulled(&topic, "g", 1, 10);
                stats.sent_back(&topic, "g");
            }
            stats.look(|topic| topic == "t0-0", |_| true);
        }
        assert_eq!(stats.stored.0.read().len(), 1);
        stats.stored("new", 1, 10);
        stats.pulled("new", "g", 1, 10);
        stats.look(|_| true, |_| true);
        assert!(
            stats.view("TOPIC_PUT_NUMS", "new", "c").is_some(),
            "there is room"
        );
        assert!(stats.view("GROUP_GET_NUMS", "new@g", "c").is_some());
        stats.look(|_| true, |group| group != "g");
        assert!(stats.view("GROUP_GET_NUMS", "new@g", "c").is_none());
        for _ in 0..IDLE_TICKS {
            stats.look(|_| true, |_| true);
        }
        assert!(stats.view("TOPIC_PUT_NUMS", "new", "c").is_none(), "a day");
    }
}
