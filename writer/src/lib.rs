//! The target side: changes in, rows and durable progress out.
//!
//! ```text
//! schema/   pre-data before the copy, indexes and constraints after it
//! load/     rows of the snapshot, by COPY
//! apply/    changes of the stream, in whole transactions, with their progress row
//! control/  what the run knows, in the target's schema `walferry`
//! verify/   proves both sides equal
//! ```

pub mod apply;
pub mod catalog;
pub mod control;
pub mod load;
pub mod preflight;
pub mod schema;
pub mod verify;
