//! Reading a queue while its oldest messages expire.
//!
//! The log gives up a segment first, and the consume queues follow within a second or so: in between an entry may lead to a
//! message that is gone. Whoever meets one looks here for the first that is still kept. Not for async threads.

use std::time::Duration;

use raftmq_store::StoreError;

use crate::broker::Broker;

/// Looks at a queue whose bounds are about to follow the log, and the time between them.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// First offset of a queue whose message is still in the log; the queue's next offset when none is.
///
/// # Errors
/// I/O.
pub fn first_kept(broker: &Broker, topic: &str, queue_id: i32) -> Result<i64, StoreError> {
    let range = || {
        broker
            .replica
            .queue_range(topic, queue_id)
            .unwrap_or((0, 0))
    };
    let start = broker.replica.log_range().0;
    let (mut low, mut high) = range();
    while low < high {
        let middle = low + (high - low) / 2;
        let entries = broker.replica.read_queue(topic, queue_id, middle, 1)?;
        match entries.first() {
            Some(entry) if entry.physical_offset >= start => high = middle,
            Some(_) => low = middle + 1,
            // The bounds have followed meanwhile.
            None => return Ok(range().0),
        }
    }
    Ok(low)
}

/// Runs `read` again while it meets messages that are gone, until the queue's bounds have followed.
///
/// # Errors
/// Those of `read`.
pub fn when_bounds_follow<T>(
    mut read: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    for _ in 1..TRIES {
        match read() {
            Err(StoreError::OutOfRange { .. }) => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    read()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_gone_is_tried_again() {
        let gone = || StoreError::OutOfRange {
            position: 1,
            min: 2,
            max: 3,
        };
        let mut tries = 0;
        let found = when_bounds_follow(|| {
            tries += 1;
            if tries < 3 { Err(gone()) } else { Ok(tries) }
        });
        assert_eq!(found.unwrap(), 3);
        let mut tries = 0;
        let failed: Result<(), _> = when_bounds_follow(|| {
            tries += 1;
            Err(StoreError::corrupt("log", "damaged"))
        });
        assert!(failed.is_err() && tries == 1);
    }
}
