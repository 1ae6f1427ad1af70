//! The algorithms of Dunlin, one file each.

pub mod mf;
pub mod lda;
pub mod softmax;
