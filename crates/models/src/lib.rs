//! The algorithms of Dunlin, one file each.

pub mod dml;
pub mod mf;
