//! What must be true afterwards, asked of PostgreSQL and of nobody else.
//!
//! - `content`: every table of both sides equal, row for row;
//! - `structure`: columns, constraints, indexes, triggers, sequences and their values equal;
//! - `events`: exactly the source's events were applied, none lost and none twice;
//! - `invariant`: the target never showed half a transaction or a later one before an earlier one;
//! - `hygiene`: nothing of the program is left behind.
//!
//! None of it uses the program's own code: an oracle that shares a mistake does not see it.

mod content;
mod events;
mod hygiene;
mod invariant;
mod side;
mod structure;

pub use content::{Scope, differences, expect_same};
pub use events::{Counts, Events};
pub use hygiene::{expect_idle, expect_no_trace, find_traces};
pub use invariant::Invariant;
pub use structure::{
    expect_same_sequences, expect_same_structure, sequence_differences, structure_differences,
};

use pg::Lsn;

use super::Postgres;
use super::walferry::lsn;

/// Writes a marker on the source: whatever committed before it ends at or before this position, so everything is
/// applied once `applied_lsn` is there.
pub async fn marker(source: &Postgres, database: &str) -> Lsn {
    let statement = "SELECT pg_logical_emit_message(true, 'oracle', '')::text";
    lsn(&source.value::<String>(database, statement).await)
}
