//! Rows of a snapshot into the target: COPY FROM STDIN, and the record that they are there.
//!
//! ```text
//! CopyData from the source ──► CopyIn (COPY … FROM STDIN) ──► record in walferry.tables ──► COMMIT
//! ```
//!
//! What flows in: CopyData messages as the source sent them. What flows out: tables, each with its `copied` record. Invariant: the
//! transaction that makes a table's last rows visible is the one that records it as copied, and it is on disk when it is reported.
//!
//! | table | transactions |
//! |---|---|
//! | made by walferry, one piece | TRUNCATE, COPY FREEZE, record |
//! | made by walferry, several pieces | TRUNCATE and `copying`; then each piece; then the record |
//! | copied again | DELETE, COPY, record |
//! | the target's own | COPY and record: never emptied, nothing of it stays after a crash |
//!
//! COPY FREEZE: <https://www.postgresql.org/docs/current/sql-copy.html>

mod copy_in;
mod ledger;
mod table;

pub use copy_in::{CommitError, CopyIn, Empty};
pub use ledger::Ledger;
pub use table::TargetTable;
