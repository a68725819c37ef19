//! RocketMQ's remoting protocol.
//!
//! From the wire up: [`frame`] cuts and codes frames, [`command`] is one request or response, [`header`] its typed fields,
//! [`body`] the JSON bodies, [`message`] the stored record and everything inside it. [`channel`] is a connection,
//! [`server`] accepts them, [`client`] makes them.
//!
//! Invariants: bytes from a peer never cause a panic or memory beyond a named bound; bodies are not copied on the way in
//! or out; a connection has one reading and one writing task, and no request has a task of its own.

pub mod body;
pub mod budget;
pub mod bytestr;
pub mod channel;
pub mod client;
pub mod codes;
pub mod command;
mod connection;
pub mod ext;
pub mod frame;
pub mod header;
pub mod json;
mod logging;
pub mod message;
mod outbound;
mod scan;
pub mod server;
pub mod settings_text;
pub mod validate;
pub mod version;

pub use budget::Budget;
pub use bytestr::ByteStr;
pub use channel::{Channel, RemotingError};
pub use client::{ClientOptions, RemotingClient};
pub use codes::{request as request_code, response as response_code};
pub use command::{Body, LanguageCode, RemotingCommand, SerializeType};
pub use ext::ExtFields;
pub use frame::FrameError;
pub use header::{Header, HeaderError};
pub use server::{Handler, Replier, Request, Server, ServerOptions};
