//! The algorithms of Dunlin, one file each.

pub mod softmax;
