//! What can go wrong, by what a caller can do about it.

use raftmq_remoting::header::HeaderError;
use raftmq_remoting::json::JsonError;
use raftmq_remoting::{RemotingError, response_code};

/// A call that did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The peer answered with an error code.
    #[error("{addr} answered code {code}: {remark}")]
    Broker {
        addr: String,
        code: i32,
        remark: String,
    },
    /// The request left and no answer came: it may or may not have been executed.
    #[error("outcome unknown: {why}")]
    Unknown { why: String },
    /// The request surely did not reach the peer.
    #[error("not sent: {why}")]
    NotSent { why: String },
    /// No name server knows the topic, or nobody serves it.
    #[error("no route to topic {topic}")]
    NoRoute { topic: String },
    /// No name server answered.
    #[error("no name server answered: {why}")]
    NoNameServer { why: String },
    /// An argument that can never work.
    #[error("invalid argument: {0}")]
    Invalid(String),
    /// The peer's answer cannot be understood.
    #[error("{addr} sent a bad answer: {why}")]
    BadAnswer { addr: String, why: String },
    /// The handle was shut down.
    #[error("the client is shut down")]
    Closed,
}

impl ClientError {
    /// The response code, if a peer answered with one.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the request may have been executed all the same. A broker that answers SYSTEM_ERROR to a send may still
    /// store the message; every other error code is a refusal.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Unknown { .. } | Self::BadAnswer { .. } => true,
            Self::Broker { code, .. } => *code == response_code::SYSTEM_ERROR,
            _ => false,
        }
    }

    pub(crate) fn bad_answer(addr: &str, why: impl ToString) -> Self {
        Self::BadAnswer {
            addr: addr.to_owned(),
            why: why.to_string(),
        }
    }

    pub(crate) fn header(addr: &str) -> impl Fn(HeaderError) -> Self {
        move |e| Self::bad_answer(addr, e)
    }

    pub(crate) fn json(addr: &str) -> impl Fn(JsonError) -> Self {
        move |e| Self::bad_answer(addr, e)
    }
}

impl From<RemotingError> for ClientError {
    fn from(e: RemotingError) -> Self {
        let why = e.to_string();
        if e.surely_not_sent() {
            Self::NotSent { why }
        } else {
            Self::Unknown { why }
        }
    }
}
