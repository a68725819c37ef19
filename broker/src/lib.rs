//! The broker: what RocketMQ clients see of a replicated broker set.
//!
//! A request comes in on a connection's read task ([`dispatch`]), is checked there, and is either answered from applied
//! state, proposed to the replicated log (answered by a raft thread when it is stored), held ([`long_polling`]), or passed
//! on to the master ([`forward`]). One file a request family: [`send`], [`send_back`], [`pull`], [`offset`],
//! [`client_manager`], [`lock`], and the `*_admin` files. Beside the requests run the tasks of [`service`]: timers,
//! [`retention`], registration, offset commits, held pulls, the waiting room.
//!
//! Invariants: handlers never block; every queue and table is bounded; a client's message is stored once for each answer
//! that says so; consumers see committed messages only.

pub mod broker;
mod broker_admin;
pub mod call;
mod caught_up;
mod client_call;
mod client_gauges;
mod client_manager;
mod cold_reads;
pub mod config;
mod config_known;
mod connection_admin;
mod consumer_admin;
mod creation;
mod delay;
pub mod delete_when;
pub mod dispatch;
mod drain;
mod error;
pub mod exit;
mod exporter;
mod find_set;
mod first_service;
mod forward;
mod group_admin;
mod ha_status;
mod health;
mod http;
mod item_stats;
mod kept;
mod large_answers;
mod latency;
mod lock;
mod long_polling;
mod message_admin;
mod message_filter;
pub mod names;
mod offset;
mod pull;
mod queue_admin;
mod raft_admin;
mod raft_gauges;
mod random;
mod recall;
mod register;
mod reply;
mod reset_offset;
mod retention;
mod room;
mod send;
mod send_back;
mod send_batch;
mod send_store;
pub mod service;
mod settings;
mod signals;
mod sql;
mod stats;
mod stats_admin;
mod storage_gauges;
mod stored_properties;
mod tag_filter;
mod timer;
mod timer_moves;
mod topic_admin;
mod topic_attributes;
mod transaction;
mod trim;

pub use broker::Broker;
pub use config::Config;
pub use error::BrokerError;
pub use service::{Birth, LostEnd, Service};
