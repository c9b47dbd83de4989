//! Applies the stream to the target: exactly once, in commit order, in whole transactions.
//!
//! ```text
//!  ChangeSource ─► piece ─► plan ─────────► execute ─────────► commit + progress ─► acknowledge
//!                  whole    one operation   one pipeline,      one target           what is on the
//!                  trans-   a key where     COPY for runs      transaction          target's disk
//!                  actions  that is safe    of inserts
//! ```
//!
//! A piece is tried in four ways, each slower and more exact than the one before:
//! 1. the plan: sets and COPY, coalesced by key;
//! 2. after a unique violation or a row that was not found: the table in question in WAL order, a few transactions at a time;
//! 3. after another one: that table row by row, each looked at;
//! 4. after any other error: source transaction by source transaction, so that the error names the one that can't be applied and
//!    everything before it is in.
//!
//! Invariants: progress commits with the rows it covers (`control::progress`); nothing of a transaction is visible before all of it;
//! memory is bounded by the piece's bytes, a larger transaction passes through one open target transaction piece by piece.

mod acknowledge;
mod ahead;
mod attempt;
mod careful;
mod commit;
mod connections;
mod encode;
mod execute;
mod explain;
mod fixed;
mod flusher;
mod gin;
mod key_map;
mod lookup;
mod missing;
mod piece;
mod plan;
mod retry;
mod row;
mod statement;
mod tables;
mod target;
mod touched;
mod unfit;
mod worker;

pub use connections::Connections;
pub use lookup::BINARY_UNFIT;
pub use tables::{FedTable, Feed};
pub use touched::{Touched, TouchedKeys};
pub use worker::{Applied, Applier, ApplyOptions, Command, Handle};
