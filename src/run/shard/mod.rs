//! `write --shard`: several processes share one run, by table.
//!
//! ```text
//! leader (has the run's lock)          helpers (progress rows of their own)
//!   gather: fence everybody, read where each stands
//!   hand out: per table who, and from which LSN on; one transaction ─────► stream their tables from there
//!   stream its own tables                                               ◄─ the next hand-over fences them
//! ```
//!
//! # Invariants
//!
//! 1. A table has one owner. What was committed before its `from_lsn` is applied, by whoever had it; the owner applies the rest, in order.
//! 2. A hand-over reads each table's position from the progress of its owner, who can't commit any more, and records it together with the new
//!    owner: nothing is applied twice or left out, whoever was killed when.
//! 3. A process begins at the smallest position of its tables and reads from offsets that are good for that; the others are filtered.
//! 4. A comparison and a cutover have one writer: the leader takes all tables, comes to one commit, and shares again afterwards. A run that is
//!    started without `--shard` gathers first.
//!
//! Membership goes through the target and not through a consumer group of Kafka: docs/decisions has the reasons.

mod hand_over;
mod helper;
mod watcher;

pub use hand_over::{Own, hand_over, matching};
pub use watcher::{Watcher, one_writer, stopped};

use std::sync::atomic::Ordering;

use pg::Result;

use super::Outcome;
use super::context::Context;
use helper::Ended;

/// Was it started for tables to be copied again, and has not come to it?
fn resyncs(context: &Context) -> bool {
    !context.resync.is_empty() && !context.resync_marked.load(Ordering::Relaxed)
}

/// Leads where nobody does, and helps otherwise, until interrupted, cut over or refused.
///
/// # Errors
/// As [`super::run`].
pub async fn share(context: &Context) -> Result<Outcome> {
    loop {
        match super::run(context).await {
            // Only who leads can have tables copied again.
            Err(error) if error.code() == "OWNED_BY" && resyncs(context) => {
                return Err(error.hint(
                    "another process leads the run, and --resync is for the one that does: start this without it, or stop the others \
                     (SIGTERM) and start this one first",
                ));
            }
            Err(error) if error.code() == "OWNED_BY" => {}
            ended => return ended,
        }
        match helper::help(context).await? {
            Ended::NoLeader => {}
            Ended::With(outcome) => return Ok(outcome),
        }
    }
}
