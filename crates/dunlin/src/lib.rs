//! Dunlin: distributed machine learning where an algorithm says what to compute, a strategy says how updates
//! travel, and a cluster says where the ranks live.
//!
//! Reading order: [`data`] (blocks), [`table`] (shared parameters), [`algorithm`] (the trait to implement),
//! [`rng`] (every random stream has a name), [`serial`]
//! (the plain meaning of it all), [`error`].

pub mod algorithm;
pub mod channel;
pub mod checkpoint;
pub mod codec;
pub mod data;
pub mod details;
pub mod error;
pub mod event;
pub mod hosting;
pub mod isa;
pub mod memory;
pub mod model;
pub mod run;
pub mod saved;
pub mod schedule;
pub mod serial;
pub mod strategy;
pub mod table;
pub mod train;
pub mod transfer;
pub mod update;

pub use algorithm::{Algorithm, Sums, Unit};
pub use data::{Block, Data, Shape};
pub use dunlin_comm as comm;
pub use dunlin_rng as rng;
pub use error::{Error, Result};
pub use table::{Axis, Element, Init, Merge, Params, Table, TableMut, TableSpec};
