//! The contracts between reader and writer. `reader → pipeline ← writer`: the two never see each other.
//!
//! ```text
//! reader ── Chunk ──► ChangeSink │ carrier │ ChangeSource ── Chunk ──► writer
//!        ◄── Durable ─────────── │         │ ◄── acknowledge ─────────
//! ```

pub mod carrier;
pub mod change;
pub mod copy;
pub mod direct;
pub mod envelope;
pub mod facts;
pub mod finding;
pub mod fit;
pub mod metric;
pub mod outbox;
pub mod report;
pub mod table;

pub use carrier::{ChangeSink, ChangeSource, Chunk, Durable};
pub use change::{
    Change, Column, Event, OldTuple, PgTimestamp, Relation, RelationColumn, RelationId, ReplicaIdentity,
    Tuple, is_portable,
};
pub use facts::{ExtensionFacts, SlotFacts, SourceFacts};
pub use finding::{Finding, Severity, Side, some_of};
pub use fit::{COLUMN_NARROWER, ColumnType, Fit};
pub use report::{Report, Reporter, TableMeter};
pub use table::{ColumnSpec, TableSpec};
