//! Changes as they travel: decoded headers, values still in the network buffer.
//!
//! A change is named by (commit LSN, index in its transaction). Nothing here allocates per row: a [`Tuple`] is a reference-counted
//! slice of what the server sent.

mod binary;
mod event;
mod relation;
mod tuple;

pub(crate) use binary::element_type;
pub use binary::is_portable;
pub use event::{Change, Event, OldTuple, PgTimestamp};
pub use relation::{Relation, RelationColumn, RelationId, ReplicaIdentity};
pub use tuple::{Column, Columns, Tuple, TupleError};
