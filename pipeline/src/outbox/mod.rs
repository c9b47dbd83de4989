//! Outbox events: a committed row, or a logical message, becomes one Kafka message, or a dead letter.
//!
//! ```text
//! INSERT into the outbox table ─► Columns ─┐
//!                                          ├─► topic (Route), key, value (json, schema), headers, time ─► Event
//! pg_logical_emit_message ─► its JSON ─────┘                         │
//!                                                                    └─ what is wrong with this one event ─► DeadLetter
//! ```
//!
//! Nothing here does I/O. Options have the names and defaults of Debezium's event router.
//!
//! # Invariants
//!
//! 1. **The same event makes the same message**, whenever it is sent: its position is (commit LSN, index among the transaction's events).
//! 2. **Only what is wrong with the event itself makes a dead letter**, and would be wrong again. What is wrong with the table (a column is
//!    gone) or with Kafka is an error of the stream.
//! 3. A payload is never changed in meaning: numbers keep their digits, arrays may hold anything. Only with a schema it is what that schema can
//!    say (`schema/inferred.rs`).

mod columns;
mod event;
mod json;
mod message;
mod options;
mod placement;
mod replay;
mod route;
mod row;
mod schema;
mod timestamp;
mod value;

pub use event::{DeadLetter, Event, Stage};
pub use message::route_message;
pub use options::{Format, InvalidOperation, MissingField, Nulls, Options};
pub use placement::{Place, Placement};
pub use route::{Route, is_topic};
pub use row::Router;
