//! What became of every message of a run: when it was due, when a broker stored it for its consumers, when it was consumed.

use std::time::{SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Longest lateness that is told apart, ms.
const LONGEST_MS: u64 = 3_600_000;

/// Now, ms since 1970; brokers on this machine have the same clock.
pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |t| i64::try_from(t.as_millis()).unwrap_or(i64::MAX))
}

/// Whether somebody wants a message back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recall {
    No,
    /// Whether it comes is not known.
    Asked,
    Acknowledged,
}

#[derive(Clone, Copy)]
struct Entry {
    due_ms: i64,
    acked: bool,
    recall: Recall,
    seen: u32,
    stored_ms: i64,
    seen_ms: i64,
}

/// Messages, by number.
#[derive(Default)]
pub struct Book(Mutex<Vec<Entry>>);

/// How late messages were, ms.
pub struct Late {
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// The sums.
pub struct Sums {
    pub acked: u64,
    pub early: u64,
    pub lost: u64,
    pub duplicated: u64,
    /// Taken back.
    pub recalled: u64,
    /// Taken back, and come all the same.
    pub ghosts: u64,
    /// Due to stored for consumers.
    pub stored: Late,
    /// Due to consumed.
    pub consumed: Late,
}

impl Entry {
    fn is_missing(&self) -> bool {
        self.acked && self.seen == 0 && self.recall == Recall::No
    }
}

impl Book {
    /// Adds a message; its number.
    pub fn add(&self, due_ms: i64) -> usize {
        let mut entries = self.0.lock();
        entries.push(Entry {
            due_ms,
            acked: false,
            recall: Recall::No,
            seen: 0,
            stored_ms: 0,
            seen_ms: 0,
        });
        entries.len() - 1
    }

    pub fn due_ms(&self, number: usize) -> i64 {
        self.0.lock().get(number).map_or(0, |e| e.due_ms)
    }

    /// The broker has it.
    pub fn acked(&self, number: usize) {
        if let Some(entry) = self.0.lock().get_mut(number) {
            entry.acked = true;
        }
    }

    /// It is about to be taken back.
    pub fn recalls(&self, number: usize) {
        if let Some(entry) = self.0.lock().get_mut(number) {
            entry.recall = Recall::Asked;
        }
    }

    /// The broker took it back.
    pub fn recalled(&self, number: usize) {
        if let Some(entry) = self.0.lock().get_mut(number) {
            entry.recall = Recall::Acknowledged;
        }
    }

    /// It came.
    pub fn seen(&self, number: usize, stored_ms: i64) {
        let now = now_ms();
        if let Some(entry) = self.0.lock().get_mut(number) {
            entry.seen += 1;
            if entry.seen == 1 {
                (entry.stored_ms, entry.seen_ms) = (stored_ms, now);
            }
        }
    }

    /// Acknowledged, wanted, and not come, of those with a number from `from` on.
    pub fn missing(&self, from: usize) -> usize {
        let entries = self.0.lock();
        entries.iter().skip(from).filter(|e| e.is_missing()).count()
    }

    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Of messages with a number from `from` on.
    pub fn sums(&self, from: usize) -> Sums {
        let entries = self.0.lock();
        let entries = &entries[from.min(entries.len())..];
        let count = |what: fn(&Entry) -> bool| entries.iter().filter(|e| what(e)).count() as u64;
        let came = || entries.iter().filter(|e| e.seen > 0);
        Sums {
            acked: count(|e| e.acked),
            early: count(|e| e.seen > 0 && e.stored_ms.min(e.seen_ms) < e.due_ms),
            lost: count(Entry::is_missing),
            duplicated: count(|e| e.seen > 1),
            recalled: count(|e| e.recall == Recall::Acknowledged),
            ghosts: count(|e| e.recall == Recall::Acknowledged && e.seen > 0),
            stored: late(came().map(|e| e.stored_ms - e.due_ms)),
            consumed: late(came().map(|e| e.seen_ms - e.due_ms)),
        }
    }
}

fn late(all: impl Iterator<Item = i64>) -> Late {
    // Three digits; more than an hour counts as an hour.
    let Ok(mut histogram) = Histogram::<u64>::new_with_bounds(1, LONGEST_MS, 3) else {
        unreachable!("the bounds are constants");
    };
    all.for_each(|ms| histogram.saturating_record(u64::try_from(ms).unwrap_or(0)));
    Late {
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        max: histogram.max(),
    }
}

impl Sums {
    /// For people and scripts.
    pub fn line(&self, name: &str) -> String {
        let Self {
            acked,
            early,
            lost,
            duplicated,
            recalled,
            ghosts,
            stored,
            consumed,
        } = self;
        format!(
            "{name}: timers={acked} late_p50_ms={} late_p99_ms={} late_max_ms={} consumed_p50_ms={} consumed_p99_ms={} consumed_max_ms={} early={early} lost={lost} duplicated={duplicated} recalled={recalled} recalled_and_come={ghosts}",
            stored.p50, stored.p99, stored.max, consumed.p50, consumed.p99, consumed.max
        )
    }

    /// For a file.
    pub fn json(&self) -> Value {
        let late = |l: &Late| json!({"p50_ms": l.p50, "p99_ms": l.p99, "max_ms": l.max});
        json!({
            "timers": self.acked,
            "early": self.early,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "recalled": self.recalled,
            "recalled_and_come": self.ghosts,
            "late": late(&self.stored),
            "consumed_late": late(&self.consumed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fate_is_told() {
        let book = Book::default();
        let now = now_ms();
        for (due, acked, stored) in [
            (now - 100, true, Some(now - 90)),
            (now - 100, true, Some(now - 101)),
            (now - 100, true, None),
            (now - 100, false, None),
        ] {
            let number = book.add(due);
            if acked {
                book.acked(number);
            }
            if let Some(stored) = stored {
                book.seen(number, stored);
            }
        }
        book.seen(0, now);
        for seen in [false, true] {
            let number = book.add(now);
            book.acked(number);
            book.recalls(number);
            book.recalled(number);
            if seen {
                book.seen(number, now);
            }
        }
        let sums = book.sums(0);
        assert_eq!(
            (sums.acked, sums.early, sums.lost, sums.duplicated),
            (5, 1, 1, 1)
        );
        assert_eq!((sums.recalled, sums.ghosts), (2, 1));
        assert_eq!(
            (sums.stored.max, book.missing(0), book.missing(3)),
            (10, 1, 0)
        );
        assert_eq!(book.sums(9).acked, 0);
    }
}
