//! One instant of the source, read by many connections.
//!
//! ```text
//! slot (exports its snapshot) ──► keeper (imports, locks, checks, exports again) ──► copy workers (import)
//! ```
//!
//! What flows in: the snapshot of the slot that was just made, and the tables. What flows out: COPY bytes, all of the same instant.
//! Invariants: a table is read only while the keeper holds ACCESS SHARE on it; every connection is proven to be with the same server
//! instance before its first read; nothing is read after the keeper was lost.
//!
//! - Exported snapshots: <https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION>
//! - TRUNCATE and rewriting ALTER TABLE are not MVCC-safe: <https://www.postgresql.org/docs/current/mvcc-caveats.html>

mod chunk;
mod copy_out;
mod ddl;
mod identity;
mod keeper;

pub use chunk::{Chunk, ChunkSizes, Range, Sizes, plan};
pub use copy_out::{CopyOut, Ticket};
pub use ddl::Waiter;
pub use identity::ServerInstance;
pub use keeper::{Keeper, KeeperOptions, LOST, REWRITTEN, Relation, YIELDED, expect_same_table};
