//! What became of every message of a run.
//!
//! Each message carries the run's number and its own in its body, so a message is known again whatever way it took and
//! however often it was sent. Shared by the producer's callbacks and the consumer's listener; a short lock each.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

/// Messages of one run at most: their marks take 4 bytes each.
const MAX_MESSAGES: u64 = 64 << 20;
/// Run and number at the start of a body, bytes.
const HEAD: usize = 16;

/// Tells a run's messages from those of others, however short ago.
pub fn run_number() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Clone, Copy, Default)]
struct Marks {
    acked: bool,
    times_consumed: u16,
}

#[derive(Default)]
struct Inner {
    marks: Vec<Marks>,
    last_ack: Option<Instant>,
    longest_gap: Duration,
    counts: Counts,
}

/// The sums. `lost` and `duplicated` are about messages, however often one was sent or consumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were sent at least once.
    pub sent: u64,
    /// Of these, answered with SEND_OK.
    pub acked: u64,
    /// Of these, consumed at least once.
    pub consumed: u64,
    /// Acknowledged and not consumed (yet).
    pub lost: u64,
    /// Consumed more than once.
    pub duplicated: u64,
}

/// The book of one run.
pub struct Tally {
    run: u64,
    body_len: usize,
    inner: Mutex<Inner>,
}

impl Tally {
    /// For bodies of `body_len` bytes, at least 16.
    pub fn new(run: u64, body_len: usize) -> Self {
        Self {
            run,
            body_len: body_len.max(HEAD),
            inner: Mutex::default(),
        }
    }

    /// The first word of every body.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// A new message's number; None when there were too many.
    pub fn next(&self) -> Option<u64> {
        let mut inner = self.inner.lock();
        if inner.counts.sent >= MAX_MESSAGES {
            return None;
        }
        inner.marks.push(Marks::default());
        inner.counts.sent += 1;
        Some(inner.counts.sent - 1)
    }

    /// The body of message `number`; the same whenever it is asked for.
    pub fn body(&self, number: u64) -> Bytes {
        let mut body = BytesMut::with_capacity(self.body_len);
        body.put_u64(self.run);
        body.put_u64(number);
        body.resize(self.body_len, b'.');
        body.freeze()
    }

    /// Message `number` was answered with SEND_OK.
    pub fn acked(&self, number: u64) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if let Some(last) = inner.last_ack.replace(now) {
            inner.longest_gap = inner.longest_gap.max(now - last);
        }
        let Some(marks) = mark(&mut inner.marks, number) else {
            return;
        };
        if !std::mem::replace(&mut marks.acked, true) {
            inner.counts.acked += 1;
            inner.counts.lost += u64::from(marks.times_consumed == 0);
        }
    }

    /// A message was consumed; false when it is not one of this run.
    pub fn consumed(&self, body: &[u8]) -> bool {
        let Some(number) = self.number_of(body) else {
            return false;
        };
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Some(marks) = mark(&mut inner.marks, number) else {
            return false;
        };
        marks.times_consumed = marks.times_consumed.saturating_add(1);
        match marks.times_consumed {
            1 => {
                inner.counts.consumed += 1;
                inner.counts.lost -= u64::from(marks.acked);
            }
            2 => inner.counts.duplicated += 1,
            _ => {}
        }
        true
    }

    fn number_of(&self, body: &[u8]) -> Option<u64> {
        let (run, rest) = body.split_first_chunk::<8>()?;
        let (number, _) = rest.split_first_chunk::<8>()?;
        (u64::from_be_bytes(*run) == self.run).then(|| u64::from_be_bytes(*number))
    }

    /// The sums now.
    pub fn counts(&self) -> Counts {
        self.inner.lock().counts
    }

    /// The longest time between two acknowledgements since the start or the last [`Self::forget_gap`].
    pub fn longest_gap(&self) -> Duration {
        self.inner.lock().longest_gap
    }

    /// Measures gaps anew from the last acknowledgement on.
    pub fn forget_gap(&self) {
        self.inner.lock().longest_gap = Duration::ZERO;
    }
}

fn mark(marks: &mut [Marks], number: u64) -> Option<&mut Marks> {
    marks.get_mut(usize::try_from(number).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_counts_once() {
        let tally = Tally::new(7, 20);
        let (a, b, c) = (
            tally.next().unwrap(),
            tally.next().unwrap(),
            tally.next().unwrap(),
        );
        tally.acked(a);
        tally.acked(a);
        tally.acked(b);
        assert_eq!(tally.counts().lost, 2);
        for body in [tally.body(a), tally.body(a), tally.body(a), tally.body(c)] {
            assert_eq!(body.len(), 20);
            assert!(tally.consumed(&body));
        }
        tally.acked(c);
        let expected = Counts {
            sent: 3,
            acked: 3,
            consumed: 2,
            lost: 1,
            duplicated: 1,
        };
        assert_eq!(tally.counts(), expected);
    }

    #[test]
    fn messages_of_others_do_not_count() {
        let tally = Tally::new(7, 0);
        let number = tally.next().unwrap();
        assert!(!tally.consumed(&Tally::new(8, 0).body(number)));
        assert!(!tally.consumed(&tally.body(99)));
        assert!(!tally.consumed(b"short"));
        assert_eq!(
            tally.counts(),
            Counts {
                sent: 1,
                ..Counts::default()
            }
        );
    }
}
