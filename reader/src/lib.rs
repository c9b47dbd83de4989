//! The source side: what is there, its snapshot, its stream of changes.

pub mod catalog;
pub mod fence;
pub mod pgoutput;
pub mod preflight;
pub mod replication;
pub mod slot;
pub mod snapshot;
pub mod stream;
pub mod waits;
