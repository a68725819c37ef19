//! A small RocketMQ client for tools: [`Producer`], [`PullConsumer`], [`PushConsumer`] and [`Admin`] calls.
//!
//! It behaves as the Java client does where a server can tell: the same requests in the same order, the same retries, the
//! same division of queues among consumers. Every handle owns its connections, its routes and its background tasks;
//! dropping the last clone ends them. All of it must be used inside a Tokio runtime.
//!
//! Invariants: a failed request says whether it may have been executed ([`ClientError::may_have_happened`]); a route that
//! was once found is kept until a name server gives a newer one; nothing waits without a timeout.

pub mod admin;
mod broker_calls;
mod config;
pub mod consumer;
mod error;
mod instance;
mod message;
mod name_servers;
pub mod producer;
mod route;

pub use admin::Admin;
pub use config::ClientConfig;
pub use consumer::{
    ConsumeFrom, ConsumeStatus, PullConsumer, PullResult, PullStatus, PushConfig, PushConsumer,
    Subscription,
};
pub use error::ClientError;
pub use message::{Message, ReceivedMessage};
pub use producer::{Producer, ProducerConfig, SendResult, SendStatus};
pub use raftmq_remoting::body::{MessageModel, MessageQueue};
pub use route::TopicRoute;
