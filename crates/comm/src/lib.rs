//! Who the ranks are and how bytes move between them; not a word of machine learning.
//!
//! One [`Comm`] is all that a rank gets. What is behind it is chosen by [`Cluster`]: threads of this
//! process, processes of this host over TCP, processes on many hosts, or a seeded simulator in virtual
//! time. A rank's code is the same on all of them.
//!
//! Reading order: [`buffer`] (aligned bytes), [`time`] (the only clock), [`wire`] (the frame), [`link`]
//! (frames between ranks: memory, tcp, sim), [`comm`] (the handle), [`collective`], [`control`] (who is alive),
//! [`standing`] (how far they are), [`launch`] (how processes find each other), [`cluster`].

pub mod buffer;
pub mod cluster;
pub mod collective;
pub mod comm;
pub mod control;
pub mod error;
pub mod launch;
pub mod link;
pub mod standing;
pub mod time;
pub mod wire;

pub use buffer::Buffer;
pub use cluster::Cluster;
pub use comm::{Channel, Comm, Message, Outbox, Service};
pub use error::{Error, Lost, Result};
pub use launch::hosts::Hosts;
pub use launch::processes::{JobEntry, Processes, child, job};
pub use link::sim::{Fault, Network, SimConfig, Stragglers};
pub use standing::{Doing, Standing};
pub use time::Time;
