//! The messages of one assigned queue that are in memory, and how far the queue is consumed.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::message::ReceivedMessage;

/// See the module. An offset is done when its message is consumed or given back.
pub(super) struct ProcessQueue {
    state: Mutex<State>,
    /// There may be room again.
    room: Notify,
    /// The queue is given up.
    pub(super) stop: CancellationToken,
    max_messages: usize,
    max_bytes: usize,
}

struct State {
    /// Bytes by offset of messages that are not done.
    waiting: BTreeMap<i64, usize>,
    bytes: usize,
    /// Where the next pull begins.
    next: i64,
    /// What the broker knows.
    committed: Option<i64>,
}

impl ProcessQueue {
    pub(super) fn new(
        begin: i64,
        max_messages: usize,
        max_bytes: usize,
        stop: CancellationToken,
    ) -> Self {
        let state = State {
            waiting: BTreeMap::new(),
            bytes: 0,
            next: begin,
            committed: None,
        };
        Self {
            state: Mutex::new(state),
            room: Notify::new(),
            stop,
            max_messages,
            max_bytes,
        }
    }

    /// Waits until the messages in memory are below both limits.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let changed = self.room.notified();
            {
                let state = self.state.lock();
                if state.waiting.len() < self.max_messages && state.bytes < self.max_bytes {
                    return;
                }
            }
            changed.await;
        }
    }

    pub(super) fn next(&self) -> i64 {
        self.state.lock().next
    }

    /// Takes in what a pull brought.
    pub(super) fn pulled(&self, messages: &[ReceivedMessage], next: i64) {
        let mut state = self.state.lock();
        for m in messages {
            let size = m.body.len();
            if state.waiting.insert(m.queue_offset, size).is_none() {
                state.bytes += size;
            }
        }
        state.next = next;
    }

    /// A message is consumed or given back.
    pub(super) fn done(&self, offset: i64) {
        let mut state = self.state.lock();
        if let Some(size) = state.waiting.remove(&offset) {
            state.bytes -= size;
            drop(state);
            self.room.notify_one();
        }
    }

    /// The offset below which all is done, if the broker does not know it yet.
    pub(super) fn offset_to_commit(&self) -> Option<i64> {
        let state = self.state.lock();
        let offset = state
            .waiting
            .first_key_value()
            .map_or(state.next, |(offset, _)| *offset);
        (state.committed != Some(offset)).then_some(offset)
    }

    pub(super) fn committed(&self, offset: i64) {
        self.state.lock().committed = Some(offset);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use raftmq_remoting::body::MessageQueue;
    use raftmq_remoting::message::NewMessage;

    use super::*;

    fn message(offset: i64) -> ReceivedMessage {
        let host = "127.0.0.1:1".parse().unwrap();
        let body = Bytes::from_static(b"12345");
        let new = NewMessage {
            topic: "t".into(),
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 0,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body_crc: raftmq_remoting::message::body_crc(&body),
            body,
            properties: Bytes::new(),
        };
        let mut record = bytes::BytesMut::new();
        new.encode_into(&mut record);
        raftmq_remoting::message::stamp(&mut record, offset, 0, 0);
        let message = ReceivedMessage::decode_all(&record.freeze(), "b")
            .unwrap()
            .remove(0);
        assert_eq!(message.queue, MessageQueue::new("t", "b", 0));
        message
    }

    #[tokio::test]
    async fn offsets_are_committed_when_all_below_is_done() {
        let q = ProcessQueue::new(10, 2, 1000, CancellationToken::new());
        assert_eq!(q.offset_to_commit(), Some(10));
        q.committed(10);
        assert_eq!(q.offset_to_commit(), None);
        q.pulled(&[message(10), message(11)], 15);
        q.done(11);
        assert_eq!(q.offset_to_commit(), None);
        q.done(10);
        assert_eq!((q.offset_to_commit(), q.next()), (Some(15), 15));
    }

    #[tokio::test]
    async fn a_full_queue_waits() {
        for (messages, bytes) in [(2, 1000), (1000, 10)] {
            let q = ProcessQueue::new(0, messages, bytes, CancellationToken::new());
            q.wait_for_room().await;
            q.pulled(&[message(0), message(1)], 2);
            assert!(
                tokio::time::timeout(Duration::from_millis(20), q.wait_for_room())
                    .await
                    .is_err()
            );
            q.done(1);
            q.done(1);
            q.wait_for_room().await;
        }
    }
}
