//! Proves that two databases hold the same, or names what differs.
//!
//! In: a snapshot of each side and a list of tables. Out: a [`Report`]. Nothing is written on either side.
//!
//! ```text
//! side, reading    sessions over one snapshot, one short transaction per piece of work
//! pair             a table on both sides: relation (columns, parts), types, value (comparable text)
//! statement        the SQL: sums over buckets, rows of buckets, rows of keys; hashing
//! scan             pass 1: both sides, all tables, pieces in parallel ──► sums: which buckets differ
//! resolve          pass 2: differing buckets again, row by row ──► merge: which keys differ
//! keys             a list of keys instead of a whole table
//! report, table    the result, for scripts and for people
//! ```
//!
//! The invariant: **equal is only said of what was read completely on both sides.** A table that is missing on one side, can't be read,
//! was rewritten since the snapshot, or whose statement was cancelled is unverified, and so is a comparison without tables that could
//! be compared. What "the same" means is in docs/verify.md.

mod compare;
mod hashing;
mod keys;
mod merge;
mod pair;
mod reading;
mod relation;
mod report;
mod resolve;
mod scan;
mod side;
mod statement;
mod sums;
mod table;
mod types;
mod value;
mod values;

pub use compare::{Options, compare};
pub use keys::compare_keys;
pub use pair::VerifyTable;
pub use report::{Difference, Kind, Mode, Outcome, Reason, Report, SideReport, TableReport, Values};
pub use side::Side;
