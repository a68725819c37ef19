//! A set of real processes under hostile requests: every request code of broker and name server and every call of the peer
//! port, right ones and wrong ones, from many connections at once, while replicas are killed, stopped and started.
//!
//! The n-th request follows from the seed and n ([`draw`]; [`forms`] is what right ones look like, [`values`] and [`bodies`]
//! what is put into them, [`wire`] how frames are broken), but for places in the log, which are learned from answers.
//! [`attack`] sends them, [`peers`] is the stranger at the peer port, [`answers`] is what replicas are compared by, [`run`] is
//! the whole of it. When a process dies, the newest requests of every connection are kept and can be played again.

pub mod answers;
pub mod attack;
pub mod bodies;
pub mod draw;
pub mod forms;
pub mod peers;
pub mod replay;
pub mod run;
pub mod values;
pub mod wire;
