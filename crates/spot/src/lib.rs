//! Planning for machines that are taken away: what is known of their availability, what the next minutes may bring,
//! which layout (D pipelines of P stages) trains the most, what each change of layout costs, and what every policy
//! would have achieved on a trace.
//!
//! Nothing here opens a file or a socket, starts a thread or reads a clock: readers parse from [`std::io::BufRead`],
//! policies are state machines fed with intervals. The same code can therefore be replayed and drive a real run.
//!
//! Words: a *machine* holds one stage of one pipeline or is spare. An *interval* is a minute unless told otherwise.
//! A *layout* is (D, P): D pipelines (data parallel) of P stages (pipeline parallel). A *policy* picks a layout for
//! every interval. Reading order: [`interval`], [`trace`], [`forecast`].

pub mod account;
pub mod baseline;
pub mod chance;
pub mod cost;
pub mod error;
pub mod forecast;
pub mod interval;
pub mod liveput;
pub mod market;
pub mod objective;
pub mod pipeline;
pub mod plan;
pub mod policy;
pub mod profile;
pub mod replay;
pub mod trace;

pub use error::{Error, Result};
pub use interval::{Interval, Layout, Run};

/// A number that changes with the bytes: tables are printed with it, so that two of them can be told apart. FNV-1a.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The program of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/spot.md")]
struct Documentation;
