//! Changes as Kafka messages, and messages as changes: pure, no I/O.
//!
//! ```text
//! Event ──► Encoder ──► Message { topic, key, value, headers } ══ Kafka ══► Decoder ──► Decoded
//!             ▲ TableTypes (catalogue)                                          (a change, BEGIN, END, …)
//! ```
//!
//! The envelope is Debezium's; the values are PostgreSQL's own text ([`Values::Postgres`], lossless) or Debezium's encodings
//! ([`Values::Debezium`]). JSON is written straight from the tuple into buffers that are used again: there is no tree of values, and
//! with `values = "postgres"` no allocation a row. `docs/wire.md` describes the events for those who read them.
//!
//! # Invariants
//!
//! 1. Every row event is named by (commit LSN, index): header `walferry.position`. The index counts the events of a transaction from 1,
//!    like `transaction.total_order`; a tombstone has the index of its delete.
//! 2. A value that is not there (unchanged TOAST) is named in the header `walferry.unchanged`; no value of ours is ever mistaken for it.
//! 3. With `values = "debezium"` a row event says how its columns were written (header `walferry.types`), by the types that its Relation message
//!    had: reader and writer need not know of DDL at the same place of the stream, nor of each other's look at a catalogue.
//! 4. END carries what a writer's progress needs (end LSN), so the topics alone are enough to resume.

mod decoded;
mod decoder;
mod encoder;
pub mod header;
pub(crate) mod json;
mod message;
mod options;
mod schema;
mod single;
mod source;
mod table;
mod topic;
mod types;
mod value;

pub use decoded::{Decoded, End, LogicalMessage, Marker, Moved, Origin, Place, Record, RowEvent};
pub use decoder::{Decoder, Dialect};
pub use encoder::{Encoder, Snapshot, SnapshotMark};
pub use message::{Message, Position};
pub use options::{Binary, Decimal, Hstore, Interval, Options, TimePrecision, Values};
pub use single::ValueWriter;
pub use topic::{TableRoute, Topics, mangle};
pub use types::{ColumnType, Kind, TableTypes};
