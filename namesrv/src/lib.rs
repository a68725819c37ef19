//! The name server: which brokers serve which topics.
//!
//! Brokers register their topics here and clients ask for routes. [`route_table`] holds what is registered and knows every
//! rule about it without any network; [`handler`] answers the requests; [`kv_config`] keeps the one thing that outlives
//! the process; [`name_server`] puts them behind a port. Name servers do not talk to each other: every broker registers
//! at each of them.
//!
//! Invariants: no request blocks on the disk or waits for another; the route table's lock is held for plain memory work
//! only; a bad request is answered with an error and changes nothing.

pub mod config;
mod error;
pub mod handler;
pub mod kv_config;
pub mod name_server;
pub mod route_table;

pub use config::NamesrvConfig;
pub use error::{ConfigError, KvError, NamesrvError};
pub use name_server::NameServer;
pub use route_table::RouteTable;
