//! A real broker of one replica, driven through the remoting client. One file a behaviour.

mod admin;
mod batches;
mod clients;
mod cluster;
mod delay;
mod groups;
mod harness;
mod http;
mod locks;
mod long_polling;
mod offsets;
mod pulls;
mod queries;
mod recall;
mod registration;
mod replicas;
mod restart;
mod retention;
mod retries;
mod sends;
mod settings;
mod short_disk;
mod topics;
mod transactions;
