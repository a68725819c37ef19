//! Consuming messages: [`PullConsumer`] leaves queues and offsets to the caller, [`PushConsumer`] does all of it.

mod pull;
pub mod push;
mod subscription;

pub use pull::PullConsumer;
pub use push::{ConsumeStatus, PushConfig, PushConsumer};
pub use subscription::Subscription;

use crate::message::ReceivedMessage;

/// Where a group begins at a queue for which it has no committed offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsumeFrom {
    /// At what comes next; at the beginning for the group's retry topic.
    #[default]
    LastOffset,
    /// At the oldest message.
    FirstOffset,
    /// At the first message stored at this time or later, in milliseconds.
    Timestamp(i64),
}

/// How a pull ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PullStatus {
    Found,
    /// The offset is at the end of the queue.
    NoNewMessage,
    /// Messages were there, and none matched the subscription.
    NoMatchedMessage,
    /// The offset is outside the queue; `next_begin_offset` is a good one.
    OffsetIllegal,
}

/// The answer to a pull.
#[derive(Clone, Debug, PartialEq)]
pub struct PullResult {
    pub status: PullStatus,
    /// Where to pull next.
    pub next_begin_offset: i64,
    pub min_offset: i64,
    /// One past the newest message.
    pub max_offset: i64,
    /// The broker to pull from next.
    pub suggested_broker_id: i64,
    pub messages: Vec<ReceivedMessage>,
}
